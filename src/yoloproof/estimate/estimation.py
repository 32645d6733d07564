"""What a GPU that is not here would take for a model: a figure, its interval, where the time goes, what would pay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yoloproof.errors import YoloproofError
from yoloproof.estimate.cost import arithmetic_seconds, kernel_seconds, memory_seconds
from yoloproof.estimate.domain import Check, distance
from yoloproof.estimate.gpus import GpuRates, gpu_from_name
from yoloproof.estimate.kernels import Kernel, table_from_kernels
from yoloproof.estimate.posterior import (
    Fit,
    committed_posterior,
    honest_interval,
    interval,
    latency_samples,
    point_latency_s,
)
from yoloproof.estimate.shapes import attentions_of, kernels_from_shapes, layer_shapes

if TYPE_CHECKING:
    from yoloproof.network.wiring import Network

AS_IN_GRAPH = "as in the graph"
NO_ATTENTION = "no attention"
CALIBRATED_AT = (1, (640, 640))  # batch and sides of the published figures
MOST_IMAGES = 1024  # a run's batch; beyond any engine's, and the sums stay finite
UNCALIBRATED_SPREAD = 0.25
"""Standard deviation of the log of a factor that no figure pins down on another GPU or batch; the one check is
this project's H200 timings (docs/t4.md)."""
LEVEL = 0.9
SUSTAINED_S = (2.5e-3, 4.7e-3, 6.2e-3, 11.8e-3)
PACED_OVER_SUSTAINED = (1.0, 0.94, 0.92, 0.81)
"""YOLO26 on a T4: with 200 ms rest between inferences (roboflow) over one after the other (ultralytics)."""


@dataclass(frozen=True)
class Estimate:
    """An estimate, never a measurement. Seconds throughout.

    attention -- how the attention is taken to run, NO_ATTENTION, or AS_IN_GRAPH for an ONNX file
    imgsz -- height and width; what an ONNX file's first input has beyond its batch where that is no image
    interval_s -- holds 90 % of what the model thinks possible, another author's protocol included
    calibrated -- published latencies of this GPU at batch 1 and 640 px stand behind it; otherwise it is extrapolated
    check -- what an outsider found of such networks and sizes on a T4; None for another GPU or batch
    paced -- with 200 ms rest between inferences
    parts_s -- outside the kernels, floors, arithmetic, bytes; they add up to `seconds`
    blocks_s -- by block of the network, in its order; adds up to `seconds` with what lies outside the kernels
    levers_s -- what each change would save, largest first
    """

    model: str
    gpu: GpuRates
    attention: str
    batch: int
    imgsz: tuple[int, ...]
    seconds: float
    interval_s: tuple[float, float]
    calibrated: bool
    kernels: int
    parts_s: dict[str, float]
    blocks_s: dict[str, float]
    levers_s: dict[str, float]
    unmodelled: tuple[str, ...] = ()
    check: Check | None = None
    paced: bool = False


def model_name(model: str | Path | Network) -> str:
    """A name of `layer_shapes`, the path of an .onnx file, or a network → its name or path as text.

    Raises YoloproofError for anything else.
    """
    name = str(model) if isinstance(model, str | Path) else model.variant.name
    if name in layer_shapes() or _is_graph(name):
        return name
    raise YoloproofError(f"cannot estimate '{name}': give an .onnx file or one of {', '.join(layer_shapes())}")


