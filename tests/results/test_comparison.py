"""Two results held against each other: what is refused, what is said, and the arithmetic of the rows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from made_results import end_to_end_entry, made_entry, made_process, made_result, made_run
from yoloproof.errors import YoloproofError
from yoloproof.records import Battery, Cpu, Entry, Gpu, Machine, Process, Protocol, Result, RunWarning
from yoloproof.results.compare import (
    CPU_RUN_TO_RUN,
    Comparison,
    compare_groups,
    compare_results,
    compare_rows,
    print_comparisons,
)
from yoloproof.results.differences import machine_differences, protocol_differences
from yoloproof.results.file import read_result

RESULTS = Path(__file__).parents[2] / "results"


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
    assert row.notes[0].startswith(
        "two runs on a CPU: for this alone the level may differ by up to 1.05 times, by which the interval within this run of "
        "each is widened; "
    )


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


def test_another_stepping_is_another_machine_and_a_file_that_tells_no_such_thing_is_not() -> None:
    """Schema 1 held none of it. Where a side tells some of it, what it does not is a difference."""
    two, three = machine(stepping="2"), machine(stepping="3")
    assert machine_differences(two, three) == ["CPU stepping 2 against 3"]
    assert machine_differences(MACHINE, three) == machine_differences(three, MACHINE) == []
    known = machine(stepping="3", microcode="0xa0011d1")
    assert machine_differences(three, known) == ["microcode unknown against 0xa0011d1"]


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


def test_gauges_of_two_sizes_tell_no_hosts_apart_and_it_is_said() -> None:
    a, b, c = (result(gauge_best_s=s, gauge_size=size) for s, size in ((1e-3, 512), (2e-3, 640), (1.01e-3, 512)))
    said = "gauges of different sizes: hosts not told apart by speed"
    assert said in compare_results(a, b)[0].notes
    assert said in compare_groups([a, a, a], [c, c, b])[0].notes
    assert said not in compare_results(a, c)[0].notes
    assert said not in compare_results(result(), result())[0].notes


def test_two_runs_whose_gauges_differ_are_allowed_that_much_more() -> None:
    a, b = (result(entry(s), gauge_best_s=s / 50, gauge_size=512) for s in (0.05, 0.0525))
    (row,) = compare_results(a, b)
    assert row.interval is not None
    assert row.interval[1] / row.interval[0] == pytest.approx((1.05 * 1.05) ** 2, rel=0.01)
    (note,) = row.notes
    assert note.startswith(
        "two runs on a CPU, times 1.050 as the gauges' best readings differ: for this alone the level"
    )
    assert "up to 1.10 times" in note


def test_one_graph_on_one_host_in_another_hour_is_not_told_from_itself() -> None:
    """Two committed files, half an hour apart, whose gauges' best readings differ by 1 and 2 %."""
    rows = compare_results(read_result(RESULTS / "cpu.json"), read_result(RESULTS / "export-cpu.json"))
    assert [row.verdict for row in rows] == ["cannot tell"] * 4
    assert all(row.interval is not None and row.interval[0] < 1 < row.interval[1] for row in rows)
    for row in rows:
        factor = "1.012" if "onnxruntime" in row.a else "1.022"
        assert any(f"times {factor} as the gauges" in note for note in row.notes)
        assert not any("another build" in note for note in row.notes), "the files are the same"


def test_rows_without_proof_are_left_out_and_named() -> None:
    """A --forensics file holds `stripped`, which is never proved; the rest compares."""
    rows = compare_rows(
        result(entry(0.05), entry(0.04, attention="stripped", proved=False), entry(0.06, attention="explicit"))
    )
    assert [row.verdict for row in rows] == ["slower"]
    assert any(note.startswith("not proved, not compared: ") and "stripped" in note for note in rows[0].notes)


def test_three_runs_of_each_hold_what_moves_between_runs() -> None:
    (row,) = compare_groups(runs(0.050, 0.052, 0.051), runs(0.0505, 0.0515, 0.0525, hours=(2, 4, 6)))
    assert row.verdict == "cannot tell"
    assert row.run_to_run == pytest.approx(0.02, abs=0.005)
    assert row.detectable is not None
    assert 0.05 < row.detectable < 0.07
    (row,) = compare_groups(runs(0.050, 0.052, 0.051), runs(0.060, 0.0605, 0.0625, hours=(2, 4, 6)))
    assert row.verdict == "slower"
    with pytest.raises(YoloproofError, match="give at least 3 on each side"):
        compare_groups(runs(0.05, 0.05), runs(0.05, 0.05, 0.05))


