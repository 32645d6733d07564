"""A result's selection of turns, done again from the file alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from made_results import made_entry, made_result, made_run
from reselect import reselected
from yoloproof.records import Entry, Process, SetAside, Turn
from yoloproof.results.file import read_result

BEST_S = 1e-3


def watched(number: int, readings: tuple[float, ...]) -> Process:
    """Turns of three samples; one whose reading is over 1.2 was repeated, and its samples are twice as long."""
    kept = [reading for reading in readings if reading <= 1.2]
    aside = [reading for reading in readings if reading > 1.2]
    turns, first = [], {True: 0, False: 0}
    for reading in readings:
        good = reading <= 1.2
        turns.append(Turn(start_s=1.0, first=first[good], count=3, gauge_after_s=reading * BEST_S, kept=good))
        first[good] += 3
    low, high = (0.1,) * 3 * len(kept), (0.2,) * 3 * len(aside)
    return Process(
        process=number, samples_s=low, load_s=low, fetch_s=low, turns=tuple(turns), complete=True,
        set_aside=SetAside(samples_s=high, load_s=high, fetch_s=high),
    )  # fmt: skip


def entry(*readings: float) -> Entry:
    return replace(made_entry(processes=0), processes=tuple(watched(i, readings) for i in range(6)))


def test_a_loose_limit_takes_back_what_was_set_aside_and_a_strict_one_takes_more_out() -> None:
    run = replace(made_run(), gauge_best_s=BEST_S)
    one = entry(1.0, 1.15, 1.5, 1.0, 1.0)
    as_measured = reselected(one, run, 1.2, 0.25)
    loose, strict = reselected(one, run, 2.0, 0.25), reselected(one, run, 1.1, 0.5)
    assert as_measured is not None
    assert loose is not None
    assert strict is not None
    assert (as_measured.samples, loose.samples, strict.samples) == (72, 90, 54)
    assert as_measured.p90_s == pytest.approx(0.1)
    assert loose.p90_s == pytest.approx(0.2)
    assert as_measured.p90_as_it_came_s == pytest.approx(0.2)
    assert reselected(one, run, 1.1, 0.1) is None


def test_the_committed_run_is_selected_anew() -> None:
    result = read_result(Path(__file__).parents[2] / "results" / "cpu.json")
    found = [reselected(one, result.run_of(one), 1.1, 0.5) for one in result.entries]
    stated = [one.summary for one in result.entries]
    assert any(a is not None and b is not None and a.samples < b.samples for a, b in zip(found, stated, strict=True))


def test_what_was_not_watched_says_so() -> None:
    assert reselected(made_entry(), made_result([made_entry()]).runs[0], 1.2, 0.25) is None
