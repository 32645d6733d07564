"""What a GPU that is not here would take, with an interval. An estimate is never put among measurements."""

from __future__ import annotations

from yoloproof.estimate.estimation import Estimate, estimate, estimate_line, known_figures
from yoloproof.estimate.forensics import ModelForensics, TableVerdict, forensics, verdict
from yoloproof.estimate.gpus import GPUS, Gpu, gpu_from_name, gpu_with_ceilings

__all__ = [
    "GPUS",
    "Estimate",
    "Gpu",
    "ModelForensics",
    "TableVerdict",
    "estimate",
    "estimate_line",
    "forensics",
    "gpu_from_name",
    "gpu_with_ceilings",
    "known_figures",
    "verdict",
]
