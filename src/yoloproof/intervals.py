"""Intervals of a median and of the ratio of two, from few independent values.

The unit is the process, not the inference: inferences of one process share its memory layout, its clocks and its
neighbours, so an interval over them is far too narrow. What is left is five to ten numbers, each process's median,
and with so few a percentile bootstrap of their median undercovers (with seven processes its 95 % cover 87 %;
tests/test_intervals.py shows it). So the intervals here are those of order statistics: exact for independent
processes whatever their distribution, heavy tails included.

- one artifact: the interval of the median from order statistics, interpolated between two of them as in
  Hettmansperger and Sheather, "Confidence intervals based on interpolated order statistics", Statistics & Probability
  Letters 4 (1986). Five processes give minimum to maximum, which is 93.75 %; fewer give none.
- two artifacts timed side by side in the same processes: the same interval over the processes' ratios.
- two artifacts of which each was timed in at least three runs: Student's interval over the logarithms of the runs' medians,
  with one variance for both sides. It holds the differences between runs, which the processes of one run do not show
  (Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM 2013: repeat where it varies).
- two artifacts from different runs: Hodges and Lehmann's interval of the shift between the logarithms, the inverse of
  the exact Mann-Whitney test. It needs four processes on each side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb
from statistics import NormalDist, fmean, median

from yoloproof.records import Entry, Process

CONFIDENCE = 0.95
# The lowest confidence that still goes by the name of 95 %: five processes' 93.75 %.
ACCEPTED = 0.93
LEAST_FOR_INTERVAL = 5
LEAST_RUNS = 3
# How often a difference of the size that is called detectable is told, and how many half-widths of an interval it has where the
# estimate scatters normally: (z₀.₉₇₅ + z₀.₈) / z₀.₉₇₅.
POWER = 0.8
NORMAL_REACH = 1 + NormalDist().inv_cdf(POWER) / NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Interval:
    """Low and high end, and the confidence it really has."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Ratio:
    """a / b in time: below 1, a is faster. `interval` None: too few processes for one; reach -- how many half-widths of it a
    difference has that is told in four of five cases."""

    value: float
    interval: Interval | None
    paired: bool
    processes: tuple[int, int]
    reach: float = NORMAL_REACH

    @property
    def verdict(self) -> str:
        """ "faster", "slower", or "cannot tell" where the interval covers 1 or there is none."""
        if self.interval is None or self.interval.low <= 1 <= self.interval.high:
            return "cannot tell"
        return "faster" if self.interval.high < 1 else "slower"

    @property
    def detectable(self) -> float | None:
        """As what share a difference is told in four of five cases (`POWER`), if the values scatter as these do: the longer half
        of the interval, on the logarithm, `reach` times. None without an interval.

        The half itself is told in every second case. Six runs hardly know their own scatter: those that happen to lie close
        state too small a share, and on average over such estimates it is told in two of three cases.
        """
        if self.interval is None:
            return None
        half = math.log(max(self.interval.high / self.value, self.value / self.interval.low))
        return math.expm1(min(self.reach * half, 700.0))  # no more than a float holds, whatever a file says

    def widened(self, factor: float) -> Ratio:
        """The ratio where either side may be off by up to `factor` besides; infinite: nobody knows how much."""
        if self.interval is None or not math.isfinite(factor):
            return replace(self, interval=None)
        low, high = self.interval.low / factor, self.interval.high * factor
        return replace(self, interval=Interval(low, high, self.interval.confidence))


def median_interval(values: Sequence[float]) -> Interval | None:
    """The interval of the median of the distribution that independent `values` come from; None for fewer than five."""
    ordered = sorted(values)
    n = len(ordered)
    if n == 0 or _coverage(n, 1) < ACCEPTED:
        return None
    depth = 1
    while depth < n // 2 and _coverage(n, depth + 1) >= CONFIDENCE:
        depth += 1
    outer, inner = _coverage(n, depth), _coverage(n, depth + 1)
    if outer <= CONFIDENCE:
        return Interval(ordered[depth - 1], ordered[n - depth], outer)
    share = (outer - CONFIDENCE) / (outer - inner)
    weight = (n - depth) * share / (depth + (n - 2 * depth) * share)
    low = (1 - weight) * ordered[depth - 1] + weight * ordered[depth]
    high = (1 - weight) * ordered[n - depth] + weight * ordered[n - depth - 1]
    return Interval(low, high, CONFIDENCE)


def _coverage(n: int, depth: int) -> float:
    """Chance that the median lies between the `depth`-th smallest and the `depth`-th largest of n values."""
    return 1 - 2 * float(sum(comb(n, k) for k in range(depth))) / 2.0**n


def process_medians(processes: Sequence[Process]) -> dict[int, float]:
    """Process number → the median of its samples, s; of complete processes, or of all with samples where none is."""
    sampled = [process for process in processes if process.samples_s]
    counted = [process for process in sampled if process.complete] or sampled
    return {process.process: median(process.samples_s) for process in counted}


def batch_medians(entry: Entry) -> dict[int, float]:
    """Process number → what a batch takes, s: the `process_medians`, over the batches that a sample answers at once under
    OpenVINO's throughput hint. What rows are ranked and divided by."""
    at_once = entry.runtime.requests or 1
    return {number: seconds / at_once for number, seconds in process_medians(entry.processes).items()}


def side_by_side(before: Mapping[int, float], after: Mapping[int, float]) -> Ratio | None:
    """The ratio after / before of two artifacts of one run, from their `batch_medians`, process by process: what the
    table, the comparison, the page and README show. None where they share no process."""
    common = sorted(before.keys() & after.keys())
    return paired_ratio([after[number] for number in common], [before[number] for number in common]) if common else None


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """The ratio of two artifacts' process medians, the i-th of each taken in the same process."""
    ratios = [left / right for left, right in zip(a, b, strict=True)]
    return Ratio(median(ratios), median_interval(ratios), True, (len(a), len(b)))


def repeated_ratio(a: Sequence[float], b: Sequence[float]) -> tuple[Ratio, float]:
    """The ratio of two artifacts' medians of at least three whole runs each, and the run-to-run component: the standard
    deviation of one run's level, as a share of it."""
    from scipy.stats import t

    logs = [[math.log(value) for value in values] for values in (a, b)]
    means = [fmean(values) for values in logs]
    freedom = len(a) + len(b) - 2
    squares = sum((value - mean) ** 2 for values, mean in zip(logs, means, strict=True) for value in values)
    deviation = math.sqrt(squares / freedom)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, freedom))
    half = quantile * deviation * math.sqrt(1 / len(a) + 1 / len(b))
    shift = means[0] - means[1]
    interval = Interval(math.exp(shift - half), math.exp(shift + half), CONFIDENCE)
    reach = 1 + float(t.ppf(POWER, freedom)) / quantile
    return Ratio(math.exp(shift), interval, False, (len(a), len(b)), reach), deviation


def unpaired_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """The ratio of two artifacts' process medians from different runs."""
    shifts = sorted(math.log(left) - math.log(right) for left in a for right in b)
    value = math.exp(median(shifts))
    cut, reached = _mann_whitney_cut(len(a), len(b))
    if cut is None:
        return Ratio(value, None, False, (len(a), len(b)))
    interval = Interval(math.exp(shifts[cut]), math.exp(shifts[-1 - cut]), reached)
    return Ratio(value, interval, False, (len(a), len(b)))


def _mann_whitney_cut(n: int, m: int) -> tuple[int | None, float]:
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
        if covered < CONFIDENCE:
            break
        cut, reached = u, covered
    return cut, reached
