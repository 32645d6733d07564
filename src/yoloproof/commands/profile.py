"""`yoloproof profile`, the main job: weights → artifacts → proof → latency table."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from yoloproof.commands.shared import check_new, image_files, imgsz_from_text, new_folder, steps, t4_estimates
from yoloproof.errors import YoloproofError

FORENSICS = ("fused", "explicit", "published", "stripped")


def profile(
    models: Annotated[
        list[str], typer.Argument(help="yolov13n … yolov12x, or .pt, .safetensors, .onnx, .engine files")
    ],
    runtime: Annotated[
        list[str], typer.Option(help="auto, onnxruntime, openvino, pytorch, tensorrt, tensorrt-rtx; repeatable")
    ] = ["auto"],  # noqa: B006
    attention: Annotated[list[str], typer.Option(help="fused, explicit, published, stripped; repeatable")] = ["fused"],  # noqa: B006
    precision: Annotated[
        list[str], typer.Option(help="fp32, fp16, bf16; repeatable. Default: fp32 on a CPU, fp16 on a GPU")
    ] = [],  # noqa: B006
    imgsz: Annotated[str, typer.Option(help="640, or HEIGHTxWIDTH")] = "640",
    batch: Annotated[int, typer.Option(min=1, help="images per inference")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: one per physical core)")] = None,
    protocol: Annotated[
        str, typer.Option(help="latency, sustained, paced, published, loadgen, throughput")
    ] = "latency",
    quick: Annotated[
        bool, typer.Option("--quick", help="seconds, for a first look; marked as such in the result")
    ] = False,
    forensics: Annotated[bool, typer.Option("--forensics", help="all four attentions side by side")] = False,
    data: Annotated[
        Path | None, typer.Option(help="annotated set (COCO or YOLO folder): AP and latency of one artifact in one row")
    ] = None,
    stages: Annotated[bool, typer.Option("--stages", help="preprocessing, inference, suppression apart, too")] = False,
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="seeded random weights instead of official ones; a file keeps its own"),
    ] = False,
    flush_to_zero: Annotated[
        bool, typer.Option("--flush-to-zero", help="treat subnormal numbers as zero, on every row")
    ] = False,
    images: Annotated[Path | None, typer.Option(help="folder of real images (default: the four bundled ones)")] = None,
    artifacts: Annotated[
        Path | None, typer.Option(help="folder to keep the artifacts in (default: they are removed)")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the result to a new file")] = None,
) -> None:
    """Export, prove and time MODELs; print the latency table. Exit status 1 when a row is not proved or not timed to
    its end; 130 after a Ctrl-C, which keeps what was measured.

    Example: `yoloproof profile yolov13n.pt --runtime onnxruntime --runtime openvino --json result.json`
    """
    from rich.console import Console

    from yoloproof.choosing import default_precision
    from yoloproof.profiling import Request, Settings
    from yoloproof.profiling import profile as result_of
    from yoloproof.results.file import write_result
    from yoloproof.results.table import print_result

    check_new(json_file)
    _check(attention, precision, runtime)
    attentions = FORENSICS if forensics else tuple(attention)
    requests = [
        Request(model, name, p, a, batch)
        for model in models
        for name in runtime
        for p in precision or [default_precision(name, device)]
        for a in attentions
    ]
    with tempfile.TemporaryDirectory(prefix="yoloproof-") as scratch, steps() as (say, bar):
        settings = Settings(
            imgsz_from_text(imgsz), device, threads, flush_to_zero, random_weights, image_files(images),
            new_folder(artifacts or Path(scratch)), data, stages,
        )  # fmt: skip
        result = result_of(requests, settings, protocol, fast=quick, progress=say, bar=bar)
    console = Console()
    if data is not None and not console.is_terminal:
        console.width = max(console.width, 110)  # the AP columns have room in a file; a terminal is as wide as it is
    print_result(result, console)
    estimates = [] if result["machine"].get("gpu") else t4_estimates([("this run", result)])
    for line in (*_stage_lines(result), *estimates):
        console.print(line, highlight=False, soft_wrap=True)
    if forensics:
        _print_forensics(result, console)
    # Last, so that a full disk costs the file and not what was measured.
    if json_file:
        write_result(result, json_file)
    if result["interrupted"]:
        raise KeyboardInterrupt
    if any(_failed(entry, forensics) for entry in result["entries"]):
        raise typer.Exit(1)


def _failed(entry: dict[str, Any], forensics: bool) -> bool:
    """Not timed to its end, or not proved: but a foreign file has nothing to be proved by, and `--forensics` brings
    `stripped` in as what is wrong."""
    wrong_by_design = forensics and entry["artifact"].get("attention") == "stripped"
    exempt = entry["model"]["weights"] == "foreign" or wrong_by_design
    return entry["error"] is not None or (entry["proof"]["passed"] is not True and not exempt)


def _check(attention: list[str], precision: list[str], runtime: list[str]) -> None:
    """Refuse unknown words before any work is done."""
    from yoloproof.runtime import RUNTIMES

    allowed = (
        ("--attention", attention, FORENSICS),
        ("--precision", precision, ("fp32", "fp16", "bf16")),
        ("--runtime", runtime, ("auto", *RUNTIMES)),
    )
    for option, given, words in allowed:
        for word in given:
            if word not in words:
                raise YoloproofError(f"{option} {word}: there are {', '.join(words)}")


def _stage_lines(result: dict[str, Any]) -> list[str]:
    lines = []
    for entry in result["entries"]:
        stages = entry["end_to_end"]
        if stages:
            parts = ", ".join(
                f"{n} {stages[f'{n}_s'] * 1e3:.2f} ms" for n in ("preprocess", "inference", "nms", "total")
            )
            lines.append(f"end to end, {entry['model']['name']} {entry['runtime'].get('name')}: {parts}")
    return lines


def _print_forensics(result: dict[str, Any], console: Any) -> None:
    """For each model as each runtime runs it, which of the four attentions its published figure resembles."""
    from yoloproof.results.forensics import forensics_table, which_resembles
    from yoloproof.results.published import published_for, variant_name

    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for entry in result["entries"]:
        artifact = entry["artifact"]
        how = entry["model"]["name"], entry["runtime"].get("name"), artifact["precision"], f"batch {artifact['batch']}"
        rows.setdefault(tuple(map(str, how)), []).append(entry)
    for names, entries in rows.items():
        resemblance = which_resembles(published_for(variant_name(entries[0])), entries, result["machine"])
        if resemblance.rows:
            console.print(forensics_table(resemblance, " ".join(names)))
        console.print(resemblance.line, highlight=False)
