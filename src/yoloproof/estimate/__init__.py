"""What a GPU that is not here would take, with an interval. An estimate is never put among measurements."""

from __future__ import annotations

from yoloproof.estimate.estimation import Estimate, estimate, estimate_line
from yoloproof.estimate.forensics import ModelForensics, forensics
from yoloproof.estimate.gpus import GPUS, GpuRates, gpu_from_name, gpu_with_ceilings

__all__ = [
    "GPUS",
    "Estimate",
    "GpuRates",
    "ModelForensics",
    "estimate",
    "estimate_line",
    "forensics",
    "gpu_from_name",
    "gpu_with_ceilings",
]
