"""Several results as one: a file with many runs."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace

import yoloproof
from yoloproof.records import Entry, Result, Run, Tool


def merged(results: Sequence[Result], command: Sequence[str]) -> Result:
    """One result with the runs and entries of all, in their order; `command` is what measured them."""
    runs: list[Run] = []
    entries: list[Entry] = []
    for result in results:
        entries += [replace(entry, run=entry.run + len(runs)) for entry in result.entries]
        runs += result.runs
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Result(
        tool=Tool("yoloproof", yoloproof.__version__), created=created, command=tuple(command), runs=tuple(runs),
        entries=tuple(entries),
    )  # fmt: skip
