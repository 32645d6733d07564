"""What the samples of a case come to. Intervals: `yoloproof.intervals`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yoloproof.intervals import median_interval, process_medians
from yoloproof.measurement.serving import server_summary
from yoloproof.names import Runtime
from yoloproof.records import Process, Protocol, Summary


def summarize(
    processes: Sequence[Process], protocol: Protocol, batch: int, runtime: Runtime, set_aside: Sequence[Process] = ()
) -> Summary | None:
    """What the samples come to; None where there are none. `published` clips as often as ProfileModels does for the
    runtime.

    set_aside -- processes that the host slowed: only what is said to be "as it came", and memory, counts them
    """
    medians = list(process_medians(processes).values())
    if not medians:
        return None
    samples = np.concatenate([p.samples_s for p in processes if p.samples_s])
    everything = [*processes, *set_aside]
    came = np.concatenate([p.samples_s + p.set_aside.samples_s for p in everything])
    spread = np.concatenate([np.abs(np.array(p.samples_s) - np.median(p.samples_s)) for p in processes if p.samples_s])
    interval = median_interval(medians)
    median_s = float(np.median(medians))
    timed = protocol.timed_of(runtime)
    energy = _energy(processes, timed, protocol.pause_s)
    clips = protocol.statistic == "clipped_mean"
    kept = sigma_clipped(samples, rounds=protocol.clip_rounds_of(runtime)) if clips else samples
    return Summary(
        median_s=median_s,
        interval_s=None if interval is None else (interval.low, interval.high),
        confidence=None if interval is None else interval.confidence,
        p90_s=_percentile(samples, 90),
        p99_s=_percentile(samples, 99),
        p90_as_it_came_s=_percentile(came, 90),
        p99_as_it_came_s=_percentile(came, 99),
        mad_s=float(np.median(spread)),
        mean_s=float(samples.mean()),
        min_s=float(samples.min()),
        fps=batch / median_s,
        samples=len(samples),
        processes=len(medians),
        process_medians_s=tuple(medians),
        device_median_s=_median_of([p.device_s for p in processes if p.device_s]),
        load_median_s=_median_of([p.load_s for p in processes if p.load_s]),
        fetch_median_s=_median_of([p.fetch_s for p in processes if p.fetch_s]),
        query_median_s=_median_of([_queries(p, timed) for p in processes if p.load_s and p.fetch_s]),
        cold_start_s=_median([p.cold_start_s for p in opened_first(processes)]),
        host_bytes=_median_bytes([p.host_bytes for p in opened_first(everything)]),
        device_bytes=_median_bytes([p.device_bytes for p in opened_first(everything)]),
        energy_j=None if energy is None else energy[0] / len(samples),
        power_w=None if energy is None else energy[0] / energy[1],
        clipped_mean_s=float(kept.mean()) if clips else None,
        clipped_std_s=float(kept.std()) if clips else None,
        clipped_runs=len(samples) - len(kept) if clips else None,
        server=None if protocol.server is None else server_summary(processes, protocol.server),
    )


def sigma_clipped(samples: np.ndarray[Any, Any], sigmas: float = 2.0, rounds: int = 5) -> np.ndarray[Any, Any]:
    """`samples` without those further than `sigmas` standard deviations from the mean, again until none goes or
    `rounds` are over: how ProfileModels arrives at its mean. It cuts the slow tail off and calls the rest stable."""
    for _ in range(rounds):
        kept = samples[np.abs(samples - samples.mean()) < sigmas * samples.std()]
        if len(kept) in (0, len(samples)):
            break
        samples = kept
    return samples


def _percentile(samples: np.ndarray[Any, Any], percent: int) -> float | None:
    """The nearest-rank percentile, the smallest latency seen that so many percent of the samples do not exceed. None
    where fewer samples than its tail needs."""
    if len(samples) < 100 / (100 - percent):
        return None
    return float(np.percentile(samples, percent, method="inverted_cdf"))


def _queries(process: Process, timed: str) -> tuple[float, ...]:
    """Seconds of load, execute and fetch together, inference by inference."""
    if timed == "infer":
        return process.samples_s
    return tuple(map(sum, zip(process.load_s, process.samples_s, process.fetch_s, strict=True)))


def _energy(processes: Sequence[Process], timed: str, pause_s: float) -> tuple[float, float] | None:
    """The device's energy in joules over all kept turns, and the seconds that they took; None where one was not metered. Only the
    sums are of use: the counter advances in steps, and a single turn may seem to take nothing, or more than the card can."""
    kept = [(process, turn) for process in processes for turn in process.turns if turn.kept]
    joules = [turn.energy_j for _, turn in kept if turn.energy_j is not None]
    if not kept or len(joules) < len(kept) or not any(joules):
        return None
    queries = {process.process: _queries(process, timed) for process, _ in kept}
    seconds = sum(
        sum(queries[process.process][turn.first : turn.first + turn.count]) + turn.count * pause_s
        for process, turn in kept
    )
    return sum(joules), seconds


def opened_first(processes: Sequence[Process]) -> list[Process]:
    """Those that opened this subject before any other: the others share libraries and a CUDA context that were there."""
    return [process for process in processes if process.opened_after == 0]


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _median_bytes(values: Sequence[int | None]) -> int | None:
    median = _median(values)
    return None if median is None else round(median)


def _median_of(columns: Sequence[Sequence[float]]) -> float | None:
    return float(np.median([np.median(column) for column in columns])) if columns else None
