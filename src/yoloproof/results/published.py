"""Figures that others have published, from `published.csv`: each with its machine and its source, none of them ours."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Published:
    """One reported latency of one model; ap in percent as reported, protocol "unstated" where the source is silent."""

    model: str
    latency_s: float
    gpu: str
    runtime: str
    precision: str
    imgsz: int
    batch: int
    ap: float | None
    protocol: str
    source: str

    def as_dict(self) -> dict[str, Any]:
        """For a result file's entry."""
        return dict(vars(self))


@cache
def published_figures() -> tuple[Published, ...]:
    """Every row of the table, in its order: the authors' own figure first."""
    text = resources.files("yoloproof.results").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            model=row["model"],
            latency_s=float(row["latency_ms"]) / 1e3,
            gpu=row["gpu"],
            runtime=row["runtime"],
            precision=row["precision"],
            imgsz=int(row["imgsz"]),
            batch=int(row["batch"]),
            ap=float(row["map50_95"]) if row["map50_95"] else None,
            protocol=row["protocol"],
            source=row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def published_for(model: str) -> list[dict[str, Any]]:
    """What was reported for the variant `model` ("yolov13n"), the authors' own figure first; [] where nothing was."""
    return [figure.as_dict() for figure in published_figures() if figure.model == model]


def variant_name(entry: Mapping[str, Any]) -> str:
    """The variant an entry is of, whatever its file is called: "yolov13n"."""
    model = entry["model"]
    return f"{model['family']}{model['scale']}" if model.get("family") and model.get("scale") else str(model["name"])


def same_gpu(reported: str, measured: str | None) -> bool:
    """Whether a reported GPU and NVML's name for one mean the same: "Tesla T4" is "Tesla T4" and "NVIDIA T4"."""

    def words(name: str) -> list[str]:
        return [word for word in re.findall(r"[a-z0-9]+", name.lower()) if word not in ("nvidia", "tesla", "gpu")]

    return measured is not None and words(reported) == words(measured)


def matches(figure: Mapping[str, Any], entry: Mapping[str, Any], machine: Mapping[str, Any]) -> list[str]:
    """In what an entry differs from what a figure was reported for; [] where the two may be held together."""
    artifact, runtime = entry["artifact"], entry["runtime"]
    gpu = machine.get("gpu") or {}
    differences = []
    if not same_gpu(figure["gpu"], gpu.get("name")):
        differences.append(f"{figure['gpu']}, not {gpu.get('name') or 'this CPU'}")
    if runtime.get("name") != figure["runtime"].split()[0].lower():  # TensorRT-RTX is another product
        differences.append(f"{figure['runtime']}, not {runtime.get('name')}")
    if _precision(figure["precision"]) != _precision(artifact.get("precision")):
        differences.append(f"{figure['precision']}, not {artifact.get('precision')}")
    if artifact.get("imgsz") != [figure["imgsz"]] * 2:
        differences.append(f"{figure['imgsz']} px, not {artifact.get('imgsz')}")
    if artifact.get("batch") != figure["batch"]:
        differences.append(f"batch {figure['batch']}, not {artifact.get('batch')}")
    return differences


def _precision(name: Any) -> str:
    return {"float16": "fp16", "float32": "fp32", "bfloat16": "bf16"}.get(str(name), str(name))


def verdict(figure: Mapping[str, Any], entry: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """A reported figure held against our interval: "reproduced", "faster", "slower" (ours, than reported), or why the
    two cannot be held together.

    A figure given to two or three digits stands for all that round to it, so half a unit of its last digit counts as
    reported too.
    """
    differences = matches(figure, entry, machine)
    if differences:
        return f"another setting: {'; '.join(differences)}"
    if entry["proof"].get("passed") is not True:
        return "cannot tell: this artifact is not proved"
    interval = (entry["summary"] or {}).get("interval_s")
    if interval is None:
        mean_s = (entry["summary"] or {}).get("clipped_mean_s")
        on_its_terms = f"; on its own terms {mean_s / figure['latency_s']:.2f} times the figure" if mean_s else ""
        return f"cannot tell: too few processes for an interval{on_its_terms}"
    slack = rounding(figure["latency_s"])
    if interval[1] < figure["latency_s"] - slack:
        return "faster"
    return "slower" if interval[0] > figure["latency_s"] + slack else "reproduced"


def rounding(latency_s: float) -> float:
    """Half a unit of the last digit that a figure in milliseconds was given with: 1.97 ms → 0.005 ms."""
    text = f"{latency_s * 1e3:.6f}".rstrip("0")
    digits = max(len(text.partition(".")[2]), 1)
    return 0.5e-3 * 10.0**-digits


def model_ratios(entries: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> list[dict[str, Any]]:
    """On another machine only ratios between models mean anything: for each entry whose model has a reported figure,
    its measured and its reported latency over those of the first such entry with the same source.

    Returns [{"model", "against", "measured", "reported", "source", "gpu"}], ratios without a unit.
    """
    ratios = []
    for index, entry in enumerate(entries):
        for figure in published_for(variant_name(entry)):
            base = _base(entries[:index], entry, figure["source"])
            if base is None or not entry["summary"]:
                continue
            before, reported = base
            ratios.append(
                {
                    "model": variant_name(entry),
                    "against": variant_name(before),
                    "measured": entry["summary"]["median_s"] / before["summary"]["median_s"],
                    "reported": figure["latency_s"] / reported,
                    "source": figure["source"],
                    "gpu": figure["gpu"],
                }
            )
            break
    return ratios


def _base(
    earlier: Sequence[Mapping[str, Any]], entry: Mapping[str, Any], source: str
) -> tuple[Mapping[str, Any], float] | None:
    """The first earlier entry run in the same way, with a figure in the same source, and that figure."""
    same = ("precision", "attention", "imgsz", "batch")
    for other in earlier:
        alike = all(other["artifact"].get(key) == entry["artifact"].get(key) for key in same)
        if not alike or other["runtime"].get("name") != entry["runtime"].get("name") or not other["summary"]:
            continue
        for figure in published_for(variant_name(other)):
            if figure["source"] == source and variant_name(other) != variant_name(entry):
                return other, figure["latency_s"]
    return None
