"""The tables of README.md and docs/ are in step with the result files in results/."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from made_results import made_entry, made_result
from yoloproof.errors import YoloproofError
from yoloproof.report.blocks import document_with_tables

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tables():
    """benchmarks/tables.py as a module."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_committed_table_is_in_step_with_its_result_files(tables):
    documents = {path.relative_to(ROOT).as_posix(): path for path in tables.documents()}
    assert {"README.md", "docs/performance.md"} <= set(documents)
    for name, path in documents.items():
        assert document_with_tables(path, tables.read) == path.read_text(), f"{name}: run python benchmarks/tables.py"


def h100_result():
    """As benchmarks/gpu.py writes: forms of one network, timed in rounds."""
    entries = []
    for form, median_s in (("published", 2e-3), ("stripped", 1.6e-3), ("gpu", 0.8e-3), ("published compiled", 1e-3)):
        entry = made_entry("yolov13n", form.split()[0], "pytorch", median_s=median_s, proved=form != "stripped")
        entry["artifact"]["form"] = form
        entry["processes"] = [{"round_medians_s": [median_s * 0.9, median_s, median_s * 1.1]}]
        entry["kernels"] = {"launches": 203}
        entries.append(entry)
    return made_result(entries)


def table(tables, folder, result, asked):
    """The block of a document about `result`, filled."""
    (folder / "h100.json").write_text(json.dumps(result))
    page = folder / "page.md"
    page.write_text(f"<!-- yoloproof-table h100.json | {asked} -->\n<!-- /yoloproof-table -->\n")
    return document_with_tables(page, tables.read)


def test_a_changed_result_makes_a_table_stale(tables, tmp_path):
    result, asked = h100_result(), "columns: form, median, ratio, of_stripped, launches"
    before = table(tables, tmp_path, result, asked)
    assert "| gpu | 0.800 | 0.400 (0.400–0.400) | 0.500 (0.500–0.500) | 203 |" in before
    assert "| stripped | 1.60 (not proved) | 0.800 (0.800–0.800) | 1 | 203 |" in before
    assert "| published compiled | 1.00 | 1 of compiled | – | 203 |" in before
    result["entries"][2]["summary"]["median_s"] *= 2
    assert table(tables, tmp_path, result, asked) != before


def test_rows_of_the_export_benchmark_make_a_table(tables, tmp_path):
    row = {"model": "yolov13n", "runtime": "openvino", "flush_to_zero": False, "nodes": 520}
    rows = [
        {**row, "form": "published", "median_s": 0.05, "rounds": [0.04, 0.05, 0.06]},
        {**row, "form": "fused", "median_s": 0.04, "rounds": [0.03, 0.04, 0.06]},
    ]
    (tmp_path / "export.json").write_text(json.dumps(rows))
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- yoloproof-table export.json | columns: attention, nodes, ratio -->\n<!-- /yoloproof-table -->\n"
    )
    assert "| fused | 520 | 0.800 (0.755–0.980) |" in document_with_tables(page, tables.read)


def test_columns_across_hold_one_row_each(tables, tmp_path):
    asked = "columns: model, batch | across: form | where: form=published, form=gpu"
    words = table(tables, tmp_path, h100_result(), asked)
    assert "| Model | Batch | published, ms | gpu, ms |" in words
    assert "| yolov13n | 1 | 2.00 | 0.800 · 0.400 (0.400–0.400) |" in words
    with pytest.raises(YoloproofError, match="two rows are yolov13n"):
        table(tables, tmp_path, h100_result(), asked.replace("across: form", "across: batch"))
