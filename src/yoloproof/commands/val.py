"""`yoloproof val`: COCO accuracy of exactly this artifact."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloproof.commands.shared import (
    Confidence,
    Device,
    Imgsz,
    Iou,
    JsonFile,
    MaxDetections,
    OneAttention,
    OnePrecision,
    OneRuntime,
    RandomWeights,
    Tactics,
    Threads,
    case_from_options,
    check_new,
    check_paths,
    console_beside,
    device_from_text,
    models_from_arguments,
    progress_bar,
    write_json,
)
from yoloproof.errors import YoloproofError
from yoloproof.names import Runtime

SET_GROUP = "The annotated images"

if TYPE_CHECKING:
    from rich.console import Console

    from yoloproof.detection.coco import CocoSet
    from yoloproof.records import Accuracy, Artifact


def val(
    model: Annotated[
        str, typer.Argument(help="yolov13n … yolo12x, or a .pt, .safetensors, .onnx, .engine or .native file")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="data.yaml, or a folder: images/ with instances.json, or labels/ in YOLO format",
            rich_help_panel=SET_GROUP,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="the images that --annotations lists", rich_help_panel=SET_GROUP),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="COCO's instances_….json", rich_help_panel=SET_GROUP)
    ] = None,
    confidence: Confidence = 0.001,
    iou: Iou = 0.7,
    max_detections: MaxDetections = 300,
    imgsz: Imgsz = None,
    runtime: OneRuntime = Runtime.AUTO,
    device: Device = "cpu",
    threads: Threads = None,
    precision: OnePrecision = None,
    attention: OneAttention = None,
    random_weights: RandomWeights = False,
    tactics: Tactics = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="also print the AP of each class")] = False,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="save each image's detections here, and continue from those saved"),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure MODEL's COCO accuracy on annotated images (default: the four bundled ones).

    Example: `yoloproof val yolov13n.onnx --images val2017 --annotations instances_val2017.json --json accuracy.json`
    """
    check_new(json_file)
    (model,) = models_from_arguments([model])
    device = device_from_text(device)
    _check_set(data, images, annotations)
    check_paths(data, images, annotations)
    from yoloproof.detection.accuracy import accuracy_of
    from yoloproof.detection.data_yaml import check_data
    from yoloproof.detection.pipeline import Suppression
    from yoloproof.opening import opened
    from yoloproof.results.schema import plain
    from yoloproof.runtime.choice import check_tactics

    rule = Suppression(confidence, iou, max_detections)
    if data is not None:
        check_data(data)
    case = case_from_options(model, runtime, device, threads, imgsz, precision, attention, random_weights)
    check_tactics(tactics, [case])
    with progress_bar() as progress, opened(case, progress=progress, tactics=tactics) as found:
        chosen = _set(data, images, annotations, [found.names[i] for i in sorted(found.names)])
        started = time.perf_counter()
        accuracy = accuracy_of(
            found.detector, found.names, chosen, imgsz=found.imgsz, rule=rule, identity=str(found.artifact.sha256),
            resume=resume, progress=lambda done, of: progress(f"{done} of {of} images", done / of),
        )  # fmt: skip
        taken_s = time.perf_counter() - started
        document = {
            "schema": 1, "model": model, "sha256": found.artifact.sha256, "artifact": plain(found.artifact),
            "runtime": plain(found.session.facts), "elapsed_s": taken_s, "accuracy": plain(accuracy),
        }  # fmt: skip
    if json_file is not None:
        write_json(document, json_file)
    _print(accuracy, Path(model).name, per_class, taken_s, _thresholds(found.artifact), console_beside(json_file))


def _check_set(data: Path | None, images: Path | None, annotations: Path | None) -> None:
    if (images is None) != (annotations is None):
        raise YoloproofError("--images and --annotations go together; --data takes a folder or a data.yaml instead")
    if data is not None and images is not None:
        raise YoloproofError("give either --data, or --images and --annotations, not both")


def _set(data: Path | None, images: Path | None, annotations: Path | None, names: list[str]) -> CocoSet:
    from yoloproof.demo import demo_annotations
    from yoloproof.detection.coco import coco_set
    from yoloproof.detection.data_yaml import annotated_set

    if images is not None and annotations is not None:
        return coco_set(images, annotations)
    if data is not None:
        return annotated_set(data, names)
    return coco_set(demo_annotations().parent, demo_annotations())


def _thresholds(artifact: Artifact) -> str:
    """What a suppression inside the file has cut already, as the file states it; "" where it states none."""
    nms = artifact.metadata.get("nms")
    if not isinstance(nms, dict):
        return ""
    cut = f"score > {nms.get('score')}, IoU {nms.get('iou')}, at most {nms.get('max_detections')} detections"
    return (
        f"the file's own suppression dropped detections first ({cut}); for an AP that compares with others, export with"
        " --nms-confidence 0.001"
    )


def _print(accuracy: Accuracy, name: str, per_class: bool, taken_s: float, cut: str, console: Console) -> None:
    from rich.table import Table

    from yoloproof.results.labels import plain_text

    figures = ("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge")
    table = Table(box=None, padding=(0, 2, 0, 0), title=plain_text(name), title_justify="left")
    for figure in ("images", *figures):
        table.add_column(figure, justify="right")
    table.add_row(str(accuracy.images), *(_text(getattr(accuracy, figure)) for figure in figures))
    console.print(table)
    if per_class:
        classes = Table(box=None, padding=(0, 2, 0, 0))
        classes.add_column("class")
        classes.add_column("AP", justify="right")
        for title, value in accuracy.per_class.items():
            classes.add_row(plain_text(title), _text(value))
        console.print(classes)
    protocol = accuracy.protocol
    height, width = protocol.imgsz
    console.print(
        f"COCO bbox AP, {protocol.resize} {height}x{width}, confidence > {protocol.confidence:g}, IoU"
        f" {protocol.iou:g}, at most {protocol.max_detections} detections; {taken_s:.1f} s",
        style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip
    if cut:
        console.print(plain_text(cut), highlight=False, soft_wrap=True)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
