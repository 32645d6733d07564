"""Intervals and ratios, by simulation where they make promises, by hand where they count."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from yoloproof.intervals import (
    median_interval,
    paired_ratio,
    process_medians,
    repeated_ratio,
    side_by_side,
    unpaired_ratio,
)
from yoloproof.records import Process

Made = Callable[[np.random.Generator, int, int], np.ndarray]
# Standard error of a coverage of 0.95 over this many trials: 0.4 percentage points.
TRIALS = 3000


def heavy_tailed(random: np.random.Generator, trials: int, processes: int, runs: int = 40) -> np.ndarray:
    """Process medians [trials, processes]: levels by Student's t with two degrees, samples with a Pareto tail."""
    level = np.exp(0.01 * random.standard_t(2, (trials, processes, 1)))
    return np.median(level * (1 + 0.02 * random.pareto(1.5, (trials, processes, runs))), axis=2)


def drifting(random: np.random.Generator, trials: int, processes: int, runs: int = 40) -> np.ndarray:
    """Process medians [trials, processes]: each process at its own level, warming at its own rate, each sample
    correlated 0.9 with the one before."""
    level = 1 + 0.01 * random.standard_normal((trials, processes, 1))
    slope = random.normal(0.02, 0.02, (trials, processes, 1)) * np.linspace(0, 1, runs)
    noise = random.normal(0, 0.005, (trials, processes, runs))
    for i in range(1, runs):
        noise[:, :, i] += 0.9 * noise[:, :, i - 1]
    return np.median(level * (1 + slope + noise), axis=2)


def normal(random: np.random.Generator, trials: int, processes: int) -> np.ndarray:
    """Process medians [trials, processes], their logarithms normal."""
    return np.exp(random.normal(0, 0.02, (trials, processes)))


@pytest.mark.parametrize("made", [heavy_tailed, drifting])
@pytest.mark.parametrize("processes", [5, 6, 8])
def test_the_95_percent_interval_covers_the_median_in_92_to_98_percent(made: Made, processes: int) -> None:
    random = np.random.default_rng(processes)
    truth = float(np.median(made(random, 20_000, 5)))
    covered = 0
    for medians in made(random, TRIALS, processes):
        interval = median_interval(list(medians))
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / TRIALS <= 0.98


def test_a_percentile_bootstrap_over_seven_processes_would_not() -> None:
    random = np.random.default_rng(2)
    truth = float(np.median(drifting(random, 20_000, 5)))
    medians = drifting(random, TRIALS, 7)
    drawn = np.median(medians[:, random.integers(0, 7, (400, 7))], axis=2)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=1)
    assert np.mean((low <= truth) & (truth <= high)) < 0.92


@pytest.mark.parametrize("made", [heavy_tailed, drifting])
@pytest.mark.parametrize("paired", [True, False], ids=["side by side", "separate runs"])
@pytest.mark.parametrize("processes", [5, 6])
def test_a_against_a_is_called_faster_in_at_most_5_percent(made: Made, paired: bool, processes: int) -> None:
    random = np.random.default_rng(10 + processes)
    ratio = paired_ratio if paired else unpaired_ratio
    pairs = zip(made(random, TRIALS, processes), made(random, TRIALS, processes), strict=True)
    verdicts = [ratio(list(a), list(b)).verdict for a, b in pairs]
    assert verdicts.count("faster") / TRIALS <= 0.05
    assert verdicts.count("slower") / TRIALS <= 0.05
    assert verdicts.count("cannot tell") / TRIALS >= 0.92


def test_a_real_difference_of_five_percent_is_found() -> None:
    random = np.random.default_rng(3)
    pairs = zip(drifting(random, 300, 6), 0.95 * drifting(random, 300, 6), strict=True)
    verdicts = [unpaired_ratio(list(b), list(a)).verdict for a, b in pairs]
    assert verdicts.count("faster") / 300 > 0.9


@pytest.mark.parametrize(("made", "least"), [(normal, 0.77), (heavy_tailed, 0.72)])
@pytest.mark.parametrize("paired", [True, False], ids=["side by side", "separate runs"])
@pytest.mark.parametrize("processes", [5, 6, 8])
def test_a_detectable_difference_is_told_in_four_of_five_cases(
    made: Made, least: float, paired: bool, processes: int
) -> None:
    """What one experiment states, tried in a fresh one; with heavy tails in somewhat fewer cases."""
    random = np.random.default_rng(20 + processes)
    ratio = paired_ratio if paired else unpaired_ratio
    told = 0
    for before, after, fresh, slower in zip(*(made(random, 1500, processes) for _ in range(4)), strict=True):
        detectable = ratio(list(after), list(before)).detectable
        assert detectable is not None
        told += ratio(list((1 + detectable) * slower), list(fresh)).verdict == "slower"
    assert least <= told / 1500 <= 0.87


@pytest.mark.parametrize("runs", [3, 6])
def test_a_detectable_difference_of_repeated_runs_is_told_in_four_of_five_cases(runs: int) -> None:
    """Where the scatter is what these runs show; not known better than from these, it is told in two of three."""
    random = np.random.default_rng(runs)
    steps = np.linspace(-1, 1, runs)
    exact = list(np.exp(0.02 * steps / np.std(steps, ddof=1)))
    ratio, deviation = repeated_ratio(exact, exact)
    assert deviation == pytest.approx(0.02)
    assert ratio.detectable is not None
    told = fresh = 0
    for _ in range(1000):
        a, b, c, d = np.exp(random.normal(0, 0.02, (4, runs)))
        told += repeated_ratio(list((1 + ratio.detectable) * b), list(a))[0].verdict == "slower"
        stated = repeated_ratio(list(d), list(c))[0].detectable
        assert stated is not None
        fresh += repeated_ratio(list((1 + stated) * b), list(a))[0].verdict == "slower"
    assert 0.76 <= told / 1000 <= 0.84
    assert 0.63 <= fresh / 1000 <= 0.78


