"""`yoloproof verify`: the proof alone, of any artifact, also one made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yoloproof.commands.shared import (
    check_new,
    console_beside,
    image_files,
    models_from_arguments,
    progress_bar,
    write_json,
)
from yoloproof.errors import YoloproofError
from yoloproof.names import Precision, Runtime


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
        Runtime | None, typer.Option(help="what runs it (default: ONNX Runtime, or what built an engine)")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="rounding to allow for")] = None,
    random_weights: Annotated[bool, typer.Option(help="--against names a variant with seeded random weights")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the verdict to a new file")] = None,
) -> None:
    """Is ARTIFACT still the same detector as the weights? Exit status 0: proved; 1: not.

    Example: `yoloproof verify yolov13n.onnx --against yolov13n.pt`
    """
    from rich.text import Text

    from yoloproof.detection.coco import coco_set
    from yoloproof.detection.letterbox import letterboxed
    from yoloproof.network import load_network
    from yoloproof.proof import accuracy_parity
    from yoloproof.proof import verify as verdict_of
    from yoloproof.proof.stated import stated_of
    from yoloproof.records import Case, Verdict
    from yoloproof.runtime import SessionSpec, open_session
    from yoloproof.runtime.choice import candidates

    check_new(json_file)
    if not artifact.is_file():
        raise YoloproofError(f"{artifact}: no such file")
    if annotations is not None and images is None:
        raise YoloproofError("--annotations are of the images in --images DIR; name that folder, too")
    if artifact.suffix not in (".onnx", ".engine"):
        raise YoloproofError(f"{artifact}: verify proves .onnx and .engine files; weights are what --against names")
    (against,) = models_from_arguments([against])
    asked = runtime or (Runtime.ONNXRUNTIME if artifact.suffix == ".onnx" else Runtime.AUTO)
    case = candidates(Case(str(artifact), asked))[0]
    files = image_files(images)
    with progress_bar() as progress:
        network = load_network(against, random_weights=random_weights)
        data = None if annotations is None else coco_set(Path(str(images)), annotations)
        device = "cuda" if case.runtime.builds_engines else "cpu"
        with open_session(SessionSpec(case.runtime, artifact, device)) as session:
            height, width = case.imgsz
            pictures = letterboxed(files, (height, width))
            verdict = verdict_of(artifact, network, pictures, session=session, precision=precision, progress=progress)
            if data is not None:
                check = accuracy_parity(session, network, data, (height, width), progress, stated_of(artifact))
                verdict = Verdict((*verdict.checks, check))
    if json_file:
        checks = [
            {"name": c.name, "passed": c.passed, "figures": dict(c.figures), "detail": c.detail} for c in verdict.checks
        ]
        write_json(
            {"artifact": str(artifact), "against": against, "passed": verdict.passed, "checks": checks}, json_file
        )
    console = console_beside(json_file)
    for check in verdict.checks:
        mark, colour = {True: ("✓", "green"), False: ("✗", "red"), None: ("?", "yellow")}[check.passed]
        console.print(Text.assemble((mark, colour), f" {check.name}: {check.detail}"), soft_wrap=True)
    words = {
        True: "verified: the same detector",
        False: "NOT the same detector",
        None: "not verified: a check could not be run",
    }
    console.print(Text(f"{artifact.name}: {words[verdict.passed]}", "bold"))
    if not verdict.passed:
        raise typer.Exit(1)