def estimate(
    model: str | Path | Network, gpu: str | GpuRates = "t4", attention: str | None = None, batch: int = 1,
    imgsz: int = 640, paced: bool = False,
) -> Estimate:  # fmt: skip
    """The latency of one run of `model` (name, .onnx path or network) on `gpu` with TensorRT in float16.

    attention -- "fused" (default), "explicit", "published" or "stripped"; an ONNX file's own spelling is taken as it is
    batch, imgsz -- images a run (at most MOST_IMAGES) and side of the square image; an ONNX file with fixed sizes keeps
    its own, and others than the default are refused
    paced -- with 200 ms rest between inferences, so that a large network does not throttle a T4's clock
    Raises YoloproofError for an unknown model, GPU or attention, an attention for a network or file that leaves no
    choice, an ONNX file that cannot be read, and a paced run on another GPU than a T4.
    """
    rates = gpu_from_name(gpu) if isinstance(gpu, str) else gpu
    name = model_name(model)
    if paced and not rates.calibrated:
        raise YoloproofError(f"paced on {rates.title}: the factor is known for a T4 alone; leave it out")
    if not 1 <= batch <= MOST_IMAGES:
        raise YoloproofError(f"batch {batch}: give 1 to {MOST_IMAGES} images")
    read = _from_graph if _is_graph(name) else _from_name
    asked = read(name, attention, batch, imgsz)
    table = table_from_kernels([asked.kernels])
    posterior = committed_posterior()
    fit = posterior.point
    calibrated = rates.calibrated and (asked.batch, asked.imgsz) == CALIBRATED_AT
    away = distance(table, fit.constants, fit.formula, asked.imgsz)
    checked = rates.calibrated and asked.batch == 1
    doubt = hypot(away.doubt, 0.0 if checked else UNCALIBRATED_SPREAD)
    raw = interval(latency_samples(posterior, table, rates)[:, 0], LEVEL)
    seconds = float(point_latency_s(fit, table, rates)[0])
    levers = _levers(asked.kernels, seconds, fit, rates)
    if not _is_graph(name):
        levers |= _levers_by_name(name, asked, seconds, fit, rates)
    found = Estimate(
        name, rates, asked.attention, asked.batch, asked.imgsz, seconds,
        honest_interval(raw, LEVEL, seconds, doubt, checked and away.inside), calibrated,
        int(np.count_nonzero(kernel_seconds(table, fit.constants, fit.formula, rates))),
        _parts(asked.kernels, fit, rates), _blocks(asked.kernels, fit, rates),
        {what: saved for what, saved in sorted(levers.items(), key=lambda item: -item[1]) if saved > 0},
        asked.unmodelled,
        away.check if checked else None,
    )  # fmt: skip
    return _paced(found) if paced else found


def _paced(found: Estimate) -> Estimate:
    """The estimate for a GPU that rests between inferences: every time in it by one factor."""
    factor = float(np.interp(np.log(found.seconds), np.log(SUSTAINED_S), PACED_OVER_SUSTAINED))
    low, high = found.interval_s
    parts, blocks, levers = (
        {what: factor * s for what, s in times.items()} for times in (found.parts_s, found.blocks_s, found.levers_s)
    )
    return replace(
        found, seconds=factor * found.seconds, interval_s=(factor * low, factor * high), parts_s=parts, blocks_s=blocks,
        levers_s=levers, paced=True,
    )  # fmt: skip


@dataclass(frozen=True)
class _Asked:
    """What there is to cost, as `Estimate` describes it."""

    kernels: list[Kernel]
    attention: str
    batch: int
    imgsz: tuple[int, ...]
    unmodelled: tuple[str, ...] = ()


def _is_graph(name: str) -> bool:
    return Path(name).suffix == ".onnx"


def _from_name(name: str, attention: str | None, batch: int, imgsz: int) -> _Asked:
    choice = attentions_of(name)
    if not choice and attention is not None:
        raise YoloproofError(f"{name} has no attention: leave '{attention}' out")
    kernels = kernels_from_shapes(name, attention or "fused", batch, imgsz)
    return _Asked(kernels, (attention or "fused") if choice else NO_ATTENTION, batch, (imgsz, imgsz))


def _from_graph(name: str, attention: str | None, batch: int, imgsz: int) -> _Asked:
    from yoloproof.estimate.graph import kernels_from_onnx  # onnx loads slowly and names do not need it

    if attention is not None:
        raise YoloproofError(f"attention '{attention}' of {name}: an ONNX file's is in its graph; leave it out")
    graph = kernels_from_onnx(Path(name), batch, imgsz)
    its_batch, its_sides = (graph.input_shape or (1,))[0], graph.input_shape[2:]
    if batch not in (1, its_batch) or (imgsz != 640 and set(its_sides) != {imgsz}):
        shape = " × ".join(map(str, graph.input_shape))
        raise YoloproofError(
            f"{name}: its input is fixed at {shape}; leave batch and size out, or export with --dynamic"
        )
    return _Asked(graph.kernels, AS_IN_GRAPH, its_batch, its_sides, graph.unmodelled)


