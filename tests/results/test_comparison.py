"""Two results held against each other: what is refused, what is said, and the arithmetic of the rows."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from made_results import made_entry, made_process, made_result, made_run
from yoloproof.errors import YoloproofError
from yoloproof.records import Battery, Cpu, Entry, Gpu, Machine, Process, Protocol, Result, RunWarning
from yoloproof.results.compare import (
    CPU_RUN_TO_RUN,
    Comparison,
    compare_groups,
    compare_results,
    compare_rows,
    machine_differences,
    print_comparisons,
    protocol_differences,
)


def entry(median_s: float = 0.05, processes: int = 6, spread: float = 0.001, **more: Any) -> Entry:
    """Every process's samples are equal, so that its median is known: median_s ± spread over processes."""

    def process(number: int) -> Process:
        return made_process(number, [median_s * (1 + spread * (number - (processes - 1) / 2))] * 5)

    columns = tuple(process(number) for number in range(processes))
    return replace(made_entry(median_s=median_s, samples=1, **more), processes=columns)


MACHINE = Machine(cpu=Cpu(model="AMD EPYC", logical_cores=2, affinity=(0, 1)), libraries={"onnxruntime": "1.32.0"})


def result(*entries: Entry, machine: Machine | None = MACHINE, **changes: Any) -> Result:
    return made_result(entries or [entry()], machine=machine, **changes)


def test_b_over_a() -> None:
    row = compare_results(result(entry(0.05)), result(entry(0.04)))[0]
    assert row.ratio == pytest.approx(0.8, rel=0.01)
    assert row.interval is not None
    assert row.interval[0] < 0.8 < row.interval[1] < 1
    assert row.verdict == "faster"
    assert compare_results(result(entry(0.04)), result(entry(0.05)))[0].verdict == "slower"


def test_a_against_itself_cannot_tell() -> None:
    one = result(entry(spread=0.01))
    row = compare_results(one, one)[0]
    assert (row.ratio, row.verdict) == (pytest.approx(1.0), "cannot tell")


@pytest.mark.parametrize(("b_s", "verdict"), [(0.0515, "cannot tell"), (0.0485, "cannot tell"), (0.0535, "slower")])
def test_separate_runs_are_told_apart_beyond_what_a_machine_moves_between_them(b_s: float, verdict: str) -> None:
    """Their own intervals are a per cent wide; the level of an undisturbed machine moves by 5 %."""
    row = compare_results(result(entry(0.05)), result(entry(b_s)))[0]
    assert row.verdict == verdict
    assert row.interval is not None
    assert row.interval[1] / row.interval[0] == pytest.approx(1.05**2, rel=0.01)
    assert "two runs on a CPU: for this alone the level may differ by up to 1.05 times" in row.notes[0]


def test_three_processes_cannot_tell_and_say_why() -> None:
    row = compare_results(result(entry(0.05, 3)), result(entry(0.01, 3)))[0]
    assert (row.interval, row.verdict) == (None, "cannot tell")
    assert any("too few" in note for note in row.notes)


def machine(**cpu: Any) -> Machine:
    return replace(MACHINE, cpu=replace(MACHINE.cpu, **cpu))


PACED = Protocol(name="latency", processes=5, pause_s=0.2)


@pytest.mark.parametrize(
    ("other", "kind", "says"),
    [
        (result(machine=machine(model="Intel Xeon")), "machine", "CPU AMD EPYC against Intel Xeon"),
        (result(machine=machine(governor="powersave")), "machine", "governor unknown against powersave"),
        (result(machine=machine(affinity=(0,))), "machine", r"affinity \[0, 1\] against \[0\]"),
        (result(machine=machine(boost="0")), "machine", "boost unknown against 0"),
        (result(machine=replace(MACHINE, gpu=Gpu(name="Tesla T4"))), "machine", "GPU unknown against Tesla T4"),
        (result(machine=replace(MACHINE, gpu=Gpu(uuid="GPU-2"))), "machine", "card unknown against GPU-2"),
        (result(machine=None), "machine", "a machine that was not reached"),
        (result(protocol=PACED), "protocol", "protocol's pause_s 0.0 against 0.2"),
        (result(entry(proved=False)), "unproved", "is not proved"),
        (result(entry(proved=None)), "unproved", "is not proved"),
    ],
)
def test_what_is_unlike_is_refused_and_said_where_allowed(other: Result, kind: str, says: str) -> None:
    a, b = result(), other
    with pytest.raises(YoloproofError, match=says) as error:
        compare_results(a, b)
    assert f"--allow {kind}" in str(error.value)
    for wrong in {"machine", "protocol", "unproved"} - {kind}:
        with pytest.raises(YoloproofError, match=says):
            compare_results(a, b, [wrong])
    notes = compare_results(a, b, [kind])[0].notes
    assert any(note.startswith("allowed: ") for note in notes)


