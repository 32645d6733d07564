"""Waiting for a device to settle must not itself keep it idle; `published` clips as often as ProfileModels does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from fake_bench import FakeBench, steady, zeros

from yoloproof.measurement import PROTOCOLS, worker
from yoloproof.measurement.events import WarmedUp
from yoloproof.measurement.settling import Heat, WarmUpRun
from yoloproof.measurement.statistics import sigma_clipped, summarize
from yoloproof.measurement.worker import WorkerJob
from yoloproof.names import Runtime
from yoloproof.records import Process


def test_waiting_looks_once_a_second_and_not_far_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 2 ms engine on a card that heats for 60 s runs 12,000 times; a look costs more than a run."""
    looks: list[int] = []
    settled = worker.settled

    def counted(runs: Sequence[WarmUpRun]) -> bool:
        looks.append(len(runs))
        return settled(list(runs))

    monkeypatch.setattr(worker, "settled", counted)
    bench = FakeBench({"a": steady(0.002)})
    start = bench.clock.time_s
    protocol = replace(PROTOCOLS["sustained"], seconds=0.1, seed=1)
    job = WorkerJob(0, {0: bench.subject("a")}, {0: zeros()}, protocol)
    events = bench.events(job, thermometer=lambda: Heat(40 + min(60.0, bench.clock.time_s - start) / 2, 1e9))
    warmed = next(event for event in events if isinstance(event, WarmedUp))
    assert warmed.settled is True
    runs = len(warmed.wall_s)
    seconds = runs * 0.005  # with load and fetch
    assert 75 < seconds < 90
    assert len(looks) <= seconds + 2
    assert max(looks) <= 30 / 0.005


def test_an_engine_is_clipped_three_times_and_an_onnx_file_five() -> None:
    """On tails this long, each further round takes more away."""
    samples = tuple(float(sample) for sample in 0.01 * (1 + np.random.default_rng(0).pareto(1.0, 2000)))
    kept = {}
    for runtime in (Runtime.TENSORRT, Runtime.TENSORRT_RTX, Runtime.ONNXRUNTIME):
        process = Process(process=0, samples_s=samples, complete=True)
        found = summarize([process], PROTOCOLS["published"], 1, runtime)
        assert found is not None
        assert found.clipped_runs is not None
        kept[runtime] = 2000 - found.clipped_runs
    three, five = (len(sigma_clipped(np.array(samples), rounds=rounds)) for rounds in (3, 5))
    assert kept[Runtime.TENSORRT] == kept[Runtime.TENSORRT_RTX] == three
    assert kept[Runtime.ONNXRUNTIME] == five < three
