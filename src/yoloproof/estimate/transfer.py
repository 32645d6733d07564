"""The model on a GPU it was not calibrated on: the H100, with measured ceilings, against this project's own timings."""

from __future__ import annotations

from dataclasses import dataclass

from yoloproof.estimate.cost import network_seconds
from yoloproof.estimate.gpus import GPUS
from yoloproof.estimate.kernels import table_from_kernels
from yoloproof.estimate.posterior import Posterior
from yoloproof.estimate.shapes import kernels_from_shapes

# yolov13, float16, 640 px, batch 1, H100, PyTorch 2.11 under one CUDA graph, seconds: seen for this project.
# PyTorch, not TensorRT (TensorRT-RTX refuses Hopper): other kernels, other fusions.
H100_CUDA_GRAPH_S = {
    "yolov13n": {"published": 2.37e-3, "fused": 2.16e-3, "stripped": 2.05e-3},
    "yolov13s": {"published": 2.56e-3, "fused": 2.30e-3, "stripped": 2.15e-3},
    "yolov13l": {"published": 5.22e-3, "fused": 4.47e-3, "stripped": 4.19e-3},
    "yolov13x": {"published": 6.72e-3, "fused": 5.67e-3, "stripped": 5.34e-3},
}
H100_COMPILED_S = {
    "yolov13n": {"published": 1.22e-3, "fused": 1.20e-3, "stripped": 1.02e-3},
    "yolov13l": {"published": 2.97e-3, "fused": 2.92e-3, "stripped": 2.54e-3},
}


def h100_kernel_seconds(posterior: Posterior, model: str, attention: str) -> float:
    """Seconds of the kernels alone: within a CUDA graph nothing of a table's offset or factor applies."""
    table = table_from_kernels([kernels_from_shapes(model, attention)])
    return float(network_seconds(table, posterior.point.constants, posterior.point.form, GPUS["h100"])[0])


@dataclass(frozen=True)
class TransferRow:
    """One timing of another GPU beside the estimate for it, both in seconds."""

    model: str
    attention: str
    runtime: str
    measured_s: float
    estimated_s: float

    @property
    def error(self) -> float:
        """Estimated over measured, less one."""
        return self.estimated_s / self.measured_s - 1


def h100_rows(posterior: Posterior) -> list[TransferRow]:
    """Every H100 timing known beside its estimate."""
    measured = {"CUDA graph": H100_CUDA_GRAPH_S, "torch.compile + CUDA graph": H100_COMPILED_S}
    return [
        TransferRow(model, attention, runtime, known_s, h100_kernel_seconds(posterior, model, attention))
        for runtime, models in measured.items()
        for model, figures in models.items()
        for attention, known_s in figures.items()
    ]
