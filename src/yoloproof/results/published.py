"""Figures that others have reported, from `published.csv`: each with its machine and its source, none of them ours."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from yoloproof.names import Weights
from yoloproof.records import Entry, ModelFacts, PublishedFigure, Run
from yoloproof.results.labels import gpu_name, network_label, plain_text, precision_of, size_label

# By what share of a reported figure all of our interval may be off it and is still said to have reproduced it.
MARGIN = 0.05


COCO_CLASSES = 80
EXPORTED = re.compile(r"Ultralytics (YOLO\w+) model")  # how the ultralytics package describes a file


@cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """Every row of the table, in its order: the authors' own figure first."""
    text = resources.files("yoloproof.results").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedFigure(
            model=row["model"],
            latency_s=float(row["latency_ms"]) / 1e3,
            rounding_s=_rounding_s(row["latency_ms"]),
            gpu=row["gpu"],
            source=row["source"],
            runtime=row["runtime"],
            precision=row["precision"],
            imgsz=int(row["imgsz"]),
            batch=int(row["batch"]),
            ap=round(float(row["map50_95"]) / 100, 4) if row["map50_95"] else None,
            protocol=row["protocol"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def published_for(variant: str) -> tuple[PublishedFigure, ...]:
    """What was reported for a variant ("yolov13n"), the authors' own figure first; () where nothing was."""
    return tuple(figure for figure in published_figures() if figure.model == variant)


def variant_name(entry: Entry) -> str:
    """The variant an entry is of, whatever its file is called: "yolov13n"."""
    model = entry.model
    return f"{model.family}{model.scale}" if model.family and model.scale else model.name


def architecture_of(model: ModelFacts, properties: Mapping[str, str], classes: int) -> str | None:
    """The published architecture a row is of, as figures are reported for it: with COCO's 80 classes; None for another.

    A file's name says nothing: the weights it is held to do, else what its exporter states.
    """
    if model.family is not None:
        return f"{model.family}{model.scale}" if model.classes == COCO_CLASSES else None
    ours, theirs = properties.get("yoloproof.variant"), EXPORTED.match(properties.get("description", ""))
    named = json.loads(ours) if ours else theirs[1].lower() if theirs else None
    return str(named) if named is not None and classes == COCO_CLASSES else None


def figures_of(entry: Entry) -> tuple[PublishedFigure, ...]:
    """What was reported for an entry's architecture; () where it is another, has other classes, or is not known."""
    if entry.published is not None:
        return published_for(entry.published.model)
    ours = entry.model.weights is not Weights.FOREIGN and entry.model.classes in (None, 80)
    return published_for(variant_name(entry)) if ours else ()


def same_gpu(reported: str, measured: str | None) -> bool:
    """Whether a reported GPU and NVML's name for one mean the same: "Tesla T4" is "Tesla T4" and "NVIDIA T4"."""

    def words(name: str) -> list[str]:
        return [word for word in re.findall(r"[a-z0-9]+", name.lower()) if word not in ("nvidia", "tesla", "gpu")]

    return measured is not None and words(reported) == words(measured)


def matches(figure: PublishedFigure, entry: Entry, run: Run) -> list[str]:
    """In what an entry differs from what a figure was reported for; [] where the two may be held together."""
    artifact, gpu = entry.artifact, gpu_name(run)
    differences = []
    if not same_gpu(figure.gpu, gpu):
        differences.append(f"{figure.gpu}, not {gpu or 'this CPU'}")
    if entry.runtime.name != (figure.runtime or "unknown").split()[0].lower():  # TensorRT-RTX is another product
        differences.append(f"{figure.runtime or 'unknown runtime'}, not {entry.runtime.name}")
    if figure.precision != precision_of(entry):
        differences.append(f"{figure.precision or 'unknown precision'}, not {precision_of(entry)}")
    if figure.imgsz is None or artifact.imgsz != (figure.imgsz, figure.imgsz):
        differences.append(f"{figure.imgsz or '?'} px, not {size_label(entry)}")
    if artifact.batch != figure.batch:
        differences.append(f"batch {figure.batch or '?'}, not {artifact.batch}")
    return [plain_text(difference) for difference in differences]


def verdict(figure: PublishedFigure, entry: Entry, run: Run) -> str:
    """A reported figure held against our interval: "reproduced" where all of the interval lies within MARGIN of the figure,
    "faster" or "slower" (ours, than reported) where all of it lies on one side, else why nothing can be said.

    A figure stands for all that rounds to it, so half a unit of its last digit counts as reported too.
    """
    differences = matches(figure, entry, run)
    if differences:
        return f"another setting: {'; '.join(differences)}"
    if entry.proof.passed is not True:
        return "cannot tell: this artifact is not proved"
    summary = entry.summary
    if summary is None or summary.interval_s is None:
        mean_s = None if summary is None else summary.clipped_mean_s
        on_its_terms = f"; on its own terms {mean_s / figure.latency_s:.2f} times the figure" if mean_s else ""
        return f"cannot tell: too few processes for an interval{on_its_terms}"
    low, high = summary.interval_s
    least_s, most_s = figure.latency_s - figure.rounding_s, figure.latency_s + figure.rounding_s
    if least_s * (1 - MARGIN) <= low and high <= most_s * (1 + MARGIN):
        return "reproduced"
    if high < least_s:
        return "faster"
    if low > most_s:
        return "slower"
    interval = f"{low * 1e3:.4g} to {high * 1e3:.4g} ms"
    return f"cannot tell: the interval, {interval}, overlaps the figure and reaches beyond ± {MARGIN:.0%} of it"


def reported_ms(figure: PublishedFigure) -> str:
    """A reported latency in ms as it was written, "1.60"; four significant digits where its rounding is not known."""
    if not figure.rounding_s:
        return f"{figure.latency_s * 1e3:.4g}"
    return f"{figure.latency_s * 1e3:.{round(-math.log10(2e3 * figure.rounding_s))}f}"


def _rounding_s(latency_ms: str) -> float:
    """Half a unit of the last digit of a figure as it was written: "1.60" ms → 5e-6 s."""
    return 0.5e-3 * 10.0 ** -len(latency_ms.partition(".")[2])


@dataclass(frozen=True)
class ModelRatio:
    """The reported model `model` over `against`, as measured here and as one source reported for its GPU; ratios without a
    unit."""

    model: str
    against: str
    measured: float
    reported: float
    source: str
    gpu: str


def model_ratios(entries: Sequence[Entry]) -> list[ModelRatio]:
    """On another machine only ratios between models mean anything: for each entry of one run whose model has a reported
    figure, its measured and its reported latency over those of the first such entry with the same source."""
    ratios = []
    for index, entry in enumerate(entries):
        for figure in figures_of(entry):
            base = _base(entries[:index], entry, figure)
            if base is None or entry.summary is None:
                continue
            median_s, before = base
            measured, reported = entry.summary.median_s / median_s, figure.latency_s / before.latency_s
            ratios.append(ModelRatio(figure.model, before.model, measured, reported, figure.source, figure.gpu))
            break
    return ratios


def _base(earlier: Sequence[Entry], entry: Entry, reported: PublishedFigure) -> tuple[float, PublishedFigure] | None:
    """The median of the first earlier entry that was run in the same way and has a figure of another model from the same
    source, and that figure. Which model an entry is says the figure, not its file's name."""
    for other in earlier:
        if _setting(other) != _setting(entry) or other.summary is None:
            continue
        for figure in figures_of(other):
            if figure.source == reported.source and figure.model != reported.model:
                return other.summary.median_s, figure
    return None


def _setting(entry: Entry) -> tuple[object, ...]:
    artifact = entry.artifact
    return entry.runtime.name, precision_of(entry), network_label(entry), artifact.imgsz, artifact.batch
