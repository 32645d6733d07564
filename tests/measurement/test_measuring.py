"""`measure`: processes put together, on fakes; then the real thing with real processes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_bench import FakeBench, steady, unwatched, zeros

from tiny_onnx import images, tiny_detector
from yoloproof.errors import YoloproofError
from yoloproof.measurement import PROTOCOLS, Measurement, Protocol, Subject, measure, quick
from yoloproof.runtime import SessionSpec

LATENCY = PROTOCOLS["latency"]


def taken(bench: FakeBench, names: str = "ab", protocol: Protocol = LATENCY, **settings: object) -> list[Measurement]:
    subjects = [bench.subject(name) for name in names]
    return measure(subjects, protocol, zeros(), executor=bench.executor, watch=unwatched, **settings)  # type: ignore


def codes(measurement: Measurement) -> set[str]:
    return {warning.code for warning in measurement.warnings}


def test_every_process_gives_samples_and_the_figure_is_the_median_of_their_medians() -> None:
    bench = FakeBench({"a": steady(0.1), "b": steady(0.2)})
    a, b = taken(bench)
    assert [p.process for p in a.processes] == list(range(LATENCY.processes))
    assert all(p.complete and len(p.samples_s) >= LATENCY.runs and p.warmup_s for p in a.processes)
    assert a.summary is not None
    assert b.summary is not None
    assert a.summary["median_s"] == pytest.approx(0.1, abs=1e-5)
    assert b.summary["fps"] == pytest.approx(5, abs=1e-2)
    assert a.summary["interval_s"][0] <= a.summary["median_s"] <= a.summary["interval_s"][1]
    assert not a.partial
    assert not codes(a) & {"partial", "too_few_processes", "quick"}
    assert all(sum(p.turns) == len(p.samples_s) for p in a.processes)


def test_the_seed_is_recorded_and_handed_to_every_process() -> None:
    bench = FakeBench({"a": steady(0.1)})
    (a,) = taken(bench, "a", seed=11)
    assert {job.seed for job in bench.jobs} == {a.run.protocol["seed"]} == {11}
    seeds = {taken(FakeBench({"a": steady(0.1)}), "a")[0].run.protocol["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_a_ctrl_c_after_three_processes_keeps_them_and_marks_the_run_partial() -> None:
    bench = FakeBench({"a": steady(0.1), "b": steady(0.2)}, interrupted_in={3: 9})
    a, _ = taken(bench)
    assert a.run.interrupted
    assert a.partial
    assert sum(p.complete for p in a.processes) == 3
    assert len(a.processes) == 4
    assert a.summary is not None
    assert a.summary["processes"] == 3
    assert a.summary["interval_s"] is None
    assert {"partial", "too_few_processes"} <= codes(a)
    assert a.as_entry()["partial"] is True


def test_a_ctrl_c_late_in_the_one_long_turn_keeps_all_but_the_last_seconds() -> None:
    """loadgen: one process, one turn of 600 s. Its samples go out as they come, and count as one turn."""
    full = FakeBench({"a": steady(0.1)})
    (whole,) = taken(full, "a", PROTOCOLS["loadgen"])
    assert whole.processes[0].turns == [len(whole.processes[0].samples_s)]
    assert sum(whole.processes[0].samples_s) == pytest.approx(600, rel=0.01)
    (cut,) = taken(FakeBench({"a": steady(0.1)}, interrupted_in={0: 100}), "a", PROTOCOLS["loadgen"])
    assert cut.run.interrupted
    assert cut.partial
    assert cut.summary is not None
    assert 450 < sum(cut.processes[0].samples_s) < 500


def test_zeros_from_the_caller_are_told() -> None:
    bench = FakeBench({"a": steady(0.1)})
    images = np.zeros((2, 3, 8, 8), np.float32)
    (a,) = measure([bench.subject("a")], LATENCY, images, executor=bench.executor, watch=unwatched)
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
    assert a.as_entry()["failure"] == a.error == "open failed: KeyError: 'a'"
    assert b.summary is not None


def test_subjects_that_differ_in_flush_to_zero_never_share_a_process() -> None:
    bench = FakeBench({"a": steady(0.1), "b": steady(0.1)})
    subjects = [bench.subject("a"), bench.subject("b", flush_to_zero=True)]
    measure(subjects, LATENCY, zeros(), executor=bench.executor, watch=unwatched)
    assert all(len(job.subjects) == 1 for job in bench.jobs)
    assert [job.process for job in bench.jobs] == [p for p in range(LATENCY.processes) for _ in "ab"]


def test_published_sends_zeros_runs_once_and_clips() -> None:
    bench = FakeBench({"a": lambda number: 0.5 if number % 20 == 0 else 0.1})
    (a,) = taken(bench, "a", PROTOCOLS["published"])
    assert all(not images.any() for images in bench.seen["a"])
    assert len(a.processes) == 1
    assert a.summary is not None
    assert a.summary["clipped_mean_s"] == pytest.approx(0.1, abs=1e-4)
    assert a.summary["mean_s"] > 0.115
    assert {"zero_input", "published_protocol", "too_few_processes"} <= codes(a)


def test_progress_never_goes_back_and_ends_at_one() -> None:
    seen: list[tuple[str, float]] = []
    progress: Callable[[str, float], None] = lambda what, share: seen.append((what, share))  # noqa: E731
    taken(FakeBench({"a": steady(0.1), "b": steady(0.2)}), progress=progress)
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-1] > 0.95
    assert "process 1/6, a" in seen[0][0]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_quick_is_marked_and_short_for_every_protocol(protocol: Protocol) -> None:
    bench = FakeBench({"a": steady(0.1)})
    (a,) = taken(bench, "a", quick(protocol))
    assert a.run.protocol["quick"] is True
    assert a.run.protocol["name"] == protocol.name
    assert "quick" in codes(a)
    assert bench.clock.time_s - 100 < 15


def test_images_that_do_not_fit_and_names_that_repeat_are_refused() -> None:
    bench = FakeBench({"a": steady(0.1)})
    a = bench.subject("a")
    with pytest.raises(YoloproofError, match="letterbox"):
        measure([a], LATENCY, np.zeros((1, 3, 16, 16), np.float32), executor=bench.executor, watch=unwatched)
    with pytest.raises(YoloproofError, match="no images for 'a'"):
        measure([a], LATENCY, {"b": zeros()}, executor=bench.executor, watch=unwatched)
    with pytest.raises(YoloproofError, match="two subjects"):
        measure([a, a], LATENCY, zeros(), executor=bench.executor, watch=unwatched)
    with pytest.raises(YoloproofError, match="nothing"):
        measure([], LATENCY, zeros(), executor=bench.executor, watch=unwatched)


def test_a_network_of_the_script_itself_is_refused_with_the_way_out() -> None:
    subject = Subject("a", SessionSpec("pytorch", network=lambda: None), (32, 32))
    with pytest.raises(YoloproofError, match="importable module"):
        measure([subject], quick(LATENCY), images(), watch=unwatched)


def test_real_processes_time_a_real_network(tmp_path: Path) -> None:
    path = tiny_detector(tmp_path / "tiny.onnx")
    subjects = [
        Subject("good", SessionSpec("onnxruntime", path, threads=1), (32, 32)),
        Subject("missing", SessionSpec("onnxruntime", tmp_path / "none.onnx"), (32, 32)),
    ]
    good, missing = measure(subjects, replace(quick(LATENCY), wait_max_s=2.0), images(4))
    assert len(good.processes) >= 3  # more on a host that others slow
    assert all(p.complete for p in good.processes)
    assert good.summary is not None
    assert 0 < good.summary["median_s"] < good.summary["p99_s"] < 1
    assert good.facts["name"] == "onnxruntime"
    assert good.run.machine["cpu"]["logical_cores"] >= 1
    assert good.processes[0].timer["cost_s"] < 1e-4
    assert all(p.cpu["wall_s"] > 0 for p in good.processes)
    assert all(len(p.gauge_s) == len(p.turns) > 0 < min(p.gauge_s) for p in good.processes)
    assert missing.summary is None
    assert missing.error is not None
    assert "none.onnx" in missing.error


def test_a_real_worker_that_aborts_is_told_by_its_signal() -> None:
    pytest.importorskip("torch")
    subject = Subject("abort", SessionSpec("pytorch", network=os.abort), (32, 32))
    (taken,) = measure([subject], quick(LATENCY), images())
    assert taken.summary is None
    assert taken.error is not None
    assert "SIGABRT" in taken.error
