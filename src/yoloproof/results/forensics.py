"""Which attention does a reported latency resemble? The question behind every "cannot reproduce" thread.

One model is timed with its attention `fused`, `explicit`, `published` (the official code's own softmax) and `stripped`
(no attention left, what a careless trace gives). On the GPU of the reported figure the four are held against it.
Elsewhere milliseconds mean nothing, but a ratio may: where somebody else has measured an engine of the same model on
that same GPU and seen it detect, reported / theirs is held against ours / `published`. That is a hint, and called one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

from yoloproof.names import Attention
from yoloproof.records import Entry, PublishedFigure, Run
from yoloproof.results.figures import decimals
from yoloproof.results.labels import plain_text
from yoloproof.results.published import matches

# How far apart (standard deviation of the logarithm) two settings of one GPU lie that time the same engine: the three tables of
# T4 figures that were seen suggest 0.09 (docs/t4.md). A ratio from another machine holds two such settings.
SPREAD = 0.09
SPREAD_ELSEWHERE = math.sqrt(2) * SPREAD
# From how probable on an attention is named; beyond so many spreads from a figure nothing explains it.
DECIDED = 0.9
FAR = 3.0


@dataclass(frozen=True)
class AttentionRow:
    """One attention's median; ratio -- over the reported latency, or over what that would be here; probability -- of this
    attention among the rows, from the reported latency alone."""

    attention: Attention | None
    median_s: float
    ratio: float
    proved: bool | None
    probability: float | None = None


@dataclass(frozen=True)
class Resemblance:
    """attention -- the one resembled, None where none is probable enough; basis -- "same machine", "ratio" or "none";
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
        return _decided(_rows(measured, figure.latency_s), "same machine", SPREAD, label, "")
    correct = next((one for one in figures[1:] if "correct" in one.protocol and one.gpu == figure.gpu), None)
    base_s = next((s for entry, s in measured if entry.artifact.attention is Attention.PUBLISHED), None)
    if correct is None or base_s is None:
        missing = "no figure of an engine that detects" if correct is None else "no `published` row"
        line = f"cannot tell for {label}: {'; '.join(differences)}, and {missing} to take a ratio with"
        return Resemblance(None, "none", (), line)
    hint = (
        f" A hint from another machine ({differences[0]}): reported / detecting engine is "
        f"{figure.latency_s / correct.latency_s:.2f} there ({correct.source}), and the rows' share of "
        "`published` is compared with it."
    )
    scale = base_s / correct.latency_s
    return _decided(_rows(measured, figure.latency_s * scale), "ratio", SPREAD_ELSEWHERE, label, hint)


def _rows(measured: Sequence[tuple[Entry, float]], latency_s: float) -> tuple[AttentionRow, ...]:
    return tuple(
        AttentionRow(entry.artifact.attention, seconds, seconds / latency_s, entry.proof.passed)
        for entry, seconds in measured
    )


def _decided(rows: tuple[AttentionRow, ...], basis: str, spread: float, label: str, hint: str) -> Resemblance:
    """How probable each row's attention is from the figure alone, all of them equally probable beforehand."""
    off = [math.log(row.ratio) / spread for row in rows]
    nearest = min(map(abs, off))
    weights = [math.exp((nearest**2 - one**2) / 2) for one in off]
    rows = tuple(replace(row, probability=weight / sum(weights)) for row, weight in zip(rows, weights, strict=True))
    by_probability = sorted(rows, key=lambda row: -(row.probability or 0.0))
    best = by_probability[0]
    if nearest > FAR:
        line = f"{label}: none of these explains it; the nearest, {plain_text(best.attention)}, takes {best.ratio:.2f} times as long."
        return Resemblance(None, basis, rows, line + hint)
    said = ", ".join(f"{plain_text(row.attention)} {row.probability:.0%}" for row in by_probability)
    if (best.probability or 0.0) < DECIDED:
        line = f"{label}: undecided. Probabilities, if settings differ by {spread:.0%}: {said}."
        return Resemblance(None, basis, rows, line + hint)
    warning = " That network is not the published detector." if best.attention is Attention.STRIPPED else ""
    line = f"{label} resembles {plain_text(best.attention)}. Probabilities, if settings differ by {spread:.0%}: {said}.{warning}"
    return Resemblance(best.attention, basis, rows, line + hint)


def forensics_table(resemblance: Resemblance, name: str = "") -> Table:
    """The rows of a resemblance, the one resembled marked; `name`: of what they are rows."""
    title = Text(f"Which attention does the reported figure resemble? {plain_text(name) if name else ''}")
    table = Table(box=None, title=title, title_justify="left")
    for heading in ("attention", "median ms", "× reported", "probability", "same detector"):
        table.add_column(heading, justify="left" if heading == "attention" else "right")
    for row in resemblance.rows:
        mark = {True: "✓", False: "✗", None: "?"}[row.proved]
        arrow = "→" if row.attention is not None and row.attention is resemblance.attention else " "
        cells = (
            f"{arrow} {plain_text(row.attention)}",
            f"{row.median_s * 1e3:.{decimals(row.median_s)}f}",
            f"{row.ratio:.2f}",
            f"{row.probability or 0.0:.2f}",
            mark,
        )
        table.add_row(*map(Text, cells))
    return table