def runs(*medians_s: float, hours: Sequence[int] = (1, 3, 5), machine: Machine = MACHINE, **more: Any) -> list[Result]:
    """A run of one row at each hour."""
    return [
        result(entry(median_s, **more), machine=machine, created=f"2026-11-30T{hour:02}:00:00+00:00")
        for median_s, hour in zip(medians_s, hours, strict=False)
    ]


@pytest.mark.parametrize(("a", "b"), [((1, 2, 3), (4, 5, 6)), ((4, 5, 6), (1, 2, 3)), ((1, 2, 3), (3, 4, 5))])
def test_groups_of_runs_that_do_not_alternate_are_allowed_what_two_single_runs_are(
    a: Sequence[int], b: Sequence[int]
) -> None:
    """All of A before all of B, after it, or with B's first at the time of A's last."""
    (apart,) = compare_groups(runs(0.050, 0.052, 0.051, hours=a), runs(0.054, 0.056, 0.055, hours=b))
    (turns,) = compare_groups(runs(0.050, 0.052, 0.051), runs(0.054, 0.056, 0.055, hours=(2, 4, 6)))
    assert (turns.verdict, apart.verdict) == ("slower", "cannot tell")
    assert turns.interval is not None
    assert apart.interval == pytest.approx((turns.interval[0] / 1.05, turns.interval[1] * 1.05))
    assert not any("apart in time" in note for note in turns.notes)
    assert any("apart in time: for this alone" in note and "alternate the runs" in note for note in apart.notes)


def test_groups_of_runs_of_unknown_time_are_taken_to_be_apart() -> None:
    a = [result(created=""), *runs(0.05, 0.05, hours=(3, 5))]
    (row,) = compare_groups(a, runs(0.05, 0.05, 0.05, hours=(2, 4, 6)))
    assert any("apart in time" in note for note in row.notes)


def test_groups_on_a_gpu_that_do_not_alternate_say_that_nobody_knows() -> None:
    gpu = replace(MACHINE, gpu=Gpu(name="Tesla T4"))
    runtime = replace(entry().runtime, device="cuda:0")
    a, b = (
        [replace(one, entries=(replace(one.entries[0], runtime=runtime),)) for one in few]
        for few in (runs(0.05, 0.0501, 0.0502, machine=gpu), runs(0.051, 0.0511, 0.0512, hours=(6, 7, 8), machine=gpu))
    )
    (row,) = compare_groups(a, b)
    assert row.verdict == "slower"
    assert any(note.startswith("within these runs: how far") and "alternate the runs" in note for note in row.notes)


def test_a_disturbed_run_of_a_group_is_named_and_counts_where_the_groups_are_apart() -> None:
    a = runs(0.05, 0.0501, 0.0502)
    a[1] = result(entry(0.0501, warnings=(RunWarning("drift", "", "", 1.3),)), created=a[1].runs[0].created)
    (turns,) = compare_groups(a, runs(0.06, 0.0601, 0.0602, hours=(2, 4, 6)))
    (apart,) = compare_groups(a, runs(0.06, 0.0601, 0.0602, hours=(6, 7, 8)))
    for row in (turns, apart):
        assert "runs whose level may differ for this alone: drift in run 2 of A (up to 1.30 times)" in row.notes
    assert (turns.verdict, apart.verdict) == ("slower", "cannot tell")


def test_the_gauges_of_all_runs_are_held_against_each_other() -> None:
    """No run is 10 % from A's first; two others are."""
    a, b = runs(0.05, 0.05, 0.05), runs(0.05, 0.05, 0.05, hours=(2, 4, 6))
    bests = iter((1.00e-3, 0.94e-3, 1.00e-3, 1.00e-3, 1.06e-3, 1.00e-3))
    a, b = (
        [replace(one, runs=(replace(one.runs[0], gauge_best_s=next(bests), gauge_size=512),)) for one in few]
        for few in (a, b)
    )
    with pytest.raises(YoloproofError, match=r"matrix products took 0\.94 ms at best against 1\.06 ms"):
        compare_groups(a, b)


