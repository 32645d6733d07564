"""Two results, or the rows of one, held against each other: ratios with intervals, and "cannot tell" where it is so.

The statistics are the caller's to bring (`RatioOf`): this folder imports nothing of the measuring one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.table import Table

from yoloproof.errors import YoloproofError
from yoloproof.results.file import run_of
from yoloproof.results.table import decimals

ALLOWANCES = ("machine", "protocol", "unproved", "quick", "partial")
# What makes a row the same in two files.
KEY = ("attention", "precision", "imgsz", "batch")
SETTINGS = ("threads", "provider", "precision", "cuda_graph", "compile", "channels_last", "tf32")
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
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


# (B's process medians, A's, whether the i-th of both are of one process) → ratio, interval or None, confidence, verdict
RatioOf = Callable[
    [Sequence[float], Sequence[float], bool], tuple[float, tuple[float, float] | None, float | None, str]
]


def compare_results(
    a: Mapping[str, Any], b: Mapping[str, Any], ratio_of: RatioOf, allow: Sequence[str] = ()
) -> list[Comparison]:
    """Every row that both results have, B against A; where each has one row alone, these two whatever they are.

    YoloproofError where machine or protocol differ or a row is not proved, quick or partial, unless `allow` names it
    (one of ALLOWANCES); what was allowed then stands in the notes, and so does every row that only one side has. Also
    where no row fits any.
    """
    pairs, alone = _pairs(a["entries"], b["entries"])
    if not pairs:
        raise YoloproofError(
            "the two results have no row in common: model, runtime, attention, precision, size and batch must agree"
        )
    left_out = [f"in one file alone, not compared: {row_label(entry)}" for entry in alone]
    return [_compared(a, left, b, right, ratio_of, allow, left_out, same_run=False) for left, right in pairs]


def compare_rows(result: Mapping[str, Any], ratio_of: RatioOf, allow: Sequence[str] = ()) -> list[Comparison]:
    """The rows of one result against its first, which were timed side by side in the same processes."""
    if len(result["entries"]) < 2:
        rows = "one row" if result["entries"] else "no row"
        raise YoloproofError(f"this result has {rows}; give a second file, or profile both at once")
    first, *others = result["entries"]
    return [_compared(result, first, result, entry, ratio_of, allow, (), same_run=True) for entry in others]


def row_key(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What must agree for two entries to be the same row."""
    runtime = entry["runtime"]
    own = [entry["model"].get("name"), runtime.get("name"), runtime.get("device"), runtime.get("flush_to_zero")]
    return tuple(str(value) for value in [*own, *(entry["artifact"].get(key) for key in KEY)])


def row_label(entry: Mapping[str, Any]) -> str:
    """A row's name for people: "yolov13n fused fp32 onnxruntime"."""
    artifact = entry["artifact"]
    parts = [entry["model"].get("name"), artifact.get("attention"), artifact.get("precision")]
    return " ".join(str(part) for part in [*parts, entry["runtime"].get("name")] if part)


def _pairs(
    a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[Mapping[str, Any], Mapping[str, Any]]], list[Mapping[str, Any]]]:
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


def _compared(
    a: Mapping[str, Any],
    left: Mapping[str, Any],
    b: Mapping[str, Any],
    right: Mapping[str, Any],
    ratio_of: RatioOf,
    allow: Sequence[str],
    left_out: Sequence[str],
    same_run: bool,
) -> Comparison:
    runs = run_of(a, left), run_of(b, right)
    obstacles = {
        "machine": machine_differences(runs[0]["machine"], runs[1]["machine"]),
        "protocol": protocol_differences(runs[0]["protocol"], runs[1]["protocol"]),
        "unproved": [f"{row_label(e)} is not proved" for e in (left, right) if e["proof"].get("passed") is not True],
        "quick": ["a --quick run is no result" for run in runs if run["protocol"].get("quick")],
        "partial": [f"{row_label(e)} is partial" for e in (left, right) if e.get("partial")],
    }
    notes = [*left_out]
    for kind, found in obstacles.items():
        if found and kind not in allow:
            raise YoloproofError(f"not comparable: {'; '.join(dict.fromkeys(found))}; --allow {kind} compares anyway")
        notes += [f"allowed: {difference}" for difference in dict.fromkeys(found)]
    medians = _process_medians(left), _process_medians(right)
    common = sorted(medians[0].keys() & medians[1].keys())
    paired = same_run and runs[0] is runs[1] and bool(common)
    if paired:
        before, after = ([column[process] for process in common] for column in medians)
    else:
        before, after = list(medians[0].values()), list(medians[1].values())
    notes += [f"libraries differ: {line}" for line in library_differences(runs[0]["machine"], runs[1]["machine"])]
    notes += [f"settings differ: {line}" for line in _setting_differences(left, right)]
    ratio, interval, confidence, verdict = ratio_of(after, before, paired)
    if interval is None:
        notes.append(f"{len(before)} and {len(after)} processes are too few for a 95 % interval")
    elif not paired:
        doubts = {"two runs": RUN_TO_RUN, **_doubts(runs, (left, right))}
        factor = max(doubts.values())
        interval = _wider(interval, factor)
        if interval is None or interval[0] <= 1 <= interval[1]:
            verdict = "cannot tell"
        size = f"{factor:.2f} times" if math.isfinite(factor) else "nobody knows how much"
        notes.append(
            f"{' and '.join(doubts)}: by that alone the level may differ, {size}, which the interval allows for; "
            "profile both in one run to tell less apart"
        )
    return Comparison(
        row_label(left), row_label(right), median(before), median(after), ratio, interval, confidence, paired, verdict,
        tuple(notes),
    )  # fmt: skip


