"""Columns of the result table and their text forms: Markdown, CSV, LaTeX.

Milliseconds and rounding happen here. A latency without a passed proof carries its verdict in the same cell, so that it
cannot be copied away from it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from yoloproof.errors import YoloproofError
from yoloproof.report.rows import NOT_SAID, Ratio, Row


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds with three significant digits, a dash for None."""
    return NOT_SAID if seconds is None else digits(seconds * 1e3)


def digits(value: float | None, scale: float = 1.0) -> str:
    """A number with three significant digits, never in exponents; a dash for None."""
    if value is None:
        return NOT_SAID
    value /= scale
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{places}f}".replace(",", "\N{THIN SPACE}")


@dataclass(frozen=True)
class Column:
    """One column: its key, its heading, a cell's text, and the number it sorts by (None: it sorts by its text)."""

    key: str
    heading: str
    cell: Callable[[Row], str]
    order: Callable[[Row], float | None] | None = None


def median_cell(row: Row) -> str:
    """The median in ms, or why it is not a result."""
    if row.failure is not None or row.median_s is None:
        return "not measured"
    return milliseconds(row.median_s) + ("" if row.proved else f" ({row.verdict})")


def interval_cell(row: Row) -> str:
    """The interval of the median in ms: `5.29–5.40`."""
    return "–".join(milliseconds(end) for end in row.interval_s) if row.interval_s else NOT_SAID


def ratio_cell(ratio: Ratio | None) -> str:
    """The time as a share of another's, with its spread: `0.392 (0.388–0.393)`; 1 for the other itself."""
    if ratio is None:
        return NOT_SAID
    compiled = " of compiled" if ratio.base.endswith(" compiled") else ""
    if ratio.low == ratio.high == 1.0:
        return f"1{compiled}"
    return f"{ratio.middle:.3f} ({ratio.low:.3f}–{ratio.high:.3f}){compiled}"


def flush_cell(row: Row) -> str:
    """Whether subnormal numbers were taken for zero."""
    runtime = row.entry.get("runtime")
    said = runtime.get("flush_to_zero") if isinstance(runtime, Mapping) else None
    return {True: "yes", False: "no"}[said] if isinstance(said, bool) else NOT_SAID


def proof_cell(row: Row) -> str:
    """A sign and a word, so that neither colour nor sign stands alone."""
    signs = {"proved": "✓", "not proved": "✗", "unchecked": "?", "not measured": "!"}
    return f"{signs[row.verdict]} {row.verdict}"


def published_cell(row: Row) -> str:
    """The figure somebody reported, with the GPU it was reported for."""
    figure = row.published
    return NOT_SAID if figure is None else f"{milliseconds(figure.latency_s)} on {figure.gpu}"


def model_cell(row: Row) -> str:
    """The model's name, marked where its weights are not the trained ones."""
    return row.model if row.weights in ("trained", NOT_SAID) else f"{row.model} ({row.weights} weights)"


def _ap(row: Row) -> float | None:
    """An AP of random weights says nothing."""
    return None if row.weights == "random" else row.ap


COLUMNS: tuple[Column, ...] = (
    Column("model", "Model", model_cell),
    Column("attention", "Attention", lambda row: row.attention),
    Column("form", "Form", lambda row: row.form),
    Column("median", "Median ms", median_cell, lambda row: row.median_s),
    Column(
        "ratio",
        "Of published",
        lambda row: ratio_cell(row.ratio),
        lambda row: row.ratio.middle if row.ratio else None,
    ),
    Column(
        "of_stripped",
        "Of stripped",
        lambda row: ratio_cell(row.ratio_stripped),
        lambda row: row.ratio_stripped.middle if row.ratio_stripped else None,
    ),
    Column("proof", "Proof", proof_cell),
    Column("runtime", "Runtime", lambda row: row.runtime),
    Column("precision", "Precision", lambda row: row.precision),
    Column("imgsz", "Size", lambda row: row.imgsz),
    Column("batch", "Batch", lambda row: NOT_SAID if row.batch is None else str(row.batch), lambda row: row.batch),
    Column("interval", "95 % interval", interval_cell, lambda row: row.interval_s[0] if row.interval_s else None),
    Column("p90", "p90 ms", lambda row: milliseconds(row.p90_s), lambda row: row.p90_s),
    Column("p99", "p99 ms", lambda row: milliseconds(row.p99_s), lambda row: row.p99_s),
    Column("fps", "FPS", lambda row: digits(row.fps), lambda row: row.fps),
    Column("ap", "AP", lambda row: digits(_ap(row), 0.01), _ap),
    Column(
        "launches",
        "Kernels",
        lambda row: NOT_SAID if row.launches is None else str(row.launches),
        lambda row: row.launches,
    ),
    Column("published", "Reported ms", published_cell, lambda row: row.published.latency_s if row.published else None),
    Column("parameters", "Params M", lambda row: digits(row.parameters, 1e6), lambda row: row.parameters),
    Column("flops", "GFLOPs", lambda row: digits(row.flops, 1e9), lambda row: row.flops),
    Column("nodes", "Nodes", lambda row: NOT_SAID if row.nodes is None else str(row.nodes), lambda row: row.nodes),
    Column("flush", "Flush to zero", flush_cell),
    Column("device", "Device", lambda row: row.device),
    Column("machine", "Machine", lambda row: row.run.machine),
    Column("protocol", "Protocol", lambda row: protocol_cell(row)),
)
DEFAULT_COLUMNS = (
    "model",
    "attention",
    "runtime",
    "precision",
    "median",
    "interval",
    "p90",
    "fps",
    "ap",
    "proof",
    "published",
)


