"""Which attention does a reported latency resemble? The question behind every "cannot reproduce" thread.

One model is timed with its attention `fused`, `explicit`, `published` (the official code's own softmax) and `stripped`
(no attention left, what a careless trace gives). On the GPU of the reported figure the four are held against it.
Elsewhere milliseconds mean nothing, but a ratio may: where somebody else has measured an engine of the same model on
that same GPU and seen it detect, reported / theirs is held against ours / `published`. That is a hint, and called one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from yoloproof.names import Attention
from yoloproof.records import Entry, PublishedFigure, Run
from yoloproof.results.labels import plain_text
from yoloproof.results.published import matches, rounding

# How near, as a share, a latency has to come to be said to resemble another; a ratio from another machine is vaguer.
NEAR = 0.05
NEAR_ELSEWHERE = 0.10


@dataclass(frozen=True)
class AttentionRow:
    """One attention's median; ratio -- over the reported latency, or over what that would be here."""

    attention: Attention | None
    median_s: float
    ratio: float
    proved: bool | None


@dataclass(frozen=True)
class Resemblance:
    """attention -- the one resembled, None for none or for more than one; basis -- "same machine", "ratio" or "none";
    line -- the verdict in words."""

    attention: Attention | None
    basis: str
    rows: tuple[AttentionRow, ...]
    line: str


def which_resembles(figures: Sequence[PublishedFigure], entries: Sequence[Entry], run: Run) -> Resemblance:
    """Hold the first of `figures` (`published_for(variant)`) against one model's `entries` of one run, one per attention.

    Entries with no samples are left out. Nothing reported, or no way to hold it against these, is said in `line`.
    """
    measured = [(entry, entry.summary.median_s) for entry in entries if entry.summary is not None]
    if not figures or not measured:
        return Resemblance(None, "none", (), "no figure was reported for this model" if measured else "no samples")
    figure = figures[0]
    label = f"{figure.latency_s * 1e3:g} ms ({plain_text(figure.source)}, {plain_text(figure.gpu)})"
    differences = matches(figure, measured[0][0], run)
    if not differences:
        slack = rounding(figure.latency_s) / figure.latency_s
        return _nearest(_rows(measured, figure.latency_s), "same machine", max(NEAR, slack), label, "")
    correct = next((one for one in figures[1:] if "correct" in one.protocol and one.gpu == figure.gpu), None)
    base_s = next((s for entry, s in measured if entry.artifact.attention is Attention.PUBLISHED), None)
    if correct is None or base_s is None:
        missing = "nobody's figure of an engine that detects" if correct is None else "no `published` row"
        line = f"cannot tell for {label}: {'; '.join(differences)}, and {missing} to take a ratio with"
        return Resemblance(None, "none", (), line)
    hint = (
        f" A hint from another machine ({differences[0]}): reported / detecting engine is "
        f"{figure.latency_s / correct.latency_s:.2f} there ({correct.source}), and the rows' share of "
        "`published` is compared with it."
    )
    scale = base_s / correct.latency_s
    return _nearest(_rows(measured, figure.latency_s * scale), "ratio", NEAR_ELSEWHERE, label, hint)


def _rows(measured: Sequence[tuple[Entry, float]], latency_s: float) -> tuple[AttentionRow, ...]:
    return tuple(
        AttentionRow(entry.artifact.attention, seconds, seconds / latency_s, entry.proof.passed)
        for entry, seconds in measured
    )


def _nearest(rows: tuple[AttentionRow, ...], basis: str, near: float, label: str, hint: str) -> Resemblance:
    by_distance = sorted(rows, key=lambda row: abs(math.log(row.ratio)))
    close = [row for row in by_distance if abs(math.log(row.ratio)) <= math.log1p(near)]
    best = by_distance[0]
    off = f"{best.ratio:.2f} times the figure"
    if not close:
        line = f"{label} resembles none of these; the nearest, {plain_text(best.attention)}, takes {off}."
        return Resemblance(None, basis, rows, line + hint)
    if len(close) > 1:
        names = " and ".join(plain_text(row.attention) for row in close)
        line = f"{label}: cannot tell, it lies within {near:.0%} of {names}."
        return Resemblance(None, basis, rows, line + hint)
    warning = " That network is not the published detector." if best.attention is Attention.STRIPPED else ""
    line = f"{label} resembles {plain_text(best.attention)}, which takes {off}.{warning}"
    return Resemblance(best.attention, basis, rows, line + hint)


def forensics_table(resemblance: Resemblance, name: str = "") -> Table:
    """The rows of a resemblance, the one resembled marked; `name`: of what they are rows."""
    title = Text(f"Which attention does the reported figure resemble? {plain_text(name) if name else ''}")
    table = Table(box=None, title=title, title_justify="left")
    for heading in ("attention", "median ms", "× reported", "same detector"):
        table.add_column(heading, justify="left" if heading == "attention" else "right")
    for row in resemblance.rows:
        mark = {True: "✓", False: "✗", None: "?"}[row.proved]
        arrow = "→" if row.attention is not None and row.attention is resemblance.attention else " "
        cells = f"{arrow} {plain_text(row.attention)}", f"{row.median_s * 1e3:.3g}", f"{row.ratio:.2f}", mark
        table.add_row(*map(Text, cells))
    return table
