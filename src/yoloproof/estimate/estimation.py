"""What a GPU that is not here would take for a model: a figure, its interval, where the time goes, what would pay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from yoloproof.errors import YoloproofError
from yoloproof.estimate.calibration import Observation, observations
from yoloproof.estimate.cost import arithmetic_seconds, kernel_seconds, memory_seconds
from yoloproof.estimate.gpus import Gpu, gpu_from_name
from yoloproof.estimate.kernels import Kernel, table_from_kernels
from yoloproof.estimate.posterior import Posterior, committed_posterior, interval, latency_samples, point_latency_s
from yoloproof.estimate.shapes import kernels_from_shapes, layer_shapes

AS_IN_GRAPH = "as in the graph"
UNCALIBRATED_SPREAD = 0.25
"""Standard deviation of the log of a factor that no figure pins down on another GPU. The one check there is: H100
timings of compiled PyTorch, 10 % off on average (docs/t4.md)."""
LEVEL = 0.9


@dataclass(frozen=True)
class Estimate:
    """An estimate, never a measurement. Seconds throughout.

    attention -- how the attention is taken to run, or AS_IN_GRAPH for an ONNX file
    interval_s -- holds 90 % of what the model thinks possible, another author's protocol included
    calibrated -- published latencies of this GPU at batch 1 and 640 px stand behind it; otherwise it is extrapolated
    parts_s -- outside the kernels, floors, arithmetic, bytes; they add up to `seconds`
    blocks_s -- by block of the network, in its order; adds up to `seconds` with what lies outside the kernels
    levers_s -- what each change would save, largest first
    """

    model: str
    gpu: Gpu
    attention: str
    batch: int
    imgsz: int
    seconds: float
    interval_s: tuple[float, float]
    calibrated: bool
    kernels: int
    parts_s: dict[str, float]
    blocks_s: dict[str, float]
    levers_s: dict[str, float]
    unmodelled: tuple[str, ...] = ()


def model_name(model: Any) -> str:
    """A name of `layer_shapes`, the path of an .onnx file, or a network's variant → that name or path as text.

    Raises YoloproofError for anything else.
    """
    variant = getattr(model, "variant", None)
    name = str(getattr(variant, "name", model))
    if name in layer_shapes() or Path(name).suffix == ".onnx":
        return name
    raise YoloproofError(f"cannot estimate '{name}': give an .onnx file or one of {', '.join(layer_shapes())}")


def estimate(
    model: Any, gpu: str | Gpu = "t4", attention: str = "fused", batch: int = 1, imgsz: int = 640,
    posterior: Posterior | None = None,
) -> Estimate:  # fmt: skip
    """The latency of one run of `model` (name, .onnx path or network) on `gpu` with TensorRT in float16.

    attention -- "fused", "explicit", "published" or "stripped"; an ONNX file's own spelling is taken as it is
    batch, imgsz -- images a run and side of the square image (an ONNX file with fixed sizes keeps its own)
    Raises YoloproofError for an unknown model, GPU or attention and for an ONNX file that cannot be read.
    """
    known = posterior or committed_posterior()
    row = gpu_from_name(gpu) if isinstance(gpu, str) else gpu
    name = model_name(model)
    unmodelled: tuple[str, ...] = ()
    if Path(name).suffix == ".onnx":
        from yoloproof.estimate.graph import kernels_from_onnx  # onnx loads slowly and names do not need it

        graph = kernels_from_onnx(Path(name), batch, imgsz)
        kernels, unmodelled, attention = graph.kernels, graph.unmodelled, AS_IN_GRAPH
    else:
        kernels = kernels_from_shapes(name, attention, batch, imgsz)
    table = table_from_kernels([kernels])
    calibrated = row.calibrated and batch == 1 and imgsz == 640
    samples = latency_samples(known, table, row)[:, 0]
    if not calibrated:
        samples = samples * np.exp(np.random.default_rng(1).normal(0, UNCALIBRATED_SPREAD, samples.shape))
    seconds = float(point_latency_s(known, table, row)[0])
    return Estimate(
        name, row, attention, batch, imgsz, seconds, interval(samples, LEVEL), calibrated,
        int(np.count_nonzero(kernel_seconds(table, known.point.constants, known.point.form, row))),
        _parts(kernels, known, row), _blocks(kernels, known, row),
        _levers(kernels, name, attention, seconds, known, row, batch, imgsz), unmodelled,
    )  # fmt: skip


def estimate_line(model: Any, gpu: str = "t4") -> str:
    """One line for a report or a machine without this GPU, marked as an estimate. Raises as `estimate` does."""
    found = estimate(model, gpu)
    low, high = found.interval_s
    attention = found.attention if found.attention == AS_IN_GRAPH else f"{found.attention} attention"
    doubt = "" if found.calibrated else ", model not calibrated on this GPU"
    return (
        f"estimate, not a measurement: {Path(found.model).name} on {found.gpu.title}, TensorRT FP16, {attention}: "
        f"{1e3 * found.seconds:.1f} ms (90 %: {1e3 * low:.1f}–{1e3 * high:.1f}{doubt})"
    )


def known_figures(model: Any) -> tuple[Observation, ...]:
    """What has been published or measured by users of this model on a T4; empty for an ONNX file."""
    name = model_name(model)
    return tuple(row for row in observations() if row.model == name)


def _blocks(kernels: list[Kernel], posterior: Posterior, gpu: Gpu) -> dict[str, float]:
    _, factor = posterior.point.typical_table()
    seconds = kernel_seconds(table_from_kernels([kernels]), posterior.point.constants, posterior.point.form, gpu)
    blocks: dict[str, float] = {}
    for kernel, value in zip(kernels, seconds, strict=True):
        blocks[kernel.block] = blocks.get(kernel.block, 0.0) + factor * float(value)
    return blocks


def _parts(kernels: list[Kernel], posterior: Posterior, gpu: Gpu) -> dict[str, float]:
    """Outside, floors, arithmetic, bytes; what is left (overlap, scaled attention passes) goes to bytes."""
    offset, factor = posterior.point.typical_table()
    constants, form, table = posterior.point.constants, posterior.point.form, table_from_kernels([kernels])
    seconds = kernel_seconds(table, constants, form, gpu)
    lives = seconds > 0
    memory = memory_seconds(table, constants, form, gpu)[lives]
    arithmetic = arithmetic_seconds(table, constants, form, gpu)[lives]
    floor = np.minimum(constants["floor_s"], seconds[lives])
    share = arithmetic / np.maximum(arithmetic + memory, 1e-30)
    rest = seconds[lives] - floor
    return {
        "outside the kernels": offset,
        "kernel floors": factor * float(floor.sum()),
        "arithmetic": factor * float((rest * share).sum()),
        "bytes": factor * float((rest * (1 - share)).sum()),
    }


def _levers(
    kernels: list[Kernel], name: str, attention: str, seconds: float, posterior: Posterior, gpu: Gpu, batch: int,
    imgsz: int,
) -> dict[str, float]:  # fmt: skip
    """Seconds saved for each image by changes that leave the detector the same (or say that they do not)."""
    point = posterior.point

    def with_point(changed: Posterior, changed_kernels: list[Kernel]) -> float:
        return float(point_latency_s(changed, table_from_kernels([changed_kernels]), gpu)[0])

    def with_constants(**constants: float) -> Posterior:
        return replace(posterior, point=replace(point, constants={**point.constants, **constants}))

    fused_form = replace(posterior, point=replace(point, form=replace(point.form, activation="fused")))
    half_floor = with_constants(floor_s=point.constants["floor_s"] / 2)
    levers = {
        "activations fused into their convolutions": seconds - with_point(fused_form, kernels),
        "half the floor of every kernel": seconds - with_point(half_floor, kernels),
    }
    kinds = {kernel.kind for kernel in kernels}
    if "reformat" in kinds:
        levers["no transpositions around attention"] = seconds - with_point(
            posterior, [k for k in kernels if k.kind != "reformat"]
        )
    if name in layer_shapes():
        if attention in ("explicit", "published") and "score" in kinds:
            levers["fused attention"] = seconds - with_point(
                posterior, kernels_from_shapes(name, "fused", batch, imgsz)
            )
        eight = with_point(posterior, kernels_from_shapes(name, attention, 8 * batch, imgsz)) / 8
        levers["eight times the batch (per run of today's batch)"] = seconds - eight
        smaller = max(imgsz // 32 * 4 // 5, 1) * 32
        levers[f"{smaller} px instead of {imgsz} (another detector: prove its accuracy)"] = seconds - with_point(
            posterior, kernels_from_shapes(name, attention, batch, smaller)
        )
    return {name: saved for name, saved in sorted(levers.items(), key=lambda item: -item[1]) if saved > 0}
