"""The ratio of two rows of one run: the one way in which the table, the comparison, the page and README arrive at it."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from yoloproof.intervals import Ratio, paired_ratio
from yoloproof.records import Entry


def process_medians(entry: Entry) -> dict[int, float]:
    """Process number → median of its samples, s; of complete processes, or of all with samples where none is."""
    sampled = [process for process in entry.processes if process.samples_s]
    counted = [process for process in sampled if process.complete] or sampled
    return {process.process: median(process.samples_s) for process in counted}


def side_by_side(before: Mapping[int, float], after: Mapping[int, float]) -> Ratio | None:
    """The ratio after / before of two rows of one run, from their `process_medians`, process by process; None where they
    share no process."""
    common = sorted(before.keys() & after.keys())
    return paired_ratio([after[number] for number in common], [before[number] for number in common]) if common else None
