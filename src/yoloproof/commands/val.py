"""`yoloproof val`: COCO accuracy of exactly this artifact."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yoloproof.commands.shared import check_new, imgsz_from_text, steps, write_json
from yoloproof.errors import YoloproofError

if TYPE_CHECKING:
    from yoloproof.detection.coco import CocoSet


def val(
    model: Annotated[str, typer.Argument(help="yolov13n … yolov12x, or a .pt, .safetensors, .onnx or .engine file")],
    data: Annotated[
        Path | None, typer.Option(help="folder: images/ with instances.json, or with labels/ in YOLO format")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="folder of the images that --annotations lists")] = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO's instances_….json")] = None,
    confidence: Annotated[float, typer.Option(help="scores above this count")] = 0.001,
    iou: Annotated[float, typer.Option(help="overlap above which the worse box of a class goes")] = 0.7,
    max_detections: Annotated[int, typer.Option(help="an image's best so many")] = 300,
    imgsz: Annotated[str | None, typer.Option(help="640, or HEIGHTxWIDTH (default: as the artifact says)")] = None,
    runtime: Annotated[str, typer.Option(help="auto, pytorch, onnxruntime, openvino, tensorrt, tensorrt-rtx")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: one per physical core)")] = None,
    precision: Annotated[str, typer.Option(help="of weights: fp32, fp16, bf16")] = "fp32",
    attention: Annotated[str, typer.Option(help="of weights: fused, explicit, published, stripped")] = "fused",
    random_weights: Annotated[bool, typer.Option("--random-weights", help="seeded random weights")] = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="AP of each class too")] = False,
    resume: Annotated[Path | None, typer.Option(help="keep each image's detections here, and go on from them")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures to a new file")] = None,
) -> None:
    """COCO accuracy of MODEL on an annotated set (default: the four bundled images).

    Example: `yoloproof val yolov13n.onnx --images val2017 --annotations instances_val2017.json --json accuracy.json`
    """
    from yoloproof.detection.accuracy import accuracy_of
    from yoloproof.detection.pipeline import Suppression
    from yoloproof.models import open_model

    check_new(json_file)
    rule = Suppression(confidence, iou, max_detections)
    size = None if imgsz is None else imgsz_from_text(imgsz)
    _check_set(data, images, annotations)
    with steps() as (say, bar):
        say(f"opening {model}")
        opening = open_model(
            model, runtime=runtime, device=device, threads=threads, imgsz=size, precision=precision,
            attention=attention, random_weights=random_weights,
        )  # fmt: skip
        with opening as opened:
            chosen = _set(data, images, annotations, [opened.names[i] for i in sorted(opened.names)])
            started = time.perf_counter()
            accuracy = accuracy_of(
                opened.session, opened.names, chosen, imgsz=opened.imgsz, rule=rule, identity=opened.sha256,
                resume=resume, progress=lambda done, of: bar(f"{done} of {of} images", done / of),
            )  # fmt: skip
            taken_s = time.perf_counter() - started
            facts, sha256 = opened.session.facts, opened.sha256
    _print(accuracy, Path(model).name, per_class, taken_s)
    if json_file is not None:
        document = {"schema": 1, "model": model, "sha256": sha256, "runtime": facts, "elapsed_s": taken_s}
        write_json({**document, "accuracy": accuracy}, json_file)


def _check_set(data: Path | None, images: Path | None, annotations: Path | None) -> None:
    if (images is None) != (annotations is None):
        raise YoloproofError("--images and --annotations go together; or name a folder with --data")
    if data is not None and images is not None:
        raise YoloproofError("--data is a set of its own: leave it, or --images and --annotations, out")


def _set(data: Path | None, images: Path | None, annotations: Path | None, names: list[str]) -> CocoSet:
    from yoloproof.demo import demo_annotations
    from yoloproof.detection.coco import coco_set, set_of_folder

    if images is not None and annotations is not None:
        return coco_set(images, annotations)
    if data is not None:
        return set_of_folder(data, names)
    return coco_set(demo_annotations().parent, demo_annotations())


def _print(accuracy: dict[str, Any], name: str, per_class: bool, taken_s: float) -> None:
    from rich.console import Console
    from rich.table import Table

    figures = ("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model")
    for figure in ("images", *figures):
        table.add_column(figure, justify="right")
    table.add_row(name, str(accuracy["images"]), *(_text(accuracy[figure]) for figure in figures))
    console = Console()
    console.print(table)
    if per_class:
        classes = Table(box=None, padding=(0, 2, 0, 0))
        classes.add_column("class")
        classes.add_column("AP", justify="right")
        for title, value in accuracy["per_class"].items():
            classes.add_row(title, _text(value))
        console.print(classes)
    protocol = accuracy["protocol"]
    height, width = protocol["imgsz"]
    console.print(
        f"COCO bbox AP, {protocol['resize']} {height}x{width}, confidence > {protocol['confidence']:g}, IoU"
        f" {protocol['iou']:g}, at most {protocol['max_detections']} detections; {taken_s:.1f} s",
        style="dim",
        highlight=False,
    )


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
