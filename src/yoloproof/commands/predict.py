"""`yoloproof predict`: detections of images, videos and cameras, as a list, pictures and files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yoloproof.commands.shared import (
    DETECTION_GROUP,
    STDOUT,
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
    device_from_text,
    json_text,
    models_from_arguments,
    progress_bar,
    say,
    write_json,
)
from yoloproof.names import Runtime


def predict(
    model: Annotated[
        str, typer.Argument(help="yolov13n … yolo12x, or a .pt, .safetensors, .onnx, .engine or .native file")
    ],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE", help="images, folders, patterns, videos, URLs, or a camera's number"),
    ],
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="new folder for the pictures with their boxes drawn in")
    ] = None,
    json_file: JsonFile = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="write the detections to a new CSV file")
    ] = None,
    txt: Annotated[
        Path | None, typer.Option(metavar="DIR", help="new folder for YOLO label files: class cx cy w h score")
    ] = None,
    confidence: Confidence = 0.25,
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
    frames: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="stop each video or camera after this many frames", rich_help_panel=DETECTION_GROUP
        ),
    ] = None,
) -> None:
    """Run MODEL on IMAGEs and print one line of detections for each. Exit status 1 when an image could not be read.

    Example: `yoloproof predict yolov13n.pt street.jpg holiday/ --save drawn --json detections.json`
    """
    check_new(json_file)
    (model,) = models_from_arguments([model])
    device = device_from_text(device)
    from yoloproof.detection.prediction import Outputs, Prediction, sources_of

    sources = sources_of(images)
    from yoloproof.detection.pipeline import Suppression
    from yoloproof.detection.prediction import predict as predicted
    from yoloproof.files.new import GrowingFile
    from yoloproof.opening import opened
    from yoloproof.results.schema import plain
    from yoloproof.runtime.choice import check_tactics

    outputs = Outputs(save, txt, csv_file)
    outputs.check()
    rule = Suppression(confidence, iou, max_detections)
    case = case_from_options(model, runtime, device, threads, imgsz, precision, attention, random_weights)
    check_tactics(tactics, [case])
    with progress_bar() as progress, opened(case, progress=progress, tactics=tactics) as open_model:
        done = 0

        def tell(line: str) -> None:
            nonlocal done
            done += 1
            progress.line(line, error=json_file == STDOUT)
            progress(f"{done} done", min(done / len(sources), 1.0))

        about = {
            "schema": 1, "model": model, "sha256": open_model.artifact.sha256, "artifact": plain(open_model.artifact),
            "runtime": plain(open_model.session.facts), "imgsz": list(open_model.imgsz), "confidence": confidence,
            "iou": iou, "max_detections": max_detections,
            "names": {str(i): name for i, name in open_model.names.items()},
        }  # fmt: skip
        file = None if json_file in (None, STDOUT) else GrowingFile(json_file)

        def keep(so_far: Prediction) -> None:
            if file is not None:
                file.write_now_and_then(lambda: json_text({**about, "partial": True, "images": so_far.records}))

        result = predicted(
            open_model, sources, outputs, rule, most_frames=frames, keep=json_file is not None, say=tell, kept=keep,
            complain=lambda line: progress.line(f"yoloproof: {line}", error=True),
        )  # fmt: skip
    document = {**about, "partial": result.interrupted, "images": result.records}
    if json_file == STDOUT:
        write_json(document, json_file)
    elif file is not None:
        file.write(json_text(document))
    if result.interrupted:
        raise typer.Abort
    if result.broken:
        say(f"yoloproof: {result.broken} of the images or videos could not be read", err=True)
        raise typer.Exit(1)
