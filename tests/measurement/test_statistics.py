"""What samples come to, by hand."""

from __future__ import annotations

import numpy as np

from yoloproof.measurement import PROTOCOLS
from yoloproof.measurement.statistics import process_medians, sigma_clipped, summarize
from yoloproof.names import Runtime
from yoloproof.records import Process, Protocol, Summary


def samples(*columns: list[float], complete: bool = True) -> list[Process]:
    return [Process(process=i, samples_s=tuple(column), complete=complete) for i, column in enumerate(columns)]


def summary(processes: list[Process], protocol: Protocol = PROTOCOLS["latency"], batch: int = 1) -> Summary:
    found = summarize(processes, protocol, batch, Runtime.ONNXRUNTIME)
    assert found is not None
    return found


def test_a_process_cut_short_is_in_the_percentiles_but_not_in_the_median() -> None:
    processes = [*samples(*[[1.0] * 20] * 5), Process(process=5, samples_s=(9.0,))]
    found = summary(processes, batch=4)
    assert (found.processes, found.samples) == (5, 101)
    assert (found.median_s, found.p99_s, found.fps) == (1, 1, 4)
    assert process_medians(processes[5:]) == {5: 9.0}


def test_percentiles_need_samples_in_their_tail() -> None:
    assert summary(samples([1.0, 2.0, 3.0])).p90_s is None
    ten = summary(samples([float(i) for i in range(1, 11)]))
    assert (ten.p90_s, ten.p99_s) == (9.0, None)
    assert summarize([], PROTOCOLS["latency"], 1, Runtime.ONNXRUNTIME) is None


def test_only_the_published_protocol_clips() -> None:
    processes = samples([1.0] * 50 + [1.01] * 50 + [3.0] * 5)
    assert summary(processes).clipped_mean_s is summary(processes).clipped_runs is None
    assert summary(processes, PROTOCOLS["published"]).clipped_runs == 5


def test_clipping_takes_the_slow_tail_and_stops_where_nothing_goes() -> None:
    data = np.array([1.0] * 50 + [1.01] * 50 + [3.0] * 5)
    assert sigma_clipped(data).max() == 1.01
    assert len(sigma_clipped(np.ones(5))) == 5
