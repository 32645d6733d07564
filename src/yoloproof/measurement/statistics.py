"""From samples to a figure with an interval, and from two figures to a ratio with one.

The unit is the process, not the inference: inferences of one process share its memory layout, its clocks and its
neighbours, so an interval over them is far too narrow. What is left is five to ten numbers, each process's median,
and with so few a percentile bootstrap of their median undercovers (with seven processes its 95 % cover 87 %;
tests/measurement/test_statistics.py shows it). So the intervals here are those of order statistics: exact for
independent processes whatever their distribution, heavy tails included.

- one artifact: the interval of the median from order statistics, interpolated between two of them as in
  Hettmansperger and Sheather, "Confidence intervals based on interpolated order statistics", Statistics & Probability
  Letters 4 (1986). Five processes give minimum to maximum, which is 93.75 %; fewer give none.
- two artifacts timed side by side in the same processes: the same interval over the processes' ratios.
- two artifacts from different runs: Hodges and Lehmann's interval of the shift between the logarithms, the inverse of
  the exact Mann-Whitney test. It needs four processes on each side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from yoloproof.names import Runtime
from yoloproof.records import Process, Protocol, Summary

CONFIDENCE = 0.95
# The lowest confidence that still goes by the name of 95 %: five processes' 93.75 %.
ACCEPTED = 0.93
LEAST_FOR_INTERVAL = 5


@dataclass(frozen=True)
class Interval:
    """Low and high end, and the confidence it really has."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Ratio:
    """a / b in time: below 1, a is faster. `interval` None: too few processes for one."""

    value: float
    interval: Interval | None
    paired: bool
    processes: tuple[int, int]

    @property
    def verdict(self) -> str:
        """ "faster", "slower", or "cannot tell" where the interval covers 1 or there is none."""
        if self.interval is None or self.interval.low <= 1 <= self.interval.high:
            return "cannot tell"
        return "faster" if self.interval.high < 1 else "slower"


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The interval of the median of the distribution that independent `values` come from; None for fewer than five."""
    ordered = sorted(values)
    n = len(ordered)
    if n == 0 or _coverage(n, 1) < ACCEPTED:
        return None
    depth = 1
    while depth < n // 2 and _coverage(n, depth + 1) >= confidence:
        depth += 1
    outer, inner = _coverage(n, depth), _coverage(n, depth + 1)
    if outer <= confidence:
        return Interval(ordered[depth - 1], ordered[n - depth], outer)
    share = (outer - confidence) / (outer - inner)
    weight = (n - depth) * share / (depth + (n - 2 * depth) * share)
    low = (1 - weight) * ordered[depth - 1] + weight * ordered[depth]
    high = (1 - weight) * ordered[n - depth] + weight * ordered[n - depth - 1]
    return Interval(low, high, confidence)


def _coverage(n: int, depth: int) -> float:
    """Chance that the median lies between the `depth`-th smallest and the `depth`-th largest of n values."""
    return 1 - 2 * float(sum(comb(n, k) for k in range(depth))) / 2.0**n


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """The ratio of two artifacts' process medians, the i-th of each taken in the same process."""
    ratios = [left / right for left, right in zip(a, b, strict=True)]
    return Ratio(float(np.median(ratios)), median_interval(ratios), True, (len(a), len(b)))


def unpaired_ratio(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """The ratio of two artifacts' process medians from different runs."""
    shifts = sorted(math.log(left) - math.log(right) for left in a for right in b)
    value = math.exp(float(np.median(shifts)))
    cut, reached = _mann_whitney_cut(len(a), len(b), confidence)
    if cut is None:
        return Ratio(value, None, False, (len(a), len(b)))
    interval = Interval(math.exp(shifts[cut]), math.exp(shifts[-1 - cut]), reached)
    return Ratio(value, interval, False, (len(a), len(b)))


def ratio_of(
    a: Sequence[float], b: Sequence[float], paired: bool
) -> tuple[float, tuple[float, float] | None, float | None, str]:
    """Ratio a / b, its interval, the interval's confidence, the verdict: plain values for `results.compare`."""
    ratio = paired_ratio(a, b) if paired else unpaired_ratio(a, b)
    interval = ratio.interval
    ends = None if interval is None else (interval.low, interval.high)
    return ratio.value, ends, None if interval is None else interval.confidence, ratio.verdict


def _mann_whitney_cut(n: int, m: int, confidence: float) -> tuple[int | None, float]:
    """How many of the smallest and of the largest pairwise shifts the interval leaves out, and its confidence."""
    # Counts of the U statistic: U of (n, m) ends with a value of one sample or of the other.
    counts = [[[1] if 0 in (i, j) else [] for j in range(m + 1)] for i in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            counts[i][j] = [
                (counts[i - 1][j][u - j] if 0 <= u - j < len(counts[i - 1][j]) else 0)
                + (counts[i][j - 1][u] if u < len(counts[i][j - 1]) else 0)
                for u in range(i * j + 1)
            ]
    tail, cut, reached = 0, None, 0.0
    for u, count in enumerate(counts[n][m]):
        tail += count
        covered = 1 - 2 * tail / comb(n + m, n)
        if covered < confidence:
            break
        cut, reached = u, covered
    return cut, reached


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