def test_another_stepping_is_another_machine_and_an_unknown_one_is_not() -> None:
    """Schema 1 did not hold it: what one side does not say is no difference."""
    two, three = machine(stepping="2"), machine(stepping="3")
    assert machine_differences(two, three) == ["CPU stepping 2 against 3"]
    assert machine_differences(MACHINE, three) == []


def test_two_hosts_of_one_name_are_refused() -> None:
    """Two that call themselves "AMD EPYC, 2 cores": the fingerprints of a Zen 3 and of a Zen 5 one."""
    zen3 = machine(
        family="25", model_number="1", stepping="1", microcode="0xa0011d1", smt=False, flags_sha256="0f" * 32,
        caches_bytes={"L1d": 32 * 1024, "L1i": 32 * 1024, "L2": 512 * 1024, "L3": 32 * 2**20},
    )  # fmt: skip
    zen5 = machine(
        family="26", model_number="2", stepping="1", microcode="0xb002116", smt=False, flags_sha256="1e" * 32,
        caches_bytes={"L1d": 48 * 1024, "L1i": 32 * 1024, "L2": 1024 * 1024, "L3": 32 * 2**20},
    )  # fmt: skip
    with pytest.raises(YoloproofError, match=r"CPU family 25 against 26.*microcode.*caches.*CPU features"):
        compare_results(result(machine=zen3), result(machine=zen5))
    assert compare_results(result(machine=zen3), result(machine=zen3))


@pytest.mark.parametrize(("best_s", "refused"), [(1.09e-3, False), (1.12e-3, True)])
def test_hosts_whose_gauges_differ_at_their_best_are_refused(best_s: float, refused: bool) -> None:
    a, b = (result(gauge_best_s=seconds, gauge_size=512) for seconds in (1.0e-3, best_s))
    if refused:
        with pytest.raises(YoloproofError, match=r"matrix products took 1\.00 ms at best against 1\.12 ms"):
            compare_results(a, b)
    else:
        assert compare_results(a, b)


def test_rows_without_proof_are_left_out_and_named() -> None:
    """A --forensics file holds `stripped`, which is never proved; the rest compares."""
    rows = compare_rows(
        result(entry(0.05), entry(0.04, attention="stripped", proved=False), entry(0.06, attention="explicit"))
    )
    assert [row.verdict for row in rows] == ["slower"]
    assert any(note.startswith("not proved, not compared: ") and "stripped" in note for note in rows[0].notes)


def test_three_runs_of_each_hold_what_moves_between_runs() -> None:
    def runs(*medians_s: float) -> list[Result]:
        return [result(entry(median_s)) for median_s in medians_s]

    (row,) = compare_groups(runs(0.050, 0.052, 0.051), runs(0.0505, 0.0515, 0.0525))
    assert row.verdict == "cannot tell"
    assert row.run_to_run == pytest.approx(0.02, abs=0.005)
    assert row.detectable is not None
    assert 0.02 < row.detectable < 0.06
    (row,) = compare_groups(runs(0.050, 0.052, 0.051), runs(0.060, 0.0605, 0.0625))
    assert row.verdict == "slower"
    with pytest.raises(YoloproofError, match="give at least 3 on each side"):
        compare_groups(runs(0.05, 0.05), runs(0.05, 0.05, 0.05))


def test_two_runs_on_a_gpu_are_not_said_to_differ_as_cpus_do() -> None:
    """Nobody measured how far a GPU's level moves between runs: no allowance, and it is said."""
    gpu = replace(MACHINE, gpu=Gpu(name="Tesla T4"))
    sides = [
        result(replace(entry(s), runtime=replace(entry().runtime, device="cuda:0")), machine=gpu) for s in (0.05, 0.051)
    ]
    (row,) = compare_results(*sides)
    assert row.verdict == "slower"
    assert any("these two runs only" in note for note in row.notes)


