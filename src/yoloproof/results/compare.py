"""Two results, or the rows of one, held against each other: ratios with intervals, and "cannot tell" where it is so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yoloproof.errors import YoloproofError
from yoloproof.intervals import LEAST_RUNS, Ratio, batch_medians, repeated_ratio, side_by_side, unpaired_ratio
from yoloproof.records import Entry, Gpu, Machine, Protocol, Result, Run, RunWarning
from yoloproof.results.figures import decimals
from yoloproof.results.labels import plain_text, precision_of, row_label, weights_of, without, words_in_all
from yoloproof.results.table import unwrapped

ALLOWANCES = ("machine", "protocol", "unproved", "quick", "partial")
# What speaks against one run's level as a whole, and with it against any comparison with another run: each warning says
# by what factor (`level_factor`) it may have moved the level. Within one run both sides suffered alike.
LEVEL_CODES = ("noisy_neighbour", "host_slowed", "throttled", "clocks_moved", "drift", "not_settled")
# By what factor a CPU's own level moves between two runs, which the processes of neither show: the default where nobody
# repeated the runs, taken from one shared host. Of all 946 pairs of 44 runs of one file there
# (results/repeatability-amd-epyc-5.json to -8.json), 96 % have 1 in the interval that is wider by this factor at both ends, 50 %
# in the bare one. For GPUs nobody has measured it.
CPU_RUN_TO_RUN = 1.05
NO_ROW_IN_COMMON = "the results have no row in common: model, runtime, attention, precision, size and batch must agree"
# From what share on the best readings of two runs' gauges speak of two hosts, or of one that was never left alone.
GAUGE_APART = 0.10


@dataclass(frozen=True)
class Comparison:
    """B against A. ratio: B's time over A's, below 1 where B is faster; interval None: too few processes for one, or a
    disturbance of unknown size between two runs. Between two single runs on a CPU it allows for CPU_RUN_TO_RUN, or more
    where a run was disturbed.

    a_median_s, b_median_s -- of a batch, which is a share of a sample where the runtime answers several at once
    detectable -- from how large a share on a difference would have been told
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


def compare_results(a: Result, b: Result, allow: Sequence[str] = ()) -> list[Comparison]:
    """Every row that both results have, B against A; where each has one row alone, these two whatever they are.

    YoloproofError where machine or protocol differ or a row is not proved, quick or partial, unless `allow` names it
    (one of ALLOWANCES); what was allowed then stands in the notes, and so does every row that only one side has. Also
    where no row fits any.
    """
    pairs, alone = _pairs(a.entries, b.entries)
    if not pairs:
        raise YoloproofError(NO_ROW_IN_COMMON)
    left_out = [f"only in one file, not compared: {row_label(entry)}" for entry in alone]
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


def _with_proof(pairs: Sequence[tuple[Side, Side]], allow: Sequence[str]) -> tuple[list[tuple[Side, Side]], list[str]]:
    """The pairs whose second row is proved, and a note on each other one; all pairs where that is allowed, or where none is
    left and the refusal says why."""
    kept = [pair for pair in pairs if pair[1].entry.proof.passed]
    if "unproved" in allow or not kept:
        return list(pairs), []
    left_out = [f"not proved, not compared: {row_label(b.entry)}" for _, b in pairs if not b.entry.proof.passed]
    return kept, left_out


def compare_groups(a: Sequence[Result], b: Sequence[Result], allow: Sequence[str] = ()) -> list[Comparison]:
    """Every row that all results have: the runs of B against those of A, with the run-to-run component estimated from them.

    YoloproofError for fewer than three runs on a side, else as `compare_results`.
    """
    if min(len(a), len(b)) < LEAST_RUNS:
        raise YoloproofError(
            f"{len(a)} runs against {len(b)}: give at least {LEAST_RUNS} on each side, or one file on each"
        )
    before, after = ([[Side(one.run_of(entry), entry) for entry in one.entries] for one in few] for few in (a, b))
    runs = [*before, *after]
    keys = [key for key in map(_side_key, runs[0]) if all(key in map(_side_key, rows) for rows in runs)]
    if not keys:
        raise YoloproofError(NO_ROW_IN_COMMON)
    return [
        _compared_groups([_row_of(rows, key) for rows in before], [_row_of(rows, key) for rows in after], allow)
        for key in keys
    ]


def _side_key(side: Side) -> tuple[object, ...]:
    return row_key(side.entry)


