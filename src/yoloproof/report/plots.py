"""The report's charts as SVG: latency against AP, attention side by side, batch scaling, latency per process."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from yoloproof.names import Attention
from yoloproof.records import PublishedFigure
from yoloproof.report.rows import COCO_VAL_IMAGES, Row, pareto_front, setting, side_by_side_key
from yoloproof.report.svg import SERIES, Canvas, Scale, clipped, linear_ticks, log_ticks, scale
from yoloproof.report.text import digits, milliseconds
from yoloproof.results.labels import gpu_name, plain_text
from yoloproof.results.published import reported_ms, same_gpu

SHAPES = {"fused": "circle", "explicit": "square", "published": "triangle", "stripped": "diamond"}
ATTENTIONS = (Attention.PUBLISHED, Attention.EXPLICIT, Attention.FUSED, Attention.STRIPPED)
BINS = 56
PROCESSES_SHOWN = 12


@dataclass(frozen=True)
class Chart:
    """A chart's file-name-safe key, its caption, and its drawing at one width."""

    key: str
    caption: str
    svg: str


def series_of(rows: Iterable[Row]) -> dict[str, int]:
    """A colour index per model family, in alphabetical order, so that filtering never recolours a chart."""
    return {family: index % len(SERIES) for index, family in enumerate(sorted({row.family for row in rows}))}


def scatter(rows: Sequence[Row], colours: dict[str, int], width: int = 720, css: str = "") -> Chart | None:
    """Median latency (log) against AP of one machine's rows on one set of images, with the Pareto front of the proved ones.

    Reported figures, whose APs are of COCO's validation set, stand beside as plus signs where the rows' APs are, too;
    where they were taken on another GPU the legend says so. None where no row has an AP; random weights have none.
    """
    measured = [row for row in rows if row.median_s is not None and row.ap is not None]
    if not measured:
        return None
    machine, images = measured[0].origin.machine, images_of(measured[0])
    figures = {row.model: row.reported for row in measured if images == COCO_VAL_IMAGES}
    reported = {model: figure for model, figure in figures.items() if figure is not None and figure.ap is not None}
    points = [(row.median_s or 0.0, 100 * (row.ap or 0.0)) for row in measured]
    points += [(figure.latency_s, 100 * (figure.ap or 0.0)) for figure in reported.values()]
    legend = _scatter_legend(measured, colours, list(reported.values()))
    legend_lines = _wrap([word for word, _, _ in legend], width - 60)
    top = 14 + 18 * len(legend_lines)
    height = top + (344 if width >= 600 else 304)
    front = pareto_front(measured)
    best = ", ".join(f"{row.label} {milliseconds(row.median_s)} ms AP {digits(row.ap, 0.01)}" for row in front)
    canvas = Canvas(width, height, f"Latency against AP on {machine}", f"Pareto front: {best or 'no proved result'}")
    x_of, y_of = _scatter_axes(canvas, points, top)
    _draw_front(canvas, front, x_of, y_of)
    for model, figure in reported.items():
        tooltip = f"{model}: {reported_ms(figure)} ms reported on {figure.gpu} ({figure.source})"
        canvas.mark(x_of(figure.latency_s), y_of(100 * (figure.ap or 0.0)), "plus", "reported", plain_text(tooltip))
    taken: list[tuple[float, float, float, float]] = []
    for row in measured:
        x, y = x_of(row.median_s or 0.0), y_of(100 * (row.ap or 0.0))
        tooltip = f"{row.label}: {milliseconds(row.median_s)} ms{', quick' if row.quick else ''}, AP {digits(row.ap, 0.01)}, {row.verdict}"
        shape, sign = (SHAPES.get(row.attention, "star"), f"s{colours[row.family]}") if row.proved else ("cross", "bad")
        canvas.mark(x, y, shape, sign, tooltip, row.anchor)
        taken.append((x - 6, y - 6, x + 6, y + 6))
    # One label per model, proved and not: the fastest of each, the front first.
    firsts = {(row.model, row.proved): row for row in sorted(measured, key=lambda row: -(row.median_s or 0.0))}
    rest = [row for row in firsts.values() if row.number not in {chosen.number for chosen in front}]
    for row in [*front, *rest]:
        _label(canvas, row.model, x_of(row.median_s or 0.0), y_of(100 * (row.ap or 0.0)), taken, width - 8, top)
    _draw_legend(canvas, legend, legend_lines)
    which = "COCO's validation set" if images == COCO_VAL_IMAGES else f"{images} images"
    caption = f"{machine}: latency against AP on {which}. The dashed line is the Pareto front of the proved."
    return Chart("latency-ap", caption, canvas.svg(css, caption))


