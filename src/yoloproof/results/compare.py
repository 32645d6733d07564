"""Two results, or the rows of one, held against each other: ratios with intervals, and "cannot tell" where it is so."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yoloproof.errors import YoloproofError
from yoloproof.intervals import LEAST_RUNS, Ratio, batch_medians, repeated_ratio, side_by_side, unpaired_ratio
from yoloproof.records import Entry, Result, Run, RunWarning
from yoloproof.results.differences import (
    gauge_bests,
    gauge_differences,
    gauge_notes,
    library_differences,
    machine_differences,
    protocol_differences,
    setting_differences,
)
from yoloproof.results.figures import decimals
from yoloproof.results.labels import (
    network_label,
    plain_text,
    precision_of,
    row_label,
    takes_frames,
    weights_of,
    without,
    words_in_all,
)
from yoloproof.results.table import unwrapped

ALLOWANCES = ("machine", "protocol", "unproved", "quick", "partial")
# What speaks against one run's level as a whole, and with it against any comparison with another run: each warning says
# by what factor (`level_factor`) it may have moved the level. Within one run both sides suffered alike.
LEVEL_CODES = ("noisy_neighbour", "host_slowed", "throttled", "clocks_moved", "drift", "not_settled")
# By what factor a CPU's own level moves between two runs, which the processes of neither show: the default where nobody
# repeated the runs, taken from one shared host. Of all 946 pairs of 44 runs of one file there
# (results/repeatability-amd-epyc-5.json to -8.json), 96 % have 1 in the interval that is wider by this factor at both ends, 50 %
# in the bare one. Three runs of one of the four sessions against three of another: 97 %, and 74 %. For GPUs nobody has measured it.
CPU_RUN_TO_RUN = 1.05
NO_ROW_IN_COMMON = (
    "the results have no row in common: model, runtime, flush-to-zero, network, precision, size and batch must agree"
)


@dataclass(frozen=True)
class Comparison:
    """B against A. ratio: B's time over A's, below 1 where B is faster; interval None: too few processes for one, or a
    disturbance of unknown size between two runs. Between two single runs on a CPU, and between groups of runs that do not
    alternate in time, it allows for CPU_RUN_TO_RUN, or more where a run was disturbed or the gauges differ.

    a_median_s, b_median_s -- of a batch, which is a share of a sample where the runtime answers several at once
    detectable -- as what share a difference is told in four of five cases, see `Ratio.detectable`
    run_to_run -- standard deviation of one run's level, as a share, where each side has at least three runs
    verdict -- "faster", "slower" (B, than A) or "cannot tell"; notes -- what was allowed, or speaks against it
    """

    a: str
    b: str
    a_median_s: float
    b_median_s: float
    ratio: float
    interval: tuple[float, float] | None
    confidence: float | None
    paired: bool
    verdict: str
    notes: tuple[str, ...] = ()
    detectable: float | None = None
    run_to_run: float | None = None


@dataclass(frozen=True)
class Side:
    """A row with the run it was measured in."""

    run: Run
    entry: Entry


Sides = tuple[Side, ...]  # rows that are held against each other


def compare_results(a: Result, b: Result, allow: Sequence[str] = ()) -> list[Comparison]:
    """Every row that both results have, B against A; where each has one row alone, these two whatever they are.

    YoloproofError where machine or protocol differ or a row is not proved, quick or partial, unless `allow` names it
    (one of ALLOWANCES); what was allowed then stands in the notes, and so does every row that only one side has. Also
    where no row fits any.
    """
    pairs, alone = _pairs(a.entries, b.entries)
    if not pairs:
        raise YoloproofError(NO_ROW_IN_COMMON)
    left_out = [f"only in one file, not compared: {_marked_label(entry)}" for entry in alone]
    sides = [(Side(a.run_of(left), left), Side(b.run_of(right), right)) for left, right in pairs]
    kept, unproved = _with_proof(sides, allow)
    return [_compared(left, right, allow, left_out + unproved) for left, right in kept]


def compare_rows(result: Result, allow: Sequence[str] = ()) -> list[Comparison]:
    """The rows of each run of a result against that run's first: they were timed side by side in the same processes.
    YoloproofError where no run has two rows, else as `compare_results`."""
    runs: dict[int, list[Side]] = {}
    for entry in result.entries:
        runs.setdefault(entry.run, []).append(Side(result.run_of(entry), entry))
    pairs = [(sides[0], other) for sides in runs.values() for other in sides[1:]]
    if not pairs:
        rows = "one row in each run" if len(runs) > 1 else "one row" if runs else "no row"
        raise YoloproofError(f"this result has {rows}; give a second file, or profile both at once")
    alone = [f"alone in its run, not compared: {row_label(one.entry)}" for one, *others in runs.values() if not others]
    kept, unproved = _with_proof(pairs, allow)
    return [_compared(before, after, allow, alone + unproved) for before, after in kept]


def _with_proof(rows: Sequence[Sides], allow: Sequence[str]) -> tuple[list[Sides], list[str]]:
    """The comparisons whose every side is proved, and a note on each row that is not; all of them where that is allowed, or
    where none is left and the refusal says why."""
    kept = [sides for sides in rows if all(side.entry.proof.passed for side in sides)]
    if "unproved" in allow or not kept:
        return list(rows), []
    unproved = [side.entry for sides in rows for side in sides if not side.entry.proof.passed]
    return kept, list(dict.fromkeys(f"not proved, not compared: {row_label(entry)}" for entry in unproved))


def compare_groups(a: Sequence[Result], b: Sequence[Result], allow: Sequence[str] = ()) -> list[Comparison]:
    """Every row that all results have: the runs of B against those of A, with the run-to-run component estimated from them;
    where each result has one row alone, one of A's and one of B's, these two.

    Where all runs of one side were before all of the other's, what changed in between is no run-to-run component: there the
    interval is wider by what two single runs are allowed. YoloproofError for fewer than three runs on a side, else as
    `compare_results`.
    """
    if min(len(a), len(b)) < LEAST_RUNS:
        raise YoloproofError(
            f"{len(a)} runs against {len(b)}: give at least {LEAST_RUNS} on each side, or one file on each"
        )
    runs = [_by_key(one) for one in (*a, *b)]
    alone = all(len(rows) == 1 for rows in runs)
    if alone and all(len({*chain(*few)}) == 1 for few in (runs[: len(a)], runs[len(a) :])):  # one row of A, one of B
        runs = [{None: side} for rows in runs for side in rows.values()]
    shared = [key for key in runs[0] if all(key in rows for rows in runs)]
    if not shared:
        raise YoloproofError(NO_ROW_IN_COMMON)
    rest = {key: side for rows in runs for key, side in rows.items() if key not in shared}
    left_out = [f"not in every file, not compared: {_marked_label(side.entry)}" for side in rest.values()]
    kept, unproved = _with_proof([tuple(rows[key] for rows in runs) for key in shared], allow)
    return [_compared_groups(sides[: len(a)], sides[len(a) :], allow, left_out + unproved) for sides in kept]


def _by_key(result: Result) -> dict[object, Side]:
    """The rows by `row_key`, equal ones told apart by their order."""
    seen: Counter[object] = Counter()
    rows: dict[object, Side] = {}
    for entry in result.entries:
        key = row_key(entry)
        rows[key, seen[key]] = Side(result.run_of(entry), entry)
        seen[key] += 1
    return rows


def _compared_groups(a: Sequence[Side], b: Sequence[Side], allow: Sequence[str], left_out: Sequence[str]) -> Comparison:
    notes = [*left_out, *_allowed((*a, *b), allow)]
    notes += [note for other in (*a[1:], *b) for note in _differences(a[0], other)]
    before, after = ([median(_medians(side.entry).values()) for side in sides] for sides in (a, b))
    ratio, deviation = repeated_ratio(after, before)
    notes.append(
        f"{len(a)} runs against {len(b)}: one run's level moves by {deviation:.1%} from run to run (standard deviation), which "
        "the interval includes"
    )
    disturbed = [
        f"{code} in run {number} of {name} ({_size(factor)})"
        for name, sides in (("A", a), ("B", b))
        for number, side in enumerate(sides, 1)
        for code, factor in level_doubts((*side.run.warnings, *side.entry.warnings)).items()
    ]
    if disturbed:
        notes.append(f"runs whose level may differ for this alone: {', '.join(disturbed)}")
    if not _alternate(a, b):
        advice = "alternate the runs in time (A B A B …) to tell less apart"
        ratio, doubt = _doubted(ratio, (*a, *b), "runs of A and B apart in time", "within these runs", advice)
        notes.append(doubt)
    return _comparison(a[0], b[0], (median(before), median(after)), ratio, notes, deviation)


def _alternate(a: Sequence[Side], b: Sequence[Side]) -> bool:
    """Whether neither group's runs were all before the other's; False where a time is unknown. Ours are all in UTC."""
    before, after = ([side.run.created for side in sides] for sides in (a, b))
    return all((*before, *after)) and min(before) < max(after) and min(after) < max(before)


def fastest_lines(result: Result) -> list[str]:
    """For each model of several verified rows the quickest by what an image takes, and its share of the next one's time: one line
    for people. End-to-end engines, which do more, are held against their like."""
    models: dict[object, list[Entry]] = {}
    for entry, weights in zip(result.entries, weights_of(result.entries), strict=True):
        if entry.proof.passed and entry.summary is not None and not entry.partial:
            key = entry.run, weights, entry.artifact.imgsz, entry.artifact.batch, takes_frames(entry)
            models.setdefault(key, []).append(entry)
    lines = []
    for entries in models.values():
        if len(entries) < 2:
            continue
        best, second = sorted(entries, key=lambda entry: median(_medians(entry).values()))[:2]
        (found,) = compare_rows(replace(result, entries=(second, best)), ALLOWANCES)
        sure = "fastest verified" if found.verdict == "faster" else "fastest verified, though not clearly"
        interval = f" ({found.interval[0]:.3f}–{found.interval[1]:.3f})" if found.interval else ""
        other = without(found.a, words_in_all((found.a, found.b))) or found.a
        lines.append(f"{sure}: {found.b}, {found.ratio:.3f}{interval} of the time of {other}")
    return lines


def row_key(entry: Entry) -> tuple[object, ...]:
    """What must agree for two entries to be the same row."""
    artifact, runtime = entry.artifact, entry.runtime
    own = entry.model.name, runtime.name, runtime.device, runtime.flush_to_zero
    return *own, network_label(entry), precision_of(entry), artifact.imgsz, artifact.batch


def _marked_label(entry: Entry) -> str:
    """The row's label, and what of its key the label does not say."""
    return row_label(entry) + (" (flush-to-zero)" if entry.runtime.flush_to_zero else "")


