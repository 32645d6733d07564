"""The page's figure as plain SVG: held-out predictions, and the nine models under four attentions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log

from yoloproof.estimate.forensics import ModelForensics
from yoloproof.estimate.posterior import HeldOut
from yoloproof.estimate.shapes import family_from_model

WIDTH, HEIGHT = 1180, 640
TOP, BOTTOM = 96, 570  # of both panels
LEFT_PANEL, RIGHT_PANEL = (66, 540), (672, 1160)
INK, SOFT, GRID = "#1c2330", "#5b6472", "#e3e6eb"
# Okabe and Ito, "Color Universal Design" (2008).
ATTENTION_COLOURS = {"fused": "#0072b2", "explicit": "#009e73", "published": "#d55e00", "stripped": "#7a7f87"}
FAMILIES = {"yolov8": ("YOLOv8", "#0072b2"), "yolov10": ("YOLOv10", "#d55e00"), "yolo11": ("YOLO11", "#009e73")}
PROJECT_TABLES = ("thu", "yolo11-docs")
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', 'Liberation Sans', sans-serif"


def figure_svg(rows: Sequence[HeldOut], models: Sequence[ModelForensics]) -> str:
    """Left: published against predicted, log axes, 90 % intervals. Right: estimates and figures of the nine models."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="{FONT}" font-size="13" fill="{INK}">',
        "<title>Latency estimates for a Tesla T4, held out by family, and nine models under four attentions</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_held_out_panel(rows),
        *_model_panel(models),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _log_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * (log(value) - log(low)) / (log(high) - log(low))


def _text(x: float, y: float, words: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{" " + more if more else ""}>{words}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, more: str = "") -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"{" " + more if more else ""}/>'
    )


def _heading(x: float, title: str, below: str) -> list[str]:
    return [
        _text(x, 28, title, more='font-size="16" font-weight="600"'),
        _text(x, 48, below, more=f'fill="{SOFT}"'),
    ]


def _dot(x: float, y: float, colour: str, filled: bool = True, tooltip: str = "", radius: float = 4.5) -> str:
    fill = colour if filled else "white"
    title = f"<title>{tooltip}</title>" if tooltip else ""
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{colour}" stroke-width="1.6">'
        f"{title}</circle>"
    )


def _held_out_panel(rows: Sequence[HeldOut]) -> list[str]:
    left, right = LEFT_PANEL
    low, high = 1.2, 20.0
    x, y = _log_scale(low, high, left, right), _log_scale(low, high, BOTTOM, TOP)
    parts = _heading(left, "Held out by family", "each family predicted from the two others; bars: 90 % interval")
    for tick in (2, 5, 10, 20):
        parts += [_line(x(tick), TOP, x(tick), BOTTOM, GRID), _line(left, y(tick), right, y(tick), GRID)]
        parts.append(_text(x(tick), BOTTOM + 20, str(tick), "middle"))
        parts.append(_text(left - 10, y(tick) + 4, str(tick), "end"))
    band = " ".join(
        f"{x(at):.1f},{y(at * by):.1f}" for at, by in ((low, 1 / 1.15), (high, 1 / 1.15), (high, 1.15), (low, 1.15))
    )
    parts += [
        f'<clipPath id="left"><rect x="{left}" y="{TOP}" width="{right - left}" height="{BOTTOM - TOP}"/></clipPath>',
        f'<g clip-path="url(#left)"><polygon points="{band}" fill="{GRID}" fill-opacity="0.6"/>',
        _line(x(low), y(low), x(high), y(high), SOFT, 1, 'stroke-dasharray="5 4"') + "</g>",
        _line(left, BOTTOM, right, BOTTOM, SOFT),
        _line(left, TOP, left, BOTTOM, SOFT),
        _text((left + right) / 2, BOTTOM + 44, "published latency, ms", "middle"),
        f'<text transform="translate({left - 42},{(TOP + BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        "predicted latency, ms</text>",
    ]
    for row in rows:
        at, colour = x(1e3 * row.observation.seconds), FAMILIES[family_from_model(row.observation.model)][1]
        under, over = (y(1e3 * end) for end in row.intervals_s[0.9])
        parts.append(_line(at, under, at, over, colour, 2.5, 'stroke-opacity="0.35"'))
    for row in rows:
        seen, colour = row.observation, FAMILIES[family_from_model(row.observation.model)][1]
        words = f"{1e3 * seen.seconds:.2f} published, {1e3 * row.predicted_s:.2f} predicted"
        filled, tooltip = seen.table in PROJECT_TABLES, f"{seen.model} ({seen.table}): {words}"
        parts.append(_dot(x(1e3 * seen.seconds), y(1e3 * row.predicted_s), colour, filled, tooltip))
    for index, (name, colour) in enumerate(FAMILIES.values()):
        parts += [_dot(left + 18, TOP + 20 + 21 * index, colour), _text(left + 32, TOP + 24 + 21 * index, name)]
    last = TOP + 20 + 21 * len(FAMILIES)
    parts += [_dot(left + 18, last, SOFT, filled=False), _text(left + 32, last + 4, "hollow: the second table")]
    parts.append(_text(right - 8, BOTTOM - 12, "grey band: ±15 %", "end", f'fill="{SOFT}"'))
    return parts


