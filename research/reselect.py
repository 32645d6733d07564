"""What a result's figures would be had its host been watched at another threshold, from the file alone.

python research/reselect.py results/cpu.json --limit 1.1 --share 0.25

The run's own rules are applied again. A turn counts where neither reading of the host's speed around it took more than `--limit`
times the best until then, or where the run kept a slow one because its time was up; a process counts where at most `--share` of
those turns are slow by the whole run's best, or where too few others are left. At the run's own thresholds these are the figures
in the file. Nothing can be repeated afterwards: a stricter limit leaves fewer samples.
"""

from __future__ import annotations

import argparse
import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.measurement.selection import processes_to_set_aside
from yoloproof.measurement.statistics import summarize
from yoloproof.records import Entry, Process, Protocol, Result, Run, SetAside, Summary, Turn
from yoloproof.results.file import read_result
from yoloproof.results.labels import row_label

Best = Callable[[Process, Turn], float]


def reselected(result: Result, limit: float | None = None, share: float | None = None) -> list[Summary | None]:
    """The summary of each entry at these thresholds, None: the run's own; None where no sample is left, or the host was not
    watched."""
    found: dict[int, Summary | None] = {}
    for number, run in enumerate(result.runs):
        rows = {i: entry for i, entry in enumerate(result.entries) if entry.run == number}
        found |= dict(zip(rows, _of_run(list(rows.values()), run, limit, share), strict=True))
    return [found[i] for i in range(len(result.entries))]


def _of_run(entries: Sequence[Entry], run: Run, limit: float | None, share: float | None) -> Sequence[Summary | None]:
    wanted = replace(
        run.protocol,
        gauge_limit=run.protocol.gauge_limit if limit is None else limit,
        gauge_share=run.protocol.gauge_share if share is None else share,
    )
    rows = [_processes(entry) for entry in entries]
    readings = [turn.gauge_s for row in rows for process in row for turn in process.turns if turn.gauge_s is not None]
    if not readings:
        return [None] * len(entries)
    best_s = run.gauge_best_s or min(readings)  # schema 1 did not keep the run's best
    best_until = _best_until(rows, best_s)
    rows = [[_with_turns(process, run.protocol, wanted, best_until) for process in row] for row in rows]
    aside = processes_to_set_aside(rows, wanted, best_s)
    return [
        summarize(
            [process for process in row if process.process not in aside],
            run.protocol,
            entry.artifact.batch * (entry.runtime.requests or 1),
            entry.runtime.name,
            [process for process in row if process.process in aside],
        )
        for entry, row in zip(entries, rows, strict=True)
    ]


def _processes(entry: Entry) -> list[Process]:
    return [*entry.processes, *entry.processes_set_aside]


def timed_turns(entry: Entry) -> bool:
    """Whether the file says when its turns were, and so which reading was the best until each."""
    return all(
        process.start_s is not None and turn.start_s is not None
        for process in _processes(entry)
        for turn in process.turns
    )


def _best_until(rows: Sequence[Sequence[Process]], best_s: float) -> Best:
    """The quickest reading of a run up to the end of a turn; the run's best where the file does not say when its turns were.
    Readings while the run waited are not missed: a slow one is never the quickest."""
    read = []
    for process in (process for row in rows for process in row):
        for turn in process.turns:
            if process.start_s is None or turn.start_s is None:
                return lambda _process, _turn: best_s
            quickest = min((r for r in (turn.gauge_before_s, turn.gauge_after_s) if r is not None), default=math.inf)
            read.append((process.start_s + turn.start_s, quickest))
    starts, readings = zip(*sorted(read), strict=True)
    bests = list(accumulate(readings, min))
    return lambda process, turn: bests[bisect_right(starts, (process.start_s or 0.0) + (turn.start_s or 0.0)) - 1]


def _with_turns(process: Process, own: Protocol, wanted: Protocol, best_until: Best) -> Process:
    """The process with each of its turns kept or repeated as at the limit that is wanted."""
    turns, kept_columns, aside = list[Turn](), SetAside(), SetAside()
    if all(turn.kept for turn in process.turns):  # schema 1 kept repeated samples, without their turns
        aside = SetAside(samples_s=process.set_aside.samples_s)
    for turn in process.turns:
        reading_s, best_s = turn.gauge_s or 0.0, best_until(process, turn)
        time_up = turn.kept and reading_s > own.gauge_limit * best_s
        kept = time_up or reading_s <= wanted.gauge_limit * best_s
        first = len((kept_columns if kept else aside).samples_s)
        turns.append(replace(turn, kept=kept, first=first))
        source = process if turn.kept else process.set_aside
        if kept:
            kept_columns = _joined(kept_columns, source, turn)
        else:
            aside = _joined(aside, source, turn)
    return replace(
        process, samples_s=kept_columns.samples_s, load_s=kept_columns.load_s, fetch_s=kept_columns.fetch_s, device_s=None,
        turns=tuple(turns), set_aside=aside, complete=process.complete and bool(kept_columns.samples_s),
    )  # fmt: skip


def _joined(columns: SetAside, source: Process | SetAside, turn: Turn) -> SetAside:
    """The columns with those of a turn behind them."""
    of_turn = slice(turn.first, turn.first + turn.count)
    return SetAside(
        samples_s=columns.samples_s + source.samples_s[of_turn],
        load_s=columns.load_s + source.load_s[of_turn],
        fetch_s=columns.fetch_s + source.fetch_s[of_turn],
    )


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a result of `profile --json` on a CPU")
    parser.add_argument(
        "--limit", type=float, help="how many times the best reading counts as slowed; default: the run's own"
    )
    parser.add_argument("--share", type=float, help="of slowed turns that a process may have; default: the run's own")
    arguments = parser.parse_args()
    try:
        result = read_result(arguments.file)
    except YoloproofError as error:
        print(f"reselect: {error}", file=sys.stderr)
        return 2
    if not any(turn.gauge_s for entry in result.entries for one in _processes(entry) for turn in one.turns):
        print("not watched: no turn has a reading of the host's speed")
        return 0
    print(f"{'row':60} {'as stated':>20} {'at this threshold':>20}   samples   processes")
    for entry, found in zip(result.entries, reselected(result, arguments.limit, arguments.share), strict=True):
        counts = f"{found.samples:9d} {found.processes:11d}" if found else "  nothing left, or this run was not watched"
        print(f"{row_label(entry):60} {_ms(entry.summary):>20} {_ms(found):>20} {counts}")
    if not all(map(timed_turns, result.entries)):
        print(
            "the file does not say when its turns were: each is judged by its run's best reading, not by the best until then"
        )
    return 0


def _ms(summary: Summary | None) -> str:
    if summary is None:
        return "–"
    interval = "–" if summary.interval_s is None else "–".join(f"{end * 1e3:.1f}" for end in summary.interval_s)
    return f"{summary.median_s * 1e3:.2f} ({interval})"


if __name__ == "__main__":
    sys.exit(main())