def images_of(row: Row) -> int | None:
    """On how many images a row's AP was measured: those of different sets do not compare."""
    return None if row.accuracy is None else row.accuracy.images


def _draw_front(canvas: Canvas, front: Sequence[Row], x_of: Scale, y_of: Scale) -> None:
    corners: list[tuple[float, float]] = []
    for row in front:
        x, y = x_of(row.median_s or 0.0), y_of(100 * (row.ap or 0.0))
        corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    if len(front) > 1:
        canvas.path(corners, "front")


def _scatter_axes(canvas: Canvas, points: Sequence[tuple[float, float]], top: float) -> tuple[Scale, Scale]:
    """Grid and axis titles around (seconds, AP in percent) points; the two scales."""
    left, bottom, right = 46.0, canvas.height - 44, canvas.width - 16
    xs, ys = zip(*points, strict=True)
    span = (max(ys) - min(ys)) or 2.0
    x_ends, y_ends = (min(xs) / 1.15, max(xs) * 1.25), (min(ys) - 0.12 * span, max(ys) + 0.12 * span)
    x_of, y_of = scale(*x_ends, left, right, log=True), scale(*y_ends, bottom, top)
    for tick in log_ticks(*x_ends):
        canvas.line(x_of(tick), top, x_of(tick), bottom, "grid")
        canvas.text(x_of(tick), bottom + 16, f"{tick * 1e3:g}", "soft small", "middle")
    for tick in linear_ticks(*y_ends):
        canvas.line(left, y_of(tick), right, y_of(tick), "grid")
        canvas.text(left - 6, y_of(tick) + 4, f"{tick:g}", "soft small", "end")
    canvas.text((left + canvas.width) / 2, canvas.height - 8, "median latency, ms (log)", "soft small", "middle")
    canvas.text(4, top - 4, "AP, %", "soft small")
    return x_of, y_of


def _scatter_legend(
    rows: Sequence[Row], colours: dict[str, int], reported: Sequence[PublishedFigure]
) -> list[tuple[str, str, str]]:
    """(words, shape, class) of every sign in use."""
    proved = [row for row in rows if row.proved]
    legend = [
        (family, "circle", f"s{index}") for family, index in colours.items() if any(r.family == family for r in proved)
    ]
    kinds = sorted({row.attention for row in proved})
    if len(kinds) > 1:
        legend += [(kind, SHAPES.get(kind, "star"), "reported") for kind in kinds]
    if len(proved) < len(rows):
        legend.append(("not proved: no result", "cross", "bad"))
    if reported:
        gpus = sorted({plain_text(figure.gpu) for figure in reported})
        here = all(same_gpu(figure.gpu, gpu_name(rows[0].origin.run)) for figure in reported)
        elsewhere = "" if here else " (another machine)"
        legend.append((f"reported on {', '.join(gpus)}{elsewhere}", "plus", "reported"))
    return legend


def _wrap(words: Sequence[str], width: float) -> list[int]:
    """How many legend entries go on each line."""
    lines, used = [0], 0.0
    for word in words:
        need = 24 + 6.4 * len(word)
        if lines[-1] and used + need > width:
            lines.append(0)
            used = 0.0
        lines[-1] += 1
        used += need
    return lines


def _draw_legend(canvas: Canvas, legend: Sequence[tuple[str, str, str]], lines: Sequence[int]) -> None:
    entries = iter(legend)
    for line, count in enumerate(lines):
        x = 52.0
        for words, shape, css in itertools.islice(entries, count):
            canvas.mark(x, 10 + 18 * line, shape, css)
            canvas.text(x + 10, 14 + 18 * line, clipped(words, 300), "small")
            x += 24 + 6.4 * len(words)


def _label(
    canvas: Canvas,
    words: str,
    x: float,
    y: float,
    taken: list[tuple[float, float, float, float]],
    right: float,
    top: float,
) -> None:
    """Write a label beside its point where it covers nothing; leave it to the tooltip where there is no room."""
    words = clipped(words, 130)
    width = 6.4 * len(words)
    for left, baseline in ((x + 9, y + 4), (x - 9 - width, y + 4), (x - width / 2, y - 10), (x - width / 2, y + 19)):
        box = (left, baseline - 10, left + width, baseline + 3)
        free = all(box[2] < b[0] or box[0] > b[2] or box[3] < b[1] or box[1] > b[3] for b in taken)
        if free and left > 48 and box[2] < right and box[1] > top:
            canvas.text(left, baseline, words, "small")
            taken.append(box)
            return


