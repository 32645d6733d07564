"""`yoloproof profile`, the main job: weights → artifacts → proof → latency table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloproof.commands.shared import (
    STDOUT,
    Device,
    JsonFile,
    RandomWeights,
    Tactics,
    Threads,
    check_new,
    check_paths,
    console_beside,
    device_from_text,
    image_files,
    imgsz_from_text,
    models_from_arguments,
    progress_bar,
    t4_estimates,
    write_json,
)
from yoloproof.errors import YoloproofError
from yoloproof.names import Attention, Precision, Runtime, Weights

if TYPE_CHECKING:
    from rich.console import Console

    from yoloproof.records import Entry, Result


def profile(
    models: Annotated[
        list[str], typer.Argument(help="yolov13n … yolov12x, or .pt, .safetensors, .onnx, .engine, .native files")
    ],
    runtime: Annotated[list[Runtime], typer.Option(help="what runs it; repeatable")] = [Runtime.AUTO],  # noqa: B006
    attention: Annotated[list[Attention], typer.Option(help="repeatable")] = [Attention.FUSED],  # noqa: B006
    precision: Annotated[list[Precision], typer.Option(help="repeatable. Default: fp32 on a CPU, fp16 on a GPU")] = [],  # noqa: B006
    imgsz: Annotated[str, typer.Option(help="640, or HEIGHTxWIDTH")] = "640",
    batch: Annotated[int, typer.Option(min=1, help="images per inference")] = 1,
    device: Device = "cpu",
    threads: Threads = None,
    protocol: Annotated[
        str, typer.Option(help="latency, sustained, paced, published, loadgen, throughput")
    ] = "latency",
    quick: Annotated[
        bool, typer.Option("--quick", help="seconds, for a first look; marked as such in the result")
    ] = False,
    forensics: Annotated[bool, typer.Option("--forensics", help="all four attentions side by side")] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="annotated set (data.yaml, COCO or YOLO folder): AP and latency of one artifact in one row"),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="prove .onnx and .engine MODELs, too: their weights, or another export of them"),
    ] = None,
    stages: Annotated[bool, typer.Option("--stages", help="preprocessing, inference, suppression apart, too")] = False,
    random_weights: RandomWeights = False,
    flush_to_zero: Annotated[
        bool, typer.Option("--flush-to-zero", help="treat subnormal numbers as zero, on every row")
    ] = False,
    cuda_graph: Annotated[bool, typer.Option(help="on a GPU: run a captured graph, one launch per inference")] = True,
    images: Annotated[Path | None, typer.Option(help="folder of real images (default: the four bundled ones)")] = None,
    tactics: Tactics = None,
    artifacts: Annotated[
        Path | None, typer.Option(help="folder to keep the artifacts in (default: the user's cache)")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Build, verify and time MODELs; print the latency table. Exit status 1 when a row is not verified or not timed to
    its end; 130 after a Ctrl-C, which keeps what was measured.

    Example: `yoloproof profile yolov13n.pt --runtime onnxruntime --runtime openvino --json result.json`
    """
    check_new(json_file)
    models = models_from_arguments(models)
    device = device_from_text(device)
    check_paths(images, data)
    from yoloproof.files.new import GrowingFile
    from yoloproof.measurement.protocol import protocol_from_name
    from yoloproof.pipeline import Options
    from yoloproof.pipeline import profile as result_of
    from yoloproof.records import Case
    from yoloproof.results.file import keep_result, write_result
    from yoloproof.results.kept import new_place
    from yoloproof.results.schema import json_from_result
    from yoloproof.runtime.choice import default_precision

    if against is not None:
        (against,) = models_from_arguments([against])
    size, attentions = imgsz_from_text(imgsz), list(Attention) if forensics else attention
    cases = [
        Case(model, name, p, a, size, batch, device, threads, flush_to_zero, random_weights, cuda_graph=cuda_graph)
        for model in models
        for name in runtime
        for p in precision or [default_precision(name, device)]
        for a in _attentions_of(model, name, attentions)
    ]
    options = Options(image_files(images), artifacts, data, stages, tactics, against)
    file = GrowingFile(Path(json_file)) if json_file not in (None, STDOUT) else GrowingFile(new_place())

    def keep(so_far: Result) -> None:
        keep_result(so_far, file)

    try:
        with progress_bar() as progress:
            result = result_of(cases, protocol_from_name(protocol, quick=quick), options, progress, keep)
    except YoloproofError as error:
        if not file.path.exists():
            raise
        raise YoloproofError(f"{error}. The rows before it are kept in {file.path}") from None
    console = console_beside(json_file)
    try:
        if json_file == STDOUT:
            write_json(json_from_result(result), json_file)
        elif json_file is not None:  # first, so that nothing that is printed can cost what was measured
            write_result(result, file)
        else:
            keep_result(result, file)
    finally:
        _print(result, console, forensics, wide=data is not None)
    if json_file is None and file.path.exists():
        console.print("next: yoloproof report last -o report.html, or compare last", style="dim", highlight=False)
    if result.interrupted:
        raise KeyboardInterrupt
    if any(_failed(entry, forensics, against) for entry in result.entries):
        raise typer.Exit(1)


