"""The page's figure as plain SVG: held-out predictions, and the nine models under four attentions."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from yoloproof.estimate.forensics import ModelForensics
from yoloproof.estimate.posterior import HeldOut

WIDTH, HEIGHT, MARGIN, PANEL = 1080, 470, 60, 400
COLOURS = {"fused": "#1b7837", "explicit": "#5aae61", "published": "#762a83", "stripped": "#878787"}
FAMILY_COLOURS = {"yolov8": "#2166ac", "yolov1": "#b2182b", "yolo1": "#e08214"}


def figure_svg(rows: Sequence[HeldOut], models: Sequence[ModelForensics]) -> str:
    """Left: published against predicted, log axes, 90 % intervals. Right: estimates and figures of the nine models."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_held_out_panel(rows),
        *_model_panel(models),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _scale(value_ms: float, low: float, high: float, start: float, end: float) -> float:
    return start + (end - start) * (log(value_ms) - log(low)) / (log(high) - log(low))


def _held_out_panel(rows: Sequence[HeldOut]) -> list[str]:
    low, high, left, top = 1.0, 20.0, MARGIN, 40
    right, bottom = left + PANEL - 20, top + PANEL - 40

    def x(ms: float) -> float:
        return _scale(ms, low, high, left, right)

    def y(ms: float) -> float:
        return _scale(ms, low, high, bottom, top)

    parts = [
        f'<text x="{left}" y="22" font-weight="bold">Held out by family: Tesla T4, ms</text>',
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="none" stroke="#999"/>',
        f'<line x1="{x(low)}" y1="{y(low)}" x2="{x(high)}" y2="{y(high)}" stroke="#999" stroke-dasharray="4 3"/>',
        f'<text x="{(left + right) / 2}" y="{bottom + 36}" text-anchor="middle">published</text>',
        f'<text transform="translate({left - 36},{(top + bottom) / 2}) rotate(-90)" '
        'text-anchor="middle">predicted</text>',
    ]
    for tick in (1, 2, 5, 10, 20):
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{tick}</text>')
        parts.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    for row in rows:
        seen, (under, over) = 1e3 * row.observation.seconds, row.intervals_s[0.9]
        colour = FAMILY_COLOURS[
            row.observation.model[:6] if row.observation.model[:6] in FAMILY_COLOURS else row.observation.model[:5]
        ]
        parts.append(
            f'<line x1="{x(seen):.1f}" x2="{x(seen):.1f}" y1="{y(1e3 * under):.1f}" y2="{y(1e3 * over):.1f}" '
            f'stroke="{colour}" stroke-opacity="0.4" stroke-width="2"/>'
        )
        parts.append(
            f'<circle cx="{x(seen):.1f}" cy="{y(1e3 * row.predicted_s):.1f}" r="4" fill="{colour}">'
            f"<title>{row.observation.model} ({row.observation.table})</title></circle>"
        )
    names = {"yolov8": "YOLOv8", "yolov1": "YOLOv10", "yolo1": "YOLO11"}
    for index, (key, name) in enumerate(names.items()):
        parts.append(f'<circle cx="{left + 14}" cy="{top + 16 + 18 * index}" r="4" fill="{FAMILY_COLOURS[key]}"/>')
        parts.append(f'<text x="{left + 24}" y="{top + 20 + 18 * index}">{name}</text>')
    return parts


def _model_panel(models: Sequence[ModelForensics]) -> list[str]:
    left, right, top, low, high = MARGIN + PANEL + 100, WIDTH - 30, 40, 1.2, 32.0
    row_height = (PANEL - 40) / len(models)
    bottom = top + row_height * len(models)

    def x(ms: float) -> float:
        return _scale(ms, low, high, left, right)

    parts = [
        f'<text x="{left}" y="22" font-weight="bold">Estimates by attention (90 %) and known figures, ms</text>',
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="none" stroke="#999"/>',
    ]
    for tick in (2, 5, 10, 20):
        parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{tick}</text>')
    for index, found in enumerate(models):
        middle = top + row_height * (index + 0.5)
        parts.append(f'<text x="{left - 8}" y="{middle + 4:.1f}" text-anchor="end">{found.model}</text>')
        for step, (attention, (point, under, over)) in enumerate(found.estimates_s.items()):
            y = middle + (step - 1.5) * 7
            parts.append(
                f'<line x1="{x(1e3 * under):.1f}" x2="{x(1e3 * over):.1f}" y1="{y:.1f}" y2="{y:.1f}" '
                f'stroke="{COLOURS[attention]}" stroke-width="2.5" stroke-opacity="0.55"/>'
                f'<circle cx="{x(1e3 * point):.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[attention]}"/>'
            )
        for figure in found.figures:
            at = x(1e3 * figure.seconds)
            dash = ' stroke-dasharray="3 2"' if figure.role == "reported" else ""
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{middle - 15:.1f}" y2="{middle + 15:.1f}" '
                f'stroke="black" stroke-width="1.6"{dash}/>'
            )
    legend = [*COLOURS.items(), ("dashed: reported, solid: measured", "black")]
    for index, (name, colour) in enumerate(legend):
        parts.append(f'<text x="{left + 75 * index}" y="{bottom + 38}" fill="{colour}">{name}</text>')
    return parts
