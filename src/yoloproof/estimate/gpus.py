"""What the data sheets say of the GPUs one may ask about. Only the T4 is calibrated against published latencies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from yoloproof.errors import YoloproofError


@dataclass(frozen=True)
class GpuRates:
    """One GPU as the model sees it; rates in FLOP/s and bytes/s, dense (no sparsity).

    tensor_flops_s -- FP16 tensor-core peak; half_flops_s -- FP16 peak outside the tensor cores (depthwise convolutions)
    cache_bytes -- the level-2 cache; calibrated -- latencies of this very GPU stand behind the model's efficiencies
    measured_memory -- `memory_bytes_s` is a measured rate, not a data sheet's: no efficiency is taken off it
    measured_tensor -- `tensor_flops_s` is what a large matrix product reached, which is below the data sheet's peak
    """

    name: str
    title: str
    multiprocessors: int
    tensor_flops_s: float
    half_flops_s: float
    memory_bytes_s: float
    cache_bytes: float
    source: str
    calibrated: bool = False
    measured_memory: bool = False
    measured_tensor: bool = False


MIB = 1024.0**2

GPUS: dict[str, GpuRates] = {
    row.name: row
    for row in (
        GpuRates("t4", "Tesla T4", 40, 65e12, 16.2e12, 320e9, 4 * MIB, "NVIDIA T4 data sheet", calibrated=True),
        GpuRates("rtx2080", "GeForce RTX 2080", 46, 84.8e12, 21.2e12, 448e9, 4 * MIB, "NVIDIA Turing whitepaper"),
        GpuRates(
            "rtx2080ti", "GeForce RTX 2080 Ti", 68, 113.8e12, 28.5e12, 616e9, 5.5 * MIB, "NVIDIA Turing whitepaper"
        ),
        GpuRates("a10", "A10", 72, 125e12, 31.2e12, 600e9, 6 * MIB, "NVIDIA A10 data sheet"),
        GpuRates("a100", "A100 40 GB", 108, 312e12, 78e12, 1555e9, 40 * MIB, "NVIDIA A100 data sheet"),
        GpuRates("l4", "L4", 58, 121e12, 30.3e12, 300e9, 48 * MIB, "NVIDIA L4 data sheet"),
        GpuRates("h100", "H100 80 GB", 132, 989e12, 133.8e12, 3350e9, 50 * MIB, "NVIDIA H100 SXM data sheet"),
        GpuRates("h200", "H200", 132, 989e12, 133.8e12, 4800e9, 50 * MIB, "NVIDIA H200 data sheet"),
    )
}


def gpu_from_name(name: str) -> GpuRates:
    """The row of that name; raises YoloproofError that lists the names there are."""
    key = name.lower().replace("-", "").replace(" ", "")
    if key not in GPUS:
        raise YoloproofError(f"no figures for a GPU called '{name}': choose one of {', '.join(GPUS)}")
    return GPUS[key]


def gpu_with_ceilings(
    gpu: GpuRates, tensor_flops_s: float | None = None, memory_bytes_s: float | None = None
) -> GpuRates:
    """`gpu` with measured ceilings in place of its data sheet's; no longer counted as calibrated if any is given.

    tensor_flops_s -- of a large float16 matrix product; memory_bytes_s -- of a large copy, read and written
    Raises YoloproofError for a ceiling that is not a positive number.
    """
    for label, value in (("tensor_flops_s", tensor_flops_s), ("memory_bytes_s", memory_bytes_s)):
        if value is not None and not 0 < value < inf:
            raise YoloproofError(f"{label} of {gpu.title} is {value}: a ceiling must be a positive number")
    if tensor_flops_s is not None:
        gpu = replace(gpu, tensor_flops_s=tensor_flops_s, measured_tensor=True, calibrated=False)
    if memory_bytes_s is not None:
        gpu = replace(gpu, memory_bytes_s=memory_bytes_s, measured_memory=True, calibrated=False)
    if gpu.measured_tensor or gpu.measured_memory:
        gpu = replace(gpu, source="measured ceilings")
    return gpu