def test_a_common_shift_of_both_sides_cancels_side_by_side() -> None:
    noise = np.array([1.0, 1.4, 0.9, 1.2, 1.6, 1.1])
    ratio = paired_ratio(list(0.97 * noise), list(noise))
    assert ratio.value == pytest.approx(0.97)
    assert ratio.verdict == "faster"
    assert unpaired_ratio(list(0.97 * noise), list(noise)).verdict == "cannot tell"


def test_five_processes_give_their_range_and_fewer_give_nothing() -> None:
    interval = median_interval([3.0, 1.0, 2.0, 5.0, 4.0])
    assert interval is not None
    assert (interval.low, interval.high, interval.confidence) == (1.0, 5.0, 0.9375)
    for few in ([], [1.0], [1.0, 2.0, 3.0, 4.0]):
        assert median_interval(few) is None


def test_more_processes_interpolate_between_order_statistics() -> None:
    """n = 6 by hand: coverages 31/32 and 25/32, share 0.1, weight (5 × 0.1) / (1 + 4 × 0.1)."""
    interval = median_interval([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert interval is not None
    assert interval.low == pytest.approx(0.5 / 1.4)
    assert interval.high == pytest.approx(5 - 0.5 / 1.4)


def test_separate_runs_take_the_mann_whitney_interval() -> None:
    """m = n = 5: U ≤ 2 has the probability 4/252 of each side, so two shifts are left out at each end."""
    random = np.random.default_rng(4)
    a, b = random.lognormal(size=5), random.lognormal(size=5)
    ratio = unpaired_ratio(list(a), list(b))
    shifts = np.sort(np.log(a)[:, None] - np.log(b)[None, :], axis=None)
    assert ratio.interval is not None
    assert ratio.interval.confidence == pytest.approx(1 - 2 * 4 / 252)
    assert np.log([ratio.interval.low, ratio.interval.high]) == pytest.approx([shifts[2], shifts[-3]])
    scipy_stats = pytest.importorskip("scipy.stats")
    distribution = scipy_stats.mannwhitneyu([1, 2, 3, 4, 5], [10, 11, 12, 0, 0.5], method="exact")
    assert distribution.pvalue > 0


@pytest.mark.parametrize(("n", "m", "enough"), [(3, 3, False), (4, 4, True), (3, 6, True), (1, 6, False)])
def test_too_few_processes_are_cannot_tell_and_no_interval(n: int, m: int, enough: bool) -> None:
    ratio = unpaired_ratio([1.0 + i / 100 for i in range(n)], [9.0 + i for i in range(m)])
    assert (ratio.interval is not None) is enough
    assert ratio.verdict == ("faster" if enough else "cannot tell")
    assert ratio.value < 1


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "faster"), (1.05, "cannot tell"), (float("inf"), "cannot tell")])
def test_a_doubt_about_the_level_widens_both_ends(factor: float, verdict: str) -> None:
    ratio = paired_ratio([0.97, 0.98, 0.97, 0.96, 0.97], [1.0] * 5)
    wider = ratio.widened(factor)
    assert wider.verdict == verdict
    assert wider.value == ratio.value
    assert (wider.detectable is None) == (factor == float("inf"))
    assert ratio.widened(1e300).detectable == pytest.approx(1e304, rel=1)
    if wider.interval is not None:
        assert (wider.interval.low, wider.interval.high) == (0.96 / factor, 0.98 * factor)


@pytest.mark.parametrize("paired", [True, False], ids=["side by side", "separate runs"])
def test_ten_percent_over_five_processes_that_scatter_by_three_is_called(paired: bool) -> None:
    random = np.random.default_rng(5)
    a, b = (level * np.exp(random.normal(0, 0.03, (1000, 5))) for level in (1.0, 1.1))
    ratio = paired_ratio if paired else unpaired_ratio
    called = sum(ratio(list(after), list(before)).verdict == "slower" for before, after in zip(a, b, strict=True))
    assert called / 1000 > 0.9


def test_processes_that_depend_on_one_another_are_what_the_interval_cannot_survive() -> None:
    """Levels correlated by 0.5 with the process before: docs/measurement.md says so, and `drift` warns of a trend."""
    random = np.random.default_rng(6)
    levels = random.standard_normal((2000, 6))
    for i in range(1, 6):
        levels[:, i] = 0.5 * levels[:, i - 1] + 0.75**0.5 * levels[:, i]
    intervals = [median_interval(list(row)) for row in levels]
    covered = np.mean([i is not None and i.low <= 0 <= i.high for i in intervals])
    assert 0.74 < covered < 0.82


def test_a_process_cut_short_counts_only_where_none_came_to_its_end() -> None:
    processes = [Process(process=i, samples_s=(1.0 + i, 2.0 + i, 9.0), complete=i < 2) for i in range(3)]
    assert process_medians(processes) == {0: 2.0, 1: 3.0}
    assert process_medians([*processes[2:], Process(process=3)]) == {2: 4.0}


def test_two_rows_of_a_run_are_held_together_by_the_processes_they_share() -> None:
    ratio = side_by_side({0: 1.0, 1: 2.0, 2: 9.0}, {1: 1.0, 0: 0.5, 7: 5.0})
    assert ratio is not None
    assert (ratio.value, ratio.processes, ratio.interval) == (0.5, (2, 2), None)
    assert side_by_side({0: 1.0}, {1: 1.0}) is None
