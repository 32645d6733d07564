"""The tables of README.md and docs/ are in step with the files in results/, the fields of the result file with the records."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from made_results import made_entry, made_result
from yoloproof.report.blocks import document_with_tables
from yoloproof.results.file import write_result

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables() -> Iterator[ModuleType]:
    """benchmarks/tables.py as a module."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "benchmarks"))


def test_every_committed_table_is_in_step(tables: ModuleType) -> None:
    documents = {path.relative_to(ROOT).as_posix(): path for path in tables.documents()}
    assert {"README.md", "docs/performance.md", "docs/why-different.md"} <= set(documents)
    for name, path in documents.items():
        assert tables.filled(path) == path.read_text(), f"{name}: run python benchmarks/tables.py"


def test_a_changed_file_makes_a_table_stale(tmp_path: Path) -> None:
    page, file = tmp_path / "page.md", tmp_path / "r.json"
    page.write_text("<!-- yoloproof-table r.json | columns: model, median -->\n<!-- /yoloproof-table -->\n")
    write_result(made_result([made_entry(median_s=0.08)]), file)
    before = document_with_tables(page)
    assert "| yolov13n | 80.0 |" in before
    file.unlink()
    write_result(made_result([made_entry(median_s=0.16)]), file)
    assert "| yolov13n | 160 |" in document_with_tables(page)


def test_result_files_go_across_by_their_network(tmp_path: Path) -> None:
    entries = [made_entry(attention=attention, median_s=0.08) for attention in ("published", "fused")]
    write_result(made_result(entries), tmp_path / "r.json")
    page = tmp_path / "page.md"
    page.write_text("<!-- yoloproof-table r.json | columns: model | across: network -->\n<!-- /yoloproof-table -->\n")
    assert "| Model | published, ms | fused, ms |" in document_with_tables(page)
