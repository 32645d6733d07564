"""Result files as one self-contained HTML page, a Markdown table or pictures.

The page holds its style, script and drawings, and forbids itself any network by its content security policy, which
allows the one script and the one style by their hashes: text from a result file could not run even if it escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import resources
from typing import Any

import yoloproof
from yoloproof.errors import YoloproofError
from yoloproof.report import plots, svg
from yoloproof.report.rows import (
    NOT_SAID,
    Row,
    gpu_name,
    plain_entry,
    repeat_command,
    rows_from_results,
    text,
    writable,
)
from yoloproof.report.text import (
    COLUMNS,
    Column,
    digits,
    median_cell,
    milliseconds,
    proof_cell,
    published_cell,
    ratio_cell,
)
from yoloproof.results.forensics import which_resembles
from yoloproof.results.published import published_for, verdict

# Shown only when asked for; every other column is shown unless it says the same in all rows.
SECONDARY = ("p99", "of_stripped", "parameters", "flops", "nodes", "flush", "device")
FILTERS = ("model", "attention", "form", "runtime", "precision", "proof", "machine")
NAMED = Mapping[str, Any]


def html_from_results(
    results: Sequence[tuple[str, NAMED]], title: str = "yoloproof report", estimates: Sequence[str] = ()
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
        filters=_filters(rows),
        estimates=estimates,
        table=_table(rows, hidden),
        scatters=_scatters(rows, colours),
        forensics=_forensics(rows, colours),
        batches=plots.batch_scaling(rows, colours),
        warnings=_warnings(rows),
        details=[_detail(row, colours) for row in rows],
        tool=f"yoloproof {getattr(yoloproof, '__version__', '')}".strip(),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        files=[name for name, _ in results],
    )
    return writable(str(page))


def pictures_from_results(results: Sequence[tuple[str, NAMED]]) -> dict[str, bytes]:
    """The report's charts as PNG (2 px per unit, light), by file name: `latency-ap-1.png`, `forensics-1.png` …

    Raises YoloproofError where there is nothing to draw or no font to write with.
    """
    rows = rows_from_results(results)
    colours, css = plots.series_of(rows), svg.PRINT_CSS
    charts = [wide for wide, _ in _scatters(rows, colours, css)]
    charts += [plots.forensic(group, colours, css) for group in plots.forensic_groups(rows)]
    charts += plots.batch_scaling(rows, colours, css)
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
    environment.filters["say"] = text
    environment.filters["figures"] = _figures
    environment.filters["ms"] = milliseconds
    environment.filters["ratio"] = ratio_cell
    return environment.get_template("report.html.j2")


def _figures(figures: Any) -> str:
    """A check's figures on one line; whatever shape a file gave them."""
    if isinstance(figures, Mapping):
        return ", ".join(f"{name} {_figures(value)}" for name, value in figures.items())
    if isinstance(figures, list):
        return ", ".join(map(_figures, figures))
    return f"{figures:.4g}" if isinstance(figures, float) else text(figures)


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    verdicts = [row.verdict for row in rows]
    return {
        "total": len(rows),
        "machines": len({row.run.machine_id for row in rows if "requested" not in row.run.facts}),
        "proved": verdicts.count("proved"),
        "failed": verdicts.count("not proved"),
        "unchecked": verdicts.count("unchecked"),
        "missing": verdicts.count("not measured"),
        "quick": sum(row.run.quick for row in rows),
    }


