"""What a row says, what a table says, and what it never says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from made_results import HOSTILE, lab_result, made_entry, made_process, made_result, made_run
from yoloproof.errors import YoloproofError
from yoloproof.names import Weights
from yoloproof.records import Entry, Machine, ModelFacts, Protocol, Run, ServerPlan
from yoloproof.report.page import html_from_results
from yoloproof.report.rows import Row, pareto_front, repeat_command, rows_from_results
from yoloproof.report.text import COLUMNS, columns_from_keys, digits, markdown_from_rows, milliseconds, ratio_cell


def rows(*entries: Entry, runs: tuple[Run, ...] = ()) -> list[Row]:
    return rows_from_results([("made.json", made_result(list(entries), *runs))])


def named(name: str, weights: Weights = Weights.TRAINED) -> Entry:
    return made_entry(model=ModelFacts(name=name, weights=weights))


def test_milliseconds_keep_three_digits() -> None:
    assert [milliseconds(value) for value in (0.00197, 0.0238, 0.1012, 1.0501, None)] == [
        "1.97", "23.8", "101", "1\N{THIN SPACE}050", "–",
    ]  # fmt: skip
    assert digits(0.0312) == "0.031"


def test_an_unproved_or_quick_latency_cannot_be_copied_without_saying_so() -> None:
    cell = columns_from_keys(["median"])[0].cell
    assert [cell(row) for row in rows(made_entry(proved=False), made_entry(proved=None), made_entry())] == [
        "70.4 (not proved)", "70.4 (unchecked)", "70.4",
    ]  # fmt: skip
    quick = made_run(protocol=Protocol(name="latency", quick=True))
    assert cell(rows(made_entry(proved=False), runs=(quick,))[0]) == "70.4 (not proved, quick)"
    assert cell(rows(made_entry(partial=True))[0]) == "70.4 (partial)"


def test_random_weights_are_said_beside_the_model() -> None:
    (row,) = rows(named("yolov12m", Weights.RANDOM))
    assert "yolov12m (random weights)" in markdown_from_rows([row])
    assert row.ap is None


def test_a_cell_that_could_not_be_measured_is_a_row_that_says_so() -> None:
    (row,) = rows(made_entry(summary=None, processes=0, error="timed out after 900 s"))
    assert (row.verdict, row.median_s) == ("not measured", None)
    assert "not measured" in markdown_from_rows([row])


def test_what_no_page_can_hold_does_not_keep_a_table_from_being_written() -> None:
    (row,) = rows(named("yolo\ud800\x1b[2J\u202e"))
    assert "yolo\ufffd\ufffd\\[2J\ufffd" in markdown_from_rows([row]).encode().decode()


def test_pareto_front_holds_only_proved_rows_that_nothing_beats() -> None:
    fast = made_entry("yolov13n", median_s=0.05)
    slower_same_ap = made_entry("yolov13n", "explicit", median_s=0.06)
    better = made_entry("yolov13s", median_s=0.10)
    broken = made_entry("yolov13x", "stripped", median_s=0.01, proved=False)
    assert [row.number for row in pareto_front(rows(better, slower_same_ap, broken, fast))] == [4, 1]


def test_a_merged_file_keeps_each_entry_with_its_machine() -> None:
    runs = made_run(gpu="Tesla T4", command=("a",)), made_run(command=("b", "c d"))
    one, two = rows(made_entry(run=0), made_entry(run=1), runs=runs)
    assert (one.origin.machine, two.origin.machine) == ("Tesla T4", "AMD EPYC 9B14 (2 cores)")
    assert (one.origin.machine_id, two.origin.machine_id) == (1, 2)
    assert two.origin.command == "b 'c d'"


def test_a_ratio_goes_by_the_weights_not_by_what_the_files_are_called() -> None:
    published, fused = made_entry(attention="published", median_s=0.1), made_entry(median_s=0.08)
    file = replace(fused, model=ModelFacts(name="exported", weights=Weights.FOREIGN))
    stranger = replace(file, artifact=replace(file.artifact, checkpoint_sha256="12" * 32))
    _, found, alone = rows(published, file, stranger)
    assert found.of_published is not None
    assert found.of_published.ratio.value == pytest.approx(0.8, rel=0.01)
    assert alone.of_published is None


def test_the_same_machine_in_two_files_is_one_machine() -> None:
    files = [("a.json", made_result([made_entry()])), ("b.json", made_result([made_entry()]))]
    assert {row.origin.machine_id for row in rows_from_results(files)} == {1}


def test_a_machine_that_was_not_reached_is_named_and_counts_as_none() -> None:
    nowhere = made_run(machine=None, requested="A100")
    entries = made_entry(run=0, summary=None, error="no node has it"), made_entry(run=1)
    first, _ = rows(*entries, runs=(nowhere, made_run()))
    assert first.origin.machine == "A100 (not reached)"
    page = html_from_results([("made.json", made_result(list(entries), nowhere, made_run()))])
    assert "2 results on 1 machine:" in page


def timed(attention: str, factor: float, processes: int = 6, run: int = 0) -> Entry:
    """Processes that share their ups and downs."""
    moods = (1.0, 1.02, 0.99, 1.03, 1.01, 0.98)[:processes]
    columns = tuple(made_process(i, [factor * mood] * 5) for i, mood in enumerate(moods))
    return replace(made_entry(attention=attention, run=run), processes=columns)


def test_a_ratio_stands_on_the_processes_of_one_run() -> None:
    published, fused = rows(timed("published", 0.1), timed("fused", 0.08))
    assert ratio_cell(published.of_published) == "1"
    assert ratio_cell(fused.of_published) == "0.800 (0.800–0.800)"
    _, few = rows(timed("published", 0.1, 3), timed("fused", 0.08, 3))
    assert ratio_cell(few.of_published) == "0.800"


def test_rows_of_two_runs_have_no_ratio() -> None:
    runs = made_run(), made_run()
    _, other = rows(timed("published", 0.1), timed("fused", 0.08, run=1), runs=runs)
    assert other.of_published is None


def test_compiled_rows_are_held_against_compiled_ones() -> None:
    def compiled(entry: Entry) -> Entry:
        return replace(entry, runtime=replace(entry.runtime, compile=True))

    eager, published, fused = rows(
        timed("published", 0.2), compiled(timed("published", 0.1)), compiled(timed("fused", 0.05))
    )
    assert fused.of_published is not None
    assert fused.of_published.base == "published (compiled)"
    assert ratio_cell(fused.of_published).startswith("0.500")
    assert (ratio_cell(eager.of_published), ratio_cell(published.of_published)) == ("1", "1 of compiled")


def test_markdown_text_stays_inside_its_cell() -> None:
    lines = markdown_from_rows(rows(named(HOSTILE))).splitlines()
    assert len(lines) == 3
    assert lines[2].replace("\\|", "").count("|") == lines[0].count("|")
    assert "<script" not in lines[2]


def test_an_unknown_column_is_named_with_the_known_ones() -> None:
    with pytest.raises(YoloproofError, match=r"no column is called speed; choose from model, attention"):
        markdown_from_rows(rows(made_entry()), ["model", "speed"])


def test_every_column_says_something_of_every_row() -> None:
    for row in rows_from_results([("lab.json", lab_result())]):
        assert all(column.cell(row) for column in COLUMNS)


def test_the_command_repeats_the_row() -> None:
    (row,) = rows(made_entry(), runs=(made_run(protocol=Protocol(name="latency", quick=True)),))
    assert repeat_command(row) == (
        "yoloproof profile yolov13n.pt --runtime onnxruntime --attention fused --precision fp32 --imgsz 640 "
        "--batch 1 --device cpu --threads 2 --protocol latency --quick"
    )
    served = Protocol(name="server", server=ServerPlan(sessions=3, p99_s=0.25))
    (row,) = rows(made_entry(), runs=(made_run(protocol=served),))
    assert repeat_command(row).endswith("--protocol server --sessions 3 --p99-ms 250")


def test_what_no_option_asks_for_is_repeated_by_the_whole_runs_command() -> None:
    entry = made_entry(runtime="pytorch")
    special = replace(entry, case=replace(entry.case, compiled=True))
    (row,) = rows(special, runs=(made_run(command=("benchmarks/gpu.py", "--models", "demo")),))
    assert repeat_command(row) == "python benchmarks/gpu.py --models demo"


@pytest.mark.parametrize(("quick", "proved", "said"), [(False, True, True), (True, True, False), (False, False, False)])
def test_what_a_figure_resembles_is_said_only_where_the_numbers_carry_it(quick: bool, proved: bool, said: bool) -> None:
    entries = [
        made_entry("yolov13n", attention, median_s=median, proved=proved and attention != "stripped")
        for attention, median in (("published", 0.1), ("fused", 0.096), ("stripped", 0.0705))
    ]
    page = html_from_results([("made.json", made_result(entries, protocol=Protocol(name="latency", quick=quick)))])
    assert ("resembles stripped" in page) is said


def test_a_machine_that_says_nothing_is_still_a_page() -> None:
    from yoloproof.records import Cpu

    page = html_from_results([("made.json", made_result([made_entry()], machine=Machine(cpu=Cpu())))])
    assert "unknown CPU (? cores)" in page
