"""The model on a GPU it was not calibrated on, with that GPU's measured ceilings, against this project's own timings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yoloproof.errors import YoloproofError
from yoloproof.estimate.gpus import GPUS, GpuRates, gpu_with_ceilings
from yoloproof.estimate.kernels import table_from_kernels
from yoloproof.estimate.posterior import Posterior
from yoloproof.estimate.shapes import ATTENTIONS, kernels_from_shapes, layer_shapes


@dataclass(frozen=True)
class TransferRow:
    """One timing beside the estimate for it, both in seconds.

    network -- how the network ran ("published", "simplified compiled", …); attention -- one of ATTENTIONS
    """

    gpu: str
    model: str
    batch: int
    attention: str
    network: str
    measured_s: float
    estimated_s: float

    @property
    def error(self) -> float:
        """Estimated over measured, less one."""
        return self.estimated_s / self.measured_s - 1


def gpu_from_device(device: str) -> GpuRates:
    """The row of a device as its driver names it ("NVIDIA H100 80GB HBM3"); raises YoloproofError if there is none."""
    words = device.lower().replace(" ", "").replace("-", "")
    found = [row for key, row in GPUS.items() if key in words]
    if not found:
        raise YoloproofError(f"no data sheet of '{device}': there are {', '.join(row.title for row in GPUS.values())}")
    return max(found, key=lambda row: len(row.name))  # "rtx2080ti" rather than "rtx2080"


def gpu_of_result(result: Mapping[str, Any]) -> GpuRates:
    """The GPU of a file of benchmarks/gpu.py, with the ceilings that the file measured.

    Raises YoloproofError for a file without a GPU, without ceilings, or of a GPU that has no data sheet here.
    """
    device, ceilings = (result.get("machine") or {}).get("gpu"), result.get("ceilings")
    if not device or not ceilings:
        raise YoloproofError("no GPU or no measured ceilings in this result; benchmarks/gpu.py writes both")
    return gpu_with_ceilings(
        gpu_from_device(device["name"]), ceilings["float16_flops_per_s"], ceilings["copy_bytes_per_s"]
    )


def kernel_seconds_of(posterior: Posterior, gpu: GpuRates, model: str, attention: str, batch: int, imgsz: int) -> float:
    """Seconds of the kernels alone: within a CUDA graph nothing of a table's offset or factor applies."""
    table = table_from_kernels([kernels_from_shapes(model, attention, batch, imgsz)])
    return float(posterior.point.kernel_s(table, gpu)[0])


def transfer_rows(posterior: Posterior, results: Sequence[Mapping[str, Any]]) -> list[TransferRow]:
    """Every timing in `results` (files of benchmarks/gpu.py) of a network whose layers are known, in their order.

    Entries in another precision, without a CUDA graph, on an oblong image or of other networks are left out: the
    model says nothing of them. Raises YoloproofError as `gpu_of_result` does.
    """
    return [row for result in results for row in _rows(posterior, result)]


def _rows(posterior: Posterior, result: Mapping[str, Any]) -> Iterator[TransferRow]:
    gpu = gpu_of_result(result)
    for entry in result["entries"]:
        model, artifact, runtime = entry["model"]["name"], entry["artifact"], entry["runtime"]
        attention, (height, width), batch = artifact["attention"], artifact["imgsz"], artifact["batch"]
        comparable = artifact["precision"] == "fp16" and runtime.get("cuda_graph") and height == width
        if model not in layer_shapes() or attention not in ATTENTIONS or not comparable:
            continue
        estimated = kernel_seconds_of(posterior, gpu, model, attention, batch, height)
        network = artifact.get("form", attention)
        yield TransferRow(gpu.title, model, batch, attention, network, entry["summary"]["median_s"], estimated)


def mean_error(rows: Sequence[TransferRow]) -> tuple[int, float, float]:
    """How many timings, their mean error with its sign, and the mean absolute error."""
    errors = np.array([row.error for row in rows])
    return len(errors), float(errors.mean()), float(np.abs(errors).mean())
