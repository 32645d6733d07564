"""`benchmark`: processes put together, on fakes; then the real thing with real processes."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_bench import FETCH_S, LOAD_S, OPEN_S, FakeBench, steady, unwatched, zeros

from made_results import made_entry, made_result
from tiny_onnx import images, tiny_detector
from yoloproof.errors import YoloproofError
from yoloproof.measurement import PROTOCOLS, Benchmark, Measurement, Subject, benchmark, in_seconds
from yoloproof.measurement.cpu import usable_cores
from yoloproof.measurement.stability import subject_warnings
from yoloproof.measurement.statistics import summarize
from yoloproof.measurement.usage import Memory, Meters
from yoloproof.names import Runtime
from yoloproof.records import Protocol, Summary
from yoloproof.results.file import text_from_result
from yoloproof.results.schema import result_from_json
from yoloproof.runtime import SessionSpec
from yoloproof.runtime.base import Session

LATENCY = PROTOCOLS["latency"]
TWO_PROCESSES = replace(LATENCY, processes=2)


def run(bench: FakeBench, names: str = "ab", protocol: Protocol = LATENCY, **settings: object) -> Benchmark:
    subjects = [bench.subject(name) for name in names]
    return benchmark(subjects, protocol, zeros(), executor=bench.executor, watch=unwatched, **settings)  # type: ignore


def taken(bench: FakeBench, names: str = "ab", protocol: Protocol = LATENCY) -> tuple[Measurement, ...]:
    return run(bench, names, protocol).measurements


def summary_of(measurement: Measurement) -> Summary:
    assert measurement.summary is not None
    return measurement.summary


def codes(measurement: Measurement) -> set[str]:
    return {warning.code for warning in measurement.warnings}


def test_every_process_gives_samples_and_the_figure_is_the_median_of_their_medians() -> None:
    bench = FakeBench({"a": steady(0.1), "b": steady(0.2)})
    a, b = taken(bench)
    assert [p.process for p in a.processes] == list(range(LATENCY.processes))
    assert all(p.complete and len(p.samples_s) >= LATENCY.runs and p.warmup_s for p in a.processes)
    assert summary_of(a).median_s == pytest.approx(0.1, abs=1e-5)
    assert summary_of(b).fps == pytest.approx(5, abs=1e-2)
    interval = summary_of(a).interval_s
    assert interval is not None
    assert interval[0] <= summary_of(a).median_s <= interval[1]
    assert not a.partial
    assert not codes(a) & {"partial", "too_few_processes", "quick"}
    assert all(sum(turn.count for turn in p.turns) == len(p.samples_s) for p in a.processes)


def test_the_seed_is_recorded_and_handed_to_every_process() -> None:
    bench = FakeBench({"a": steady(0.1)})
    found = run(bench, "a", seed=11)
    assert {job.protocol.seed for job in bench.jobs} == {found.protocol.seed} == {11}
    seeds = {run(FakeBench({"a": steady(0.1)}), "a").protocol.seed for _ in range(3)}
    assert len(seeds) == 3


def test_a_ctrl_c_after_three_processes_keeps_them_and_marks_the_run_partial() -> None:
    bench = FakeBench({"a": steady(0.1), "b": steady(0.2)}, interrupted_in={3: 9})
    found = run(bench)
    a, _ = found.measurements
    assert found.interrupted
    assert a.partial
    assert sum(p.complete for p in a.processes) == 3
    assert len(a.processes) == 4
    assert summary_of(a).processes == 3
    assert summary_of(a).interval_s is None
    assert {"partial", "too_few_processes"} <= codes(a)


def test_a_ctrl_c_late_in_the_one_long_turn_keeps_all_but_the_last_seconds() -> None:
    """single-stream-style: one process, one turn of 600 s. Its samples go out as they come, and count as one turn."""
    full = FakeBench({"a": steady(0.1)})
    (whole,) = taken(full, "a", PROTOCOLS["single-stream-style"])
    assert [turn.count for turn in whole.processes[0].turns] == [len(whole.processes[0].samples_s)]
    assert sum(whole.processes[0].samples_s) == pytest.approx(600, rel=0.01)
    found = run(FakeBench({"a": steady(0.1)}, interrupted_in={0: 100}), "a", PROTOCOLS["single-stream-style"])
    (cut,) = found.measurements
    assert found.interrupted
    assert cut.partial
    assert 450 < sum(cut.processes[0].samples_s) < 500


def test_zeros_from_the_caller_are_told() -> None:
    bench = FakeBench({"a": steady(0.1)})
    images = np.zeros((2, 3, 8, 8), np.float32)
    found = benchmark([bench.subject("a")], LATENCY, images, executor=bench.executor, watch=unwatched)  # type: ignore
    (a,) = found.measurements
    assert "zero_input" in codes(a)


def test_a_full_temporary_folder_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(YoloproofError, match=r"No space left on device\); make room, or name another folder in TMPDIR"):
        taken(FakeBench({"a": steady(0.1)}), "a")


def test_a_ctrl_c_before_any_sample_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        taken(FakeBench({"a": steady(0.1)}, interrupted_in={0: 1}), "a")


def test_an_inference_that_raises_in_the_middle_keeps_the_samples_and_spares_the_others() -> None:
    def failing(number: int) -> float:
        if number == 30:
            raise RuntimeError("CUDA error: an illegal memory access")
        return 0.1

    bench = FakeBench({"a": failing, "b": steady(0.2)})
    a, b = taken(bench)
    assert a.partial
    assert a.error == "inference failed: RuntimeError: CUDA error: an illegal memory access"
    assert a.processes[0].samples_s
    assert "failed" in codes(a)
    assert len(a.processes) == 1
    assert not b.partial
    assert len(b.processes) == LATENCY.processes


def test_a_worker_that_dies_is_put_on_the_subject_whose_turn_it_was() -> None:
    # Events of process 0: start, then (turn, opened) for a and b, then the turn of a's warm-up: dead in it.
    both = taken(FakeBench({"a": steady(0.1), "b": steady(0.2)}, dies_in={0: 6}))
    assert both[0].error == "the worker process was killed by SIGKILL"
    assert len(both[0].processes) == 1
    assert both[1].error is None
    assert both[1].partial
    assert [p.complete for p in both[1].processes] == [False] + [True] * (LATENCY.processes - 1)


def test_what_never_ran_has_no_summary_and_says_why() -> None:
    bench = FakeBench({"b": steady(0.1)})
    a, b = taken(bench)
    assert a.summary is None
    assert a.facts is None
    assert a.error == "open failed: KeyError: 'a'"
    assert summary_of(b).samples > 0


def test_subjects_that_differ_in_flush_to_zero_never_share_a_process() -> None:
    bench = FakeBench({"a": steady(0.1), "b": steady(0.1)})
    subjects = [bench.subject("a"), bench.subject("b", flush_to_zero=True)]
    benchmark(subjects, LATENCY, zeros(), executor=bench.executor, watch=unwatched)
    assert all(len(job.subjects) == 1 for job in bench.jobs)
    assert [job.process for job in bench.jobs] == [p for p in range(LATENCY.processes) for _ in "ab"]


def test_published_sends_onnx_runtime_noise_times_the_whole_call_runs_once_and_clips() -> None:
    bench = FakeBench({"a": lambda number: 0.5 if number % 20 == 0 else 0.1})
    (a,) = taken(bench, "a", PROTOCOLS["published"])
    assert all(0.2 < images.std() < 0.4 and 0 <= images.min() < images.max() <= 1 for images in bench.seen["a"])
    assert len(a.processes) == 1
    assert summary_of(a).clipped_mean_s == pytest.approx(0.1 + LOAD_S + FETCH_S, abs=1e-4)
    assert summary_of(a).mean_s > 0.115
    assert {"published_protocol", "too_few_processes"} <= codes(a)


def test_published_sends_an_engine_zeros_and_times_it_alone_without_a_graph() -> None:
    bench = FakeBench({"a": steady(0.1)})
    subject = bench.subject("a")
    engine = replace(subject, spec=replace(subject.spec, runtime=Runtime.TENSORRT))
    found = benchmark([engine], in_seconds(PROTOCOLS["published"]), zeros(), executor=bench.executor, watch=unwatched)  # type: ignore[arg-type]
    assert all(not images.any() for images in bench.seen["a"])
    assert summary_of(found.measurements[0]).median_s == pytest.approx(0.1, abs=1e-4)
    assert "zero_input" in codes(found.measurements[0])
    assert not PROTOCOLS["published"].cuda_graph


def test_of_more_rows_than_processes_each_has_a_cold_start_and_memory() -> None:
    """The third row is opened first in neither process: it has one of its own, in which nothing is timed."""
    bench = FakeBench({name: steady(0.1) for name in "abc"}, meters=Meters(lambda: lambda: Memory(100, 200)))
    found = run(bench, "abc", TWO_PROCESSES)
    for measurement in found.measurements:
        summary = summary_of(measurement)
        assert summary.cold_start_s == pytest.approx(OPEN_S + LOAD_S + 0.1 + FETCH_S, abs=1e-4)
        assert (summary.host_bytes, summary.device_bytes) == (100, 200)
    assert [list(job.subjects) for job in bench.jobs] == [[0, 1, 2], [0, 1, 2], [2]]
    a, _, c = found.measurements
    assert [p.open_only for p in a.processes] == [False, False]
    *timed, alone = c.processes
    assert not any(p.open_only for p in timed)
    assert (alone.process, alone.open_only, alone.opened_after, alone.complete) == (2, True, 0, False)
    assert not alone.samples_s + alone.warmup_s + alone.turns
    assert bench.log[-4:] == [("c", "load"), ("c", "execute"), ("c", "fetch"), ("c", "close")]


def test_a_process_that_only_opened_a_row_changes_nothing_else() -> None:
    *_, c = taken(FakeBench({name: steady(0.1) for name in "abc"}), "abc", TWO_PROCESSES)
    timed = [p for p in c.processes if not p.open_only]
    assert summarize(timed, TWO_PROCESSES, 1, Runtime.ONNXRUNTIME) == replace(summary_of(c), cold_start_s=None)
    own, without = (subject_warnings(few, c.summary, TWO_PROCESSES, None) for few in (c.processes, timed))
    assert own == without
    assert not c.partial
    assert not codes(c) & {"partial", "failed"}
    result = made_result([replace(made_entry(), processes=c.processes, summary=c.summary)], protocol=TWO_PROCESSES)
    assert result_from_json(json.loads(text_from_result(result)), "it") == result


@pytest.mark.parametrize("dies", [True, False])
def test_a_row_that_does_not_open_once_more_keeps_its_figure(dies: bool) -> None:
    bench = FakeBench({name: steady(0.1) for name in "abc"}, dies_in={2: 2} if dies else {})
    opened = bench.open

    def open_twice(spec: SessionSpec) -> Session:
        if not dies and len(bench.jobs) == 3:
            raise RuntimeError("no room")
        return opened(spec)

    bench.open = open_twice  # type: ignore[method-assign]
    *_, c = taken(bench, "abc", TWO_PROCESSES)
    assert (c.error, c.partial, summary_of(c).processes, summary_of(c).cold_start_s) == (None, False, 2, None)
    assert c.processes[-1].open_only


def test_no_process_for_a_cold_start_in_a_quick_or_an_interrupted_run_or_past_its_time() -> None:
    def jobs(protocol: Protocol, interrupted_in: dict[int, int] | None = None, late_s: float = 0.0) -> list[bool]:
        bench = FakeBench({name: steady(0.1) for name in "abcd"}, interrupted_in=interrupted_in or {})
        run(bench, "abcd", protocol, clock=bench.clock, began_s=bench.clock.time_s - late_s)
        return [job.open_only for job in bench.jobs]

    assert jobs(TWO_PROCESSES) == [False, False, True, True]
    assert jobs(in_seconds(TWO_PROCESSES)) == [False, False]
    assert jobs(TWO_PROCESSES, {1: 30}) == [False, False]
    # On a busy host one timed process less: what others use is read from the real host.
    assert jobs(TWO_PROCESSES, late_s=4 * TWO_PROCESSES.row_max_s) in ([False, False], [False])


def test_progress_never_goes_back_and_ends_at_one() -> None:
    seen: list[tuple[str, float]] = []
    progress: Callable[[str, float], None] = lambda what, share: seen.append((what, share))  # noqa: E731
    run(FakeBench({name: steady(0.1) for name in "abc"}), "abc", TWO_PROCESSES, progress=progress)
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-2] > 0.95
    assert "process 1/2, a" in seen[0][0]
    assert seen[-1] == ("c: open, in a process of its own", 1.0)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_quick_is_marked_and_short_for_every_protocol(protocol: Protocol) -> None:
    bench = FakeBench({"a": steady(0.1)})
    found = run(bench, "a", in_seconds(protocol))
    assert (found.protocol.name, found.protocol.quick) == (protocol.name, True)
    assert "quick" in codes(found.measurements[0])
    assert bench.clock.time_s - 100 < 15


def test_images_that_do_not_fit_and_names_that_repeat_are_refused() -> None:
    bench = FakeBench({"a": steady(0.1)})
    a = bench.subject("a")
    with pytest.raises(YoloproofError, match="letterbox"):
        benchmark([a], LATENCY, np.zeros((1, 3, 16, 16), np.float32), executor=bench.executor, watch=unwatched)
    with pytest.raises(YoloproofError, match="no images for 'a'"):
        benchmark([a], LATENCY, {"b": zeros()}, executor=bench.executor, watch=unwatched)
    with pytest.raises(YoloproofError, match="two subjects"):
        benchmark([a, a], LATENCY, zeros(), executor=bench.executor, watch=unwatched)
    with pytest.raises(YoloproofError, match="nothing"):
        benchmark([], LATENCY, zeros(), executor=bench.executor, watch=unwatched)


def test_a_network_of_the_script_itself_is_refused_with_the_way_out() -> None:
    subject = Subject("a", SessionSpec(Runtime.PYTORCH, network=lambda: None), (32, 32))
    with pytest.raises(YoloproofError, match="importable module"):
        benchmark([subject], in_seconds(LATENCY), images(), watch=unwatched)


def test_real_processes_time_a_real_network(tmp_path: Path) -> None:
    path = tiny_detector(tmp_path / "tiny.onnx")
    subjects = [
        Subject("good", SessionSpec(Runtime.ONNXRUNTIME, path, threads=1), (32, 32)),
        Subject("missing", SessionSpec(Runtime.ONNXRUNTIME, tmp_path / "none.onnx"), (32, 32)),
    ]
    found = benchmark(subjects, replace(in_seconds(LATENCY), wait_max_s=2.0), images(4))
    good, missing = found.measurements
    assert len(good.processes) >= 3  # more on a host that others slow
    assert all(p.complete for p in good.processes)
    assert 0 < summary_of(good).median_s < (summary_of(good).p99_s or 0) < 1
    assert good.facts is not None
    assert (good.facts.name, good.facts.threads) == (Runtime.ONNXRUNTIME, 1)
    assert usable_cores(found.machine.cpu) >= 1
    assert found.machine.after is not None
    assert found.gauge_best_s is not None
    timer = good.processes[0].timer
    assert timer is not None
    assert timer.cost_s < 1e-4
    assert all(p.cpu.wall_s > 0 for p in good.processes)
    assert all(len(p.gauge_s) == sum(turn.kept for turn in p.turns) > 0 < min(p.gauge_s) for p in good.processes)
    assert missing.summary is None
    assert missing.error is not None
    assert "none.onnx" in missing.error


def test_a_real_worker_that_aborts_is_told_by_its_signal() -> None:
    pytest.importorskip("torch")
    subject = Subject("abort", SessionSpec(Runtime.PYTORCH, network=os.abort), (32, 32))
    (found,) = benchmark([subject], in_seconds(LATENCY), images()).measurements
    assert found.summary is None
    assert found.error is not None
    assert "SIGABRT" in found.error
