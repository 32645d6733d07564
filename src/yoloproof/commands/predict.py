"""`yoloproof predict`: detections of images, videos and cameras, as a list, pictures and files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yoloproof.commands.shared import check_new, imgsz_from_text, steps, write_json


def predict(
    model: Annotated[str, typer.Argument(help="yolov13n … yolov12x, or a .pt, .safetensors, .onnx or .engine file")],
    images: Annotated[
        list[str], typer.Argument(help="images, folders, patterns, videos, their addresses, a camera's index")
    ],
    save: Annotated[Path | None, typer.Option(help="new folder for the pictures with boxes drawn over them")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the detections to a new file")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="write the detections to a new CSV file")] = None,
    txt: Annotated[Path | None, typer.Option(help="new folder for YOLO label files: class cx cy w h score")] = None,
    confidence: Annotated[float, typer.Option(help="scores above this count")] = 0.25,
    iou: Annotated[float, typer.Option(help="overlap above which the worse box of a class goes")] = 0.7,
    max_detections: Annotated[int, typer.Option(help="an image's best so many")] = 300,
    imgsz: Annotated[str | None, typer.Option(help="640, or HEIGHTxWIDTH (default: as the artifact says)")] = None,
    runtime: Annotated[str, typer.Option(help="auto, pytorch, onnxruntime, openvino, tensorrt, tensorrt-rtx")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: one per physical core)")] = None,
    precision: Annotated[str, typer.Option(help="of weights: fp32, fp16, bf16")] = "fp32",
    attention: Annotated[str, typer.Option(help="of weights: fused, explicit, published, stripped")] = "fused",
    random_weights: Annotated[bool, typer.Option("--random-weights", help="seeded random weights")] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="stop each video or camera after so many frames")] = None,
) -> None:
    """Detections of IMAGEs by MODEL, one line each. Exit status 1 when an image could not be read.

    Example: `yoloproof predict yolov13n.pt street.jpg holiday/ --save drawn --json detections.json`
    """
    from yoloproof.detection.pipeline import Suppression
    from yoloproof.models import open_model
    from yoloproof.predicting import Outputs, sources_of
    from yoloproof.predicting import predict as predicted

    check_new(json_file)
    outputs = Outputs(save, txt, csv_file)
    outputs.check()
    rule = Suppression(confidence, iou, max_detections)
    size = None if imgsz is None else imgsz_from_text(imgsz)
    sources = sources_of(images)
    with steps() as (step, bar):
        step(f"opening {model}")
        opening = open_model(
            model, runtime=runtime, device=device, threads=threads, imgsz=size, precision=precision,
            attention=attention, random_weights=random_weights,
        )  # fmt: skip
        with opening as opened:
            done = 0

            def say(line: str) -> None:
                nonlocal done
                done += 1
                typer.echo(line)
                bar(f"{done} done", min(done / len(sources), 1.0))

            result = predicted(
                opened, sources, outputs, rule, most_frames=frames, keep=json_file is not None, say=say,
                complain=lambda line: typer.echo(f"yoloproof: {line}", err=True),
            )  # fmt: skip
            document = {
                "schema": 1, "model": model, "sha256": opened.sha256, "runtime": opened.session.facts,
                "imgsz": list(opened.imgsz), "confidence": confidence, "iou": iou, "max_detections": max_detections,
                "names": {str(i): name for i, name in opened.names.items()}, "images": result.records,
            }  # fmt: skip
    if json_file is not None:
        write_json(document, json_file)
    if result.interrupted:
        raise typer.Abort
    if result.broken:
        typer.echo(f"yoloproof: {result.broken} of the images and videos could not be read", err=True)
        raise typer.Exit(1)