def _wider(interval: tuple[float, float], factor: float) -> tuple[float, float] | None:
    return (interval[0] / factor, interval[1] * factor) if math.isfinite(factor) else None


def _doubts(runs: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Code → by what factor it may have moved a level, infinite where the warning does not say."""
    doubts: dict[str, float] = {}
    for warning in (warning for part in (*runs, *entries) for warning in part.get("warnings", ())):
        if warning.get("code") in LEVEL_CODES:
            factor = warning.get("level_factor")
            known = float(factor) if isinstance(factor, (int, float)) else math.inf
            if known == 1:  # what was disturbed is set aside
                continue
            doubts[warning["code"]] = max(doubts.get(warning["code"], 1.0), known)
    return doubts


def _setting_differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """How two rows are run where that is not in their key: often the very thing compared, so said, not refused."""
    pairs = [(key, left["runtime"].get(key), right["runtime"].get(key)) for key in SETTINGS]
    return [f"{key} {one} against {other}" for key, one, other in pairs if one != other]


def _process_medians(entry: Mapping[str, Any]) -> dict[int, float]:
    """Process number → median of its samples; complete processes, or all with samples where none is."""
    processes = [p for p in entry["processes"] if p.get("samples_s")]
    counted = [p for p in processes if p.get("complete", True)] or processes
    medians = {int(p.get("process", i)): median(p["samples_s"]) for i, p in enumerate(counted)}
    if not medians or not all(math.isfinite(value) and value > 0 for value in medians.values()):
        raise YoloproofError(f"{row_label(entry)} has no samples to compare; measure it again")
    return medians


def machine_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """In what two machines, or the settings of one, differ so that their times do not compare."""
    keys = (
        ("CPU", "cpu", "model"), ("cores", "cpu", "logical_cores"), ("core quota", "cpu", "quota_cores"),
        ("governor", "cpu", "governor"), ("boost", "cpu", "boost"), ("affinity", "cpu", "affinity"),
        ("niceness", "cpu", "niceness"), ("GPU", "gpu", "name"), ("card", "gpu", "uuid"),
        ("driver", "gpu", "driver"), ("power limit", "gpu", "power_limit_w"),
    )  # fmt: skip
    found = []
    for label, part, key in keys:
        one, other = ((machine.get(part) or {}).get(key) for machine in (a, b))
        if one != other:
            found.append(f"{label} {one} against {other}")
    return found


def protocol_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The settings in which two protocols differ; the order's seed and the describing line are no settings."""
    keys = [key for key in {**a, **b} if key not in ("seed", "summary")]
    return [f"protocol's {key} {a.get(key)} against {b.get(key)}" for key in keys if a.get(key) != b.get(key)]


def library_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Libraries whose version is not the same on both sides: often the very thing compared, so said, not refused."""
    one, other = a.get("libraries") or {}, b.get("libraries") or {}
    names = sorted(name for name in {**one, **other} if one.get(name) != other.get(name))
    return [f"{name} {one.get(name, 'absent')} against {other.get(name, 'absent')}" for name in names]


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Rows for people; the notes come as the caption."""
    notes = dict.fromkeys(note for comparison in comparisons for note in comparison.notes)
    table = Table(box=None, padding=(0, 2, 0, 0), caption="\n".join(notes) or None, caption_justify="left")
    for heading in ("A", "B", "A ms", "B ms", "B / A", "95 % interval", "B is"):
        numeric = heading in ("A ms", "B ms", "B / A", "95 % interval")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in comparisons:
        places = decimals(row.a_median_s)
        interval = f"{row.interval[0]:.3f} – {row.interval[1]:.3f}" if row.interval else "none"
        medians = (f"{seconds * 1e3:.{places}f}" for seconds in (row.a_median_s, row.b_median_s))
        table.add_row(row.a, row.b if row.b != row.a else "same", *medians, f"{row.ratio:.3f}", interval, row.verdict)
    return table