def _row_of(rows: Sequence[Side], key: tuple[object, ...]) -> Side:
    return next(side for side in rows if _side_key(side) == key)


def _compared_groups(a: Sequence[Side], b: Sequence[Side], allow: Sequence[str]) -> Comparison:
    notes = [note for other in (*a[1:], *b) for note in (*_allowed(a[0], other, allow), *_differences(a[0], other))]
    before, after = ([median(_medians(side.entry).values()) for side in sides] for sides in (a, b))
    ratio, deviation = repeated_ratio(after, before)
    notes.append(
        f"{len(a)} runs against {len(b)}: one run's level moves by {deviation:.1%} from run to run (standard deviation), which "
        "the interval includes"
    )
    return _comparison(a[0], b[0], (median(before), median(after)), ratio, notes, deviation)


def fastest_lines(result: Result) -> list[str]:
    """For each model of several verified rows the quickest by what an image takes, and its share of the next one's time: one line
    for people."""
    models: dict[object, list[Entry]] = {}
    for entry, weights in zip(result.entries, weights_of(result.entries), strict=True):
        if entry.proof.passed and entry.summary is not None and not entry.partial:
            key = entry.run, weights, entry.artifact.imgsz, entry.artifact.batch
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
    return *own, artifact.attention, precision_of(entry), artifact.imgsz, artifact.batch


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
    notes = [*left_out, *_allowed(a, b, allow), *_differences(a, b)]
    before, after = _medians(a.entry), _medians(b.entry)
    paired = side_by_side(before, after) if a.run is b.run else None
    ratio = paired or unpaired_ratio(list(after.values()), list(before.values()))
    if ratio.interval is None:
        notes.append(f"{len(before)} and {len(after)} processes are too few for a 95 % interval")
    elif not ratio.paired:
        ratio, doubt = _doubted(ratio, a, b)
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
    settings = _setting_differences(a.entry, b.entry)
    at_once = [one.entry.runtime for one in (a, b) if (one.entry.runtime.requests or 1) > 1]
    return [
        *(f"libraries differ: {line}" for line in libraries),
        *(f"settings differ: {line}" for line in settings),
        *(f"times are per batch: {one.name} answers {one.requests} at once" for one in at_once),
    ]