def protocol_cell(row: Row) -> str:
    """The protocol's name; a quick or partial run says so."""
    name = str(row.run.protocol.get("name") or NOT_SAID)
    return name + (" (quick)" if row.run.quick else "") + (" (partial)" if row.run.partial else "")


def columns_from_keys(keys: Sequence[str]) -> list[Column]:
    """Columns by their keys, in that order. Raises YoloproofError for a key that is none."""
    known = {column.key: column for column in COLUMNS}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise YoloproofError(f"no column is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[key] for key in keys]


def markdown_from_rows(rows: Sequence[Row], keys: Sequence[str] = DEFAULT_COLUMNS) -> str:
    """A Markdown table; text from result files cannot end a cell, start markup or become HTML."""
    columns = columns_from_keys(keys)
    lines = [
        "| " + " | ".join(column.heading for column in columns) + " |",
        "|" + "|".join("---:" if column.order else "---" for column in columns) + "|",
    ]
    for row in rows:
        cells = [markdown_escape(column.cell(row)) for column in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def markdown_across(rows: Sequence[Row], keys: Sequence[str], across: str) -> str:
    """A Markdown table with a row per distinct cells of `keys` and a column, medians and ratios, per cell of `across`.

    Raises YoloproofError where two rows would share a cell.
    """
    columns, (spread,) = columns_from_keys(keys), columns_from_keys([across])
    heads = list(dict.fromkeys(spread.cell(row) for row in rows))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: (row.family, row.parameters or 0.0, row.batch or 0)):
        line = lines.setdefault(tuple(column.cell(row) for column in columns), {})
        if spread.cell(row) in line:
            raise YoloproofError(f"two rows are {row.label}; name a column that tells them apart, or leave one out")
        ratio = ratio_cell(row.ratio)
        line[spread.cell(row)] = median_cell(row) + (
            "" if ratio == NOT_SAID or ratio[:2] in ("1", "1 ") else f" · {ratio}"
        )
    titles = [column.heading for column in columns] + [f"{head}, ms" for head in heads]
    marks = ["---:" if column.order else "---" for column in columns] + ["---:"] * len(heads)
    body = [[*fixed, *(cells.get(head, NOT_SAID) for head in heads)] for fixed, cells in lines.items()]
    made = ["| " + " | ".join(map(markdown_escape, titles)) + " |", "|" + "|".join(marks) + "|"]
    return "\n".join(made + ["| " + " | ".join(map(markdown_escape, cells)) + " |" for cells in body]) + "\n"


def csv_from_rows(rows: Sequence[Row], keys: Sequence[str] = DEFAULT_COLUMNS) -> str:
    """A CSV table; a cell that a spreadsheet would run as a formula starts with an apostrophe."""
    columns = columns_from_keys(keys)
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([column.heading for column in columns])
    writer.writerows([[csv_escape(column.cell(row)) for column in columns] for row in rows])
    return target.getvalue()


def latex_from_rows(rows: Sequence[Row], keys: Sequence[str] = DEFAULT_COLUMNS) -> str:
    """A LaTeX tabular (booktabs)."""
    columns = columns_from_keys(keys)
    body = [[column.heading for column in columns]] + [[column.cell(row) for column in columns] for row in rows]
    lines = [" & ".join(latex_escape(cell) for cell in cells) + r" \\" for cells in body]
    shape = "".join("r" if column.order else "l" for column in columns)
    return (
        "\n".join(
            [
                rf"\begin{{tabular}}{{{shape}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
            ]
        )
        + "\n"
    )


def markdown_escape(words: str) -> str:
    """Text as literal Markdown table text."""
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~!])", r"\\\1", words) if words not in ("!", "") else words


def csv_escape(words: str) -> str:
    """Text that no spreadsheet takes for a formula (OWASP, CSV injection)."""
    return f"'{words}" if words[:1] in "=+-@\t\r" and words else words


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "–": "--", "×": r"$\times$", "✓": r"\checkmark{}", "✗": r"$\times$", "\N{THIN SPACE}": r"\,",
}  # fmt: skip


def latex_escape(words: str) -> str:
    """Text as literal LaTeX."""
    return "".join(_LATEX.get(letter, letter) for letter in words)