def _headlines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Per machine: its fastest proved result, and the proved one that takes the least share of `published`."""
    made = []
    for machine in dict.fromkeys(row.run.machine_id for row in rows):
        here = [row for row in rows if row.run.machine_id == machine and "requested" not in row.run.facts]
        proved = [row for row in here if row.proved and row.median_s is not None and row.failure is None]
        held = [row for row in proved if row.ratio is not None and row.kind != row.ratio.base]
        if here:
            made.append(
                {
                    "machine": here[0].run.machine,
                    "fastest": min(proved, key=lambda row: row.median_s or 0.0, default=None),
                    "least": min(held, key=lambda row: row.ratio.middle if row.ratio else 0.0, default=None),
                }
            )
    return made


def _machines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    machines: dict[int, dict[str, Any]] = {}
    for run in (row.run for row in rows):
        machine = machines.setdefault(
            run.machine_id, {"id": run.machine_id, "label": run.machine, "facts": run.facts, "runs": []}
        )
        if not any(run is known for known in machine["runs"]):
            machine["runs"].append(run)
    return list(machines.values())


def _columns_to_hide(rows: Sequence[Row]) -> tuple[set[str], list[tuple[str, str]]]:
    """Columns hidden at first, and what those say that say the same in all rows."""
    hidden, same = set(SECONDARY), []
    # A form says more than the attention in it.
    hidden |= {"attention"} if all(row.form != NOT_SAID for row in rows) else set()
    for column in COLUMNS[1:]:
        said = {column.cell(row) for row in rows}
        if len(said) == 1 and column.key not in ("median", "proof") and (len(rows) > 1 or said == {NOT_SAID}):
            hidden.add(column.key)
            if said != {NOT_SAID}:
                same.append((column.heading, said.pop()))
    return hidden, same


def _filters(rows: Sequence[Row]) -> list[dict[str, Any]]:
    by_key = {column.key: column for column in COLUMNS}
    choices = {key: sorted({by_key[key].cell(row) for row in rows}) for key in FILTERS}
    return [
        {"key": key, "heading": by_key[key].heading, "choices": values}
        for key, values in choices.items()
        if len(values) > 1
    ]


def _table(rows: Sequence[Row], hidden: set[str]) -> list[dict[str, Any]]:
    return [
        {
            "anchor": row.anchor,
            "css": "" if row.proved else "failed" if row.verdict in ("not proved", "not measured") else "soft",
            "warned": ", ".join(dict.fromkeys(text(item.get("code")) for item in row.warnings)),
            "cells": [_cell(column, row, hidden) for column in COLUMNS],
        }
        for row in rows
    ]


def _cell(column: Column, row: Row, hidden: set[str]) -> dict[str, Any]:
    css = [name for name, on in (("num", column.order), ("off", column.key in hidden)) if on]
    css += ["median"] if column.key == "median" else []
    return {
        "words": column.cell(row),
        "css": " ".join(css),
        "order": column.order(row) if column.order else None,
        "pill": _verdict_css(row) if column.key == "proof" else "",
    }


def _verdict_css(row: Row) -> str:
    return {"proved": "good", "unchecked": "soft"}.get(row.verdict, "bad")


def _scatters(rows: Sequence[Row], colours: dict[str, int], css: str = "") -> list[tuple[plots.Chart, plots.Chart]]:
    """A wide and a narrow chart per machine that has an AP beside a latency."""
    pairs = []
    for machine in dict.fromkeys(row.run.machine_id for row in rows):
        here = [row for row in rows if row.run.machine_id == machine]
        wide, narrow = (plots.scatter(here, colours, width, css) for width in (860, 380))
        if wide and narrow:
            pairs.append((wide, narrow))
    return pairs


def _forensics(rows: Sequence[Row], colours: dict[str, int]) -> list[tuple[plots.Chart, str]]:
    """A chart per group of attentions, and what the published figure resembles, in words.

    Words are left out where the numbers do not carry them: after a quick run, or where what should be the same detector
    is not proved to be.
    """
    made = []
    for group in plots.forensic_groups(rows):
        chart, line = plots.forensic(group, colours), ""
        if all((row.proved or row.attention == "stripped") and not row.run.quick for row in group):
            machine = {"gpu": {"name": gpu_name(group[0].run.facts)}}
            entries = [plain_entry(row) for row in group]
            line = which_resembles(published_for(group[0].model), entries, machine).line
        made.append((chart, line))
    return made


def _held(row: Row) -> str:
    """Whether the reported figure was reproduced, or why the two cannot be held together."""
    if row.published is None or row.median_s is None:
        return ""
    return verdict(vars(row.published), plain_entry(row), {"gpu": {"name": gpu_name(row.run.facts)}})


def _warnings(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Warnings by code, each with where it was seen: (evidence, label, the row's anchor, empty for a run)."""
    groups: dict[str, dict[str, Any]] = {}
    runs = {id(row.run): row.run for row in rows}.values()
    seen = [(item, f"{run.machine}, {run.created}", "") for run in runs for item in run.warnings]
    seen += [(item, row.label, row.anchor) for row in rows for item in row.warnings]
    for item, label, anchor in seen:
        code = text(item.get("code"))
        advice = "" if item.get("advice") is None else text(item.get("advice"))
        group = groups.setdefault(code, {"code": code, "advice": advice, "seen": []})
        group["seen"].append((text(item.get("evidence")), label, anchor))
    return sorted(groups.values(), key=lambda group: -len(group["seen"]))


def _detail(row: Row, colours: dict[str, int]) -> dict[str, Any]:
    proof = row.entry.get("proof")
    checks = proof.get("checks") if isinstance(proof, Mapping) else None
    keys = ("artifact", "runtime", "model", "accuracy", "end_to_end")
    return {
        "row": row,
        "css": _verdict_css(row),
        "median": median_cell(row) if row.median_s is None else f"{digits(row.median_s * 1e3)} ms",
        "proof": proof_cell(row),
        "reported": published_cell(row) if row.published else "",
        "held": _held(row),
        "chart": plots.distribution(row, colours),
        "checks": [_check(item) for item in checks if isinstance(item, Mapping)] if isinstance(checks, list) else [],
        "repeat": repeat_command(row),
        "facts": {key: row.entry[key] for key in keys if row.entry.get(key) is not None},
    }


def _check(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item.get(key) for key in ("name", "passed", "figures", "detail")}
