"""The published networks as a table: one frozen row per variant, looked up by its exact name."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from yoloproof.errors import YoloproofError


@dataclass(frozen=True)
class Family:
    """One published architecture. head -- number of its Detect layer; release -- where its official weights lie."""

    name: str
    head: int
    release: str


# YOLOv13: arXiv 2506.17733; YOLOv12: arXiv 2502.12524, as "turbo" and, as the ultralytics package ships it, v1.0 (YOLO12)
FAMILIES: dict[str, Family] = {
    row.name: row
    for row in (
        Family("yolov13", 32, "https://github.com/iMoonLab/yolov13/releases/download/yolov13/"),
        Family("yolov12", 21, "https://github.com/sunsmarterjie/yolov12/releases/download/turbo/"),
        Family("yolo12", 21, "https://github.com/ultralytics/assets/releases/download/v8.3.0/"),
    )
}


@dataclass(frozen=True)
class Variant:
    """One scale of one family.

    depth, width, max_channels -- the scale's multipliers and the cap on a stage's channels before scaling
    nested -- blocks that are plain in the small scales hold nested C3k / DSC3k blocks
    residual, mlp_ratio -- of the area attention stages
    hyperedges -- number of hyperedges of YOLOv13's HyperACE (0 for the others)
    widen -- YOLOv13: the coarsest level has twice the channels of the middle one (`channel_adjust` upstream)
    """

    name: str
    family: str
    scale: str
    depth: float
    width: float
    max_channels: int
    nested: bool = False
    residual: bool = False
    mlp_ratio: float = 2.0
    hyperedges: int = 0
    widen: bool = True

    def channels(self, c: int) -> int:
        """Scaled channels of a stage, rounded up to a multiple of 8."""
        return ceil(min(c, self.max_channels) * self.width / 8) * 8

    def repeats(self, n: int) -> int:
        """Scaled repeat count of a stage."""
        return max(round(n * self.depth), 1) if n > 1 else n


VARIANTS: dict[str, Variant] = {
    row.name: row
    for row in (
        Variant("yolov13n", "yolov13", "n", 0.5, 0.25, 1024, hyperedges=4),
        Variant("yolov13s", "yolov13", "s", 0.5, 0.50, 1024, hyperedges=8),
        Variant("yolov13l", "yolov13", "l", 1.0, 1.00, 512, True, True, 1.5, hyperedges=8, widen=False),
        Variant("yolov13x", "yolov13", "x", 1.0, 1.50, 512, True, True, 1.5, hyperedges=12, widen=False),
        Variant("yolov12n", "yolov12", "n", 0.5, 0.25, 1024),
        Variant("yolov12s", "yolov12", "s", 0.5, 0.50, 1024),
        Variant("yolov12m", "yolov12", "m", 0.5, 1.00, 512, True),
        Variant("yolov12l", "yolov12", "l", 1.0, 1.00, 512, True, True, 1.5),
        Variant("yolov12x", "yolov12", "x", 1.0, 1.50, 512, True, True, 1.5),
        Variant("yolo12n", "yolo12", "n", 0.5, 0.25, 1024),
        Variant("yolo12s", "yolo12", "s", 0.5, 0.50, 1024),
        Variant("yolo12m", "yolo12", "m", 0.5, 1.00, 512, True),
        Variant("yolo12l", "yolo12", "l", 1.0, 1.00, 512, True, True, 1.2),
        Variant("yolo12x", "yolo12", "x", 1.0, 1.50, 512, True, True, 1.2),
    )
}


def variant_from_name(name: str) -> Variant:
    """The row of that exact name; raises YoloproofError that lists the names there are."""
    if name not in VARIANTS:
        raise YoloproofError(f"no variant is called '{name}'; choose from {', '.join(VARIANTS)}")
    return VARIANTS[name]
