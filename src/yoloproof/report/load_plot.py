"""Latency against the rate at which queries arrive, of an artifact that was served."""

from __future__ import annotations

from collections.abc import Sequence

from yoloproof.report.plots import Chart
from yoloproof.report.rows import Row
from yoloproof.report.svg import Canvas, linear_ticks, log_ticks, scale
from yoloproof.report.text import digits, milliseconds

PERCENTILES = ("p50", "p90", "p99")


def load_curves(rows: Sequence[Row], colours: dict[str, int], css: str = "") -> list[Chart]:
    """One chart for each row that was served."""
    charts = (_load_curve(row, colours, css) for row in rows)
    return [chart for chart in charts if chart is not None]


def _load_curve(row: Row, colours: dict[str, int], css: str) -> Chart | None:
    """p50, p90 and p99 (log) at each rate of the sweep, the bound as a dashed line, and the highest rate that kept it."""
    server = None if row.summary is None else row.summary.server
    if server is None or not server.points:
        return None
    points = server.points
    left, width, height, bottom, top = 52, 380, 250, 40, 20
    words = "; ".join(f"{digits(point.rate_hz)}/s: p99 {milliseconds(point.p99_s)} ms" for point in points)
    canvas = Canvas(width, height, f"Latency of {row.label} against load", words)
    low, high = min(point.p50_s for point in points), max(server.p99_bound_s, *(point.p99_s for point in points))
    x_of = scale(0.0, points[-1].rate_hz * 1.02, left, width - 40)
    y_of = scale(low / 1.2, high * 1.3, height - bottom, top, log=True)
    for tick in log_ticks(low / 1.2, high * 1.3):
        canvas.line(left, y_of(tick), width - 40, y_of(tick), "grid")
        canvas.text(left - 6, y_of(tick) + 4, f"{tick * 1e3:g}", "soft small", "end")
    for tick in linear_ticks(0.0, points[-1].rate_hz * 1.02, 5):
        canvas.text(x_of(tick), height - bottom + 15, f"{tick:g}", "soft small", "middle")
    canvas.text(4, 12, "ms (log)", "soft small")
    canvas.text((left + width) / 2, height - 4, "queries/s", "soft small", "middle")
    canvas.line(left, y_of(server.p99_bound_s), width - 40, y_of(server.p99_bound_s), "front")
    for name in PERCENTILES:
        curve = [(x_of(point.rate_hz), y_of(getattr(point, f"{name}_s"))) for point in points]
        canvas.path(curve, f"l{colours[row.family]}")
        canvas.text(width - 36, curve[-1][1] + 4, name, "small")
        for point, (x, y) in zip(points, curve, strict=True):
            tooltip = f"{digits(point.rate_hz)} queries/s: {name} {milliseconds(getattr(point, f'{name}_s'))} ms"
            canvas.mark(x, y, "circle", f"s{colours[row.family]}", tooltip, row.anchor)
    if server.highest_hz is not None:
        canvas.line(x_of(server.highest_hz), top, x_of(server.highest_hz), height - bottom, "median")
    sessions = f"{server.sessions} session{'' if server.sessions == 1 else 's'}"
    kept = "none" if server.highest_hz is None else f"{digits(server.highest_hz)}/s"
    caption = (
        f"{row.label} · {sessions} · {row.origin.machine}: highest rate with p99 within {milliseconds(server.p99_bound_s)} ms "
        f"(dashed): {kept}{'' if row.proved else f' · {row.verdict}'}{' · quick' if row.quick else ''}"
    )
    return Chart("load", caption, canvas.svg(css, caption))
