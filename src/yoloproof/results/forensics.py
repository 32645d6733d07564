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
from statistics import NormalDist

from rich.table import Table
from rich.text import Text

from yoloproof.intervals import CONFIDENCE
from yoloproof.names import Attention
from yoloproof.records import Entry, PublishedFigure, Run, Summary
from yoloproof.results.figures import decimals
from yoloproof.results.labels import NOT_SAID, plain_text
from yoloproof.results.published import matches, reported_ms

# How far apart (standard deviation of the logarithm) two settings of one GPU lie that time the same engine: the three tables of
# T4 figures that were seen suggest 0.09 (docs/t4.md). A ratio from another machine holds two such settings.
SPREAD = 0.09
SPREAD_ELSEWHERE = math.sqrt(2) * SPREAD
# From how probable on an attention is named; beyond so many spreads (its own error included) a row explains no figure.
DECIDED = 0.9
FAR = 3.0


@dataclass(frozen=True)
class AttentionRow:
    """One attention's median; ratio -- over the reported latency, or over what that would be here; error -- of the ratio, by
    the rows' own intervals (standard deviation of its logarithm), None without one; probability -- of this attention among the
    rows, from the reported latency alone; None where an error is unknown."""

    attention: Attention | None
    median_s: float
    ratio: float
    error: float | None
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
    measured = [(entry, entry.summary) for entry in entries if entry.summary is not None]
    if not figures or not measured:
        return Resemblance(None, "none", (), "no figure was reported for this model" if measured else "no samples")
    figure = figures[0]
    label = f"{reported_ms(figure)} ms ({plain_text(figure.source)}, {plain_text(figure.gpu)})"
    differences = matches(figure, measured[0][0], run)
    if not differences:
        rows = tuple(_row(entry, summary, figure.latency_s) for entry, summary in measured)
        return _decided(rows, "same machine", SPREAD, label, "")
    correct = next((one for one in figures[1:] if "correct" in one.protocol and one.gpu == figure.gpu), None)
    base = next((summary for entry, summary in measured if entry.artifact.attention is Attention.PUBLISHED), None)
    if correct is None or base is None:
        missing = "no figure of an engine that detects" if correct is None else "no `published` row"
        line = f"cannot tell for {label}: {'; '.join(differences)}, and {missing} to take a ratio with"
        return Resemblance(None, "none", (), line)
    hint = (
        f" A hint from another machine ({differences[0]}): reported / detecting engine is "
        f"{figure.latency_s / correct.latency_s:.2f} there ({correct.source}), and the rows' share of "
        "`published` is compared with it."
    )
    here_s = figure.latency_s * base.median_s / correct.latency_s
    rows = tuple(_row(entry, summary, here_s, base) for entry, summary in measured)
    return _decided(rows, "ratio", SPREAD_ELSEWHERE, label, hint)


def _row(entry: Entry, summary: Summary, latency_s: float, base: Summary | None = None) -> AttentionRow:
    """The row over a latency, which itself is in proportion to the median of `base`."""
    errors = [_error(one) for one in (summary, base) if one is not None]
    known = [one for one in errors if one is not None]
    error = None if len(known) < len(errors) else 0.0 if summary is base else math.hypot(*known)
    return AttentionRow(
        entry.artifact.attention, summary.median_s, summary.median_s / latency_s, error, entry.proof.passed
    )


def _error(summary: Summary) -> float | None:
    """Standard deviation of the median's logarithm, by its interval over processes; None without one."""
    if summary.interval_s is None:
        return None
    low, high = summary.interval_s
    return math.log(high / low) / (2 * NormalDist().inv_cdf((1 + (summary.confidence or CONFIDENCE)) / 2))


def _decided(rows: tuple[AttentionRow, ...], basis: str, spread: float, label: str, hint: str) -> Resemblance:
    """How probable each row's attention is from the figure alone, all of them equally probable beforehand: the settings'
    spread and the row's own error add in quadrature. A row that is less certain than settings differ decides nothing."""
    unknown = [plain_text(row.attention) for row in rows if row.error is None]
    if unknown:
        why = f"as rows have no interval ({', '.join(unknown)}): five processes give one, --quick has fewer"
        return Resemblance(None, basis, rows, f"{label}: undecided, {why}.{hint}")
    errors = [row.error or 0.0 for row in rows]
    spreads = [math.hypot(spread, error) for error in errors]
    off = [math.log(row.ratio) / one for row, one in zip(rows, spreads, strict=True)]
    nearest = min(map(abs, off))
    weights = [math.exp((nearest**2 - z**2) / 2) / one for z, one in zip(off, spreads, strict=True)]
    rows = tuple(replace(row, probability=weight / sum(weights)) for row, weight in zip(rows, weights, strict=True))
    by_probability = sorted(rows, key=lambda row: -(row.probability or 0.0))
    best = by_probability[0]
    if nearest > FAR:
        line = f"{label}: none of these explains it; the nearest, {plain_text(best.attention)}, takes {best.ratio:.2f} times as long."
        return Resemblance(None, basis, rows, line + hint)
    said = ", ".join(f"{plain_text(row.attention)} {row.probability:.0%}" for row in by_probability)
    given = f"Probabilities, if settings differ by {spread:.0%} and rows by their intervals: {said}."
    uncertain = [plain_text(row.attention) for row, error in zip(rows, errors, strict=True) if error > spread]
    if uncertain or (best.probability or 0.0) < DECIDED:
        why = f", as intervals are wider than settings differ ({', '.join(uncertain)})" if uncertain else ""
        return Resemblance(None, basis, rows, f"{label}: undecided{why}. {given}{hint}")
    warning = " That network is not the published detector." if best.attention is Attention.STRIPPED else ""
    line = f"{label} resembles {plain_text(best.attention)}. {given}{warning}"
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
            NOT_SAID if row.probability is None else f"{row.probability:.2f}",
            mark,
        )
        table.add_row(*map(Text, cells))
    return table
