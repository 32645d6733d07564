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

ALLOWANCES = ("machine", "protocol", "unproved")
# What makes a row the same in two files.
KEY = ("attention", "precision", "imgsz", "batch")
# What speaks against one run's level as a whole, and with it against any comparison with another run. Within one run
# both sides suffered alike.
LEVEL_CODES = ("noisy_neighbour", "throttled", "clocks_moved", "drift", "not_settled")


@dataclass(frozen=True)
class Comparison:
    """B against A. ratio: B's time over A's, below 1 where B is faster; interval None: too few processes for one.

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

    YoloproofError where machine or protocol differ or a row is not proved, unless `allow` names it ("machine",
    "protocol", "unproved"); what was allowed then stands in the notes. Also where no row fits any.
    """
    pairs = _pairs(a["entries"], b["entries"])
    if not pairs:
        raise YoloproofError(
            "the two results have no row in common: model, runtime, attention, precision, size and batch must agree"
        )
    return [_compared(a, left, b, right, ratio_of, allow, same_run=False) for left, right in pairs]


def compare_rows(result: Mapping[str, Any], ratio_of: RatioOf, allow: Sequence[str] = ()) -> list[Comparison]:
    """The rows of one result against its first, which were timed side by side in the same processes."""
    first, *others = result["entries"]
    if not others:
        raise YoloproofError("this result has one row; give a second file, or profile both at once")
    return [_compared(result, first, result, entry, ratio_of, allow, same_run=True) for entry in others]


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
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    if len(a) == len(b) == 1:
        return [(a[0], b[0])]
    second = {row_key(entry): entry for entry in b}
    return [(entry, second[row_key(entry)]) for entry in a if row_key(entry) in second]


def _compared(
    a: Mapping[str, Any],
    left: Mapping[str, Any],
    b: Mapping[str, Any],
    right: Mapping[str, Any],
    ratio_of: RatioOf,
    allow: Sequence[str],
    same_run: bool,
) -> Comparison:
    runs = run_of(a, left), run_of(b, right)
    obstacles = {
        "machine": machine_differences(runs[0]["machine"], runs[1]["machine"]),
        "protocol": protocol_differences(runs[0]["protocol"], runs[1]["protocol"]),
        "unproved": [f"{row_label(e)} is not proved" for e in (left, right) if e["proof"].get("passed") is not True],
    }
    notes = []
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
        notes.append("two runs: what changed on the machine between them is not in the interval")
    notes += [f"libraries differ: {line}" for line in library_differences(runs[0]["machine"], runs[1]["machine"])]
    notes += [f"{row_label(e)} is partial" for e in (left, right) if e.get("partial")]
    ratio, interval, confidence, verdict = ratio_of(after, before, paired)
    unsteady = [] if paired else _unsteady(runs, (left, right))
    if unsteady:
        verdict = "cannot tell"
        notes.append(f"{' and '.join(unsteady)}: another run's level may differ by that alone; profile both in one run")
    if interval is None:
        notes.append(f"{len(before)} and {len(after)} processes are too few for a 95 % interval")
    return Comparison(
        row_label(left), row_label(right), median(before), median(after), ratio, interval, confidence, paired, verdict,
        tuple(notes),
    )  # fmt: skip


def _unsteady(runs: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    warnings = [warning for part in (*runs, *entries) for warning in part.get("warnings", ())]
    return sorted({str(warning["code"]) for warning in warnings if warning.get("code") in LEVEL_CODES})


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
        ("governor", "cpu", "governor"), ("affinity", "cpu", "affinity"), ("GPU", "gpu", "name"),
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
