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
    annotations: Annotated[
        Path | None, typer.Option(help="COCO's instances_….json of --images: compares AP on all of them, too")
    ] = None,
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
    from rich.markup import escape

    from yoloproof.choosing import runtimes_for
    from yoloproof.detection.coco import coco_set
    from yoloproof.detection.letterbox import letterboxed
    from yoloproof.network import load_network
    from yoloproof.proof import Verdict, accuracy_parity
    from yoloproof.proof import verify as verdict_of
    from yoloproof.proof.stated import stated_of
    from yoloproof.results.schema import json_from_verdict
    from yoloproof.runtime import SessionSpec, open_session

    check_new(json_file)
    if not artifact.is_file():
        raise YoloproofError(f"{artifact}: no such file")
    if annotations is not None and images is None:
        raise YoloproofError("--annotations are of the images in --images DIR; name that folder, too")
    if artifact.suffix not in (".onnx", ".engine"):
        raise YoloproofError(f"{artifact}: verify proves .onnx and .engine files; weights are what --against names")
    asked = runtime or ("onnxruntime" if artifact.suffix == ".onnx" else "auto")
    (name, *_) = runtimes_for(artifact, asked, "cpu")
    files = image_files(images)
    with steps() as (say, bar):
        network = load_network(against, random_weights=random_weights)
        data = None if annotations is None else coco_set(Path(str(images)), annotations)
        with open_session(SessionSpec(name, artifact, "cuda" if name.startswith("tensorrt") else "cpu")) as session:
            height, width = (side if isinstance(side, int) else 640 for side in session.inputs[0].shape[2:])
            pictures = letterboxed(files, (height, width))
            verdict = verdict_of(artifact, network, pictures, session=session, precision=precision, progress=say)
            if data is not None:
                verdict = Verdict(
                    (
                        *verdict.checks,
                        accuracy_parity(session, network, data, (height, width), bar, stated_of(artifact)),
                    )
                )
    console = Console()
    for check in verdict.checks:
        mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]?[/]"}[check.passed]
        console.print(f"{mark} {check.name}: {escape(check.detail)}", highlight=False, soft_wrap=True)
    words = {
        True: "proved: the same detector",
        False: "NOT the same detector",
        None: "not proved: a check could not be made",
    }
    console.print(f"[bold]{artifact.name}: {words[verdict.passed]}[/]", highlight=False)
    if json_file:
        write_json({"artifact": str(artifact), "against": against, **json_from_verdict(verdict)}, json_file)
    if not verdict.passed:
        raise typer.Exit(1)
