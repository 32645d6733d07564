"""`yoloproof verify`: the proof alone, of any artifact, also one made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloproof.commands.shared import (
    ARTIFACTS,
    RUN_GROUP,
    Tactics,
    check_new,
    check_paths,
    console_beside,
    image_files,
    models_from_arguments,
    progress_bar,
    write_json,
)
from yoloproof.errors import YoloproofError
from yoloproof.names import Precision, Progress, Runtime

if TYPE_CHECKING:
    from yoloproof.records import Case, Verdict
    from yoloproof.runtime import SessionSpec


def verify(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="the .onnx, .engine or .native file to prove")],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="what it should be: weights (.pt, .safetensors, a name like yolov13n), or another .onnx or .engine of"
            " any detector; a .native file needs none",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="real images (default: the four bundled ones)")
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="COCO's instances_….json of --images: also compare AP on all of them"),
    ] = None,
    runtime: Annotated[
        Runtime | None,
        typer.Option(
            metavar="NAME",
            help="what runs it (default: ONNX Runtime, or what built the engine)",
            rich_help_panel=RUN_GROUP,
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(metavar="NAME", help="allow for the rounding of fp32, fp16 or bf16 (default: as it computes)"),
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="--against names a variant with seeded random weights")
    ] = False,
    tactics: Tactics = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="write the verdict to a new file; - for standard output"),
    ] = None,
) -> None:
    """Is ARTIFACT still the same detector as the weights, or as another export? Exit status 0: proved; 1: not.

    Example: `yoloproof verify yolov13n.onnx --against yolov13n.pt`
    """
    check_new(json_file)
    if not artifact.is_file():
        raise YoloproofError(f"{artifact}: no such file")
    if annotations is not None and images is None:
        raise YoloproofError("--annotations describe the images in --images DIR; name that folder, too")
    check_paths(images, annotations, tactics)
    if artifact.suffix not in ARTIFACTS:
        raise YoloproofError(f"{artifact}: verify proves .onnx, .engine and .native files; weights go behind --against")
    if against is None and (artifact.suffix != ".native" or annotations is not None):
        raise YoloproofError(f"{artifact}: say what it should be: --against WEIGHTS, or --against another export of it")
    if against is not None:
        (against,) = models_from_arguments([against])
        if annotations is not None and Path(against).suffix in (".onnx", ".engine"):
            raise YoloproofError("--annotations need weights behind --against; `yoloproof val` measures any file's AP")
    from yoloproof.proof.native import verify_by_evidence
    from yoloproof.records import Case
    from yoloproof.runtime import NativeOptions, SessionOptions, SessionSpec, open_session
    from yoloproof.runtime.choice import candidates, check_tactics

    asked = runtime or (Runtime.ONNXRUNTIME if artifact.suffix == ".onnx" else Runtime.AUTO)
    case = candidates(Case(str(artifact), asked))[0]
    check_tactics(tactics, [case])
    device = "cuda" if case.runtime.builds_engines or case.runtime is Runtime.NATIVE else "cpu"
    spec = SessionSpec(case.runtime, artifact, device, options=SessionOptions(native=NativeOptions(tactics=tactics)))
    with progress_bar() as progress:
        if against is None:  # the machine may have neither PyTorch nor ONNX
            progress("verifying by its own evidence", None)
            with open_session(spec) as session:
                verdict = verify_by_evidence(artifact, session)
        elif Path(against).suffix in (".onnx", ".engine"):
            verdict = _of_guest(case, Path(against), image_files(images), precision, progress)
        else:
            wanted = _Wanted(against, random_weights, images, annotations, precision)
            verdict = _against_weights(spec, case.imgsz, wanted, progress)
    _say(verdict, artifact, against, json_file)


def _of_guest(
    case: Case, against: Path, files: tuple[Path, ...], precision: Precision | None, progress: Progress
) -> Verdict:
    """The verdict on one export against another, each in its own runtime."""
    from yoloproof.detection.letterbox import letterboxed
    from yoloproof.opening import opened, opened_export
    from yoloproof.proof.guests import verify_guest

    with opened(case) as given, opened_export(against, case) as wanted:
        pictures = letterboxed(files, given.imgsz)
        return verify_guest(Path(case.model), given.session, against, wanted.session, pictures, precision, progress)


@dataclass(frozen=True)
class _Wanted:
    """What an artifact is held to: the options of the same names."""

    against: str
    random_weights: bool
    images: Path | None
    annotations: Path | None
    precision: Precision | None


def _against_weights(spec: SessionSpec, imgsz: tuple[int, int], wanted: _Wanted, progress: Progress) -> Verdict:
    """Every check against the network that the artifact is said to be."""
    from yoloproof.detection.coco import coco_set
    from yoloproof.detection.letterbox import letterboxed
    from yoloproof.network import load_network
    from yoloproof.proof.accuracy import accuracy_parity
    from yoloproof.proof.stated import stated_of
    from yoloproof.proof.verify import verify as verdict_of
    from yoloproof.records import Verdict
    from yoloproof.runtime import open_session

    files = image_files(wanted.images)
    network = load_network(wanted.against, random_weights=wanted.random_weights)
    data = None if wanted.annotations is None else coco_set(Path(str(wanted.images)), wanted.annotations)
    with open_session(spec) as session:
        verdict = verdict_of(
            spec.path,
            network,
            letterboxed(files, imgsz),
            session=session,
            precision=wanted.precision,
            progress=progress,
        )
        if data is not None:
            check = accuracy_parity(session, network, data, imgsz, progress, stated_of(spec.path))
            verdict = Verdict((*verdict.checks, check))
    return verdict


def _say(verdict: Verdict, artifact: Path, against: str | None, json_file: Path | None) -> None:
    """The verdict for a person, and for a machine where a file is named; leaves with status 1 unless it passed."""
    from rich.text import Text

    from yoloproof.results.labels import plain_text

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
        console.print(
            Text.assemble((mark, colour), f" {plain_text(check.name)}: {plain_text(check.detail)}"), soft_wrap=True
        )
    words = {
        True: "verified: the same detector",
        False: "NOT the same detector",
        None: "not verified: a check could not be run",
    }
    console.print(Text(f"{plain_text(artifact.name)}: {words[verdict.passed]}", "bold"))
    if not verdict.passed:
        raise typer.Exit(1)