def _pairs(a: Sequence[Entry], b: Sequence[Entry]) -> tuple[list[tuple[Entry, Entry]], list[Entry]]:
    """Rows of the same key in their order, the second of two equal ones with the second; and the rows left alone."""
    if len(a) == len(b) == 1:
        return [(a[0], b[0])], []
    pairs, alone, rest = [], [], list(b)
    for entry in a:
        twin = next((other for other in rest if row_key(other) == row_key(entry)), None)
        if twin is None:
            alone.append(entry)
        else:
            pairs.append((entry, twin))
            rest = [other for other in rest if other is not twin]
    return pairs, alone + rest


def _compared(a: Side, b: Side, allow: Sequence[str], left_out: Sequence[str]) -> Comparison:
    notes = [*left_out, *_allowed((a, b), allow), *_differences(a, b)]
    before, after = _medians(a.entry), _medians(b.entry)
    paired = side_by_side(before, after) if a.run is b.run else None
    ratio = paired or unpaired_ratio(list(after.values()), list(before.values()))
    if ratio.interval is None:
        notes.append(f"{len(before)} and {len(after)} processes are too few for a 95 % interval")
    elif ratio.paired:
        notes.append("within this run: how far other runs would differ is not in the interval")
    else:
        advice = "profile both in one run to tell less apart, or give at least three runs of each"
        ratio, doubt = _doubted(ratio, (a, b), "two runs on a CPU", "within this run of each", advice)
        notes.append(doubt)
    return _comparison(a, b, (median(before.values()), median(after.values())), ratio, notes)


