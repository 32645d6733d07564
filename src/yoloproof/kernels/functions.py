"""What has one way only: sums with a gate, pooling, the hypergraph, decoding."""

from __future__ import annotations

import torch
from torch import Tensor

from yoloproof.kernels import kernels, token_kernels
from yoloproof.kernels.launch import Options, fresh, launch, pixels, tiles
from yoloproof.simplify.modules import EdgeFirst

BRANCHES = 2


def gated_sum(x0: Tensor, x1: Tensor, gate: Tensor, options: Options, half: bool = False) -> Tensor:
    """x0 + gate·x1 of [B, C, H, W]; gate one number or [C]; half: x1 is [B, C, H/2, W/2], each pixel for four."""
    (x0, p0), (x1, p1) = pixels(x0), pixels(x1)
    b, c, h, w = x0.shape
    y, total, bm, bn = fresh(b, c, h, w, x0), b * h * w, 16, 64
    launch(
        kernels.gated_sum_kernel, (tiles(total, bm), tiles(c, bn)), x0, p0, x1, p1, gate, y, c, h, w, c, total,
        PER_CHANNEL=int(gate.numel() > 1), HALF=half, BM=bm, BN=bn, num_warps=4, options=options,
    )  # fmt: skip
    return y


def pooled(x: Tensor, options: Options) -> Tensor:
    """Mean of every 2×2 pixels: [B, C, H, W] → [B, C, H/2, W/2]."""
    x, p = pixels(x)
    b, c, h, w = x.shape
    y, total, bm, bn = fresh(b, c, h // 2, w // 2, x), b * (h // 2) * (w // 2), 16, 64
    launch(
        kernels.pool_kernel, (tiles(total, bm), tiles(c, bn)), x, p, y, c, h // 2, w // 2, c, total,
        BM=bm, BN=bn, num_warps=4, options=options,
    )  # fmt: skip
    return y


def hypergraph(block: EdgeFirst, x: Tensor, options: Options) -> Tensor:
    """Both branches' AdaHGConv: x [B, 4D, H, W] (each branch's D tokens' channels, then D bypassed) → [B, 2D, H, W]."""
    x, p = pixels(x)
    b, c, h, w = x.shape
    d, edges, tokens, both = c // 4, block.base.shape[1], h * w, b * BRANCHES
    bt, bk = 64, 64
    runs = tiles(tokens, bt)

    def buffer(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=x.device)

    partial, prototypes = buffer(both, runs, 2, d), buffer(both, edges, d, dtype=x.dtype)
    logits, hidden = buffer(both, 16, tokens), buffer(both, 16, d, dtype=x.dtype)
    peaks, masses, sums = buffer(both, runs, 16), buffer(both, runs, 16), buffer(both, runs, 16, d)
    peak, mass = buffer(both, 16), buffer(both, 16)
    y, gap, wide = fresh(b, BRANCHES * d, h, w, x), 2 * d, tiles(d, bk)
    same = {"BRANCHES": BRANCHES, "num_warps": 4, "options": options}
    launch(token_kernels.context_kernel, (runs, wide, both), x, p, gap, partial, tokens, d, BT=bt, BD=bk, **same)
    rows = edges * d
    launch(
        token_kernels.prototypes_kernel, (tiles(rows, 16), both),
        partial, block.context, block.base, prototypes, tokens, runs, d, rows, BR=16, BK=bk, **same,
    )  # fmt: skip
    launch(
        token_kernels.gather_kernel, (runs, both),
        x, p, gap, prototypes, logits, peaks, masses, sums, tokens, d, edges, BT=bt, BK=bk, **same,
    )  # fmt: skip
    launch(
        token_kernels.edges_kernel, (tiles(d, 32), both),
        peaks, masses, sums, block.edge, block.edge_bias, hidden, peak, mass, runs, d, BN=32, BK=32, **same,
    )  # fmt: skip
    launch(
        token_kernels.scatter_kernel, (runs, wide, both),
        x, p, gap, logits, peak, mass, hidden, block.node, block.node_bias, y, BRANCHES * d, tokens, d, edges,
        BT=bt, BN=bk, BK=bk, **same,
    )  # fmt: skip
    return y


def decoded(boxes: list[Tensor], scores: list[Tensor], classes: int, options: Options) -> Tensor:
    """Logits of the levels at strides 8, 16, 32 to float32 [B, 4 + classes, A]."""
    laid_boxes, laid_scores = [pixels(x) for x in boxes], [pixels(x) for x in scores]
    cells, widths = [x.shape[2] * x.shape[3] for x in boxes], [x.shape[3] for x in boxes]
    b = boxes[0].shape[0]
    y, bm = torch.empty((b, 4 + classes, sum(cells)), dtype=torch.float32, device=boxes[0].device), 32
    launch(
        kernels.decode_kernel, (sum(tiles(n, bm) for n in cells), b),
        *[x for x, _ in laid_boxes], *[p for _, p in laid_boxes], *[x for x, _ in laid_scores],
        *[p for _, p in laid_scores], y, *widths, *cells, classes, BM=bm, BC=16, num_warps=4, options=options,
    )  # fmt: skip
    return y
