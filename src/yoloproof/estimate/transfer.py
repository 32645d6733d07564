"""The model on a GPU it was not calibrated on: the H100, with measured ceilings, against this project's own timings."""

from __future__ import annotations

from yoloproof.estimate.cost import network_seconds
from yoloproof.estimate.gpus import GPUS
from yoloproof.estimate.kernels import table_from_kernels
from yoloproof.estimate.posterior import Posterior
from yoloproof.estimate.shapes import kernels_from_shapes

# yolov13, float16, 640 px, batch 1, H100, PyTorch 2.11 under one CUDA graph, milliseconds: facts of this project ("seen").
# PyTorch, not TensorRT (TensorRT-RTX refuses Hopper): other kernels, other fusions.
H100_CUDA_GRAPH_MS = {
    "yolov13n": {"published": 2.37, "fused": 2.16, "stripped": 2.05},
    "yolov13s": {"published": 2.56, "fused": 2.30, "stripped": 2.15},
    "yolov13l": {"published": 5.22, "fused": 4.47, "stripped": 4.19},
    "yolov13x": {"published": 6.72, "fused": 5.67, "stripped": 5.34},
}
H100_COMPILED_MS = {
    "yolov13n": {"published": 1.22, "fused": 1.20, "stripped": 1.02},
    "yolov13l": {"published": 2.97, "fused": 2.92, "stripped": 2.54},
}


def h100_kernel_seconds(posterior: Posterior, model: str, attention: str) -> float:
    """Seconds of the kernels alone: within a CUDA graph nothing of a table's offset or factor applies."""
    table = table_from_kernels([kernels_from_shapes(model, attention)])
    return float(network_seconds(table, posterior.point.constants, posterior.point.form, GPUS["h100"])[0])


def h100_rows(posterior: Posterior) -> list[str]:
    """A Markdown table of measured and estimated, and the mean absolute errors."""
    lines = ["| model | attention | runtime | measured | estimated | error |", "|---|---|---|---|---|---|"]
    for runtime, measured in (("CUDA graph", H100_CUDA_GRAPH_MS), ("torch.compile + CUDA graph", H100_COMPILED_MS)):
        errors = []
        for model, figures in measured.items():
            for attention, milliseconds in figures.items():
                seconds = h100_kernel_seconds(posterior, model, attention)
                errors.append(1e3 * seconds / milliseconds - 1)
                lines.append(
                    f"| {model} | {attention} | {runtime} | {milliseconds:.2f} | {1e3 * seconds:.2f} | {100 * errors[-1]:+.0f} % |"
                )
        mean = sum(abs(error) for error in errors) / len(errors)
        lines.append(f"| mean absolute error | | {runtime} | | | {100 * mean:.0f} % |")
    return lines
