"""The runner of a real sweep: `profile` on the node that a cell was given to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError

# What a plan's [options] may say; each is a field of profiling.Settings, or `quick`.
OPTIONS = ("threads", "flush_to_zero", "random_weights", "images", "quick")


def export_name(one: Mapping[str, Any], accelerator: str) -> str | None:
    """The name of the ONNX file a measurement needs; None where it needs none.

    Measurements share a file where the pipeline would write the same one: same weights, size, batch, precision in the
    graph, attention and rewrites.
    """
    from yoloproof.profiling import rewrites_for

    if one["runtime"] == "pytorch" or Path(one["model"]).suffix in (".onnx", ".engine"):
        return None
    rewrites = rewrites_for(one["runtime"], _device(accelerator), one["attention"])
    size = "x".join(map(str, one["imgsz"]))
    precision = "fp32" if one["precision"] == "bf16" else one["precision"]
    return "|".join([one["model"], one["attention"], precision, size, str(one["batch"]), "+".join(rewrites)])


def export(argument: Mapping[str, Any], files: Mapping[str, Path], folder: Path) -> str:
    """The path of the ONNX file of one measurement, written into `folder`; an engine is left to the node that runs it."""
    from yoloproof import profiling
    from yoloproof.network import load_network

    settings = _settings(argument, [argument], folder)
    model = str(files.get(argument["model"], argument["model"]))
    network = load_network(model, random_weights=settings.random_weights)
    # Any runtime that is not TensorRT's stops at the ONNX file.
    runtime = "onnx" if argument["runtime"].startswith("tensorrt") else argument["runtime"]
    request = profiling.Request(model, runtime, argument["precision"], argument["attention"])
    return str(profiling.exported(network, request, settings).path)


def measure(argument: Mapping[str, Any], files: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    """The schema-1 result of one cell: its measurements made, proved and timed side by side."""
    from yoloproof import profiling

    measurements = argument["measurements"]
    models = {one["model"]: str(files.get(one["model"], one["model"])) for one in measurements}
    for path in files.values():
        # Where the pipeline looks for an artifact before it makes one.
        if path.suffix == ".onnx" and str(path) not in models.values():
            shutil.copyfile(path, folder / path.name)
    requests = [
        profiling.Request(models[one["model"]], one["runtime"], one["precision"], one["attention"])
        for one in measurements
    ]
    settings = _settings(argument, measurements, folder)
    result = profiling.profile(requests, settings, argument["protocol"], fast=bool(argument["options"].get("quick")))
    for entry, one in zip(result["entries"], measurements, strict=True):
        # The plan's own name for it, not where it lay on the node.
        entry["model"]["source"] = one["model"]
    result["warnings"] = [*result["warnings"], *_niceness_warning()]
    return result


def _settings(argument: Mapping[str, Any], measurements: list[Mapping[str, Any]], folder: Path) -> Any:
    from yoloproof import profiling

    options = dict(argument["options"])
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise YoloproofError(f"the plan's [options] hold {', '.join(unknown)}; known are {', '.join(OPTIONS)}")
    options.pop("quick", None)
    options["images"] = tuple(Path(path) for path in options.get("images", ())) or demo_images()
    first = measurements[0]
    return profiling.Settings(
        imgsz=tuple(first["imgsz"]),
        batch=first["batch"],
        device=_device(argument["accelerator"]),
        folder=folder,
        **options,
    )


def _device(accelerator: str) -> str:
    return "cpu" if accelerator == "cpu" else "cuda"


def _niceness_warning() -> list[dict[str, str]]:
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness <= 0:
        return []
    return [
        {
            "code": "niceness",
            "evidence": f"measured at niceness {niceness}, behind everything else on the machine",
            "advice": "start the Ray node with RAY_worker_niceness=0, and the sweep without nice",
        }
    ]