def test_where_nothing_is_told_stands_how_much_would_have_been() -> None:
    (row,) = compare_results(result(), result())
    assert row.verdict == "cannot tell"
    assert row.detectable is not None
    assert row.detectable >= CPU_RUN_TO_RUN - 1
    console = Console(file=io.StringIO(), width=200)
    print_comparisons([row], console)
    assert isinstance(console.file, io.StringIO)
    assert f"cannot tell ({row.detectable:.1%} would show)" in console.file.getvalue()


def test_another_artifact_is_said() -> None:
    other = entry()
    other = replace(other, artifact=replace(other.artifact, sha256="f" * 64))
    notes = compare_results(result(), result(other))[0].notes
    assert any("artifact" in note and "ffffffffffff" in note for note in notes)


def test_what_does_not_change_a_time_is_no_difference() -> None:
    other = replace(MACHINE, load_average=(1.0,), battery=Battery(True, 0.5), memory_available_bytes=1)
    assert machine_differences(MACHINE, other) == []
    other_protocol = Protocol(name="a", seed=2, summary="x", row_max_s=110.0)
    assert protocol_differences(Protocol(name="a", seed=1), other_protocol) == []


def test_another_library_is_said_and_not_refused() -> None:
    other = replace(MACHINE, libraries={"onnxruntime": "1.33.0"})
    notes = compare_results(result(), result(machine=other))[0].notes
    assert "libraries differ: onnxruntime 1.32.0 against 1.33.0" in notes


def test_rows_are_found_by_what_they_are_and_not_by_their_place() -> None:
    a = result(entry(0.05), entry(0.03, runtime="openvino"))
    b = result(entry(0.031, runtime="openvino"), entry(0.01, attention="stripped"), entry(0.05))
    rows = compare_results(a, b, ["unproved"])
    assert [(row.a, row.b) for row in rows] == [(row.a, row.a) for row in rows]
    assert rows[1].ratio == pytest.approx(0.031 / 0.03, rel=0.01)


def test_no_row_in_common() -> None:
    a, b = result(entry(), entry(batch=2)), result(entry(batch=4), entry(batch=8))
    with pytest.raises(YoloproofError, match="no row in common"):
        compare_results(a, b)


def test_rows_of_one_run_are_compared_in_pairs_of_processes() -> None:
    """Processes differ by half; the second row is 2 % slower in each."""
    rows = compare_rows(result(entry(0.05, spread=0.1), entry(0.051, spread=0.1, attention="explicit")))
    assert rows[0].paired
    assert rows[0].ratio == pytest.approx(1.02)
    assert rows[0].verdict == "slower"


def test_a_result_without_rows_has_nothing_to_compare() -> None:
    with pytest.raises(YoloproofError, match="no row"):
        compare_rows(made_result([]))


def test_one_row_alone_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(YoloproofError, match="has one row; give"):
        compare_rows(result())


def test_a_row_without_samples() -> None:
    empty = entry(processes=0)
    with pytest.raises(YoloproofError, match="no samples"):
        compare_results(result(empty), result())


def test_a_broken_off_process_is_left_out() -> None:
    whole = entry()
    partial = replace(whole, processes=(*whole.processes[:5], made_process(5, [9.0], complete=False)), partial=True)
    with pytest.raises(YoloproofError, match=r"is partial; --allow partial"):
        compare_results(result(entry()), result(partial))
    row = compare_results(result(entry()), result(partial), ["partial"])[0]
    assert row.ratio == pytest.approx(1.0, rel=0.01)
    assert any("allowed: " in note and "is partial" in note for note in row.notes)


def test_quick_runs_are_refused_and_say_so_where_allowed() -> None:
    quick = result(protocol=Protocol(name="latency", quick=True))
    with pytest.raises(YoloproofError, match="--allow quick"):
        compare_results(quick, quick)
    notes = compare_results(quick, quick, ["quick"])[0].notes
    assert "allowed: a --quick run is not a result" in notes


def test_a_row_of_one_file_alone_is_named() -> None:
    a = result(entry(0.05), entry(0.03, runtime="openvino"))
    b = result(entry(0.05), entry(0.01, attention="explicit"))
    (row,) = compare_results(a, b)
    alone = [note for note in row.notes if "only in one file" in note]
    assert len(alone) == 2
    assert "openvino" in alone[0]
    assert "explicit" in alone[1]


