"""What the estimate is good for: how far a network is from the calibrated ones, and what was found out there."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

import numpy as np

from yoloproof.estimate.cost import Constants, Formula, kernel_seconds
from yoloproof.estimate.gpus import GPUS
from yoloproof.estimate.kernels import KINDS, KernelTable

CALIBRATED_PIXELS = 640 * 640
MOST_TOKENS, MOST_BYTES_ALONE = 0.025, 0.11
"""A little above the largest shares of time among the calibrated networks (YOLOv10-N, 0.021 around attention and 0.095 by
bytes alone): an ONNX file of the same network has kernels of other names."""

SIZE_DOUBT = 0.08  # for each factor e of pixels: YOLO11's figures at 224 and 1024 px
SHARE_DOUBT = 1.0  # times the share of time: the outside check's text and transformer networks, 22 % off


@dataclass(frozen=True)
class Check:
    """What an outsider found on published T4 figures that never enter the fit; errors and coverages are fractions.

    what -- the networks of the row; bias -- the mean error with its sign, estimated over published
    """

    what: str
    figures: int
    mean_error: float
    worst_error: float
    bias: float
    coverage_50: float
    coverage_90: float


CHECKED = "November 2026"
DETECTION = Check("convolutional YOLOs, detection, 640 px (four families)", 16, 0.058, 0.155, 0.01, 0.75, 1.00)
HEADS = Check("segmentation and pose heads, 640 px", 20, 0.065, 0.126, 0.06, 0.70, 1.00)
SIZES = Check("other sizes (224, 768, 1024 px)", 20, 0.24, 0.45, 0.0, 0.50, 0.85)
TOKENS = Check("text and transformer networks (YOLO-World, RT-DETR)", 9, 0.22, 0.39, -0.22, 0.11, 0.67)
OUTSIDE_CHECK = (DETECTION, HEADS, SIZES, TOKENS)


@dataclass(frozen=True)
class Distance:
    """How far a run is from the calibrated ones; zero where it is no further than they are from each other.

    size -- size of the logarithm of the image's pixels over those of 640 × 640
    tokens -- share of time around attention and in products of activations, beyond the calibrated networks' largest
    bytes_alone -- the same of what is neither convolution nor attention: operators that are counted by their bytes
    """

    size: float
    tokens: float
    bytes_alone: float

    @property
    def inside(self) -> bool:
        """No further from the calibrated networks than they are from each other."""
        return self.size == self.tokens == self.bytes_alone == 0

    @property
    def doubt(self) -> float:
        """Standard deviation of the log of the factor that is not known out here."""
        return hypot(SIZE_DOUBT * self.size, SHARE_DOUBT * (self.tokens + self.bytes_alone))

    @property
    def check(self) -> Check:
        """The row of the outside check that speaks of such a run."""
        if self.tokens > 0 or self.bytes_alone > 0:
            return TOKENS
        return SIZES if self.size > 0 else DETECTION


def distance(table: KernelTable, constants: Constants, formula: Formula, sides: tuple[int, ...]) -> Distance:
    """Of one network's kernels on an image of these sides; shares are of the kernels' time on a T4."""
    seconds = kernel_seconds(table, constants, formula, GPUS["t4"])
    of_kind = {kind: float(seconds[table.kind == index].sum()) for index, kind in enumerate(KINDS)}
    products = float(seconds[(table.kind == KINDS.index("gemm")) & (table.weights == 0)].sum())
    tokens = of_kind["attention"] + of_kind["score"] + of_kind["reformat"] + products
    bytes_alone = of_kind["memory"] + of_kind["selection"] + of_kind["concat"]
    whole = float(seconds.sum())
    size = abs(float(np.log(np.prod(sides) / CALIBRATED_PIXELS))) if len(sides) == 2 else 0.0
    return Distance(size, max(tokens / whole - MOST_TOKENS, 0.0), max(bytes_alone / whole - MOST_BYTES_ALONE, 0.0))
