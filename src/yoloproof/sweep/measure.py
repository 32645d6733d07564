"""The runner of a real sweep: `profile` on the node that a cell was given to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError
from yoloproof.sweep.plan import Cell, Plan

# What a plan's [options] may say; each is a field of profiling.Settings, or `quick`. Random weights are for models that
# are named; a model that is a file has its own. `data` is a folder of annotated images whose AP every row gets, or `demo`.
OPTIONS = ("threads", "flush_to_zero", "random_weights", "images", "data", "quick")
ATTENTIONS = ("fused", "explicit", "published", "stripped")
FLAGS = ("quick", "random_weights", "flush_to_zero")
FILES = (".pt", ".safetensors", ".onnx", ".engine")


def check(plan: Plan) -> None:
    """Refuse a plan with words that `profile` would refuse, before anything is begun. Raises YoloproofError."""
    try:
        _check_options(plan.options)
        for cell in plan.cells:
            _check_cell(cell)
    except YoloproofError as error:
        raise YoloproofError(f"{plan.path}: {error}") from None


def _check_options(options: Mapping[str, Any]) -> None:
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise YoloproofError(f"[options] hold {', '.join(unknown)}; known are {', '.join(OPTIONS)}")
    for flag in FLAGS:
        if not isinstance(options.get(flag, False), bool):
            raise YoloproofError(f"[options] {flag} is {options[flag]!r}; true or false")
    threads = options.get("threads", 1)
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise YoloproofError(f"[options] threads is {threads!r}; a whole number above 0")
    images = options.get("images", [])
    if not isinstance(images, list) or not all(isinstance(path, str) and Path(path).is_absolute() for path in images):
        raise YoloproofError("[options] images must be a list of absolute paths, the same on every node")
    data = options.get("data", "demo")
    if not isinstance(data, str) or not (data == "demo" or Path(data).is_absolute()):
        raise YoloproofError(f"[options] data is {data!r}; demo, or a folder's absolute path, the same on every node")


def _check_cell(cell: Cell) -> None:
    from yoloproof.measurement.protocol import PROTOCOLS
    from yoloproof.names import Precision
    from yoloproof.network import VARIANTS
    from yoloproof.runtime import RUNTIMES

    allowed = {"attention": ATTENTIONS, "precision": tuple(Precision), "runtime": RUNTIMES}
    if cell.protocol not in PROTOCOLS:
        raise YoloproofError(f"protocol {cell.protocol}: there are {', '.join(PROTOCOLS)}")
    for one in cell.measurements:
        for axis, words in allowed.items():
            if getattr(one, axis) not in words:
                raise YoloproofError(f"{axis} {getattr(one, axis)}: there are {', '.join(words)}")
        if one.model not in VARIANTS and Path(one.model).suffix not in FILES:
            raise YoloproofError(f"model {one.model}: a file ({', '.join(FILES)}) or one of {', '.join(VARIANTS)}")
        if any(side < 64 or side % 32 or side > 4096 for side in one.imgsz):
            raise YoloproofError(f"imgsz {list(one.imgsz)}: both sides must be multiples of 32 from 64 to 4096")
        if one.runtime.startswith("tensorrt") and cell.accelerator == "cpu":
            raise YoloproofError(f"runtime {one.runtime} needs a GPU: name its accelerator, or exclude it on cpu")


def export_name(one: Mapping[str, Any], accelerator: str) -> str | None:
    """The name of the ONNX file a measurement needs; None where it needs none.

    Measurements share a file where the pipeline would write the same one: same weights, size, batch, precision in the
    graph, attention and rewrites.
    """
    from yoloproof.simplify.choice import rewrites_for

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
    network = load_network(model, random_weights=settings.random_weights_for(model))
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
    if data := _data(options):
        words += ["--data", str(data.relative_to(Path.cwd()) if data.is_relative_to(Path.cwd()) else data)]
    return words + [f"--{flag.replace('_', '-')}" for flag in FLAGS if options.get(flag)]


def _settings(argument: Mapping[str, Any], measurements: list[Mapping[str, Any]], folder: Path) -> Any:
    from yoloproof import profiling
    from yoloproof.demo import demo_images

    options = {name: value for name, value in argument["options"].items() if name != "quick"}
    options["images"] = tuple(Path(path) for path in options.get("images", ())) or tuple(demo_images())
    first = measurements[0]
    options["data"] = _data(options)
    return profiling.Settings(
        imgsz=tuple(first["imgsz"]),
        device=_device(argument["accelerator"]),
        folder=folder,
        **options,
    )


def _data(options: Mapping[str, Any]) -> Path | None:
    from yoloproof.demo import FOLDER

    named = options.get("data")
    return FOLDER if named == "demo" else Path(named) if named else None


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