def test_equal_rows_are_held_against_each_other_in_their_order() -> None:
    a, b = result(entry(0.05), entry(0.07)), result(entry(0.05), entry(0.07))
    assert [round(row.ratio, 2) for row in compare_results(a, b)] == [1, 1]


def test_another_number_of_threads_is_said() -> None:
    other = entry()
    other = replace(other, runtime=replace(other.runtime, threads=1))
    assert "settings differ: threads 2 against 1" in compare_results(result(), result(other))[0].notes


@pytest.mark.parametrize(
    ("factor", "b_s", "verdict"),
    [(1.3, 0.045, "cannot tell"), (1.3, 0.03, "faster"), (1.3, 0.08, "slower"), (None, 0.01, "cannot tell")],
)
def test_a_disturbed_run_is_told_from_another_only_beyond_what_the_disturbance_explains(
    factor: float | None, b_s: float, verdict: str
) -> None:
    warning = RunWarning("noisy_neighbour", "", "", factor)
    (row,) = compare_results(result(entry(0.05, warnings=(warning,))), result(entry(b_s)))
    assert row.verdict == verdict
    assert any("noisy_neighbour: for this alone" in note for note in row.notes)
    assert (row.interval is None) == (factor is None)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "faster"), (1.45, "cannot tell")])
def test_what_a_slowed_host_disturbed_is_no_doubt_once_it_is_set_aside(factor: float, verdict: str) -> None:
    warning = RunWarning("host_slowed", "", "", factor)
    (row,) = compare_results(result(entry(0.05, warnings=(warning,))), result(entry(0.045)))
    assert row.verdict == verdict
    assert any("host_slowed: for this alone" in note for note in row.notes) is (factor > 1)


def of_runs(*models: str) -> Result:
    """Each model's rows in a run of their own, as `merged` joins them: a letter is a row, the second 1 % slower."""
    runs = [made_run() for _ in models]
    entries = [
        entry(0.05 * (run + 1) * (1 + row / 100), name=f"yolov13{scale}", attention=("fused", "explicit")[row], run=run)
        for run, scales in enumerate(models)
        for row, scale in enumerate(scales)
    ]
    return made_result(entries, *runs)


def test_the_rows_of_each_run_are_compared_with_that_runs_first() -> None:
    rows = compare_rows(of_runs("nn", "ss"))
    assert [(row.a.split()[0], row.b.split()[0]) for row in rows] == [(f"yolov13{scale}",) * 2 for scale in "ns"]
    assert [row.ratio for row in rows] == [pytest.approx(1.01), pytest.approx(1.01)]
    assert all(row.paired and not row.notes for row in rows)


def test_a_row_alone_in_its_run_is_named_where_another_run_is_compared() -> None:
    (row,) = compare_rows(of_runs("l", "nn"))
    assert "yolov13n" in row.a
    (note,) = row.notes
    assert note.startswith("alone in its run, not compared: yolov13l ")
    with pytest.raises(YoloproofError, match="has one row in each run; give a second file, or profile both at once"):
        compare_rows(of_runs("l", "n"))


def test_no_text_of_a_file_steers_the_terminal() -> None:
    evil = entry()
    evil = replace(evil, model=replace(evil.model, name="[red]x\x1b[2J"))
    text = printed(compare_results(result(evil), result(evil)), 100)
    assert "[red]x\ufffd[2J" in text
    assert "\x1b" not in text


def test_words_that_all_rows_share_stand_above_the_table() -> None:
    rows = result(entry(0.05), entry(0.04, attention="explicit"), entry(0.03, attention="published"))
    heading, _, first, second, *_ = printed(compare_rows(rows), 80).splitlines()
    assert heading.split() == ["yolov13n", "fp32", "onnxruntime"]
    assert first.split()[:2] == ["fused", "explicit"]
    assert second.split()[:2] == ["fused", "published"]


def test_a_pipe_gets_each_note_on_one_line() -> None:
    text = printed(compare_results(result(entry(0.05)), result(entry(0.04))), None)
    assert len(text.splitlines()) == 3, "headings, a row, a note"


def printed(comparisons: list[Comparison], width: int | None) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=width is not None)
    print_comparisons(comparisons, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_fits_and_carries_its_notes() -> None:
    text = printed(compare_results(result(entry(0.05)), result(entry(0.04))), 100)
    assert "faster" in text
    assert "0.800" in text
    assert "two runs on a CPU: for this alone" in text
    assert max(map(len, text.splitlines())) <= 100
