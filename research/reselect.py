"""What a result's figures would be had its host been watched at another threshold, from the file alone.

python research/reselect.py results/cpu.json --limit 1.1 --share 0.25

A turn counts where neither reading of the host's speed around it took more than `--limit` times the run's best; a process
counts where at most `--share` of its turns do not. Nothing can be repeated afterwards: a stricter limit leaves fewer samples.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.measurement.statistics import summarize
from yoloproof.records import Entry, Process, Run, SetAside, Summary, Turn
from yoloproof.results.file import read_result
from yoloproof.results.labels import row_label


def reselected(entry: Entry, run: Run, limit: float, share: float) -> Summary | None:
    """The summary of an entry at these thresholds; None where no sample is left, or the host was not watched."""
    processes = (*entry.processes, *entry.processes_set_aside)
    readings = [turn.gauge_s for process in processes for turn in process.turns if turn.gauge_s is not None]
    if not readings:
        return None
    highest_s = limit * (run.gauge_best_s or min(readings))  # schema 1 did not keep the run's best
    kept, aside = [], []
    for process in processes:
        counted = _with_turns(process, highest_s)
        slowed = sum(not turn.kept for turn in counted.turns)
        (kept if slowed <= share * len(counted.turns) else aside).append(counted)
    kept = [process for process in kept if process.samples_s]
    return summarize(kept, run.protocol, entry.artifact.batch, entry.runtime.name, aside)


def _with_turns(process: Process, highest_s: float) -> Process:
    """The process with each of its turns kept or set aside by its readings alone."""
    turns = [replace(turn, kept=(turn.gauge_s or 0.0) <= highest_s) for turn in process.turns]
    columns: dict[bool, dict[str, list[float]]] = {True: {}, False: {}}
    for before, after in zip(process.turns, turns, strict=True):
        source = process if before.kept else process.set_aside
        for name in ("samples_s", "load_s", "fetch_s"):
            values = getattr(source, name)[before.first : before.first + before.count]
            columns[after.kept].setdefault(name, []).extend(values)
    kept = {name: tuple(values) for name, values in columns[True].items()}
    aside = {name: tuple(values) for name, values in columns[False].items()}
    empty = {"samples_s": (), "load_s": (), "fetch_s": ()}
    return replace(
        process, **{**empty, **kept}, turns=_renumbered(turns), set_aside=SetAside(**{**empty, **aside}), device_s=None
    )


def _renumbered(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    first, found = {True: 0, False: 0}, []
    for turn in turns:
        found.append(replace(turn, first=first[turn.kept]))
        first[turn.kept] += turn.count
    return tuple(found)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a result of `profile --json` on a CPU")
    parser.add_argument("--limit", type=float, default=1.2, help="how many times the best reading counts as slowed")
    parser.add_argument("--share", type=float, default=0.25, help="of slowed turns that a process may have")
    arguments = parser.parse_args()
    try:
        result = read_result(arguments.file)
    except YoloproofError as error:
        print(f"reselect: {error}", file=sys.stderr)
        return 2
    print(f"{'row':60} {'as stated':>20} {'at this threshold':>20}   samples   processes")
    for entry in result.entries:
        found, stated = reselected(entry, result.run_of(entry), arguments.limit, arguments.share), entry.summary
        counts = f"{found.samples:9d} {found.processes:11d}" if found else "  nothing left, or not watched"
        print(f"{row_label(entry):60} {_ms(stated):>20} {_ms(found):>20} {counts}")
    return 0


def _ms(summary: Summary | None) -> str:
    if summary is None:
        return "–"
    low, high = summary.interval_s or (math.nan, math.nan)
    return f"{summary.median_s * 1e3:.2f} ({low * 1e3:.1f}–{high * 1e3:.1f})"


if __name__ == "__main__":
    sys.exit(main())
