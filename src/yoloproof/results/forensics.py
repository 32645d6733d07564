"""Which attention does a published latency resemble? The question behind every "cannot reproduce" thread.

One model is timed with its attention `fused`, `explicit`, `published` (the official code's own softmax) and `stripped`
(no attention left, what a careless trace gives). On the GPU of the published figure the four are held against it.
Elsewhere milliseconds mean nothing, but a ratio may: where somebody else has measured an engine of the same model on
that same GPU and seen it detect, reported / theirs is held against ours / `published`. That is a hint, and called one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from yoloproof.results.published import matches, rounding

# How near, as a share, a latency has to come to be said to resemble another; a ratio from another machine is vaguer.
NEAR = 0.05
NEAR_ELSEWHERE = 0.10


@dataclass(frozen=True)
class Resemblance:
    """attention -- the one resembled, None for none or for more than one; basis -- "same machine", "ratio" or "none";
    rows -- per attention {"attention", "median_s", "ratio", "proved"}, ratio 1 being the published figure's own;
    line -- the verdict in words."""

    attention: str | None
    basis: str
    rows: tuple[Mapping[str, Any], ...]
    line: str


def which_resembles(
    published: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]
) -> Resemblance:
    """Hold the first of `published` (`published_for(variant)`) against one model's `entries`, one per attention.

    Entries with no samples are left out. Nothing published, or no way to hold it against these, is said in `line`.
    """
    measured = [entry for entry in entries if entry["summary"]]
    if not published or not measured:
        return Resemblance(None, "none", (), "no figure was published for this model" if measured else "no samples")
    figure = published[0]
    label = f"{figure['latency_s'] * 1e3:g} ms ({figure['source']}, {figure['gpu']})"
    differences = matches(figure, measured[0], machine)
    if not differences:
        slack = rounding(figure["latency_s"]) / figure["latency_s"]
        rows = _rows(measured, figure["latency_s"])
        return _nearest(rows, "same machine", max(NEAR, slack), label, "")
    correct = next((f for f in published[1:] if "correct" in f["protocol"] and f["gpu"] == figure["gpu"]), None)
    reference = next((e for e in measured if e["artifact"].get("attention") == "published"), None)
    if correct is None or reference is None:
        missing = "nobody's figure of an engine that detects" if correct is None else "no `published` row"
        line = f"cannot tell for {label}: {'; '.join(differences)}, and {missing} to take a ratio with"
        return Resemblance(None, "none", (), line)
    scale = reference["summary"]["median_s"] / correct["latency_s"]
    hint = (
        f" A hint from another machine ({differences[0]}): reported / detecting engine is "
        f"{figure['latency_s'] / correct['latency_s']:.2f} there ({correct['source']}), and the rows' share of "
        "`published` is compared with it."
    )
    return _nearest(_rows(measured, figure["latency_s"] * scale), "ratio", NEAR_ELSEWHERE, label, hint)


def _rows(entries: Sequence[Mapping[str, Any]], latency_s: float) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {
            "attention": entry["artifact"].get("attention"),
            "median_s": entry["summary"]["median_s"],
            "ratio": entry["summary"]["median_s"] / latency_s,
            "proved": entry["proof"].get("passed"),
        }
        for entry in entries
    )


def _nearest(rows: tuple[Mapping[str, Any], ...], basis: str, near: float, label: str, hint: str) -> Resemblance:
    by_distance = sorted(rows, key=lambda row: abs(math.log(row["ratio"])))
    close = [row for row in by_distance if abs(math.log(row["ratio"])) <= math.log1p(near)]
    best = by_distance[0]
    off = f"{best['ratio']:.2f} times the figure"
    if not close:
        line = f"{label} resembles none of these; the nearest, {best['attention']}, takes {off}."
        return Resemblance(None, basis, rows, line + hint)
    if len(close) > 1:
        names = " and ".join(str(row["attention"]) for row in close)
        line = f"{label}: cannot tell, it lies within {near:.0%} of {names}."
        return Resemblance(None, basis, rows, line + hint)
    warning = " That network is not the published detector." if best["attention"] == "stripped" else ""
    line = f"{label} resembles {best['attention']}, which takes {off}.{warning}"
    return Resemblance(best["attention"], basis, rows, line + hint)


def forensics_table(resemblance: Resemblance, name: str = "") -> Table:
    """The rows of a resemblance, the one resembled marked; `name`: of what they are rows."""
    table = Table(box=None, title=f"Which attention does the published figure resemble? {name}", title_justify="left")
    for heading in ("attention", "median ms", "× published", "same detector"):
        table.add_column(heading, justify="left" if heading == "attention" else "right")
    for row in resemblance.rows:
        mark = {True: "✓", False: "✗", None: "?"}[row["proved"]]
        name = f"→ {row['attention']}" if row["attention"] == resemblance.attention else f"  {row['attention']}"
        table.add_row(name, f"{row['median_s'] * 1e3:.3g}", f"{row['ratio']:.2f}", mark)
    return table
