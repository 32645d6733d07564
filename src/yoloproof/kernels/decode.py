"""The head's logits to boxes in pixels and class probabilities. Reference: `yoloproof.network.head.Detect`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from yoloproof.kernels.epilogue import begin
from yoloproof.kernels.launch import Options, launch, pixels, tiles


@triton.jit(do_not_specialize=["width0", "width1", "width2", "cells0", "cells1", "cells2"])
def decode_kernel(
    box0, box1, box2, box_p0, box_p1, box_p2, score0, score1, score2, score_p0, score_p1, score_p2,
    y, width0, width1, width2, cells0, cells1, cells2, classes,
    BM: tl.constexpr, BC: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Three levels' logits (64 bins and the classes of each cell) to float32 y [B, 4 + classes, anchors]."""
    begin(EARLY)
    tile, b = tl.program_id(0), tl.program_id(1)
    anchors = cells0 + cells1 + cells2
    tiles0, tiles1 = tl.cdiv(cells0, BM), tl.cdiv(cells1, BM)
    if tile < tiles0:
        _level(box0, box_p0, score0, score_p0, y, 0, anchors, width0, cells0, classes, 8.0, tile, b, BM, BC)
    elif tile < tiles0 + tiles1:
        at = tile - tiles0
        _level(box1, box_p1, score1, score_p1, y, cells0, anchors, width1, cells1, classes, 16.0, at, b, BM, BC)
    else:
        at, offset = tile - tiles0 - tiles1, cells0 + cells1
        _level(box2, box_p2, score2, score_p2, y, offset, anchors, width2, cells2, classes, 32.0, at, b, BM, BC)


@triton.jit
def _level(
    boxes, box_p, scores, score_p, y, offset, anchors, width, cells, classes, stride, tile, b,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    m = tile * BM + tl.arange(0, BM)
    inside = m < cells
    bins = tl.arange(0, 16)
    row = boxes + (b * cells + m)[:, None] * box_p + bins[None, :]
    out = y + b * (4 + classes) * anchors + offset + m
    x, top = (m % width).to(tl.float32) + 0.5, (m // width).to(tl.float32) + 0.5
    left = _expectation(row, inside, bins)
    up = _expectation(row + 16, inside, bins)
    right = _expectation(row + 32, inside, bins)
    down = _expectation(row + 48, inside, bins)
    tl.store(out, (x + (right - left) * 0.5) * stride, mask=inside)
    tl.store(out + anchors, (top + (down - up) * 0.5) * stride, mask=inside)
    tl.store(out + 2 * anchors, (left + right) * stride, mask=inside)
    tl.store(out + 3 * anchors, (up + down) * stride, mask=inside)
    for c in range(tl.cdiv(classes, BC)):
        n = c * BC + tl.arange(0, BC)
        both = (n < classes)[:, None] & inside[None, :]
        logit = tl.load(scores + (b * cells + m)[None, :] * score_p + n[:, None], mask=both, other=0.0).to(tl.float32)
        tl.store(out[None, :] + (4 + n)[:, None] * anchors, 1.0 / (1.0 + tl.exp(-logit)), mask=both)


@triton.jit
def _expectation(row, inside, bins):
    """Σ j·softmax(x)_j over 16 bins."""
    x = tl.load(row, mask=inside[:, None], other=0.0).to(tl.float32)
    e = tl.exp(x - tl.max(x, 1)[:, None])
    return tl.sum(e * bins.to(tl.float32)[None, :], 1) / tl.sum(e, 1)


def decoded(boxes: list[Tensor], scores: list[Tensor], classes: int, options: Options) -> Tensor:
    """Logits of the levels at strides 8, 16, 32 to float32 [B, 4 + classes, A]."""
    laid_boxes, laid_scores = [pixels(x) for x in boxes], [pixels(x) for x in scores]
    cells, widths = [x.shape[2] * x.shape[3] for x in boxes], [x.shape[3] for x in boxes]
    b = boxes[0].shape[0]
    y, bm = torch.empty((b, 4 + classes, sum(cells)), dtype=torch.float32, device=boxes[0].device), 32
    launch(
        decode_kernel, (sum(tiles(n, bm) for n in cells), b),
        *[x for x, _ in laid_boxes], *[p for _, p in laid_boxes], *[x for x, _ in laid_scores],
        *[p for _, p in laid_scores], y, *widths, *cells, classes, BM=bm, BC=16, num_warps=4, options=options,
    )  # fmt: skip
    return y