def estimate_line(model: str | Path | Network, gpu: str = "t4", named: bool = True) -> str:
    """One line for a report or a machine without this GPU, marked as an estimate. Raises as `estimate` does.

    named -- with the names of model and GPU; without them it continues a line that has both
    """
    found = estimate(model, gpu)
    low, high = found.interval_s
    given = found.attention in (AS_IN_GRAPH, NO_ATTENTION)
    attention = found.attention if given else f"{found.attention} attention"
    doubt = ", model not calibrated on this GPU"
    if found.check is not None:
        doubt = f"; mean error of such networks in an outside check: {100 * found.check.mean_error:.0f} %"
    names = f"{Path(found.model).name} on {found.gpu.title}, " if named else ""
    return (
        f"estimate, not a measurement: {names}TensorRT FP16, {attention}: "
        f"{1e3 * found.seconds:.1f} ms (90 %: {1e3 * low:.1f}–{1e3 * high:.1f}{doubt})"
    )


def _blocks(kernels: list[Kernel], fit: Fit, gpu: GpuRates) -> dict[str, float]:
    _, factor = fit.typical_table()
    seconds = kernel_seconds(table_from_kernels([kernels]), fit.constants, fit.formula, gpu)
    blocks: dict[str, float] = {}
    for kernel, value in zip(kernels, seconds, strict=True):
        blocks[kernel.block] = blocks.get(kernel.block, 0.0) + factor * float(value)
    return blocks


def _parts(kernels: list[Kernel], fit: Fit, gpu: GpuRates) -> dict[str, float]:
    """Outside, floors, arithmetic, bytes; what is left (overlap, scaled attention passes) goes to bytes."""
    offset, factor = fit.typical_table()
    table = table_from_kernels([kernels])
    seconds = kernel_seconds(table, fit.constants, fit.formula, gpu)
    lives = seconds > 0
    memory = memory_seconds(table, fit.constants, fit.formula, gpu)[lives]
    arithmetic = arithmetic_seconds(table, fit.constants, fit.formula, gpu)[lives]
    floor = np.minimum(fit.constants.floor_s, seconds[lives])
    share = arithmetic / np.maximum(arithmetic + memory, 1e-30)
    rest = seconds[lives] - floor
    return {
        "outside the kernels": offset,
        "kernel floors": factor * float(floor.sum()),
        "arithmetic": factor * float((rest * share).sum()),
        "bytes": factor * float((rest * (1 - share)).sum()),
    }


def _levers(kernels: list[Kernel], seconds: float, fit: Fit, gpu: GpuRates) -> dict[str, float]:
    """Seconds saved by changes that leave the detector the same."""
    fused = replace(fit, formula=replace(fit.formula, activation="fused"))
    half_floor = replace(fit, constants=replace(fit.constants, floor_s=fit.constants.floor_s / 2))
    untransposed = [kernel for kernel in kernels if kernel.kind != "reformat"]
    changes = {
        "activations fused into their convolutions": (fused, kernels),
        "half the floor of every kernel": (half_floor, kernels),
        "no transpositions around attention": (fit, untransposed or kernels),
    }
    return {
        what: seconds - float(point_latency_s(changed, table_from_kernels([left]), gpu)[0])
        for what, (changed, left) in changes.items()
    }


def _levers_by_name(name: str, asked: _Asked, seconds: float, fit: Fit, gpu: GpuRates) -> dict[str, float]:
    """Seconds saved for each run of today's batch by other attention, batch or size (which the words say)."""
    attention = "fused" if asked.attention == NO_ATTENTION else asked.attention

    def latency(attention: str, batch: int, imgsz: int) -> float:
        table = table_from_kernels([kernels_from_shapes(name, attention, batch, imgsz)])
        return float(point_latency_s(fit, table, gpu)[0])

    batch, side = asked.batch, asked.imgsz[0]
    smaller = max(side // 32 * 4 // 5, 1) * 32
    levers = {
        f"a batch of {8 * batch} (an eighth of its run)": seconds - latency(attention, 8 * batch, side) / 8,
        f"{smaller} px instead of {side} (another detector: prove its accuracy)": seconds
        - latency(attention, batch, smaller),
    }
    if attention in ("explicit", "published"):
        levers["fused attention"] = seconds - latency("fused", batch, side)
    return levers
