"""Result files as one self-contained HTML page, a Markdown table or pictures.

The page holds its style, script and drawings, and forbids itself any network by its content security policy, which
allows the one script and the one style by their hashes: text from a result file could not run even if it escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from typing import Any

import yoloproof
from yoloproof.errors import YoloproofError
from yoloproof.names import Attention
from yoloproof.records import Check, Result
from yoloproof.report import plots, svg
from yoloproof.report.load_plot import load_curves
from yoloproof.report.rows import Origin, RatioTo, Row, repeat_command, rows_from_results
from yoloproof.report.text import (
    COLUMNS,
    SECONDARY,
    Column,
    columns_from_keys,
    digits,
    median_cell,
    milliseconds,
    proof_cell,
    ratio_cell,
    reported_cell,
)
from yoloproof.results.forensics import which_resembles
from yoloproof.results.labels import NOT_SAID, plain_text
from yoloproof.results.published import figures_of, verdict
from yoloproof.results.schema import plain

FILTERS = ("model", "attention", "network", "runtime", "precision", "proof", "machine")


def html_from_results(
    results: Sequence[tuple[str, Result]], title: str = "yoloproof report", estimates: Sequence[str] = ()
) -> str:
    """One HTML page of (file name, result) pairs. Raises YoloproofError where there is nothing to show.

    estimates -- lines that say that they are estimates; they stand below the table, never in it
    """
    rows = rows_from_results(results)
    if not rows:
        raise YoloproofError(
            "no result file holds an entry; measure something first: yoloproof profile MODEL --json FILE"
        )
    colours = plots.series_of(rows)
    hidden, same = _columns_to_hide(rows)
    style, script = _style(), _asset("report.js")
    page = _template().render(
        title=title,
        style=style,
        script=script,
        style_hash=_content_hash(style),
        script_hash=_content_hash(script),
        counts=_counts(rows),
        headlines=_headlines(rows),
        machines=_machines(rows),
        columns=COLUMNS,
        hidden=hidden,
        same=same,
        filters=_filters(rows, hidden),
        estimates=estimates,
        rows=rows,
        scatters=_scatters(rows, colours),
        forensics=_forensics(rows, colours),
        batches=plots.batch_scaling(rows, colours),
        loads=load_curves(rows, colours),
        warnings=_warnings(rows),
        details=[_detail(row, colours) for row in rows],
        tool=f"yoloproof {getattr(yoloproof, '__version__', '')}".strip(),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        files=[name for name, _ in results],
    )
    return str(page)


def pictures_from_results(results: Sequence[tuple[str, Result]]) -> dict[str, bytes]:
    """The report's charts as PNG (2 px per unit, light), by file name: `latency-ap-1.png`, `forensics-1.png` …

    Raises YoloproofError where there is nothing to draw or no font to write with.
    """
    rows = rows_from_results(results)
    colours, css = plots.series_of(rows), svg.PRINT_CSS
    charts = [wide for wide, _ in _scatters(rows, colours, css)]
    charts += [plots.forensic(group, colours, css) for group in plots.forensic_groups(rows)]
    charts += [*plots.batch_scaling(rows, colours, css), *load_curves(rows, colours, css)]
    charts += [chart for row in rows if (chart := plots.distribution(row, colours, css))]
    if not charts:
        raise YoloproofError("nothing to draw: the result files hold no samples")
    if _drawn(css, "ms") == _drawn(css, ""):
        raise YoloproofError(
            "no font on this machine to label pictures with; install one (Debian: apt install fonts-dejavu-core)"
        )
    pictures: dict[str, bytes] = {}
    for chart in charts:
        number = sum(name.startswith(chart.key) for name in pictures) + 1
        pictures[f"{chart.key}-{number}.png"] = _png(chart.svg)
    return pictures


def _drawn(css: str, words: str) -> bytes:
    """Words in the charts' own style: the renderer leaves out, in silence, letters that it has no font for."""
    canvas = svg.Canvas(40, 20, "", "")
    canvas.text(2, 15, words)
    return _png(canvas.svg(css))


def _png(svg: str) -> bytes:
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=2.0, background="#ffffff"))


def _asset(name: str) -> str:
    return (resources.files("yoloproof.report") / "templates" / name).read_text(encoding="utf-8")