def _model_panel(models: Sequence[ModelForensics]) -> list[str]:
    left, right = RIGHT_PANEL
    height = (BOTTOM - TOP) / len(models)
    x = _log_scale(1.2, 32.0, left, right)
    parts = _heading(
        left, "Estimates by attention, Tesla T4", "estimated, not measured, with 90 % intervals; lines: known figures"
    )
    for tick in (2, 5, 10, 20):
        parts += [_line(x(tick), TOP, x(tick), BOTTOM, GRID), _text(x(tick), BOTTOM + 20, str(tick), "middle")]
    for index, found in enumerate(models):
        middle = TOP + height * (index + 0.5)
        if index:
            parts.append(_line(left - 80, TOP + height * index, right, TOP + height * index, GRID))
        parts.append(_text(left - 10, middle + 4, found.model, "end"))
        parts += _model_row(found, middle, height, x)
    parts += [
        _line(left, BOTTOM, right, BOTTOM, SOFT),
        _text((left + right) / 2, BOTTOM + 44, "latency, ms (TensorRT FP16, batch 1, 640 px)", "middle"),
    ]
    at = left - 80.0
    for name, colour in ATTENTION_COLOURS.items():
        parts += [_line(at, 72, at + 16, 72, colour, 5, 'stroke-opacity="0.5"'), _dot(at + 8, 72, colour, radius=3)]
        parts.append(_text(at + 22, 76, name))
        at += 34 + 7.2 * len(name)
    for name, dashed in (("reported", True), ("measured by users", False)):
        parts += [_figure_mark(at + 4, 72, 9, dashed), _text(at + 12, 76, name)]
        at += 24 + 7.2 * len(name)
    return parts


def _figure_mark(x: float, middle: float, half: float, dashed: bool) -> str:
    return _line(x, middle - half, x, middle + half, INK, 2, 'stroke-dasharray="3 2.5"' if dashed else "")


def _model_row(found: ModelForensics, middle: float, height: float, x: Callable[[float], float]) -> list[str]:
    parts, step = [], height / 5.4
    for place, (attention, (point, under, over)) in enumerate(found.estimates_s.items()):
        y, colour = middle + (place - 1.5) * step, ATTENTION_COLOURS[attention]
        parts.append(_line(x(1e3 * under), y, x(1e3 * over), y, colour, 5, 'stroke-opacity="0.35"'))
        parts.append(_dot(x(1e3 * point), y, colour, tooltip=f"{found.model} {attention}: {1e3 * point:.1f}", radius=3))
    for figure in found.figures:
        parts.append(_figure_mark(x(1e3 * figure.seconds), middle, 0.46 * height, figure.role == "reported"))
    return parts
