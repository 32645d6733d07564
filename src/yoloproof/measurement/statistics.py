"""What the samples of a case come to. Intervals: `yoloproof.intervals`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yoloproof.intervals import median_interval
from yoloproof.names import Runtime
from yoloproof.records import Process, Protocol, Summary


def process_medians(processes: Sequence[Process]) -> dict[int, float]:
    """Process number → the median of its samples; of complete processes, or of all where none came to its end."""
    counted = [p for p in processes if p.complete] or [p for p in processes if p.samples_s]
    return {p.process: float(np.median(p.samples_s)) for p in counted}


def summarize(processes: Sequence[Process], protocol: Protocol, batch: int, runtime: Runtime) -> Summary | None:
    """What the samples come to; None where there are none. `published` clips as often as ProfileModels does for the
    runtime."""
    medians = list(process_medians(processes).values())
    if not medians:
        return None
    samples = np.concatenate([p.samples_s for p in processes if p.samples_s])
    spread = np.concatenate([np.abs(np.array(p.samples_s) - np.median(p.samples_s)) for p in processes if p.samples_s])
    interval = median_interval(medians)
    median_s = float(np.median(medians))
    clips = protocol.statistic == "clipped_mean"
    kept = sigma_clipped(samples, rounds=protocol.clip_rounds_of(runtime)) if clips else samples
    return Summary(
        median_s=median_s,
        interval_s=None if interval is None else (interval.low, interval.high),
        confidence=None if interval is None else interval.confidence,
        p90_s=_percentile(samples, 90),
        p99_s=_percentile(samples, 99),
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
        cold_start_s=_cold_start(processes),
        clipped_mean_s=float(kept.mean()) if clips else None,
        clipped_std_s=float(kept.std()) if clips else None,
        clipped_runs=len(samples) - len(kept) if clips else None,
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


def _median_of(columns: Sequence[Sequence[float]]) -> float | None:
    return float(np.median([np.median(column) for column in columns])) if columns else None


def _cold_start(processes: Sequence[Process]) -> float | None:
    """Median cold start of the processes in which this subject was opened first; of all, where it never was."""
    known = [(p.opened_after, p.cold_start_s) for p in processes if p.cold_start_s is not None]
    first = [seconds for after, seconds in known if after == 0] or [seconds for _, seconds in known]
    return float(np.median(first)) if first else None