def _style() -> str:
    names = ("ink", "soft", "grid", "bad", "paper", *(f"s{index}" for index in range(len(svg.SERIES))))
    drawing = (svg.STYLE + svg.SERIES_STYLE) % {name: f"var(--{name})" for name in names}
    pairs = enumerate(zip(svg.SERIES, svg.DARK_SERIES, strict=True))
    series = "".join(f"--s{index}:light-dark({light},{dark});" for index, (light, dark) in pairs)
    return f"{_asset('report.css')}:root{{{series}}}{drawing}"


def _content_hash(content: str) -> str:
    """The content's hash as a content security policy writes it (CSP Level 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("yoloproof.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["say"] = plain_text
    environment.filters["figures"] = _figures
    environment.filters["facts_of"] = lambda record: _said(plain(record))
    environment.filters |= {"row_css": _row_css, "verdict_css": _verdict_css, "warned": _warned}
    environment.filters["ms"] = milliseconds
    environment.filters["ratio"] = ratio_cell
    return environment.get_template("report.html.j2")


def _figures(figures: object) -> str:
    """A check's figures on one line; whatever shape a file gave them."""
    if isinstance(figures, Mapping):
        return ", ".join(f"{plain_text(name)} {_figures(value)}" for name, value in figures.items())
    if isinstance(figures, list | tuple):
        return ", ".join(map(_figures, figures))
    return f"{figures:.4g}" if isinstance(figures, float) else plain_text(figures)


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    verdicts = [row.verdict for row in rows]
    return {
        "total": len(rows),
        "machines": len({row.origin.machine_id for row in rows if row.origin.run.machine is not None}),
        "proved": verdicts.count("proved"),
        "failed": verdicts.count("not proved"),
        "unchecked": verdicts.count("unchecked"),
        "missing": verdicts.count("not measured"),
        "quick": sum(row.quick for row in rows),
    }


@dataclass(frozen=True)
class Headline:
    """A machine's fastest proved result, and the proved one that takes the least share of `published`. Those of quick
    runs only where there is no other."""

    machine: str
    fastest: Row | None
    least: Row | None
    least_held: RatioTo | None


def _headlines(rows: Sequence[Row]) -> list[Headline]:
    made = []
    for machine_id in dict.fromkeys(row.origin.machine_id for row in rows):
        here = [row for row in rows if row.origin.machine_id == machine_id and row.origin.run.machine is not None]
        proved = [row for row in here if row.verdict == "proved"]
        proved = [row for row in proved if not row.quick] or proved
        held = [(row.of_published, row) for row in proved if row.of_published and not row.of_published.is_base]
        least_held, least = min(held, key=lambda one: one[0].ratio.value, default=(None, None))
        if here:
            fastest = min(proved, key=lambda row: row.median_s or 0.0, default=None)
            made.append(Headline(here[0].origin.machine, fastest, least, least_held))
    return made


@dataclass(frozen=True)
class ShownMachine:
    """A machine and the runs on it; facts -- what it said of itself"""

    id: int
    label: str
    facts: object
    origins: list[Origin]


def _machines(rows: Sequence[Row]) -> list[ShownMachine]:
    machines: dict[int, ShownMachine] = {}
    for origin in {id(row.origin): row.origin for row in rows}.values():
        facts = {} if origin.run.machine is None else _said(plain(origin.run.machine))
        shown = ShownMachine(origin.machine_id, origin.machine, facts, [])
        machines.setdefault(origin.machine_id, shown).origins.append(origin)
    return list(machines.values())


def _said(value: Any) -> Any:
    """JSON's types without what was not said."""
    if isinstance(value, dict):
        return {plain_text(key): _said(item) for key, item in value.items() if item not in (None, {}, [])}
    if isinstance(value, list):
        return [_said(item) for item in value]
    return plain_text(value) if isinstance(value, str) else value


def _columns_to_hide(rows: Sequence[Row]) -> tuple[set[str], list[tuple[str, str]]]:
    """Columns hidden at first, and what those say that say the same in all rows."""
    hidden, same = set(SECONDARY), []
    # Where the network says more than the attention in it, it stands in its place.
    hidden |= {"attention"} if any(row.network != row.attention for row in rows) else {"network"}
    for column in COLUMNS[1:]:
        said = {column.cell(row) for row in rows}
        if len(said) == 1 and column.key not in ("median", "proof") and (len(rows) > 1 or said == {NOT_SAID}):
            hidden.add(column.key)
            if said != {NOT_SAID}:
                same.append((column.heading, said.pop()))
    return hidden, same