def _comparison(
    a: Side,
    b: Side,
    medians_s: tuple[float, float],
    ratio: Ratio,
    notes: Sequence[str],
    run_to_run: float | None = None,
) -> Comparison:
    interval = ratio.interval
    return Comparison(
        row_label(a.entry), row_label(b.entry), *medians_s, ratio.value,
        None if interval is None else (interval.low, interval.high), None if interval is None else interval.confidence,
        ratio.paired, ratio.verdict, tuple(dict.fromkeys(notes)), ratio.detectable, run_to_run,
    )  # fmt: skip


def _differences(a: Side, b: Side) -> list[str]:
    """What differs and is often the very thing compared: said, not refused."""
    libraries = library_differences(a.run.machine, b.run.machine)
    at_once = [one.entry.runtime for one in (a, b) if (one.entry.runtime.requests or 1) > 1]
    return [
        *gauge_notes([a.run, b.run]),
        *(f"libraries differ: {line}" for line in libraries),
        *setting_differences(a.entry, b.entry),
        *(f"times are per batch: {one.name} answers {one.requests} at once" for one in at_once),
    ]


def _allowed(sides: Sides, allow: Sequence[str]) -> list[str]:
    """A note on everything that speaks against a comparison and is allowed; YoloproofError where it is not."""
    runs = [side.run for side in sides]
    pairs = list(combinations(runs, 2))
    obstacles = {
        "machine": [
            *(line for one, other in pairs for line in machine_differences(one.machine, other.machine)),
            *gauge_differences(runs),
        ],
        "protocol": [line for one, other in pairs for line in protocol_differences(one.protocol, other.protocol)],
        "unproved": [f"{row_label(side.entry)} is not proved" for side in sides if not side.entry.proof.passed],
        "quick": ["a --quick run is not a result" for side in sides if side.run.quick],
        "partial": [f"{row_label(side.entry)} is partial" for side in sides if side.entry.partial],
    }
    for kind, found in obstacles.items():
        if found and kind not in allow:
            raise YoloproofError(f"not comparable: {'; '.join(dict.fromkeys(found))}; --allow {kind} compares anyway")
    return [f"allowed: {difference}" for found in obstacles.values() for difference in dict.fromkeys(found)]