def _attentions_of(model: str, runtime: Runtime, asked: list[Attention]) -> list[Attention]:
    """A native engine is fused: beside other runtimes' attentions it gets one row."""
    native = runtime is Runtime.NATIVE or Path(model).suffix == ".native"
    return [Attention.FUSED] if native and Attention.FUSED in asked else asked


def _failed(entry: Entry, forensics: bool, against: str | None) -> bool:
    """Not timed to its end, or not verified: but a foreign file may have nothing to be verified by, and `--forensics`
    brings `stripped` in as what is wrong."""
    wrong_by_design = forensics and entry.artifact.attention is Attention.STRIPPED
    unheld = entry.model.weights is Weights.FOREIGN and against is None and entry.proof.passed is None
    return entry.error is not None or (entry.proof.passed is not True and not (unheld or wrong_by_design))


def _print(result: Result, console: Console, forensics: bool, wide: bool) -> None:
    from yoloproof.results.compare import fastest_lines
    from yoloproof.results.table import print_result

    if wide and not console.is_terminal:
        console.width = max(console.width, 110)  # the AP columns have room in a file; a terminal is as wide as it is
    print_result(result, console)
    measured_on_gpu = any(run.machine is not None and run.machine.gpu is not None for run in result.runs)
    estimates = [] if measured_on_gpu else t4_estimates([("this run", result)])
    for line in (*_stage_lines(result), *_frame_lines(result), *fastest_lines(result), *estimates):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if forensics:
        _print_forensics(result, console)


def _stage_lines(result: Result) -> list[str]:
    lines = []
    for entry in result.entries:
        stages = entry.end_to_end
        if stages is not None:
            figures = {"preprocess": stages.preprocess_s, "inference": stages.inference_s, "nms": stages.nms_s,
                       "total": stages.total_s}  # fmt: skip
            parts = ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in figures.items())
            lines.append(f"end to end, {entry.model.name} {entry.runtime.name}: {parts}")
    return lines


def _frame_lines(result: Result) -> list[str]:
    """Of an end-to-end engine, whose time is of more than the network's."""
    return [
        f"{entry.model.name} {entry.runtime.name}: letterbox and suppression are inside its time, frame in, detections out"
        for entry in result.entries
        if "frames" in entry.artifact.metadata
    ]


def _print_forensics(result: Result, console: Console) -> None:
    """For each model as each runtime runs it, which of the four attentions its reported figure resembles."""
    from yoloproof.results.forensics import forensics_table, which_resembles
    from yoloproof.results.published import figures_of

    rows: dict[tuple[str, ...], list[Entry]] = {}
    for entry in result.entries:
        artifact = entry.artifact
        key = entry.model.name, entry.runtime.name, str(artifact.precision), f"batch {artifact.batch}"
        rows.setdefault(tuple(map(str, key)), []).append(entry)
    for names, entries in rows.items():
        resemblance = which_resembles(figures_of(entries[0]), entries, result.run_of(entries[0]))
        if resemblance.rows:
            console.print(forensics_table(resemblance, " ".join(names)))
        console.print(resemblance.line, highlight=False, markup=False)
