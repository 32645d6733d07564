"""A result's selection of turns, done again from the file alone."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import reselect
from made_results import made_entry, made_result, made_run
from reselect import reselected
from yoloproof.records import Entry, Process, Result, SetAside, Summary, Turn
from yoloproof.results.file import read_result, text_from_result

BEST_S = 1e-3
RESULTS = Path(__file__).parents[2] / "results"


def watched(number: int, readings: tuple[float, ...], kept: tuple[bool, ...]) -> Process:
    """Turns of three samples, of which those that were repeated are twice as long."""
    turns, first = [], {True: 0, False: 0}
    for at, (reading, good) in enumerate(zip(readings, kept, strict=True)):
        turns.append(Turn(start_s=float(at), first=first[good], count=3, gauge_after_s=reading * BEST_S, kept=good))
        first[good] += 3
    low, high = (0.1,) * first[True], (0.2,) * first[False]
    return Process(
        process=number, start_s=100.0 * number, samples_s=low, load_s=low, fetch_s=low, turns=tuple(turns), complete=True,
        set_aside=SetAside(samples_s=high, load_s=high, fetch_s=high),
    )  # fmt: skip


def result(*processes: Process, gauge_best_s: float = BEST_S) -> Result:
    row = replace(made_entry(processes=0), processes=processes)
    return made_result([row], replace(made_run(), gauge_best_s=gauge_best_s))


def same(*readings: float) -> Result:
    """Six such processes; what was over 1.2 was repeated."""
    return result(*(watched(i, readings, tuple(reading <= 1.2 for reading in readings)) for i in range(6)))


def of(found: list[Summary | None]) -> Summary:
    (summary,) = found
    assert summary is not None
    return summary


def test_a_loose_limit_takes_back_what_was_set_aside_and_a_strict_one_takes_more_out() -> None:
    one = same(1.0, 1.15, 1.5, 1.0, 1.0)
    as_measured, loose, strict = (of(reselected(one, limit)) for limit in (None, 2.0, 1.1))
    assert (as_measured.samples, loose.samples, strict.samples) == (72, 90, 54)
    assert as_measured.p90_s == pytest.approx(0.1)
    assert loose.p90_s == pytest.approx(0.2)
    assert as_measured.p90_as_it_came_s == pytest.approx(0.2)


def test_a_turn_that_was_kept_because_time_was_up_stays() -> None:
    last = watched(5, (1.5, 1.0, 1.0, 1.0, 1.0), (True,) * 5)
    one = result(*(watched(i, (1.0,) * 5, (True,) * 5) for i in range(5)), last)
    assert of(reselected(one)).samples == of(reselected(one, 1.1)).samples == 90


def test_a_turn_is_judged_by_the_best_until_then_and_a_process_by_the_best_of_the_run() -> None:
    first = watched(0, (1.3, 1.3, 1.0), (True,) * 3)
    one = result(first, *(watched(i, (1.0,) * 3, (True,) * 3) for i in range(1, 6)))
    assert (of(reselected(one)).processes, of(reselected(one)).samples) == (5, 45)
    assert (of(reselected(one, share=0.7)).processes, of(reselected(one, share=0.7)).samples) == (6, 54)


def test_a_slow_beginning_is_no_reason_to_call_its_turns_slow() -> None:
    first = watched(0, (1.3, 1.45, 1.0), (True,) * 3)  # 1.45 is 1.115 times the best until then
    one = result(first, *(watched(i, (1.0,) * 3, (True,) * 3) for i in range(1, 6)))
    assert [of(reselected(one, limit, 0.7)).samples for limit in (1.2, 1.1)] == [54, 51]


def test_too_few_others_and_a_slowed_process_counts() -> None:
    slow = [watched(i, (1.3, 1.3, 1.3), (True,) * 3) for i in range(2)]
    one = result(*slow, *(watched(i, (1.0,) * 3, (True,) * 3) for i in range(2, 6)))
    assert of(reselected(one)).processes == 6


def test_a_process_that_only_opened_the_row_takes_no_part() -> None:
    timed = [watched(i, (1.0, 1.15, 1.0), (True,) * 3) for i in range(6)]
    alone = Process(process=6, start_s=600.0, cold_start_s=0.4, open_only=True)
    (with_it,), (without,) = (reselected(result(*processes), 1.1) for processes in ((*timed, alone), timed))
    assert with_it is not None
    assert without is not None
    assert with_it == replace(without, cold_start_s=0.4)


@pytest.mark.parametrize("file", ["cpu.json", "export-cpu.json"])
def test_at_its_own_thresholds_a_committed_file_gives_the_figures_in_it(file: str) -> None:
    committed = read_result(RESULTS / file)
    assert any(entry.processes_set_aside for entry in committed.entries)
    assert any(not turn.kept for entry in committed.entries for p in entry.processes for turn in p.turns)
    for entry, found in zip(committed.entries, reselected(committed), strict=True):
        assert figures(found) == figures(entry.summary)
    stricter = reselected(committed, 1.05)
    assert sum(found.samples for found in stricter if found) < sum(
        e.summary.samples for e in committed.entries if e.summary
    )


def figures(summary: Summary | None) -> tuple[object, ...]:
    assert summary is not None
    return (
        summary.median_s, summary.interval_s, summary.process_medians_s, summary.samples, summary.p90_s, summary.p99_s,
        summary.p90_as_it_came_s, summary.p99_as_it_came_s,
    )  # fmt: skip


def printed(one: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    path = tmp_path / "it.json"
    path.write_text(text_from_result(one))
    monkeypatch.setattr(sys, "argv", ["reselect.py", str(path)])
    assert reselect.main() == 0
    return capsys.readouterr().out


def untimed(process: Process) -> Process:
    return replace(process, start_s=None, turns=tuple(replace(turn, start_s=None) for turn in process.turns))


@pytest.mark.parametrize("timed", [True, False])
def test_a_file_that_does_not_say_when_its_turns_were_is_told(
    timed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = same(1.0, 1.15, 1.5, 1.0, 1.0)
    if not timed:
        row: Entry = one.entries[0]
        one = made_result([replace(row, processes=tuple(map(untimed, row.processes)))], one.runs[0])
    said = printed(one, tmp_path, monkeypatch, capsys)
    assert ("does not say when its turns were" in said) is not timed
    assert " 72 " in said


def test_what_was_not_watched_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = made_result([made_entry(), made_entry(attention="explicit")])
    assert reselected(one) == [None, None]
    said = printed(one, tmp_path, monkeypatch, capsys)
    assert said == "not watched: no turn has a reading of the host's speed\n"


def test_too_few_processes_for_an_interval_have_a_dash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = printed(result(watched(0, (1.0,) * 3, (True,) * 3)), tmp_path, monkeypatch, capsys)
    assert "100.00 (–)" in said
    assert "nan" not in said
