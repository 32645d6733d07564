"""The page's figure, drawn with the report's SVG kit: held-out predictions, and nine models under four attentions."""

from __future__ import annotations

from collections.abc import Sequence

from t4_model.study import PROJECT_TABLES, HeldOut
from yoloproof.estimate.forensics import ModelForensics
from yoloproof.estimate.shapes import family_from_model
from yoloproof.report.svg import PRINT_CSS, Canvas, Scale, scale

WIDTH, HEIGHT = 1180, 640
TOP, BOTTOM = 96.0, 570.0  # of both panels
LEFT_PANEL, RIGHT_PANEL = (66.0, 540.0), (672.0, 1160.0)
TICKS_MS = (2, 5, 10, 20)
# Classes of the report's kit: s0 … are its series filled, l0 … the same as outlines.
ATTENTION_CLASSES = {"fused": "s0", "explicit": "s2", "published": "s1", "stripped": "sgrey"}
FAMILIES = {"yolov8": ("YOLOv8", "0"), "yolov10": ("YOLOv10", "1"), "yolo11": ("YOLO11", "2")}  # name, series
CSS = (
    PRINT_CSS
    + ".sgrey{fill:#7a7f87;stroke:#7a7f87}.lgrey{stroke:#7a7f87;stroke-width:2}.hollow{fill:#fff}"
    + ".bar{stroke-opacity:0.35;stroke-width:4}.title{font-size:16px}"
    + ".band{fill:#e3e6eb;fill-opacity:0.6}.known{stroke:#1c2330;stroke-width:2}.dashed{stroke-dasharray:3 2.5}"
)


def figure_svg(rows: Sequence[HeldOut], models: Sequence[ModelForensics]) -> str:
    """Left: published against predicted, log axes, 90 % intervals. Right: estimates and figures of the nine models."""
    canvas = Canvas(
        WIDTH, HEIGHT, "Latency estimates for a Tesla T4", "Held out by family, and nine models under four attentions"
    )
    canvas.add("rect", width=WIDTH, height=HEIGHT + 22, fill="white")
    _held_out_panel(canvas, rows)
    _model_panel(canvas, models)
    return canvas.svg(CSS) + "\n"


def _panel(canvas: Canvas, ends: tuple[float, float], title: str, below: str, axis: str, x: Scale) -> None:
    """Headings, the x axis and its grid."""
    canvas.text(ends[0], 28, title, "title strong")
    canvas.text(ends[0], 48, below, "soft")
    for tick in TICKS_MS:
        canvas.line(x(tick), TOP, x(tick), BOTTOM, "grid")
        canvas.text(x(tick), BOTTOM + 20, str(tick), anchor="middle")
    canvas.line(ends[0], BOTTOM, ends[1], BOTTOM)
    canvas.text(sum(ends) / 2, BOTTOM + 44, axis, anchor="middle")


def _held_out_panel(canvas: Canvas, rows: Sequence[HeldOut]) -> None:
    left, right = LEFT_PANEL
    low, high = 1.2, 20.0
    x, y = scale(low, high, left, right, log=True), scale(low, high, BOTTOM, TOP, log=True)
    below = "each family predicted from the two others; bars: 90 % interval"
    _panel(canvas, LEFT_PANEL, "Held out by family", below, "published latency, ms", x)
    canvas.text(left - 46, TOP - 14, "predicted latency, ms")
    for tick in TICKS_MS:
        canvas.line(left, y(tick), right, y(tick), "grid")
        canvas.text(left - 10, y(tick) + 4, str(tick), anchor="end")
    band = ((low, 1.0), (low, 1.15), (high / 1.15, 1.15), (high, 1.0), (high, 1 / 1.15), (1.15 * low, 1 / 1.15))
    canvas.path(((x(at), y(at * by)) for at, by in band), "band", closed=True)
    canvas.line(x(low), y(low), x(high), y(high), "axis dashed")
    canvas.line(left, TOP, left, BOTTOM)
    for row in rows:
        at, (_, series) = x(1e3 * row.observation.seconds), FAMILIES[family_from_model(row.observation.model)]
        under, over = (y(1e3 * end) for end in row.interval_s(0.9))
        canvas.line(at, under, at, over, f"s{series} bar")
    for row in rows:
        seen, (_, series) = row.observation, FAMILIES[family_from_model(row.observation.model)]
        css = f"s{series}" if seen.table in PROJECT_TABLES else f"l{series} hollow"
        words = f"{1e3 * seen.seconds:.2f} published, {1e3 * row.predicted_s:.2f} predicted"
        tooltip = f"{seen.model} ({seen.table}): {words}"
        canvas.mark(x(1e3 * seen.seconds), y(1e3 * row.predicted_s), "circle", css, tooltip)
    legend = [(name, f"s{series}") for name, series in FAMILIES.values()]
    for index, (name, css) in enumerate([*legend, ("hollow: the second table", "lgrey hollow")]):
        canvas.mark(left + 18, TOP + 20 + 21 * index, "circle", css)
        canvas.text(left + 32, TOP + 24 + 21 * index, name)
    canvas.text(right - 8, BOTTOM - 12, "grey band: ±15 %", "soft", "end")


def _model_panel(canvas: Canvas, models: Sequence[ModelForensics]) -> None:
    left, right = RIGHT_PANEL
    height = (BOTTOM - TOP) / len(models)
    x = scale(1.2, 32.0, left, right, log=True)
    below = "estimated, not measured, with 90 % intervals; lines: known figures"
    axis = "latency, ms (TensorRT FP16, batch 1, 640 px)"
    _panel(canvas, RIGHT_PANEL, "Estimates by attention, Tesla T4", below, axis, x)
    for index, found in enumerate(models):
        middle = TOP + height * (index + 0.5)
        if index:
            canvas.line(left - 80, middle - height / 2, right, middle - height / 2, "grid")
        canvas.text(left - 10, middle + 4, found.model, anchor="end")
        _model_row(canvas, found, middle, height, x)
    at = left - 80
    for name, css in ATTENTION_CLASSES.items():
        canvas.line(at, 72, at + 16, 72, f"{css} bar")
        canvas.mark(at + 8, 72, "point", css)
        canvas.text(at + 22, 76, name)
        at += 34 + 7.2 * len(name)
    for name, css in (("reported", "known dashed"), ("measured by users", "known")):
        canvas.line(at + 4, 63, at + 4, 81, css)
        canvas.text(at + 12, 76, name)
        at += 24 + 7.2 * len(name)


def _model_row(canvas: Canvas, found: ModelForensics, middle: float, height: float, x: Scale) -> None:
    for place, (attention, (point, under, over)) in enumerate(found.estimates_s.items()):
        y, css = middle + (place - 1.5) * height / 5.4, ATTENTION_CLASSES[attention]
        canvas.line(x(1e3 * under), y, x(1e3 * over), y, f"{css} bar")
        canvas.mark(x(1e3 * point), y, "point", css, f"{found.model} {attention}: {1e3 * point:.1f}")
    for figure in found.figures:
        at, reach = x(1e3 * figure.seconds), 0.46 * height
        canvas.line(at, middle - reach, at, middle + reach, "known dashed" if figure.role == "reported" else "known")
