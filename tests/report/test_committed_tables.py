"""The tables of README.md and docs/ are in step with the files in results/, the fields of the result file with the records."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from made_results import made_entry, made_result
from yoloproof.errors import YoloproofError
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


def forms_of_gpu() -> dict[str, Any]:
    """As benchmarks/gpu.py wrote: forms of one network, timed in rounds."""
    entries = [
        {
            "model": {"name": "yolov13n", "weights": "trained", "family": "yolov13", "parameters": 1},
            "artifact": {"form": form, "batch": 1},
            "runtime": {"name": "pytorch"},
            "proof": {"passed": form != "stripped"},
            "processes": [{"round_medians_s": [median_s * (0.9 + 0.04 * turn) for turn in range(6)]}],
            "summary": {"median_s": median_s},
            "kernels": {"launches": 203},
        }
        for form, median_s in (("published", 2e-3), ("stripped", 1.6e-3), ("gpu", 0.8e-3), ("published compiled", 1e-3))
    ]
    return {"schema": 1, "ceilings": {}, "entries": entries}


def table(tables: ModuleType, folder: Path, document: Any, asked: str) -> str:
    """The block of a document about a file, filled."""
    (folder / "h100.json").write_text(json.dumps(document))
    page = folder / "page.md"
    page.write_text(f"<!-- yoloproof-table h100.json | {asked} -->\n<!-- /yoloproof-table -->\n")
    return document_with_tables(page, tables.table)


def test_a_changed_file_makes_a_table_stale(tables: ModuleType, tmp_path: Path) -> None:
    document, asked = forms_of_gpu(), "columns: form, median, ratio, of_stripped, launches"
    before = table(tables, tmp_path, document, asked)
    assert "| gpu | 0.800 | 0.400 (0.400–0.400) | 0.500 (0.500–0.500) | 203 |" in before
    assert "| stripped | 1.60 (not proved) | 0.800 (0.800–0.800) | 1 | 203 |" in before
    assert "| published compiled | 1.00 | 1 of compiled | – | 203 |" in before
    document["entries"][2]["summary"]["median_s"] *= 2
    assert table(tables, tmp_path, document, asked) != before


def test_columns_across_hold_one_row_each(tables: ModuleType, tmp_path: Path) -> None:
    asked = "columns: model, batch | across: form | where: form=published, form=gpu"
    words = table(tables, tmp_path, forms_of_gpu(), asked)
    assert "| Model | Batch | published, ms | gpu, ms |" in words
    assert "| yolov13n | 1 | 2.00 | 0.800 · 0.400 (0.400–0.400) |" in words
    with pytest.raises(YoloproofError, match="two rows are"):
        table(tables, tmp_path, forms_of_gpu(), asked.replace("across: form", "across: batch"))
    with pytest.raises(YoloproofError, match="no column is called speed"):
        table(tables, tmp_path, forms_of_gpu(), "columns: speed")


def test_result_files_go_across_by_their_network(tables: ModuleType, tmp_path: Path) -> None:
    entries = [made_entry(attention=attention, median_s=0.08) for attention in ("published", "fused")]
    write_result(made_result(entries), tmp_path / "r.json")
    page = tmp_path / "page.md"
    page.write_text("<!-- yoloproof-table r.json | columns: model | across: network -->\n<!-- /yoloproof-table -->\n")
    assert "| Model | published, ms | fused, ms |" in document_with_tables(page, tables.table)
