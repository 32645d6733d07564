"""What samples come to, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yoloproof.measurement import PROTOCOLS
from yoloproof.measurement.statistics import process_medians, sigma_clipped, summarize
from yoloproof.names import Runtime
from yoloproof.records import Process, Protocol, SetAside, Summary, Turn

LATENCY = PROTOCOLS["latency"]


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


def test_the_percentile_as_it_came_counts_turns_and_processes_that_were_set_aside() -> None:
    turns = Process(process=0, samples_s=(1.0,) * 10, set_aside=SetAside(samples_s=(2.0,) * 5), complete=True)
    found = summarize([turns], LATENCY, 1, Runtime.ONNXRUNTIME, [Process(process=1, samples_s=(3.0,) * 5)])
    assert found is not None
    assert (found.p90_s, found.p90_as_it_came_s) == (1.0, 3.0)


def test_cold_start_is_of_the_processes_that_opened_the_subject_first() -> None:
    def opened(after: int, cold_s: float) -> Process:
        return Process(process=after, samples_s=(1.0,), opened_after=after, cold_start_s=cold_s)

    assert summary([opened(0, 1.8), opened(1, 0.3), opened(2, 0.3)]).cold_start_s == 1.8
    assert summary([opened(1, 0.3), opened(2, 0.5)]).cold_start_s is None


def test_the_whole_query_is_summed_inference_by_inference() -> None:
    transfers = {"load_s": (1.0, 5.0, 1.0), "fetch_s": (5.0, 1.0, 1.0)}
    process = Process(process=0, samples_s=(2.0, 2.0, 2.0), device_s=(1.8, 1.9, 1.8), **transfers)
    found = summary([process])
    assert (found.load_median_s, found.fetch_median_s, found.query_median_s, found.device_median_s) == (1, 1, 8, 1.8)
    whole = summary([process], replace(LATENCY, timed="infer"))
    assert whole.query_median_s == whole.median_s == 2


def test_energy_is_that_of_the_turns_that_count_per_inference_and_over_their_time() -> None:
    turns = (Turn(first=0, count=2, energy_j=6.0), Turn(first=0, count=2, energy_j=99.0, kept=False))
    process = Process(process=0, samples_s=(0.5, 0.5), load_s=(0.25, 0.25), fetch_s=(0.25, 0.25), turns=turns)
    found = summary([process])
    assert (found.energy_j, found.power_w) == (3.0, 3.0)
    assert summary([replace(process, turns=(replace(turns[0], energy_j=None),))]).energy_j is None


def test_a_single_turn_of_the_energy_counter_says_nothing_and_the_sum_counts() -> None:
    """As seen on an H200: the counter stands still for a turn, and the next one seems to take 1311 W."""
    turns = tuple(Turn(first=i, count=1, energy_j=joules) for i, joules in enumerate((0.0, 1311.0, 0.0, 100.0)))
    process = Process(process=0, samples_s=(2.0,) * 4, load_s=(0.5,) * 4, fetch_s=(0.5,) * 4, turns=turns)
    found = summary([process])
    assert (found.energy_j, found.power_w) == (pytest.approx(1411 / 4), pytest.approx(1411 / 12))


def test_memory_is_the_median_of_the_processes_that_opened_the_subject_first_and_know_it() -> None:
    """Also of one that the host slowed: that takes no memory."""

    def opened(number: int, after: int, size: int | None) -> Process:
        return Process(process=number, samples_s=(1.0,), opened_after=after, host_bytes=size)

    found = summary([opened(0, 0, 100), opened(1, 1, 9), opened(2, 0, 300), opened(3, 0, 200), opened(4, 0, None)])
    assert (found.host_bytes, found.device_bytes) == (200, None)
    assert summary([opened(0, 1, 9), opened(1, 2, 8)]).host_bytes is None
    aside = summarize([opened(0, 1, 9)], LATENCY, 1, Runtime.ONNXRUNTIME, [opened(1, 0, 100)])
    assert aside is not None
    assert aside.host_bytes == 100


def test_only_the_published_protocol_clips() -> None:
    processes = samples([1.0] * 50 + [1.01] * 50 + [3.0] * 5)
    assert summary(processes).clipped_mean_s is summary(processes).clipped_runs is None
    assert summary(processes, PROTOCOLS["published"]).clipped_runs == 5


def test_clipping_takes_the_slow_tail_and_stops_where_nothing_goes() -> None:
    data = np.array([1.0] * 50 + [1.01] * 50 + [3.0] * 5)
    assert sigma_clipped(data).max() == 1.01
    assert len(sigma_clipped(np.ones(5))) == 5
