"""Columns of the result table and their text in Markdown.

Milliseconds and rounding happen here. A latency without a passed proof carries its verdict in the same cell, and one of
a quick or broken-off run says so there, so that neither can be copied away from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yoloproof.errors import YoloproofError
from yoloproof.report.rows import RatioTo, Row, ratio_to
from yoloproof.results.labels import NOT_SAID, plain_text
from yoloproof.results.published import reported_ms


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
    marks = ([] if row.proved else [row.verdict]) + row.badges
    return milliseconds(row.median_s) + (f" ({', '.join(marks)})" if marks else "")


def interval_cell(row: Row) -> str:
    """The interval of the median in ms: `5.29–5.40`."""
    return "–".join(milliseconds(end) for end in row.interval_s) if row.interval_s else NOT_SAID


def ratio_cell(held: RatioTo | None) -> str:
    """As `share_cell`, and where the other is a compiled network, its name."""
    return share_cell(held) + (" of compiled" if held is not None and held.base.endswith("(compiled)") else "")


def share_cell(held: RatioTo | None) -> str:
    """The time as a share of another's, with its 95 % interval: `0.392 (0.388–0.393)`, without where too few processes
    give none; 1 for the other itself."""
    if held is None:
        return NOT_SAID
    if held.is_base:
        return "1"
    interval = held.ratio.interval
    return f"{held.ratio.value:.3f}" + ("" if interval is None else f" ({interval.low:.3f}–{interval.high:.3f})")


def proof_cell(row: Row) -> str:
    """A sign and a word, so that neither colour nor sign stands alone."""
    signs = {"proved": "✓", "not proved": "✗", "unchecked": "?", "not measured": "!"}
    return f"{signs[row.verdict]} {row.verdict}"


def reported_cell(row: Row) -> str:
    """The figure somebody reported, with the GPU it was reported for."""
    figure = row.reported
    return NOT_SAID if figure is None else f"{reported_ms(figure)} on {plain_text(figure.gpu)}"


def protocol_cell(row: Row) -> str:
    """The protocol's name; a quick or partial run says so."""
    return plain_text(row.origin.run.protocol.name) + "".join(f" ({badge})" for badge in row.badges)


def of_summary(name: str) -> Callable[[Row], float | None]:
    """A field of a row's summary; None where it has none."""
    return lambda row: None if row.summary is None else getattr(row.summary, name)


def as_it_came(percent: int) -> Callable[[Row], float | None]:
    """A percentile of all samples, also of turns that were repeated; older files have only that of the others."""
    came, kept = of_summary(f"p{percent}_as_it_came_s"), of_summary(f"p{percent}_s")
    return lambda row: kept(row) if came(row) is None else came(row)


def of_server(name: str) -> Callable[[Row], float | None]:
    """A figure of a row that was served; None for any other."""
    return lambda row: None if row.summary is None or row.summary.server is None else getattr(row.summary.server, name)


def _number(key: str, heading: str, of: Callable[[Row], float | None], unit: float = 1.0) -> Column:
    """A column of plain numbers, in multiples of `unit`."""
    return Column(key, heading, lambda row: digits(of(row), unit), of)


def _time(key: str, heading: str, of: Callable[[Row], float | None]) -> Column:
    return Column(key, heading, lambda row: milliseconds(of(row)), of)


def yes_or_no(said: bool | None) -> str:
    return NOT_SAID if said is None else "yes" if said else "no"


