"""The latency table of a result and what has to be said below it: the only place, with the report, of milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yoloproof.results.file import run_of
from yoloproof.results.published import model_ratios, verdict

ACCURACY = {"AP": "AP", "AP50": "AP50", "AP_lost": "AP\nlost"}
# Headings of two lines, so that 80 columns hold the table.
MILLIONS = "M\npar"
FIGURES = ("median\nms", "95 % over\nprocesses", "p90", "FPS")
SHORT = {"float16": "fp16", "float32": "fp32", "bfloat16": "bf16", "unknown": "?"}


def latency_table(result: Mapping[str, Any]) -> Table:
    """One row per entry, fit for 80 columns. An unproved row's figures stand in brackets: they are no result.

    Beside the median stand the ends of its 95 % interval over processes, not "±": it is seldom symmetric. Where there
    is none, ~ is the median absolute deviation of the samples.
    AP columns, in percent points, stand where an AP was measured; "AP lost" is against the float32 network.
    """
    entries = result["entries"]
    table = Table(box=None, padding=(0, 1, 0, 0), title=_title(result), title_justify="left", title_style="bold")
    for heading in ("model", MILLIONS, "GFLOPs", "prec", "attention", "runtime", *FIGURES, "proof"):
        numeric = heading in (MILLIONS, "GFLOPs", *FIGURES)
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    accuracy = [key for key in ACCURACY if any((entry.get("accuracy") or {}).get(key) is not None for entry in entries)]
    for key in accuracy:
        table.add_column(ACCURACY[key], justify="right", no_wrap=True)
    for entry in entries:
        figures = entry.get("accuracy") or {}
        table.add_row(*_cells(entry), *(_percent(figures.get(key), 2 if key == "AP_lost" else 1) for key in accuracy))
    return table


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """The table and its notes."""
    console.print(latency_table(result))
    for note in notes(result):
        console.print(note)


def notes(result: Mapping[str, Any]) -> list[Text]:
    """What belongs below the table: signs, failed checks, published figures, warnings; each a line or two."""
    return [*_signs(result), *_failures(result), *_own_terms(result), *_published(result), *_warnings(result)]


def _title(result: Mapping[str, Any]) -> str:
    runs = result.get("runs") or [result]
    first = runs[0]
    name = first["protocol"].get("name", "unknown protocol")
    marks = [word for word, key in (("QUICK", "quick"), ("PARTIAL", "partial")) if any(run.get(key) for run in runs)]
    machines = dict.fromkeys(_machine(run["machine"]) for run in runs)
    return " · ".join([*marks, name, ", ".join(machines)])


def _machine(machine: Mapping[str, Any]) -> str:
    gpu, cpu = machine.get("gpu"), machine.get("cpu") or {}
    return str(gpu["name"]) if gpu else f"{cpu.get('model') or 'unknown CPU'} ({cpu.get('logical_cores') or '?'} cores)"


def _cells(entry: Mapping[str, Any]) -> list[str]:
    model, artifact, summary = entry["model"], entry["artifact"], entry["summary"]
    passed = entry["proof"].get("passed")
    name = str(model["name"]) + (" (random weights)" if model.get("weights") == "random" else "")
    batch = artifact.get("batch")
    precision = artifact.get("precision") or entry["runtime"].get("precision") or "unknown"
    attention = artifact.get("attention") or "unknown"
    return [
        name if batch in (None, 1) else f"{name} ×{batch}",
        _scaled(model.get("parameters"), 1e6),
        _scaled(model.get("flops"), 1e9),
        SHORT.get(precision, precision),
        SHORT.get(attention, attention),
        str(entry["runtime"].get("name", "?")),
        *_figures(summary, passed),
        {True: "✓", False: "✗", None: "?"}[passed],
    ]


def _figures(summary: Mapping[str, Any] | None, passed: bool | None) -> tuple[str, ...]:
    """Median, its interval, p90, images per second."""
    if summary is None:
        return "failed", "–", "–", "–"
    places = decimals(summary["median_s"])
    shorter = places if places == 3 else max(0, places - 1)
    interval, mad_s, p90, fps = (summary.get(key) for key in ("interval_s", "mad_s", "p90_s", "fps"))
    spread = "–" if mad_s is None else f"~{mad_s * 1e3:.{places}f}"
    if interval:
        spread = f"{interval[0] * 1e3:.{shorter}f}–{interval[1] * 1e3:.{shorter}f}"
    cells = (
        f"{summary['median_s'] * 1e3:.{places}f}",
        spread,
        "–" if p90 is None else f"{p90 * 1e3:.{places}f}",
        "–" if fps is None else f"{fps:.{1 if fps < 100 else 0}f}",
    )
    return cells if passed is True else tuple(f"({cell})" for cell in cells)


def decimals(seconds: float) -> int:
    """Decimal places of a latency in milliseconds, so that three or four digits show."""
    return next((places for places, least in enumerate((1.0, 0.1, 0.01)) if seconds >= least), 3)


def _scaled(value: float | None, unit: float) -> str:
    return "–" if value is None else f"{value / unit:.{2 if value / unit < 10 else 1}f}"


def _percent(share: float | None, places: int) -> str:
    return "–" if share is None else f"{round(share * 100, places) + 0.0:.{places}f}"  # + 0.0: never "-0.0"


def _signs(result: Mapping[str, Any]) -> Iterator[Text]:
    measured = [entry for entry in result["entries"] if entry["summary"]]
    if any(not entry["summary"].get("interval_s") for entry in measured):
        yield Text("~ median absolute deviation of the samples: too few processes for an interval", "dim")
    if any(entry["proof"].get("passed") is not True for entry in result["entries"]):
        yield Text("( ) not proved to be the published detector: the figure is no result", "dim")


def _failures(result: Mapping[str, Any]) -> Iterator[Text]:
    for entry in result["entries"]:
        for check in entry["proof"].get("checks", ()):
            sign, colour = {False: ("✗", "red"), None: ("?", "yellow")}.get(check.get("passed"), ("", ""))
            if sign:
                yield Text(f"{sign} {_label(entry)}: {check.get('name')}: {check.get('detail', '')}", colour)
        reason = entry.get("error") or entry.get("failure")
        if reason:
            yield Text(f"! {_label(entry)}: {reason}", "red")


def _own_terms(result: Mapping[str, Any]) -> Iterator[Text]:
    """Under the protocol `published`: the figure that ProfileModels would have printed."""
    for entry in result["entries"]:
        mean_s, std_s = ((entry["summary"] or {}).get(key) for key in ("clipped_mean_s", "clipped_std_s"))
        if mean_s and std_s is not None:
            places = decimals(mean_s)
            yield Text(
                f"{_label(entry)} as ProfileModels reports it: {mean_s * 1e3:.{places}f} ± {std_s * 1e3:.{places}f} ms "
                f"(mean ± standard deviation of what its clipping left)"
            )


def _published(result: Mapping[str, Any]) -> Iterator[Text]:
    """Each model's reported figure once; ratios between models where the machine is another."""
    seen = set()
    for entry in result["entries"]:
        figure = entry.get("published")
        if not figure or (figure["source"], figure["latency_s"]) in seen:
            continue
        machine = run_of(result, entry)["machine"]
        said = verdict(figure, entry, machine) if figure.get("runtime") else "another machine"
        where = "ANOTHER MACHINE" if said.startswith("another") else f"this GPU: {said}"
        seen.add((figure["source"], figure["latency_s"]))
        yield Text(
            f"published for {_label(entry, short=True)}: {figure['latency_s'] * 1e3:.4g} ms on a {figure['gpu']}, "
            f"{where} (source: {figure['source']})"
        )
    if not result.get("runs"):
        for ratio in model_ratios(result["entries"], result["machine"]):
            yield Text(
                f"{ratio['model']} / {ratio['against']}: {ratio['measured']:.2f} here, {ratio['reported']:.2f} as "
                f"published for a {ratio['gpu']} ({ratio['source']})"
            )


def _warnings(result: Mapping[str, Any]) -> Iterator[Text]:
    """Equal ones once, with the rows they hold for."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    general = result.get("runs") or [result]
    for warning in (w for run in general for w in run.get("warnings", ())):
        rows.setdefault(_warning_key(warning), [])
    for entry in result["entries"]:
        for warning in entry["warnings"]:
            rows.setdefault(_warning_key(warning), []).append(_label(entry))
    for (code, evidence, advice), labels in rows.items():
        yield Text(f"⚠ {code}{_of(labels, len(result['entries']))}: {evidence}. → {advice}", "yellow")


def _warning_key(warning: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(warning.get("code")), str(warning.get("evidence")), str(warning.get("advice"))


def _of(labels: Sequence[str], entries: int) -> str:
    return "" if not labels or entries == 1 or len(labels) == entries else f" ({', '.join(labels)})"


def _label(entry: Mapping[str, Any], short: bool = False) -> str:
    name = str(entry["model"]["name"])
    return name if short else f"{name} {entry['artifact'].get('attention') or ''} {entry['runtime'].get('name', '')}"
