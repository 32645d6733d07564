"""The table: every column of the brief, fit for 80 columns, and no unproved figure that looks like a result."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from made_results import made_entry, made_result
from yoloproof.results.table import decimals, latency_table, notes, print_result


def printed(result: dict[str, Any], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_result(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_column_is_there_and_nothing_is_cut_at_80() -> None:
    entries = [made_entry(accuracy=None), made_entry("yolov13x", median_s=1.2345, accuracy=None)]
    text = printed(made_result(entries=entries), 80)
    for heading in ("model", "par", "GFLOPs", "attention", "runtime", "median", "95 % over", "p90", "FPS", "proof"):
        assert heading in text
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    row = next(line for line in text.splitlines() if line.startswith("yolov13n"))
    for cell in ("2.50", "6.40", "fp32", "fused", "70.40", "69.0–72.5", "77.44", "14.2"):
        assert cell in row


def test_accuracy_has_columns_only_where_it_was_measured() -> None:
    assert "AP50" in printed(made_result(entries=[made_entry()]))
    assert "AP50" not in printed(made_result(entries=[made_entry(accuracy=None)]))


@pytest.mark.parametrize(("lost", "shown"), [(0.0971, "9.71"), (-0.00001, " 0.00"), (-0.002, "-0.20"), (None, "AP50")])
def test_what_an_artifact_lost_against_float32_stands_beside_its_ap(lost: float | None, shown: str) -> None:
    text = printed(made_result(entries=[made_entry(accuracy={"AP": 0.494, "AP50": 0.65, "AP_lost": lost})]))
    assert shown in text
    assert ("lost" in text.split()) is (lost is not None)  # a heading of two lines


@pytest.mark.parametrize(("proved", "sign"), [(False, "✗"), (None, "?")])
def test_an_unproved_figure_stands_in_brackets_and_says_why(proved: bool | None, sign: str) -> None:
    text = printed(made_result(entries=[made_entry(proved=proved)]))
    row = next(line for line in text.splitlines() if line.startswith("yolov13n"))
    assert "(70.40) (69.0–72.5)" in " ".join(row.split())
    assert sign in row
    assert "the figure is no result" in text
    assert f"{sign} yolov13n fused onnxruntime: graph: all reach the output" in " ".join(text.split())


def test_a_check_that_could_not_be_made_says_why() -> None:
    entry = made_entry(proved=None)
    entry["proof"]["checks"] = [{"name": "sensitivity", "passed": None, "detail": "rounding hides the change"}]
    assert "? yolov13n fused onnxruntime: sensitivity: rounding hides the change" in printed(made_result([entry]))


def test_a_figure_without_an_interval_shows_another_sign() -> None:
    entry = made_entry()
    entry["summary"]["interval_s"] = None
    text = printed(made_result(entries=[entry]))
    assert "70.40 ~0.70" in " ".join(text.split())
    assert "–7" not in text
    assert "too few processes" in text


def test_the_published_figure_is_marked_as_another_machines_with_its_source() -> None:
    text = " ".join(printed(made_result(entries=[made_entry()])).split())
    assert "1.97 ms on a Tesla T4, ANOTHER MACHINE" in text
    assert "iMoonLab/yolov13 README" in text


def test_a_row_that_never_ran_says_so() -> None:
    text = printed(made_result(entries=[made_entry(summary=None, error="open failed: no memory")]))
    assert "failed" in text
    assert "open failed: no memory" in text


def test_equal_warnings_come_once_and_name_their_rows() -> None:
    warning = {"code": "drift", "evidence": "moves", "advice": "cool it"}
    entries = [made_entry(attention=a, warnings=[warning]) for a in ("fused", "explicit")] + [made_entry("yolov13s")]
    lines = [note.plain for note in notes(made_result(entries=entries)) if "drift" in note.plain]
    assert len(lines) == 1
    assert "yolov13n fused onnxruntime, yolov13n explicit onnxruntime" in lines[0]
    assert lines[0].endswith("moves. → cool it")


def test_quick_and_partial_stand_in_the_title() -> None:
    title = str(latency_table({**made_result([made_entry()]), "quick": True, "partial": True}).title)
    assert title.startswith("QUICK · PARTIAL · latency")


def test_ratios_between_models_are_shown_beside_the_published_ones() -> None:
    entries = [made_entry(median_s=0.1), made_entry("yolov13s", median_s=0.2)]
    text = " ".join(printed(made_result(entries=entries)).split())
    assert "yolov13s / yolov13n: 2.00 here, 1.51 as published for a Tesla T4" in text


@pytest.mark.parametrize(("seconds", "places"), [(0.00197, 3), (0.0123, 2), (0.0981, 2), (0.231, 1), (1.2345, 0)])
def test_three_or_four_digits_show(seconds: float, places: int) -> None:
    assert decimals(seconds) == places