def _medians(entry: Entry) -> dict[int, float]:
    medians = batch_medians(entry)
    if not medians:
        raise YoloproofError(f"{row_label(entry)} has no samples to compare; measure it again")
    return medians


def _doubted(ratio: Ratio, sides: Sides, what: str, within: str, advice: str) -> tuple[Ratio, str]:
    """A ratio across runs, wider by what may have moved the level of any, and the note that says so. On a CPU that is at least
    CPU_RUN_TO_RUN, which goes by the name of `what`, times the ratio of the runs' gauges at their best.

    within -- what the interval is of before it is widened
    """
    doubts = level_doubts(warning for side in sides for warning in (*side.run.warnings, *side.entry.warnings))
    apart = 1.0
    if not (sides[0].entry.runtime.device or "").startswith("cuda"):
        doubts = {what: CPU_RUN_TO_RUN, **doubts}
        quickest, slowest = gauge_bests([side.run for side in sides])
        apart = slowest / quickest
    if not doubts:
        return ratio, f"{within}: how far other runs would differ is unknown; {advice}"
    factor = max(doubts.values()) * apart
    gauges = f", times {apart:.3f} as the gauges' best readings differ" if apart > 1 else ""
    allowed = f"by which the interval {within} is widened" if math.isfinite(factor) else "so that there is no interval"
    return ratio.widened(factor), (
        f"{' and '.join(doubts)}{gauges}: for this alone the level may differ by {_size(factor)}, {allowed}; {advice}"
    )


def _size(factor: float) -> str:
    return f"up to {factor:.2f} times" if math.isfinite(factor) else "an unknown factor"


def level_doubts(warnings: Iterable[RunWarning]) -> dict[str, float]:
    """Code → by what factor it may have moved a level, infinite where the warning does not say."""
    doubts: dict[str, float] = {}
    for warning in warnings:
        if warning.code not in LEVEL_CODES or warning.level_factor == 1:  # 1: what was disturbed is set aside
            continue
        factor = math.inf if warning.level_factor is None else warning.level_factor
        doubts[warning.code] = max(doubts.get(warning.code, 1.0), factor)
    return doubts


def print_comparisons(comparisons: Sequence[Comparison], console: Console) -> None:
    """The table, and each note once, with the rows it is about where these are not all. In a pipe nothing is wrapped."""
    console = unwrapped(console)
    console.print(comparison_table(comparisons))
    shared = _shared_words(comparisons)
    rows_by_note: dict[str, list[str]] = {}
    for row in comparisons:
        for note in row.notes:
            rows_by_note.setdefault(plain_text(note), []).append(plain_text(without(row.b, shared)))
    for note, rows in rows_by_note.items():
        named = "" if len(rows) == len(comparisons) else f"{', '.join(dict.fromkeys(rows))}: "
        console.print(Text(named + note))


def _shared_words(comparisons: Sequence[Comparison]) -> list[str]:
    return words_in_all([label for row in comparisons for label in (row.a, row.b)])


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Rows for people; words that all rows share stand above it."""
    shared = _shared_words(comparisons)
    table = Table(box=None, padding=(0, 2, 0, 0), title=Text(plain_text(" ".join(shared))) if shared else None,
                  title_justify="left")  # fmt: skip
    for heading in ("A", "B", "A ms", "B ms", "B / A", "95 % interval", "B is"):
        numeric = heading in ("A ms", "B ms", "B / A", "95 % interval")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in comparisons:
        places = decimals(row.a_median_s)
        interval = f"{row.interval[0]:.3f} – {row.interval[1]:.3f}" if row.interval else "none"
        medians = (f"{seconds * 1e3:.{places}f}" for seconds in (row.a_median_s, row.b_median_s))
        names = without(row.a, shared), without(row.b, shared) if row.b != row.a else "same"
        table.add_row(*map(Text, (*names, *medians, f"{row.ratio:.3f}", interval, _verdict(row))))
    return table


def _verdict(row: Comparison) -> str:
    """With how large a difference would have been seen, where none was."""
    if row.verdict != "cannot tell" or row.detectable is None:
        return row.verdict
    return f"{row.verdict} ({row.detectable:.1%} would show)"
