"""The detection head: box distributions and class scores of three levels, decoded to pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.network.blocks import Block, Conv, DWConv

STRIDES = (8, 16, 32)
BINS = 16


class DFL(Block):
    """Expectation of a distribution over 16 bins (Generalized Focal Loss, arXiv 2006.04388): [B, 64, A] → [B, 4, A]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(BINS, 1, 1, bias=False)
        self.conv.weight = nn.Parameter(torch.arange(BINS, dtype=torch.float32).view(1, BINS, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        bins = x.float().unflatten(1, (4, BINS)).transpose(1, 2).softmax(1)
        return F.conv2d(bins, self.conv.weight.float()).squeeze(1)


def anchor_points(sizes: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Cell centres [1, 2, A] (x, y in cells) and strides [1, 1, A] of the levels' (height, width), rows first.

    Made on `device`: a copy from the host cannot be captured in a CUDA graph.
    """
    centres, strides = [], []
    for stride, (h, w) in zip(STRIDES, sizes, strict=True):
        rows, columns = (torch.arange(side, device=device) + 0.5 for side in (h, w))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres.append(torch.stack((x.flatten(), y.flatten())))
        strides.append(torch.full((1, h * w), float(stride), device=device))
    return torch.cat(centres, 1)[None], torch.cat(strides, 1)[None]


def pixels_from_distances(distances: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    """Distances [B, 4, A] from the cells' centres to left, top, right and bottom, in cells → cx, cy, w, h in pixels."""
    centres, strides = anchor_points(sizes, distances.device)
    near, far = distances.chunk(2, 1)
    near, far = centres - near, centres + far
    return torch.cat(((near + far) / 2, far - near), 1) * strides


class Detect(nn.Module):
    """Three levels [B, C_i, H_i, W_i] → [B, 4 + classes, A]: cx, cy, w, h in input pixels, then class probabilities."""

    def __init__(self, classes: int, channels: list[int]) -> None:
        super().__init__()
        self.classes = classes
        c_box = max(16, channels[0] // 4, 4 * BINS)
        c_class = max(channels[0], min(classes, 100))
        self.cv2 = nn.ModuleList(
            nn.Sequential(Conv(c, c_box, 3), Conv(c_box, c_box, 3), nn.Conv2d(c_box, 4 * BINS, 1)) for c in channels
        )
        self.cv3 = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(DWConv(c, c, 3), Conv(c, c_class)),
                nn.Sequential(DWConv(c_class, c_class, 3), Conv(c_class, c_class)),
                nn.Conv2d(c_class, classes, 1),
            )
            for c in channels
        )
        self.dfl = DFL()

    def forward(self, levels: list[Tensor]) -> Tensor:
        boxes = torch.cat([branch(x).flatten(2) for branch, x in zip(self.cv2, levels, strict=True)], 2)  # [B, 64, A]
        scores = torch.cat([branch(x).flatten(2) for branch, x in zip(self.cv3, levels, strict=True)], 2)
        boxes = pixels_from_distances(self.dfl(boxes), [(x.shape[2], x.shape[3]) for x in levels])
        return torch.cat((boxes, scores.float().sigmoid()), 1)
