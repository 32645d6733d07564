"""x0 + gate·x1, also with x1 at half the resolution. Reference: the same in PyTorch, `interpolate` for the resolution."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from yoloproof.kernels.epilogue import begin
from yoloproof.kernels.launch import Options, fresh, launch, pixels, tiles


@triton.jit(do_not_specialize=["height", "width", "m_total"])
def gated_sum_kernel(
    x0, p0, x1, p1, gate, y, y_p, height, width, c, m_total,
    PER_CHANNEL: tl.constexpr, COARSE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """x0 + gate·x1, the gate one number or one a channel; COARSE: x1 has half the height and width."""
    begin(EARLY)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (m < m_total)[:, None] & (n < c)[None, :]
    other = m
    if COARSE:
        b, place = m // (height * width), m % (height * width)
        other = (b * (height // 2) + place // width // 2) * (width // 2) + place % width // 2
    g = tl.load(gate + n * PER_CHANNEL, mask=n < c, other=0.0).to(tl.float32)
    acc = tl.load(x0 + m[:, None] * p0 + n[None, :], mask=inside, other=0.0).to(tl.float32)
    acc += g[None, :] * tl.load(x1 + other[:, None] * p1 + n[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(y + m[:, None] * y_p + n[None, :], acc.to(y.dtype.element_ty), mask=inside)


def gated_sum(x0: Tensor, x1: Tensor, gate: Tensor, options: Options, coarse: bool = False) -> Tensor:
    """x0 + gate·x1 of [B, C, H, W]; gate one number or [C]; coarse: x1 is [B, C, H/2, W/2], each pixel for four."""
    (x0, p0), (x1, p1) = pixels(x0), pixels(x1)
    b, c, h, w = x0.shape
    y, total, bm, bn = fresh(b, c, h, w, x0), b * h * w, 16, 64
    launch(
        gated_sum_kernel, (tiles(total, bm), tiles(c, bn)), x0, p0, x1, p1, gate, y, c, h, w, c, total,
        PER_CHANNEL=int(gate.numel() > 1), COARSE=coarse, BM=bm, BN=bn, num_warps=4, options=options,
    )  # fmt: skip
    return y
