"""The runner of a real sweep: `profile` on the node that a cell was given to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError
from yoloproof.sweep.plan import Plan

# What a plan's [options] may say; each is a field of profiling.Settings, or `quick`.
OPTIONS = ("threads", "flush_to_zero", "random_weights", "images", "quick")
ATTENTIONS = ("fused", "explicit", "published", "stripped")
FLAGS = ("quick", "random_weights", "flush_to_zero")


def check(plan: Plan) -> None:
    """Refuse a plan with words that `profile` would refuse, before anything is begun. Raises YoloproofError."""
    from yoloproof.measurement.protocol import PROTOCOLS
    from yoloproof.runtime import PRECISIONS, RUNTIMES

    if unknown := sorted(set(plan.options) - set(OPTIONS)):
        raise YoloproofError(f"{plan.path}: [options] hold {', '.join(unknown)}; known are {', '.join(OPTIONS)}")
    if not all(Path(path).is_absolute() for path in plan.options.get("images", ())):
        raise YoloproofError(f"{plan.path}: images must be absolute paths, the same on every node")
    allowed = {"attention": ATTENTIONS, "precision": PRECISIONS, "runtime": RUNTIMES}
    for axis, words in allowed.items():
        for cell in plan.cells:
            for one in cell.measurements:
                if getattr(one, axis) not in words:
                    raise YoloproofError(f"{plan.path}: {axis} {getattr(one, axis)}: there are {', '.join(words)}")
    for protocol in dict.fromkeys(cell.protocol for cell in plan.cells):
        if protocol not in PROTOCOLS:
            raise YoloproofError(f"{plan.path}: protocol {protocol}: there are {', '.join(PROTOCOLS)}")


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
    """The path of the ONNX file of one measurement, written into `folder`; engines are built where they run."""
    from yoloproof import profiling
    from yoloproof.network import load_network

    settings = _settings(argument, [argument], folder)
    model = str(files.get(argument["model"], argument["model"]))
    network = load_network(model, random_weights=settings.random_weights)
    # Any runtime that is not TensorRT's stops at the ONNX file.
    runtime = "onnx" if argument["runtime"].startswith("tensorrt") else argument["runtime"]
    request = profiling.Request(model, runtime, argument["precision"], argument["attention"], argument["batch"])
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
        profiling.Request(models[one["model"]], one["runtime"], one["precision"], one["attention"], one["batch"])
        for one in measurements
    ]
    settings = _settings(argument, measurements, folder)
    result = profiling.profile(requests, settings, argument["protocol"], fast=bool(argument["options"].get("quick")))
    # A protocol that sweeps batches makes several entries of one measurement.
    share = len(result["entries"]) // len(measurements)
    for index, entry in enumerate(result["entries"]):
        # The plan's own name for it, not where it lay on the node.
        entry["model"]["source"] = measurements[index // share]["model"]
    result["command"] = profile_command(argument)
    result["warnings"] = [*result["warnings"], *_niceness_warning()]
    return result


def profile_command(argument: Mapping[str, Any]) -> list[str]:
    """The `profile` command that measures what this cell does."""
    measurements, options = argument["measurements"], argument["options"]
    first = measurements[0]
    words = ["yoloproof", "profile", *dict.fromkeys(one["model"] for one in measurements)]
    for axis in ("runtime", "attention", "precision"):
        for value in dict.fromkeys(one[axis] for one in measurements):
            words += [f"--{axis}", value]
    words += ["--imgsz", "x".join(map(str, dict.fromkeys(first["imgsz"]))), "--batch", str(first["batch"])]
    words += ["--device", _device(argument["accelerator"]), "--protocol", argument["protocol"]]
    words += ["--threads", str(options["threads"])] if options.get("threads") else []
    return words + [f"--{flag.replace('_', '-')}" for flag in FLAGS if options.get(flag)]


def _settings(argument: Mapping[str, Any], measurements: list[Mapping[str, Any]], folder: Path) -> Any:
    from yoloproof import profiling
    from yoloproof.demo import demo_images

    options = {name: value for name, value in argument["options"].items() if name != "quick"}
    options["images"] = tuple(Path(path) for path in options.get("images", ())) or tuple(demo_images())
    first = measurements[0]
    return profiling.Settings(
        imgsz=tuple(first["imgsz"]),
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
