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
from yoloproof.intervals import Ratio, process_medians, side_by_side, unpaired_ratio
from yoloproof.records import Entry, Gpu, Machine, Protocol, Result, Run, RunWarning
from yoloproof.results.labels import network_label, plain_text, precision_of, row_label
from yoloproof.results.table import decimals, unwrapped

ALLOWANCES = ("machine", "protocol", "unproved", "quick", "partial")
# What speaks against one run's level as a whole, and with it against any comparison with another run: each warning says
# by what factor (`level_factor`) it may have moved the level. Within one run both sides suffered alike.
LEVEL_CODES = ("noisy_neighbour", "host_slowed", "throttled", "clocks_moved", "drift", "not_settled")
# By what factor a machine's own level moves between two runs, which the processes of neither show. Of all 946 pairs of
# 44 runs of one file on a shared host (results/repeatability-amd-epyc-5.json to -8.json), 96 % have 1 in the interval
# that is wider by this factor at both ends, 50 % in the bare one.
RUN_TO_RUN = 1.05


@dataclass(frozen=True)
class Comparison:
    """B against A. ratio: B's time over A's, below 1 where B is faster; interval None: too few processes for one, or a
    disturbance of unknown size between two runs. Between two runs it allows for RUN_TO_RUN, or more where a run was
    disturbed.

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
        raise YoloproofError(
            "the two results have no row in common: model, runtime, attention, precision, size and batch must agree"
        )
    left_out = [f"in one file alone, not compared: {row_label(entry)}" for entry in alone]
    return [
        _compared(Side(a.run_of(left), left), Side(b.run_of(right), right), allow, left_out) for left, right in pairs
    ]


def compare_rows(result: Result, allow: Sequence[str] = ()) -> list[Comparison]:
    """The rows of one result against its first; those of one run were timed side by side in the same processes."""
    if len(result.entries) < 2:
        rows = "one row" if result.entries else "no row"
        raise YoloproofError(f"this result has {rows}; give a second file, or profile both at once")
    first, *others = [Side(result.run_of(entry), entry) for entry in result.entries]
    return [_compared(first, other, allow, ()) for other in others]


def fastest_lines(result: Result) -> list[str]:
    """For each model of several verified rows the quickest, and what it takes of the next: one line for people."""
    models: dict[object, list[Entry]] = {}
    for entry in result.entries:
        if entry.proof.passed and entry.summary is not None and not entry.partial:
            key = entry.run, entry.model.name, entry.artifact.imgsz, entry.artifact.batch
            models.setdefault(key, []).append(entry)
    lines = []
    for entries in models.values():
        if len(entries) < 2:
            continue
        best, second = sorted(entries, key=lambda entry: median(_medians(entry).values()))[:2]
        (found,) = compare_rows(replace(result, entries=(second, best)), ALLOWANCES)
        sure = "fastest verified" if found.verdict == "faster" else "fastest verified, as far as one can tell"
        interval = f" ({found.interval[0]:.3f}–{found.interval[1]:.3f})" if found.interval else ""
        lines.append(f"{sure}: {found.b}, {found.ratio:.3f}{interval} of {found.a}")
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
    notes = [*left_out, *_allowed(a, b, allow)]
    notes += [f"libraries differ: {line}" for line in library_differences(a.run.machine, b.run.machine)]
    notes += [f"settings differ: {line}" for line in _setting_differences(a.entry, b.entry)]
    before, after = _medians(a.entry), _medians(b.entry)
    paired = side_by_side(before, after) if a.run is b.run else None
    ratio = paired or unpaired_ratio(list(after.values()), list(before.values()))
    if ratio.interval is None:
        notes.append(f"{len(before)} and {len(after)} processes are too few for a 95 % interval")
    elif not ratio.paired:
        ratio, doubt = _doubted(ratio, (*a.run.warnings, *a.entry.warnings, *b.run.warnings, *b.entry.warnings))
        notes.append(doubt)
    interval = ratio.interval
    return Comparison(
        row_label(a.entry), row_label(b.entry), median(before.values()), median(after.values()), ratio.value,
        None if interval is None else (interval.low, interval.high), None if interval is None else interval.confidence,
        ratio.paired, ratio.verdict, tuple(notes),
    )  # fmt: skip


def _allowed(a: Side, b: Side, allow: Sequence[str]) -> list[str]:
    """A note on everything that speaks against a comparison and is allowed; YoloproofError where it is not."""
    sides = a, b
    obstacles = {
        "machine": machine_differences(a.run.machine, b.run.machine),
        "protocol": protocol_differences(a.run.protocol, b.run.protocol),
        "unproved": [f"{row_label(side.entry)} is not proved" for side in sides if not side.entry.proof.passed],
        "quick": ["a --quick run is no result" for side in sides if side.run.quick],
        "partial": [f"{row_label(side.entry)} is partial" for side in sides if side.entry.partial],
    }
    for kind, found in obstacles.items():
        if found and kind not in allow:
            raise YoloproofError(f"not comparable: {'; '.join(dict.fromkeys(found))}; --allow {kind} compares anyway")
    return [f"allowed: {difference}" for found in obstacles.values() for difference in dict.fromkeys(found)]


def _medians(entry: Entry) -> dict[int, float]:
    medians = process_medians(entry.processes)
    if not medians:
        raise YoloproofError(f"{row_label(entry)} has no samples to compare; measure it again")
    return medians


def _doubted(ratio: Ratio, warnings: Iterable[RunWarning]) -> tuple[Ratio, str]:
    """A ratio of two runs, wider by what may have moved the level of either, and the note that says so."""
    doubts = {"two runs": RUN_TO_RUN, **level_doubts(warnings)}
    factor = max(doubts.values())
    size = f"{factor:.2f} times" if math.isfinite(factor) else "nobody knows how much"
    return ratio.widened(factor), (
        f"{' and '.join(doubts)}: by that alone the level may differ, {size}, which the interval allows for; "
        "profile both in one run to tell less apart"
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
    """How two rows are run where that is not in their key: often the very thing compared, so said, not refused."""
    one, other = left.runtime, right.runtime
    pairs: list[tuple[str, object, object]] = [
        ("network", network_label(left), network_label(right)),
        ("threads", one.threads, other.threads),
        ("provider", one.provider, other.provider),
        ("precision", precision_of(left), precision_of(right)),
        ("cuda_graph", one.cuda_graph, other.cuda_graph),
        ("channels_last", one.channels_last, other.channels_last),
        ("tf32", one.tf32, other.tf32),
    ]
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


SINCE_SCHEMA_2 = ("CPU family", "CPU model number", "CPU stepping")


def _traits(machine: Machine) -> dict[str, object]:
    cpu, gpu = machine.cpu, machine.gpu or Gpu()
    return {
        "CPU": cpu.model, "CPU family": cpu.family, "CPU model number": cpu.model_number, "CPU stepping": cpu.stepping,
        "cores": cpu.logical_cores, "core quota": cpu.quota_cores, "governor": cpu.governor, "boost": cpu.boost,
        "affinity": cpu.affinity, "niceness": cpu.niceness,
        "GPU": gpu.name, "card": gpu.uuid, "driver": gpu.driver, "power limit": gpu.power_limit_w,
    }  # fmt: skip


def protocol_differences(a: Protocol, b: Protocol) -> list[str]:
    """The settings in which two protocols differ; the order's seed and the describing line are no settings."""
    pairs = {one.name: (getattr(a, one.name), getattr(b, one.name)) for one in fields(Protocol)}
    return [
        f"protocol's {key} {_said(mine)} against {_said(theirs)}"
        for key, (mine, theirs) in pairs.items()
        if key not in ("seed", "summary") and mine != theirs
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
    """Rows for people."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("A", "B", "A ms", "B ms", "B / A", "95 % interval", "B is"):
        numeric = heading in ("A ms", "B ms", "B / A", "95 % interval")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in comparisons:
        places = decimals(row.a_median_s)
        interval = f"{row.interval[0]:.3f} – {row.interval[1]:.3f}" if row.interval else "none"
        medians = (f"{seconds * 1e3:.{places}f}" for seconds in (row.a_median_s, row.b_median_s))
        cells = row.a, row.b if row.b != row.a else "same", *medians, f"{row.ratio:.3f}", interval, row.verdict
        table.add_row(*map(Text, cells))
    return table
