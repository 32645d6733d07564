"""`yoloproof estimate`: what a GPU that is not here would take. Every line says that it is an estimate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloproof.commands.shared import ARTIFACTS, STDOUT, check_new, check_paths, imgsz_from_text, say, write_json
from yoloproof.errors import YoloproofError
from yoloproof.names import VARIANT_NAMES

if TYPE_CHECKING:
    from yoloproof.estimate import Estimate, GpuRates, ModelForensics

BLOCKS_SHOWN = 6
LEVERS_SHOWN = 4


def estimate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="yolov13n … yolov8x by name, .pt or .safetensors weights, or any .onnx or .native file",
        ),
    ],
    gpu: Annotated[
        str,
        typer.Option(metavar="NAME", help="t4 (calibrated); rtx2080, rtx2080ti, a10, a100, l4, h100, h200 (not)"),
    ] = "t4",
    attention: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="repeatable: fused, explicit, published, stripped (default: all)"),
    ] = [],  # noqa: B006
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="images per inference")] = 1,
    imgsz: Annotated[str, typer.Option(metavar="SIDE", help="side of the square image")] = "640",
    paced: Annotated[bool, typer.Option("--paced", help="a T4 that rests 200 ms between inferences")] = False,
    tensor_tflops: Annotated[
        float | None, typer.Option(metavar="N", help="this GPU's measured FP16 ceiling, TFLOP/s")
    ] = None,
    bandwidth_gbs: Annotated[
        float | None, typer.Option(metavar="N", help="its measured memory ceiling, GB/s read and written")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="write the estimate to a new file; - for standard output"),
    ] = None,
) -> None:
    """Estimate MODEL's latency on a GPU that is not here (TensorRT, FP16), with an interval; nothing is measured.

    Example: `yoloproof estimate yolov13n --gpu t4`
    """
    check_new(json_file)
    if not Path(model).exists() and model.removesuffix(".pt") in VARIANT_NAMES:
        model = model.removesuffix(".pt")
    elif Path(model).suffix in (".pt", ".safetensors", *ARTIFACTS):
        check_paths(Path(model))
    if Path(model).suffix == ".native":
        if attention or batch != 1 or imgsz != "640" or paced:
            raise YoloproofError(
                f"{model}: a native engine has its own attention, batch and size; leave these options and --paced out"
            )
        _native(Path(model), gpu, json_file)
        return
    height, width = imgsz_from_text(imgsz)
    if height != width:
        raise YoloproofError(f"--imgsz {imgsz}: an estimate takes a square image; give one side")
    from yoloproof.estimate import estimate as estimate_of
    from yoloproof.estimate import forensics, gpu_from_name, gpu_with_ceilings
    from yoloproof.estimate.shapes import attentions_of

    row = gpu_with_ceilings(
        gpu_from_name(gpu),
        None if tensor_tflops is None else tensor_tflops * 1e12,
        None if bandwidth_gbs is None else bandwidth_gbs * 1e9,
    )
    name = _model_from_argument(model)
    is_graph = Path(name).suffix == ".onnx"
    wanted: list[str | None] = [*dict.fromkeys(attention)] or [None]
    if not is_graph and not attention:
        wanted = [*attentions_of(name)] or [None]
    found = [estimate_of(name, row, one, batch, height, paced) for one in wanted]
    evidence = forensics(name) if not is_graph and found[0].calibrated else None
    if json_file:
        write_json(_document(found, evidence), json_file)
    _print(found, evidence, row, err=json_file == STDOUT)


def _native(path: Path, gpu: str, json_file: Path | None) -> None:
    """The estimate of a native engine's file: all of it, with what it rests on."""
    from yoloproof.estimate import gpu_from_name
    from yoloproof.estimate.native import PRIORS, REPORTED_S, estimate_native
    from yoloproof.files.native import read_native

    found = estimate_native(read_native(path), gpu_from_name(gpu))
    tell = partial(say, err=json_file == STDOUT)
    low, high = found.interval_s
    below = found.probability_below(REPORTED_S)
    rests_on = [prior.rests_on for prior in PRIORS.values()]
    if json_file:
        document = {
            "estimate": True, "measured": False, "model": str(path), "gpu": found.gpu.title, "seconds": found.seconds,
            "interval_s": [low, high], "launches": found.launches, "bytes": found.bytes, "flops": found.flops,
            "parts_s": found.parts_s, "probability_below_1.97_ms": below, "rests_on": rests_on,
        }  # fmt: skip
        write_json(document, json_file)
    tell(f"ESTIMATE, not a measurement: {path.name} on {found.gpu.title}, native engine, device time in one CUDA graph")
    tell(
        f"  {1e3 * found.seconds:.2f} ms   90 %: {1e3 * low:.2f}–{1e3 * high:.2f} ms   {found.launches} launches,"
        f" {found.flops / 1e9:.2f} GFLOP, {found.bytes / 1e6:.0f} MB"
    )
    tell("  " + ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in found.parts_s.items()))
    if found.model == "yolov13n":
        tell(f"Below the {1e3 * REPORTED_S:.2f} ms reported for YOLOv13-N, if these priors hold: {100 * below:.0f} %")
    tell("It rests on: " + "; ".join(rests_on) + ".")
    tell("No native engine has run on a Turing GPU.")