def forensic_groups(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of one model and runtime that were timed side by side with at least two networks; the usual order."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.median_s and row.entry.artifact.attention is not None:
            groups[side_by_side_key(row)].append(row)

    def rank(row: Row) -> tuple[bool, int, float]:
        attention = row.entry.artifact.attention
        place = len(ATTENTIONS) if attention is None else ATTENTIONS.index(attention)
        return row.entry.runtime.compile is True, place, -(row.median_s or 0.0)

    return [sorted(group, key=rank) for group in groups.values() if len({row.network for row in group}) > 1]


def forensic(group: Sequence[Row], colours: dict[str, int], css: str = "") -> Chart:
    """The networks of one group side by side, with the figure that was reported for the model."""
    first = group[0]
    figure = next((row.reported for row in group if row.reported), None)
    here = figure is not None and same_gpu(figure.gpu, gpu_name(first.origin.run))
    longest = max(len(row.network) for row in group)
    top, step, left, width = 8, 44, int(min(142, max(70, 14 + 6.6 * longest))), 400
    high = max((row.interval_s or (0, row.median_s or 0))[1] for row in group)
    if figure is not None and here:
        high = max(high, figure.latency_s)
    x_of = scale(0.0, high * 1.02, left, width - 12)
    height = top + step * len(group) + (22 if figure else 4)
    words = "; ".join(f"{row.network} {milliseconds(row.median_s)} ms, {row.verdict}" for row in group)
    canvas = Canvas(width, height, f"Attentions of {first.model} on {first.runtime}", words)
    for index, row in enumerate(group):
        _bar(canvas, row, top + step * index, left, x_of, colours)
    if figure is not None:
        reported = f"reported: {reported_ms(figure)} ms on {plain_text(figure.gpu)}"
        canvas.text(left, height - 6, clipped(reported, 270), "soft small")
        if here:
            canvas.line(x_of(figure.latency_s), top, x_of(figure.latency_s), height - 20, "front")
    batch = "" if first.batch == 1 else f", batch {first.batch}"
    quick = " · quick" if first.quick else ""
    caption = f"{first.model}{batch} · {first.runtime} · {first.precision} · {first.origin.machine}{quick}"
    return Chart("forensics", caption, canvas.svg(css, caption))


def _bar(canvas: Canvas, row: Row, y: float, left: float, x_of: Scale, colours: dict[str, int]) -> None:
    """A row's bar with its interval; below it median, share of `published`, verdict."""
    median = row.median_s or 0.0
    canvas.text(left - 8, y + 14, clipped(row.network, left - 8), "", "end")
    css_class = f"s{colours[row.family]}" if row.proved else "bad" if row.proved is False else "reported"
    bar = canvas.add(
        "rect", css_class, x=float(left), y=float(y + 3), width=max(1.0, x_of(median) - left), height=15.0, rx=2.0
    )
    bar.set("data-row", row.anchor)
    if row.interval_s:
        low_end, high_end = row.interval_s
        canvas.line(x_of(low_end), y + 10.5, x_of(high_end), y + 10.5, "whisker")
    share = ""
    if row.of_published is not None and not row.of_published.is_base:
        ratio = row.of_published.ratio
        ends = "" if ratio.interval is None else f" ({ratio.interval.low:.3f}–{ratio.interval.high:.3f})"
        share = f" · {ratio.value:.3f}×{ends}"
    canvas.text(left, y + 33, f"{milliseconds(median)} ms{share}", "small")
    canvas.text(canvas.width - 12, y + 33, row.verdict, "small badtext" if row.proved is False else "small soft", "end")


def batch_scaling(rows: Sequence[Row], colours: dict[str, int], css: str = "") -> list[Chart]:
    """Images per second against batch, one chart per setting that was timed with at least two batches."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.median_s:
            groups[(*setting(row), row.network)].append(row)
    return [_batch(group, colours, css) for group in groups.values() if len({row.batch for row in group}) > 1]


def _batch(group: list[Row], colours: dict[str, int], css: str) -> Chart:
    group = sorted(group, key=lambda row: row.batch)
    first, left, width, height, bottom = group[0], 46, 360, 230, 40
    rates = [0.0 if row.summary is None else row.summary.fps for row in group]
    x_of = scale(group[0].batch, group[-1].batch, left + 18, width - 26, log=True)
    y_of = scale(0.0, max(rates) * 1.12, height - bottom, 20)
    words = "; ".join(f"batch {row.batch}: {digits(rate)} images/s" for row, rate in zip(group, rates, strict=True))
    canvas = Canvas(width, height, f"Batch scaling of {first.model} on {first.runtime}", words)
    for tick in linear_ticks(0.0, max(rates) * 1.12, 4):
        canvas.line(left, y_of(tick), width - 12, y_of(tick), "grid")
        canvas.text(left - 6, y_of(tick) + 4, f"{tick:g}", "soft small", "end")
    canvas.text(4, 12, "images/s", "soft small")
    canvas.text((left + width) / 2, height - 4, "batch", "soft small", "middle")
    points = [(x_of(row.batch), y_of(rate)) for row, rate in zip(group, rates, strict=True)]
    canvas.path(points, f"l{colours[first.family]}")
    for row, rate, (x, y) in zip(group, rates, points, strict=True):
        tooltip = f"batch {row.batch}: {digits(rate)} images/s, {milliseconds(row.median_s)} ms, {row.verdict}"
        shape, css_class = ("circle", f"s{colours[row.family]}") if row.proved else ("cross", "bad")
        canvas.mark(x, y, shape, css_class, tooltip, row.anchor)
        canvas.text(x, height - bottom + 15, str(row.batch), "soft small", "middle")
        canvas.text(x, y - 9, f"{milliseconds(row.median_s)} ms", "small", "middle")
    caption = f"{first.model} · {first.network} · {first.runtime} · {first.precision} · {first.origin.machine}"
    return Chart("batch", caption, canvas.svg(css, caption))


def distribution(row: Row, colours: dict[str, int], css: str = "") -> Chart | None:
    """The latency samples of every process: a density, its median, and how many lie beyond the drawn range.

    None where the entry holds no samples.
    """
    processes = [np.array(process.samples_s) for process in row.entry.processes if process.samples_s]
    if not processes:
        return None
    shown = processes[:PROCESSES_SHOWN]
    everything = np.concatenate(shown)
    low, body, high = (float(value) for value in np.quantile(everything, (0.0, 0.9, 0.99)))
    high = max(min(high, low + 3 * (body - low)), low * 1.02)
    left, width, step, top = 26, 360, 30, 6
    height = top + step * len(shown) + 34
    x_of = scale(low, high, left, width - 54)
    medians = [float(np.median(samples)) for samples in shown]
    words = ", ".join(f"process {index}: {milliseconds(median)}" for index, median in enumerate(medians, 1))
    canvas = Canvas(width, height, f"Latency per process of {row.label}", f"Medians in ms: {words}")
    base = float(top)
    for index, (samples, median) in enumerate(zip(shown, medians, strict=True), 1):
        base = top + step * index
        counts, edges = np.histogram(samples, bins=BINS, range=(low, high))
        dense = np.convolve(counts, (0.25, 0.5, 0.25), "same") / max(counts.max(), 1) * (step - 5)
        centres = (edges[:-1] + edges[1:]) / 2
        outline = [
            (x_of(low), base),
            *((x_of(float(c)), base - float(d)) for c, d in zip(centres, dense, strict=True)),
            (x_of(high), base),
        ]
        canvas.path(outline, f"s{colours[row.family]}", closed=True)
        canvas.line(x_of(min(median, high)), base - step + 5, x_of(min(median, high)), base, "median")
        canvas.text(left - 8, base, str(index), "soft small", "end")
        beyond = int((samples > high).sum())
        canvas.text(width - 50, base, milliseconds(median) + (f" +{beyond}" if beyond else ""), "small")
    for tick in linear_ticks(low, high, 4):
        canvas.line(x_of(tick), base, x_of(tick), base + 5)
        canvas.text(x_of(tick), base + 17, f"{tick * 1e3:g}", "soft small", "middle")
    more = f"; {len(processes) - len(shown)} more processes not drawn" if len(processes) > len(shown) else ""
    caption = f"Latency per process, ms; right: median, and after + the samples beyond the drawn range{more}"
    return Chart("distribution", caption, canvas.svg(css, caption))
