"""What samples come to, by hand."""

from __future__ import annotations

import numpy as np

from yoloproof.measurement import PROTOCOLS, ProcessSamples
from yoloproof.measurement.statistics import process_medians, sigma_clipped, summarize


def samples(*columns: list[float], complete: bool = True) -> list[ProcessSamples]:
    return [ProcessSamples(i, samples_s=column, complete=complete) for i, column in enumerate(columns)]


def test_a_process_cut_short_is_in_the_percentiles_but_not_in_the_median() -> None:
    processes = [*samples(*[[1.0] * 20] * 5), ProcessSamples(5, samples_s=[9.0])]
    summary = summarize(processes, PROTOCOLS["latency"], batch=4)
    assert summary is not None
    assert summary["processes"] == 5
    assert summary["median_s"] == 1
    assert summary["samples"] == 101
    assert summary["p99_s"] == 1
    assert summary["fps"] == 4
    assert process_medians(processes[5:]) == {5: 9.0}


def test_percentiles_need_samples_in_their_tail() -> None:
    few = summarize(samples([1.0, 2.0, 3.0]), PROTOCOLS["latency"], 1)
    assert few is not None
    assert few["p90_s"] is None
    ten = summarize(samples([float(i) for i in range(1, 11)]), PROTOCOLS["latency"], 1)
    assert ten is not None
    assert (ten["p90_s"], ten["p99_s"]) == (9.0, None)
    assert summarize([], PROTOCOLS["latency"], 1) is None


def test_clipping_takes_the_slow_tail_and_stops_where_nothing_goes() -> None:
    data = np.array([1.0] * 50 + [1.01] * 50 + [3.0] * 5)
    assert sigma_clipped(data).max() == 1.01
    assert len(sigma_clipped(np.ones(5))) == 5
