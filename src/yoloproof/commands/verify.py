"""`yoloproof verify`: the proof alone, of any artifact, also one made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yoloproof.commands.shared import check_new, image_files, steps, write_json
from yoloproof.errors import YoloproofError


def verify(
    artifact: Annotated[Path, typer.Argument(help="the .onnx or .engine file to be proved")],
    against: Annotated[
        str, typer.Option(help="the weights it is said to be: .pt, .safetensors, or a name like yolov13n")
    ],
    images: Annotated[Path | None, typer.Option(help="folder of real images (default: the four bundled ones)")] = None,
    runtime: Annotated[
        str, typer.Option(help="runtime that runs it: onnxruntime, openvino, tensorrt, tensorrt-rtx")
    ] = "",
    precision: Annotated[str | None, typer.Option(help="rounding to allow for: fp32, fp16, bf16")] = None,
    random_weights: Annotated[bool, typer.Option(help="--against names a variant with seeded random weights")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the verdict to a new file")] = None,
) -> None:
    """Is ARTIFACT still the same detector as the weights? Exit status 0: proved; 1: not.

    Example: `yoloproof verify yolov13n.onnx --against yolov13n.pt`
    """
    from rich.console import Console

    from yoloproof.choosing import runtimes_for
    from yoloproof.detection.letterbox import letterboxed
    from yoloproof.network import load_network
    from yoloproof.onnx_file import load_onnx
    from yoloproof.proof import verify as verdict_of
    from yoloproof.runtime import SessionSpec, open_session

    check_new(json_file)
    if not artifact.is_file():
        raise YoloproofError(f"{artifact}: no such file")
    asked = runtime or ("onnxruntime" if artifact.suffix == ".onnx" else "auto")
    (name, *_) = runtimes_for(artifact, asked, "cpu")
    files = image_files(images)
    with steps() as (say, _):
        network = load_network(against, random_weights=random_weights)
        if artifact.suffix == ".onnx":
            sides = [
                d.dim_value for d in load_onnx(artifact, external_data=False).graph.input[0].type.tensor_type.shape.dim
            ][2:]
            imgsz = (sides[0] or 640, sides[1] or 640) if len(sides) == 2 else (640, 640)
        with open_session(SessionSpec(name, artifact, "cuda" if name.startswith("tensorrt") else "cpu")) as session:
            if artifact.suffix != ".onnx":
                height, width = session.inputs[0].shape[2:]
                imgsz = (height if isinstance(height, int) else 640, width if isinstance(width, int) else 640)
            verdict = verdict_of(
                artifact, network, letterboxed(files, imgsz), session=session, precision=precision, progress=say
            )
    console = Console()
    for check in verdict.checks:
        mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]?[/]"}[check.passed]
        console.print(f"{mark} {check.name}: {check.detail}", highlight=False)
    words = {
        True: "proved: the same detector",
        False: "NOT the same detector",
        None: "not proved: a check could not be made",
    }
    console.print(f"[bold]{artifact.name}: {words[verdict.passed]}[/]", highlight=False)
    if json_file:
        write_json({"artifact": str(artifact), "against": against, **verdict.as_dict()}, json_file)
    if not verdict.passed:
        raise typer.Exit(1)
