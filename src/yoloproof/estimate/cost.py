"""Seconds of a kernel: its arithmetic, its bytes and a floor, with a few physical constants.

`Formula` spells out the choices that no data sheet settles. The constants, and how plausible each formula is, come from
published latencies (`posterior`; fitted by research/t4.py, where the priors stand).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloproof.estimate.gpus import GpuRates
from yoloproof.estimate.kernels import KINDS, KernelTable

TILES = ((256, 128), (128, 256), (128, 128), (256, 64), (128, 64), (64, 64), (128, 32), (64, 32))
REFERENCE_TILE = 64.0  # harmonic size of 128 × 128: `tensor` is the share reached with it
CACHE_USABLE = 0.75
MATRIX_SHARE = 0.8  # of the peak, that a large matrix product reaches: 759 to 798 of 989 TFLOP/s seen on H100s
FEW_TILES = 1.5  # few tiles keep few loads in flight, and each waits longer for them; more than proportionally
SELECTION_S = 20e-6  # one top-k over 8,400 anchors; assumed, three of them in YOLOv10's graph


@dataclass(frozen=True)
class Constants:
    """What the cost hangs on.

    tensor -- share of the tensor-core peak that a large, full convolution reaches
    memory -- share of the data sheet's memory bandwidth that is reached
    cache -- bandwidth of the level-2 cache over the memory's
    floor_s -- seconds that a kernel takes whatever it does: launch, ramp up, drain
    depthwise -- share of the FP16 peak outside the tensor cores that depthwise kernels reach
    tiles_in_flight -- tiles a multiprocessor must work on before the weights stream at the memory's full speed
    tile -- tile size (harmonic) at which a product's tile loses half to feeding the tensor cores
    attention -- speed of a fused attention kernel over that of a large convolution
    score -- cost of passes over the score matrix over what float16 bytes say (float32: 2)
    reformat -- cost of the transpositions around an attention over one read and write each way
    """

    tensor: float
    memory: float
    cache: float
    floor_s: float
    depthwise: float
    tiles_in_flight: float
    tile: float
    attention: float
    score: float
    reformat: float


@dataclass(frozen=True)
class Formula:
    """One way to write the cost down.

    grid -- a product's tiles over the multiprocessors: "free", "smooth" (never less than one tile's time), "waves" (whole
    waves)
    cache -- tensors that fit move at the cache's speed
    combine -- arithmetic and bytes: "max" (overlap), "sum" (none), "norm" (root of the squares)
    floor -- "add" to each kernel or "max" with it
    activation -- SiLU "fused" into the convolution or a "separate" kernel (as TensorRT's build logs show before Ampere)
    concat -- "free" or a "copy"
    """

    grid: str = "smooth"
    cache: bool = True
    combine: str = "norm"
    floor: str = "add"
    activation: str = "separate"
    concat: str = "free"


def arithmetic_seconds(
    table: KernelTable, constants: Constants, formula: Formula, gpu: GpuRates
) -> NDArray[np.float64]:
    """Seconds of each kernel's arithmetic alone."""
    return _arithmetic(table, constants, formula, gpu)[0]


def _arithmetic(
    table: KernelTable, constants: Constants, formula: Formula, gpu: GpuRates
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of each kernel's arithmetic, and the share of the memory's speed at which its tiles take in weights."""
    seconds, taken_in = np.zeros(len(table.kind)), np.ones(len(table.kind))
    peak = gpu.tensor_flops_s * constants.tensor / (MATRIX_SHARE if gpu.measured_tensor else 1.0)
    gemm = table.kind == KINDS.index("gemm")
    m, n, groups = table.m[gemm], table.n[gemm], table.groups[gemm]
    depth = np.ceil(table.k[gemm] / 32) * 32
    weights_s = table.weights[gemm] / _memory_rate(constants, gpu)
    best, arithmetic, share_taken = np.full(len(m), np.inf), np.zeros(len(m)), np.ones(len(m))
    for rows, columns in TILES:
        tiles = np.ceil(m / rows) * np.ceil(n / columns) * groups
        size = rows * columns / (rows + columns)
        share = size / (size + constants.tile) * (REFERENCE_TILE + constants.tile) / REFERENCE_TILE
        one_tile = 2 * rows * columns * depth / (peak / gpu.multiprocessors * share)
        waves = tiles / gpu.multiprocessors
        in_flight = np.minimum(waves / constants.tiles_in_flight, 1) ** FEW_TILES
        if formula.grid == "smooth":
            waves = np.maximum(1, waves)
        elif formula.grid == "waves":
            waves = np.ceil(waves)
        whole = waves * one_tile + weights_s / in_flight
        better = whole < best
        arithmetic = np.where(better, waves * one_tile, arithmetic)
        share_taken = np.where(better, in_flight, share_taken)
        best = np.minimum(best, whole)
    seconds[gemm], taken_in[gemm] = arithmetic, share_taken
    flops = 2 * table.m * table.n * table.k * table.groups
    depthwise = table.kind == KINDS.index("depthwise")
    seconds[depthwise] = flops[depthwise] / (gpu.half_flops_s * constants.depthwise)
    attention = table.kind == KINDS.index("attention")
    seconds[attention] = flops[attention] / (peak * constants.attention)
    return seconds, taken_in


def _memory_rate(constants: Constants, gpu: GpuRates) -> float:
    return gpu.memory_bytes_s * (1.0 if gpu.measured_memory else constants.memory)


def memory_seconds(table: KernelTable, constants: Constants, formula: Formula, gpu: GpuRates) -> NDArray[np.float64]:
    """Seconds to move each kernel's bytes: few tiles cannot keep the memory busy with their weights (small maps)."""
    return _memory(table, constants, formula, gpu, _arithmetic(table, constants, formula, gpu)[1])


def _memory(
    table: KernelTable, constants: Constants, formula: Formula, gpu: GpuRates, taken_in: NDArray[np.float64]
) -> NDArray[np.float64]:
    rate = _memory_rate(constants, gpu)
    if not formula.cache:
        return (table.activations + table.weights / taken_in) / rate
    held = held_share(table.activations, gpu)
    return (table.weights / taken_in + table.activations * (1 - held + held / constants.cache)) / rate


def held_share(moved: float | NDArray[np.float64], gpu: GpuRates) -> NDArray[np.float64]:
    """The share of `moved` bytes that the level-2 cache serves. Tensors that do not fit push out what would be read next:
    less of them is still there than would fit."""
    fits = np.clip(CACHE_USABLE * gpu.cache_bytes / np.maximum(moved, 1), 0, 1)
    return np.asarray(fits**2, dtype=np.float64)


def kernel_seconds(table: KernelTable, constants: Constants, formula: Formula, gpu: GpuRates) -> NDArray[np.float64]:
    """Seconds of each kernel of `table` on `gpu`; zero for one that the formula fuses away."""
    arithmetic, taken_in = _arithmetic(table, constants, formula, gpu)
    memory = _memory(table, constants, formula, gpu, taken_in)
    if formula.combine == "max":
        seconds = np.maximum(arithmetic, memory)
    elif formula.combine == "sum":
        seconds = arithmetic + memory
    else:
        seconds = np.hypot(arithmetic, memory)
    floor = constants.floor_s
    seconds = seconds + floor if formula.floor == "add" else np.maximum(seconds, floor)
    seconds[table.kind == KINDS.index("score")] *= constants.score
    seconds[table.kind == KINDS.index("reformat")] *= constants.reformat
    seconds[table.kind == KINDS.index("selection")] += SELECTION_S
    if formula.activation == "fused":
        seconds[table.kind == KINDS.index("activation")] = 0
    if formula.concat == "free":
        seconds[table.kind == KINDS.index("concat")] = 0
    return seconds


def network_seconds(table: KernelTable, constants: Constants, formula: Formula, gpu: GpuRates) -> NDArray[np.float64]:
    """Seconds of the kernels of each network in `table`, one figure a network."""
    sums: NDArray[np.float64] = np.add.reduceat(kernel_seconds(table, constants, formula, gpu), table.starts)
    return sums