def test_groups_leave_rows_without_proof_out_and_name_them_and_what_one_file_lacks() -> None:
    """Six copies of a committed file with `stripped`, which is never proved."""
    file = read_result(RESULTS / "cpu.json")
    less = replace(file, entries=file.entries[:-2])
    rows = compare_groups([file] * 3, [file, file, less])
    assert len(rows) == 7
    assert all(row.ratio == pytest.approx(1) and row.verdict == "cannot tell" for row in rows)
    for what in ("not proved, not compared: yolov13n-coco128 stripped", "not in every file, not compared: yolov12n"):
        assert any(note.startswith(what) for note in rows[0].notes)
    with pytest.raises(YoloproofError, match="is not proved"):
        compare_groups([result(entry(proved=False))] * 3, [result()] * 3)


def test_groups_of_one_row_each_are_compared_whatever_the_rows_are() -> None:
    a, b = runs(0.05, 0.0501, 0.0502), runs(0.04, 0.0401, 0.0402, hours=(2, 4, 6), attention="explicit")
    (row,) = compare_groups(a, b)
    assert ("fused" in row.a, "explicit" in row.b, row.verdict) == (True, True, "faster")
    with pytest.raises(YoloproofError, match="no row in common"):
        compare_groups([*a[:2], b[2]], [*b[:2], a[2]])


def test_rows_of_two_networks_are_two_rows() -> None:
    """`fused` in our kernels and `fused` in the published graph, and that network with its letterbox and suppression."""

    def fused(median_s: float, *simplified: str) -> Entry:
        made = entry(median_s)
        return replace(made, artifact=replace(made.artifact, simplified=simplified))

    a = result(fused(0.05, "norms"), entry(0.06, attention="explicit"))
    b = result(fused(0.01, "norms", "kernels"), entry(0.06, attention="explicit"))
    (row,) = compare_results(a, b)
    assert "explicit" in row.a
    assert sum("only in one file" in note for note in row.notes) == 2
    native = entry(0.01, runtime="native")
    (row,) = compare_results(result(end_to_end_entry(median_s=0.03), native), result(native))
    assert "end to end" not in row.a + row.b
    assert row.notes[0] == "only in one file, not compared: yolov13n fused (end to end) fp32 native"


def test_flush_to_zero_is_a_setting() -> None:
    """Of single rows it is said; of several, rows with and without it are two, which the note tells apart."""
    plain = entry()
    flushed = replace(plain, runtime=replace(plain.runtime, flush_to_zero=True))
    (row,) = compare_results(result(plain), result(flushed))
    assert "settings differ: flush_to_zero False against True" in row.notes
    (row,) = compare_results(result(plain), result(plain, flushed))
    assert any(note.startswith("only in one file") and note.endswith(" (flush-to-zero)") for note in row.notes)


def test_a_note_on_some_rows_names_them() -> None:
    def built(sha256: str, attention: str) -> Entry:
        made = entry(attention=attention)
        return replace(made, artifact=replace(made.artifact, sha256=sha256))

    a, b = (result(built("a" * 64, "fused"), built(sha256 * 64, "explicit")) for sha256 in "ab")
    *_, common, artifact = sorted(printed(compare_results(a, b), None).splitlines(), key=lambda line: "SHA" in line)
    assert common.startswith("two runs on a CPU: ")
    assert artifact == (
        "explicit: the artifacts' SHA-256 differ (aaaaaaaaaaaa against bbbbbbbbbbbb): another build, maybe of the same graph"
    )


def test_two_runs_on_a_gpu_are_not_said_to_differ_as_cpus_do() -> None:
    """Nobody measured how far a GPU's level moves between runs: no allowance, and it is said."""
    gpu = replace(MACHINE, gpu=Gpu(name="Tesla T4"))
    sides = [
        result(replace(entry(s), runtime=replace(entry().runtime, device="cuda:0")), machine=gpu) for s in (0.05, 0.051)
    ]
    (row,) = compare_results(*sides)
    assert row.verdict == "slower"
    assert any(note.startswith("within this run of each: how far") for note in row.notes)


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
    assert any("so that there is no interval" in note for note in row.notes) == (factor is None)


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
    within = "within this run: how far other runs would differ is not in the interval"
    assert all(row.paired and row.notes == (within,) for row in rows)


def test_a_row_alone_in_its_run_is_named_where_another_run_is_compared() -> None:
    (row,) = compare_rows(of_runs("l", "nn"))
    assert "yolov13n" in row.a
    note, _ = row.notes
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