def _model_from_argument(model: str) -> str:
    """A checkpoint's variant, read from the file; every other argument as it is."""
    if Path(model).suffix not in (".pt", ".safetensors"):
        return model
    from yoloproof.network import load_network

    return load_network(Path(model)).variant.name


def _document(found: list[Estimate], evidence: ModelForensics | None) -> dict[str, object]:
    """The JSON: seconds, and nothing that could pass for a measurement."""
    from dataclasses import asdict

    from yoloproof.estimate.posterior import committed_posterior

    return {
        "estimate": True,
        "measured": False,
        "held_out": asdict(committed_posterior().held_out),
        "estimates": [asdict(one) for one in found],
        "figures": [asdict(row) for row in evidence.figures] if evidence else [],
        "probability_of_figure_by_attention": evidence.probability if evidence else {},
    }


def _print(found: list[Estimate], evidence: ModelForensics | None, gpu: GpuRates, err: bool) -> None:
    tell = partial(say, err=err)
    first = found[0]
    tell(
        f"ESTIMATE, not a measurement: {Path(first.model).name} on {gpu.title} ({gpu.source}), TensorRT FP16, "
        f"batch {first.batch}, {_input_text(first)}{', 200 ms rest between inferences' if first.paced else ''}"
    )
    for one in found:
        low, high = one.interval_s
        tell(
            f"  {one.attention:<16} {1e3 * one.seconds:6.2f} ms   90 %: {1e3 * low:.2f}–{1e3 * high:.2f} ms"
            f"   {one.kernels} kernels"
        )
    tell(f"Where the time goes ({first.attention}):")
    tell("  " + ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in first.parts_s.items()))
    blocks = sorted(first.blocks_s.items(), key=lambda item: -item[1])[:BLOCKS_SHOWN]
    tell("  " + ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in blocks))
    tell("What would pay most:")
    for name, saved in list(first.levers_s.items())[:LEVERS_SHOWN]:
        tell(f"  −{1e3 * saved:.2f} ms  {name}")
    if evidence is not None:
        _print_figures(evidence, tell)
    if first.unmodelled:
        tell(f"Operators counted by their bytes alone: {', '.join(first.unmodelled)}")
    tell(_accuracy_text(first))


def _accuracy_text(found: Estimate) -> str:
    """How wrong such an estimate has been: held out inside the domain, an outsider's check outside it."""
    from yoloproof.estimate.domain import CHECKED, DETECTION, HEADS
    from yoloproof.estimate.posterior import committed_posterior

    check, held = found.check, committed_posterior().held_out
    if check is None:
        return "Not calibrated for this GPU or batch: the efficiencies are a T4's at batch 1 and 640 px (docs/t4.md)"
    errors = f"mean error {100 * check.mean_error:.0f} %, worst {100 * check.worst_error:.0f} %"
    if check != DETECTION:
        return f"Outside what was calibrated; an outsider ({CHECKED}) found for {check.what}: {errors} (docs/t4.md)"
    return (
        f"How far off, for convolutional detectors at 640 px: on published T4 figures of YOLOv8, v10 and 11, each family "
        f"left out of the fit in turn, mean error {100 * held.mean_error:.0f} %, worst {100 * held.worst_error:.0f} %; an "
        f"outsider ({CHECKED}) found {errors} on four other families, {100 * HEADS.mean_error:.0f} % with other heads"
        " (docs/t4.md)"
    )


def _input_text(found: Estimate) -> str:
    """ "640 px", "384 × 640 px"; what the graph says of an input that is no image."""
    sides = found.imgsz
    if not sides:
        return "no image input"
    return " × ".join(str(side) for side in (sides[:1] if len(set(sides)) == 1 else sides)) + " px"


def _print_figures(evidence: ModelForensics, tell: Callable[[str], None]) -> None:
    """Published and measured figures, each with how well every attention explains it."""
    for row in evidence.figures:
        tell(
            f"{row.role.replace('calibrate', 'published').capitalize()}: {1e3 * row.seconds:.2f} ms "
            f"({row.source}; {row.protocol})"
        )
        if row.role in evidence.probability:
            shares = ", ".join(f"{name} {share:.2f}" for name, share in evidence.probability[row.role].items())
            tell(f"  if all four were equally likely before, this figure alone makes them: {shares}")