def _allowed(a: Side, b: Side, allow: Sequence[str]) -> list[str]:
    """A note on everything that speaks against a comparison and is allowed; YoloproofError where it is not."""
    sides = a, b
    obstacles = {
        "machine": [*machine_differences(a.run.machine, b.run.machine), *_gauge_difference(a.run, b.run)],
        "protocol": protocol_differences(a.run.protocol, b.run.protocol),
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


def _doubted(ratio: Ratio, a: Side, b: Side) -> tuple[Ratio, str]:
    """A ratio of two runs, wider by what may have moved the level of either, and the note that says so."""
    doubts = level_doubts((*a.run.warnings, *a.entry.warnings, *b.run.warnings, *b.entry.warnings))
    if not (a.entry.runtime.device or "").startswith("cuda"):
        doubts = {"two runs on a CPU": CPU_RUN_TO_RUN, **doubts}
    advice = "profile both in one run to tell less apart, or give at least three runs of each"
    if not doubts:
        return (
            ratio,
            f"the interval covers these two runs only; how far other runs would differ is unknown; {advice}",
        )
    factor = max(doubts.values())
    size = f"up to {factor:.2f} times" if math.isfinite(factor) else "an unknown factor"
    return ratio.widened(factor), (
        f"{' and '.join(doubts)}: for this alone the level may differ by {size}, which the interval allows for; {advice}"
    )


def level_doubts(warnings: Iterable[RunWarning]) -> dict[str, float]:
    """Code → by what factor it may have moved a level, infinite where the warning does not say."""
    doubts: dict[str, float] = {}
    for warning in warnings:
        if warning.code not in LEVEL_CODES or warning.level_factor == 1:  # 1: what was disturbed is set aside
            continue
        factor = math.inf if warning.level_factor is None else warning.level_factor
        doubts[warning.code] = max(doubts.get(warning.code, 1.0), factor)
    return doubts


def _setting_differences(left: Entry, right: Entry) -> list[str]:
    """How two rows are run where that is not in their names: often the very thing compared, so said, not refused."""
    one, other = left.runtime, right.runtime
    pairs: list[tuple[str, object, object]] = [
        ("artifact", (left.artifact.sha256 or "")[:12], (right.artifact.sha256 or "")[:12]),
        ("threads", one.threads, other.threads),
        ("batches at once", one.requests or 1, other.requests or 1),
        ("provider", one.provider, other.provider),
        ("cuda_graph", one.cuda_graph, other.cuda_graph),
        ("channels_last", one.channels_last, other.channels_last),
        ("tf32", one.tf32, other.tf32),
    ]
    if row_label(left) != row_label(right):  # two networks are two files
        pairs = pairs[1:]
    return [f"{key} {_said(mine)} against {_said(theirs)}" for key, mine, theirs in pairs if mine != theirs]


def machine_differences(a: Machine | None, b: Machine | None) -> list[str]:
    """In what two machines, or the settings of one, differ so that their times do not compare."""
    if a is None or b is None:
        return ["a machine that was not reached"]
    found = []
    mine, theirs = _traits(a), _traits(b)
    for label, one in mine.items():
        # Older files do not tell everything: what one of two does not say is no difference in what both are.
        if one != theirs[label] and not (label in SINCE_SCHEMA_2 and None in (one, theirs[label])):
            found.append(f"{label} {_said(one)} against {_said(theirs[label])}")
    return found


SINCE_SCHEMA_2 = (
    "CPU family", "CPU model number", "CPU stepping", "microcode", "caches", "CPU features", "SMT", "PCI bus",
)  # fmt: skip


def _gauge_difference(a: Run, b: Run) -> list[str]:
    """Two runs whose hosts, at their best, were not equally fast."""
    if a is b or a.gauge_best_s is None or b.gauge_best_s is None or a.gauge_size != b.gauge_size:
        return []
    apart = max(a.gauge_best_s, b.gauge_best_s) / min(a.gauge_best_s, b.gauge_best_s) - 1
    if apart <= GAUGE_APART:
        return []
    return [
        f"the same matrix products took {a.gauge_best_s * 1e3:.2f} ms at best against {b.gauge_best_s * 1e3:.2f} ms"
    ]


def _traits(machine: Machine) -> dict[str, object]:
    cpu, gpu = machine.cpu, machine.gpu or Gpu()
    return {
        "CPU": cpu.model, "CPU family": cpu.family, "CPU model number": cpu.model_number, "CPU stepping": cpu.stepping,
        "microcode": cpu.microcode, "caches": None if cpu.caches_bytes is None else sorted(cpu.caches_bytes.items()),
        "CPU features": None if cpu.flags_sha256 is None else cpu.flags_sha256[:12], "SMT": cpu.smt, "system": machine.os,
        "cores": cpu.logical_cores, "core quota": cpu.quota_cores, "governor": cpu.governor, "boost": cpu.boost,
        "affinity": cpu.affinity, "niceness": cpu.niceness,
        "GPU": gpu.name, "card": gpu.uuid, "PCI bus": gpu.pci_bus_id, "driver": gpu.driver, "power limit": gpu.power_limit_w,
    }  # fmt: skip


def protocol_differences(a: Protocol, b: Protocol) -> list[str]:
    """The settings in which two protocols differ. The order's seed, the describing line and when a run stops waiting are none:
    what was not waited for is on record, and warned of."""
    pairs = {one.name: (getattr(a, one.name), getattr(b, one.name)) for one in fields(Protocol)}
    return [
        f"protocol's {key} {_said(mine)} against {_said(theirs)}"
        for key, (mine, theirs) in pairs.items()
        if key not in ("seed", "summary", "row_max_s") and mine != theirs
    ]


def library_differences(a: Machine | None, b: Machine | None) -> list[str]:
    """Libraries whose version is not the same on both sides: often the very thing compared, so said, not refused."""
    one, other = (machine.libraries if machine is not None else {} for machine in (a, b))
    names = sorted(name for name in {**one, **other} if one.get(name) != other.get(name))
    return [f"{name} {one.get(name, 'absent')} against {other.get(name, 'absent')}" for name in names]


def _said(value: object) -> str:
    return "unknown" if value is None else plain_text(list(value) if isinstance(value, tuple) else value)


def print_comparisons(comparisons: Sequence[Comparison], console: Console) -> None:
    """The table, and each note once. In a pipe nothing is wrapped."""
    console = unwrapped(console)
    console.print(comparison_table(comparisons))
    for note in dict.fromkeys(plain_text(note) for comparison in comparisons for note in comparison.notes):
        console.print(Text(note))


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Rows for people; words that all rows share stand above it."""
    labels = [label for row in comparisons for label in (row.a, row.b)]
    shared = words_in_all(labels)
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