def _filters(rows: Sequence[Row], hidden: set[str]) -> list[tuple[Column, list[str]]]:
    """Columns to filter by, with the values to choose from; of attention and network the one that is shown."""
    twins = {"attention", "network"} & hidden
    columns = columns_from_keys([key for key in FILTERS if key not in twins])
    found = [(column, sorted({column.cell(row) for row in rows})) for column in columns]
    return [(column, choices) for column, choices in found if len(choices) > 1]


def _row_css(row: Row) -> str:
    return "" if row.proved else "failed" if row.verdict in ("not proved", "not measured") else "soft"


def _warned(row: Row) -> str:
    """The codes of a row's warnings."""
    return ", ".join(dict.fromkeys(plain_text(warning.code) for warning in row.entry.warnings))


def _verdict_css(row: Row) -> str:
    return {"proved": "good", "unchecked": "soft"}.get(row.verdict, "bad")


def _scatters(rows: Sequence[Row], colours: dict[str, int], css: str = "") -> list[tuple[plots.Chart, plots.Chart]]:
    """A wide and a narrow chart per machine and set of images that has an AP beside a latency."""
    pairs = []
    for key in dict.fromkeys((row.origin.machine_id, plots.images_of(row)) for row in rows):
        here = [row for row in rows if (row.origin.machine_id, plots.images_of(row)) == key]
        wide, narrow = (plots.scatter(here, colours, width, css) for width in (860, 380))
        if wide and narrow:
            pairs.append((wide, narrow))
    return pairs


def _forensics(rows: Sequence[Row], colours: dict[str, int]) -> list[tuple[plots.Chart, str]]:
    """A chart per group of attentions, and what the reported figure resembles, in words.

    Words are left out where the numbers do not carry them: after a quick run, or where what should be the same detector
    is not proved to be.
    """
    made = []
    for group in plots.forensic_groups(rows):
        chart, line = plots.forensic(group, colours), ""
        stripped = Attention.STRIPPED
        if all((row.proved or row.entry.artifact.attention is stripped) and not row.quick for row in group):
            figures = figures_of(group[0].entry)
            line = which_resembles(figures, [row.entry for row in group], group[0].origin.run).line
        made.append((chart, line))
    return made


def _held(row: Row) -> str:
    """Whether the reported figure was reproduced, or why the two cannot be held together."""
    if row.reported is None or row.median_s is None:
        return ""
    return verdict(row.reported, row.entry, row.origin.run)


@dataclass(frozen=True)
class WarningGroup:
    """The warnings of one code; seen -- (evidence, where, the row's anchor, empty for a run)"""

    code: str
    advice: str
    seen: list[tuple[str, str, str]]


def _warnings(rows: Sequence[Row]) -> list[WarningGroup]:
    """Warnings by code, those of most rows first."""
    origins = {id(row.origin): row.origin for row in rows}.values()
    seen = [(w, plain_text(f"{one.machine}, {one.run.created}"), "") for one in origins for w in one.run.warnings]
    seen += [(w, row.label, row.anchor) for row in rows for w in row.entry.warnings]
    groups: dict[str, WarningGroup] = {}
    for warning, label, anchor in seen:
        code = plain_text(warning.code)
        group = groups.setdefault(code, WarningGroup(code, plain_text(warning.advice), []))
        group.seen.append((plain_text(warning.evidence), label, anchor))
    return sorted(groups.values(), key=lambda group: -len(group.seen))


@dataclass(frozen=True)
class Detail:
    """What stands below a row's link."""

    row: Row
    css: str
    median: str
    proof: str
    reported: str
    held: str
    chart: plots.Chart | None
    checks: tuple[Check, ...]
    repeat: str
    facts: object


def _detail(row: Row, colours: dict[str, int]) -> Detail:
    entry, reported = row.entry, ""
    if row.reported is not None:
        figure = row.reported
        how = f"{figure.runtime or 'unknown runtime'} {figure.precision or ''} ({figure.source})"
        reported = f"{reported_cell(row)}, {plain_text(how)}"
    facts = {
        "artifact": entry.artifact, "runtime": entry.runtime, "model": entry.model, "accuracy": entry.accuracy,
        "end_to_end": entry.end_to_end,
    }  # fmt: skip
    return Detail(
        row=row,
        css=_verdict_css(row),
        median=median_cell(row) if row.median_s is None else f"{digits(row.median_s * 1e3)} ms",
        proof=proof_cell(row),
        reported=reported,
        held=_held(row),
        chart=plots.distribution(row, colours),
        checks=entry.proof.checks,
        repeat=repeat_command(row),
        facts=_said(plain(facts)),
    )
