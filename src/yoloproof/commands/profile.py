"""`yoloproof profile`, the main job: weights → artifacts → proof → latency table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloproof.commands.shared import (
    ARTIFACTS,
    ATTENTIONS_HELP,
    MODEL_GROUP,
    PRECISIONS_HELP,
    PROOF_GROUP,
    RUN_GROUP,
    RUNTIMES_HELP,
    STDOUT,
    T4,
    TIMING_GROUP,
    Device,
    Imgsz,
    JsonFile,
    RandomWeights,
    Tactics,
    Threads,
    check_folder,
    check_new,
    check_options_of_file,
    check_paths,
    check_precision,
    check_size,
    console_beside,
    device_from_text,
    image_files,
    imgsz_from_text,
    models_from_arguments,
    models_to_estimate,
    progress_bar,
)
from yoloproof.errors import YoloproofError
from yoloproof.names import Attention, Precision, Runtime, Weights
from yoloproof.records import Case

if TYPE_CHECKING:
    from rich.console import Console

    from yoloproof.records import Entry, Result


def profile(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="yolov13n … yolo12x, or .pt, .safetensors, .onnx, .engine, .native files"),
    ],
    runtime: Annotated[
        list[Runtime], typer.Option(metavar="NAME", help=f"repeatable: {RUNTIMES_HELP}", rich_help_panel=RUN_GROUP)
    ] = [Runtime.AUTO],  # noqa: B006
    attention: Annotated[
        list[Attention],
        typer.Option(
            metavar="NAME", help=f"repeatable: {ATTENTIONS_HELP} (default: fused)", rich_help_panel=MODEL_GROUP
        ),
    ] = [],  # noqa: B006
    precision: Annotated[
        list[Precision],
        typer.Option(metavar="NAME", help=f"repeatable: {PRECISIONS_HELP}", rich_help_panel=MODEL_GROUP),
    ] = [],  # noqa: B006
    imgsz: Imgsz = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="images per inference (default: 1, or what the artifact takes)",
            rich_help_panel=MODEL_GROUP,
        ),
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="latency, sustained, paced, published, single-stream-style, server or throughput",
            rich_help_panel=TIMING_GROUP,
        ),
    ] = "latency",
    sessions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            metavar="N",
            help="--protocol server: sessions behind one queue (default: 2)",
            rich_help_panel=TIMING_GROUP,
        ),
    ] = None,
    p99_ms: Annotated[
        float | None,
        typer.Option(
            "--p99-ms",
            min=0.001,
            metavar="MS",
            help="--protocol server: bound of the 99th percentile (default: 5 × a query alone)",
            rich_help_panel=TIMING_GROUP,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="a first look in seconds, marked as such", rich_help_panel=TIMING_GROUP),
    ] = False,
    forensics: Annotated[
        bool,
        typer.Option(
            "--forensics",
            help="time all four attentions side by side, none in our GPU kernels",
            rich_help_panel=TIMING_GROUP,
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="annotated images (data.yaml, COCO or YOLO folder): adds AP to each row",
            rich_help_panel=PROOF_GROUP,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="what to prove .onnx and .engine files against: their weights, or another export",
            rich_help_panel=PROOF_GROUP,
        ),
    ] = None,
    stages: Annotated[
        bool,
        typer.Option(
            "--stages", help="also time preprocessing, inference and suppression apart", rich_help_panel=TIMING_GROUP
        ),
    ] = False,
    random_weights: RandomWeights = False,
    flush_to_zero: Annotated[
        bool,
        typer.Option("--flush-to-zero", help="treat subnormal numbers as zero", rich_help_panel=RUN_GROUP),
    ] = False,
    no_cuda_graph: Annotated[
        bool,
        typer.Option(
            "--no-cuda-graph",
            help="on a GPU: launch kernel by kernel, not as one captured graph",
            rich_help_panel=RUN_GROUP,
        ),
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="real images to prove and time with (default: the four bundled ones)",
            rich_help_panel=PROOF_GROUP,
        ),
    ] = None,
    tactics: Tactics = None,
    artifacts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where to keep the built files (default: the user's cache)")
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
    check_paths(images, data, tactics)
    check_folder(artifacts)
    size = None if imgsz is None else imgsz_from_text(imgsz)
    if against is not None:
        (against,) = models_from_arguments([against])
    from yoloproof.files.new import GrowingFile
    from yoloproof.measurement.protocol import protocol_from_name, with_server

    how = with_server(protocol_from_name(protocol, quick=quick), sessions, p99_ms and p99_ms / 1e3)
    plain = Case(
        "", imgsz=size or (640, 640), batch=batch or 1, device=device, threads=threads, flush_to_zero=flush_to_zero,
        random_weights=random_weights, cuda_graph=not no_cuda_graph,
        kernels=not forensics,  # which only `fused` has: then implementation and attention would differ at once
    )  # fmt: skip
    files = image_files(images)
    if data is not None:
        from yoloproof.detection.data_yaml import check_data

        check_data(data)
    cases = cases_of(models, runtime, list(Attention) if forensics else attention, precision, plain)
    check_cases(cases, size, batch)
    from yoloproof.pipeline import Options
    from yoloproof.pipeline import profile as result_of
    from yoloproof.results.file import keep_result, text_from_result, write_result
    from yoloproof.results.kept import new_place

    options = Options(files, artifacts, data, stages, tactics, against)
    file = GrowingFile(Path(json_file)) if json_file not in (None, STDOUT) else GrowingFile(new_place())

    def keep(so_far: Result) -> None:
        keep_result(so_far, file)

    try:
        with progress_bar() as progress:
            result = result_of(cases, how, options, progress, keep)
    except YoloproofError as error:
        if not file.path.exists():
            raise
        raise YoloproofError(f"{error}. The rows before it are kept in {file.path}") from None
    console = console_beside(json_file)
    try:
        if json_file == STDOUT:
            typer.echo(text_from_result(result), nl=False)
        elif json_file is not None:  # first, so that nothing that is printed can cost what was measured
            write_result(result, file)
        else:
            keep_result(result, file)
    finally:
        _print(result, console, forensics)
    if result.interrupted:
        raise KeyboardInterrupt
    if any(_failed(entry, forensics, against) for entry in result.entries):
        raise typer.Exit(1)


def cases_of(
    models: Sequence[str], runtimes: Sequence[Runtime], attentions: Sequence[Attention],
    precisions: Sequence[Precision], plain: Case,
) -> list[Case]:  # fmt: skip
    """The rows to measure; no attentions and no precisions are the defaults.

    Attention and precision are of weights: beside these a file that is built already gets one row as it is. YoloproofError
    where no weights are named that could take an attention or a precision.
    """
    from yoloproof.runtime.choice import default_precision

    built_only = all(Path(model).suffix in ARTIFACTS for model in models)
    if built_only:
        check_options_of_file(models[0], attentions[0] if attentions else None)
    cases = [
        replace(plain, model=model, runtime=name, precision=p, attention=a)
        for model in models
        for name in runtimes
        for p in precisions or [default_precision(name, plain.device)]
        for a in _attentions_of(model, name, attentions or [Attention.FUSED])
    ]
    return _once_as_built(cases, strict=built_only) if precisions else cases


def _once_as_built(cases: Sequence[Case], strict: bool) -> list[Case]:
    """The cases, a file that is built already once for each precision that it really computes in; `strict` refuses
    another."""
    from yoloproof.runtime.choice import candidates

    kept, seen = [], set()
    for case in cases:
        if Path(case.model).suffix in ARTIFACTS:
            found = candidates(case)[0]
            if strict:
                check_precision(found, case.precision)
            if (found, case.runtime) in seen:
                continue
            seen.add((found, case.runtime))
        kept.append(case)
    return kept


def check_cases(cases: Sequence[Case], size: tuple[int, int] | None, batch: int | None) -> None:
    """Refuse, before anything heavy is imported, what no runtime here can run, and a size or batch that a file does not
    take."""
    from yoloproof.runtime.choice import candidates

    for case in cases:
        found = candidates(case)[0]
        check_size(found, size)
        if batch not in (None, found.batch):
            raise YoloproofError(f"{case.model}: takes a batch of {found.batch}; leave --batch out")


def _attentions_of(model: str, runtime: Runtime, asked: Sequence[Attention]) -> Sequence[Attention]:
    """A native engine is fused, a file that is built already has its own: beside other attentions these get one row."""
    if Path(model).suffix in ARTIFACTS:
        return [Attention.FUSED]
    return [Attention.FUSED] if runtime is Runtime.NATIVE and Attention.FUSED in asked else asked


def _failed(entry: Entry, forensics: bool, against: str | None) -> bool:
    """Not timed to its end, or not verified: but a foreign file may have nothing to be verified by, and `--forensics`
    brings `stripped` in as what is wrong."""
    wrong_by_design = forensics and entry.artifact.attention is Attention.STRIPPED
    unheld = entry.model.weights is Weights.FOREIGN and against is None and entry.proof.passed is None
    return entry.error is not None or (entry.proof.passed is not True and not (unheld or wrong_by_design))


def _print(result: Result, console: Console, forensics: bool) -> None:
    from yoloproof.estimate import estimate_line
    from yoloproof.results.compare import fastest_lines
    from yoloproof.results.published import same_gpu
    from yoloproof.results.table import print_result, unwrapped

    console = unwrapped(console)
    measured_on_gpu = any(run.machine is not None and run.machine.gpu is not None for run in result.runs)
    estimated = [] if measured_on_gpu else models_to_estimate([result])
    figures = [entry.published for entry in result.entries if entry.published is not None]
    reported = {figure.model for figure in figures if same_gpu(figure.gpu, T4)}
    beside = {name: estimate_line(name, named=False) for name in estimated if name in reported}
    print_result(result, console, beside, fastest_lines(result))
    for line in (*_stage_lines(result), *_frame_lines(result)):
        console.print(line, highlight=False, markup=False)
    for name in estimated:
        if name not in beside:
            console.print(estimate_line(name), style="dim", highlight=False, markup=False)
    if forensics:
        _print_forensics(result, console)


def _stage_lines(result: Result) -> list[str]:
    from yoloproof.results.labels import row_label

    lines = []
    for entry in result.entries:
        stages = entry.end_to_end
        if stages is not None:
            figures = {"preprocess": stages.preprocess_s, "inference": stages.inference_s, "nms": stages.nms_s,
                       "total": stages.total_s}  # fmt: skip
            parts = ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in figures.items())
            lines.append(f"end to end, {row_label(entry)}: {parts}")
    return lines


def _frame_lines(result: Result) -> list[str]:
    """Of an end-to-end engine, whose time is of more than the network's."""
    from yoloproof.results.labels import row_label, takes_frames

    return [
        f"{row_label(entry)}: letterbox and suppression are inside its time, frame in, detections out"
        for entry in result.entries
        if takes_frames(entry)
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
