"""What a row says, what a table says, and what it never says."""

from __future__ import annotations

import csv
import io
import math

import pytest

from made_results import HOSTILE, lab_result, made_entry, made_result
from yoloproof.errors import YoloproofError
from yoloproof.report.rows import pareto_front, repeat_command, rows_from_results
from yoloproof.report.text import (
    COLUMNS,
    columns_from_keys,
    csv_from_rows,
    digits,
    latex_from_rows,
    markdown_from_rows,
    milliseconds,
)


def rows(*entries, **changes):
    return rows_from_results([("made.json", made_result(list(entries), **changes))])


def test_milliseconds_keep_three_digits():
    assert [milliseconds(value) for value in (0.00197, 0.0238, 0.1012, 1.0501, None)] == [
        "1.97", "23.8", "101", "1\N{THIN SPACE}050", "–",
    ]  # fmt: skip
    assert digits(0.0312) == "0.031"


def test_an_unproved_latency_cannot_be_copied_without_its_verdict():
    failed, unchecked, proved = rows(made_entry(proved=False), made_entry(proved=None), made_entry())
    cells = {row.number: columns_from_keys(["median"])[0].cell(row) for row in (failed, unchecked, proved)}
    assert cells == {1: "70.4 (not proved)", 2: "70.4 (unchecked)", 3: "70.4"}


def test_random_weights_are_said_beside_the_model():
    (row,) = rows(made_entry(model={"name": "yolov12m", "weights": "random"}))
    assert "yolov12m (random weights)" in markdown_from_rows([row])
    assert "yolov12m --random-weights" in repeat_command(row)


def test_a_cell_that_could_not_be_measured_is_a_row_that_says_so():
    (row,) = rows(made_entry(summary=None, processes=0, failure="timed out after 900 s"))
    assert (row.verdict, row.median_s) == ("not measured", None)
    assert "not measured" in markdown_from_rows([row])


def test_figures_that_are_none_are_dashes_not_numbers():
    summary = {"median_s": float("nan"), "interval_s": [None, 1], "p90_s": True, "p99_s": 10**400, "fps": math.inf}
    (row,) = rows(made_entry(summary=summary))
    assert (row.median_s, row.interval_s, row.p90_s, row.p99_s, row.fps) == (None, None, None, None, None)


def test_a_latency_or_batch_below_zero_is_none():
    wrong = made_entry(summary={"median_s": -0.01})
    wrong["artifact"]["batch"] = -1
    (row,) = rows(wrong)
    assert (row.median_s, row.batch, row.verdict) == (None, None, "not measured")


def test_half_a_character_does_not_keep_a_table_from_being_written():
    (row,) = rows(made_entry(model={"name": "yolo\ud800", "weights": "trained"}))
    assert "yolo?" in markdown_from_rows([row]).encode().decode()


def test_pareto_front_holds_only_proved_rows_that_nothing_beats():
    fast = made_entry("yolov13n", median_s=0.05)
    slower_same_ap = made_entry("yolov13n", "explicit", median_s=0.06)
    better = made_entry("yolov13s", median_s=0.10)
    broken = made_entry("yolov13x", "stripped", median_s=0.01, proved=False)
    assert [row.number for row in pareto_front(rows(better, slower_same_ap, broken, fast))] == [4, 1]


def test_a_merged_file_keeps_each_entry_with_its_machine():
    first, second = made_entry(run=0), made_entry(run=1)
    runs = [
        {"machine": {"gpu": {"name": "Tesla T4"}}, "protocol": {"name": "latency"}, "command": ["a"]},
        {"machine": {"cpu": {"name": "AMD EPYC", "cores": 2}}, "protocol": {"name": "paced"}, "command": ["b", "c d"]},
    ]
    one, two = rows(first, second, runs=runs)
    assert (one.run.machine, two.run.machine) == ("Tesla T4", "AMD EPYC (2 cores)")
    assert (one.run.machine_id, two.run.machine_id) == (1, 2)
    assert two.run.command == "b 'c d'"
    with pytest.raises(YoloproofError, match="names run 2 of 2"):
        rows(made_entry(run=2), runs=runs)


def test_the_same_machine_in_two_files_is_one_machine():
    files = [("a.json", made_result([made_entry()])), ("b.json", made_result([made_entry()]))]
    assert {row.run.machine_id for row in rows_from_results(files)} == {1}


def test_another_schema_is_refused():
    with pytest.raises(YoloproofError, match=r"x\.json: result schema 2"):
        rows_from_results([("x.json", {"schema": 2, "entries": []})])


def test_markdown_text_stays_inside_its_cell():
    (row,) = rows(made_entry(model={"name": HOSTILE, "weights": "trained"}))
    lines = markdown_from_rows([row]).splitlines()
    assert len(lines) == 3
    assert lines[2].replace("\\|", "").count("|") == lines[0].count("|")
    assert "<script" not in lines[2]


def test_csv_reads_back_and_runs_no_formula():
    text = csv_from_rows(rows(made_entry(model={"name": '=cmd|"/C calc"!A0,\n2', "weights": "trained"})))
    heading, cells = csv.reader(io.StringIO(text))
    assert len(heading) == len(cells)
    assert cells[0] == '\'=cmd|"/C calc"!A0, 2'


def test_latex_text_is_literal():
    text = latex_from_rows(rows(made_entry(model={"name": r"50%_\input{x}&$#^~", "weights": "trained"})))
    assert r"50\%\_\textbackslash{}input\{x\}\&\$\#\textasciicircum{}\textasciitilde{}" in text
    assert text.count(r" \\") == 2


def test_an_unknown_column_is_named_with_the_known_ones():
    with pytest.raises(YoloproofError, match=r"no column is called speed; there are model, attention"):
        markdown_from_rows(rows(made_entry()), ["model", "speed"])


def test_every_column_says_something_of_every_row():
    for row in rows_from_results([("lab.json", lab_result())]):
        assert all(column.cell(row) for column in COLUMNS)


def test_the_command_repeats_the_row():
    (row,) = rows(made_entry(), quick=True)
    assert repeat_command(row) == (
        "yoloproof profile yolov13n.pt --runtime onnxruntime --attention fused --precision float32 --imgsz 640 "
        "--batch 1 --device cpu --threads 2 --protocol latency --quick"
    )


def test_what_a_figure_resembles_is_said_only_where_the_numbers_carry_it():
    from yoloproof.report.page import html_from_results

    def page(quick=False, proved=True):
        entries = [
            made_entry("yolov13n", attention, median_s=median, proved=proved and attention != "stripped")
            for attention, median in (("published", 0.1), ("fused", 0.08), ("stripped", 0.071))
        ]
        return html_from_results([("made.json", made_result(entries, quick=quick))])

    assert "resembles stripped" in page()
    assert "resembles" not in page(quick=True)
    assert "resembles" not in page(proved=False)