COLUMNS: tuple[Column, ...] = (
    Column("model", "Model", lambda row: row.model),
    Column("attention", "Attention", lambda row: row.attention),
    Column("network", "Network", lambda row: row.network),
    Column("median", "Median ms", median_cell, lambda row: row.median_s),
    Column(
        "ratio",
        "Of published",
        lambda row: ratio_cell(row.of_published),
        lambda row: row.of_published.ratio.value if row.of_published else None,
    ),
    Column(
        "of_stripped",
        "Of stripped",
        lambda row: ratio_cell(row.of_stripped),
        lambda row: row.of_stripped.ratio.value if row.of_stripped else None,
    ),
    Column("proof", "Proof", proof_cell),
    Column("runtime", "Runtime", lambda row: row.runtime),
    Column("precision", "Precision", lambda row: row.precision),
    Column("imgsz", "Size", lambda row: row.imgsz),
    Column("batch", "Batch", lambda row: str(row.batch), lambda row: row.batch),
    Column("interval", "95 % interval", interval_cell, lambda row: row.interval_s[0] if row.interval_s else None),
    _time("p90", "p90 ms", as_it_came(90)),
    _time("p99", "p99 ms", as_it_came(99)),
    _time("device_time", "Device ms", of_summary("device_median_s")),
    _time("query", "Whole query ms", of_summary("query_median_s")),
    _number("fps", "FPS", of_summary("fps")),
    _number("rate", "Highest rate /s", of_server("highest_hz")),
    _time("bound", "p99 bound ms", of_server("p99_bound_s")),
    _number("power", "W", of_summary("power_w")),
    _number("energy", "Whole query mJ, idle power included", of_summary("energy_j"), 1e-3),
    _number("host_memory", "Host MB added", of_summary("host_bytes"), 1e6),
    _number("device_memory", "Device MB added", of_summary("device_bytes"), 1e6),
    Column("ap", "AP", lambda row: digits(row.ap, 0.01), lambda row: row.ap),
    Column("reported", "Reported ms", reported_cell, lambda row: row.reported.latency_s if row.reported else None),
    _number("parameters", "Params M", lambda row: row.entry.model.parameters, 1e6),
    _number("flops", "GFLOPs", lambda row: row.entry.model.flops, 1e9),
    Column("rewrites", "Rewrites", lambda row: plain_text(", ".join(row.entry.artifact.simplified))),
    Column("flush", "Flush to zero", lambda row: yes_or_no(row.entry.runtime.flush_to_zero)),
    Column("device", "Device", lambda row: plain_text(row.entry.runtime.device)),
    Column("machine", "Machine", lambda row: row.origin.machine),
    Column("protocol", "Protocol", protocol_cell),
    Column("target", "Code for", lambda row: plain_text(row.entry.runtime.target or NOT_SAID)),
    Column("run", "Run", lambda row: str(row.entry.run + 1), lambda row: row.entry.run),
)
# Shown only when asked for; every other column is shown unless it says the same in all rows.
SECONDARY = (
    "p99",
    "of_stripped",
    "power",
    "host_memory",
    "device_memory",
    "parameters",
    "flops",
    "rewrites",
    "flush",
    "device",
    "target",
    "run",
)
DEFAULT_COLUMNS = (
    "model",
    "network",
    "runtime",
    "precision",
    "median",
    "interval",
    "p90",
    "fps",
    "ap",
    "proof",
    "reported",
)


def columns_from_keys(keys: Sequence[str]) -> list[Column]:
    """Columns by their keys, in that order. Raises YoloproofError for a key that is none."""
    known = {column.key: column for column in COLUMNS}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise YoloproofError(f"no column is called {', '.join(unknown)}; choose from {', '.join(known)}")
    return [known[key] for key in keys]


def markdown_from_rows(rows: Sequence[Row], keys: Sequence[str] = DEFAULT_COLUMNS, against: Sequence[str] = ()) -> str:
    """A Markdown table; text from result files cannot end a cell, start markup or become HTML.

    against -- networks, each a further column: a row's time over that of the row of this network in its run
    """
    columns = columns_from_keys(keys) + [_ratio_column(network, rows) for network in against]
    marks = ["---:" if column.order else "---" for column in columns]
    return _markdown([c.heading for c in columns], marks, [[c.cell(row) for c in columns] for row in rows])


def _ratio_column(network: str, rows: Sequence[Row]) -> Column:
    bases = {id(row.origin): row for row in rows if row.network == network}
    if not bases:
        raise YoloproofError(f"no row is of the network {network!r}, against which the others are to be held")

    def cell(row: Row) -> str:
        base = bases.get(id(row.origin))
        return share_cell(None if base is None else ratio_to(base, row))

    return Column(f"of {network}", f"Of {network}", cell, lambda row: row.median_s)


def markdown_across(rows: Sequence[Row], keys: Sequence[str], across: str) -> str:
    """A Markdown table with a row per distinct cells of `keys` and a column, medians and ratios, per cell of `across`.

    Raises YoloproofError where two rows would share a cell.
    """
    columns, (spread,) = columns_from_keys(keys), columns_from_keys([across])
    heads = list(dict.fromkeys(spread.cell(row) for row in rows))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: (row.family, row.entry.model.parameters or 0, row.batch)):
        line = lines.setdefault(tuple(column.cell(row) for column in columns), {})
        if spread.cell(row) in line:
            raise YoloproofError(f"two rows are {row.label}; name a column that tells them apart, or leave one out")
        held = row.of_published
        ratio = "" if held is None or held.is_base else f" · {ratio_cell(held)}"
        line[spread.cell(row)] = median_cell(row) + ratio
    titles = [column.heading for column in columns] + [f"{head}, ms" for head in heads]
    marks = ["---:" if column.order else "---" for column in columns] + ["---:"] * len(heads)
    body = [[*fixed, *(cells.get(head, NOT_SAID) for head in heads)] for fixed, cells in lines.items()]
    return _markdown(titles, marks, body)


def _markdown(titles: Sequence[str], marks: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(map(markdown_escape, cells)) + " |" for cells in (titles, *body)]
    return "\n".join([lines[0], "|" + "|".join(marks) + "|", *lines[1:]]) + "\n"


def markdown_escape(words: str) -> str:
    """Text as literal Markdown table text."""
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~!])", r"\\\1", words)
