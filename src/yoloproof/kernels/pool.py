"""Mean of every 2×2 pixels. Reference: `torch.nn.functional.avg_pool2d`."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from yoloproof.kernels.epilogue import begin
from yoloproof.kernels.launch import Options, fresh, launch, pixels, tiles


@triton.jit(do_not_specialize=["out_h", "out_w", "m_total"])
def pool_kernel(
    x, p, y, y_p, out_h, out_w, c, m_total, BM: tl.constexpr, BN: tl.constexpr, EARLY: tl.constexpr
):  # fmt: skip
    """Mean of every 2×2 pixels."""
    begin(EARLY)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (m < m_total)[:, None] & (n < c)[None, :]
    b, place = m // (out_h * out_w), m % (out_h * out_w)
    first = (b * out_h * 2 + place // out_w * 2) * (out_w * 2) + place % out_w * 2
    acc = tl.zeros((BM, BN), tl.float32)
    for corner in tl.static_range(4):
        pixel = first + corner // 2 * (out_w * 2) + corner % 2
        acc += tl.load(x + pixel[:, None] * p + n[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(y + m[:, None] * y_p + n[None, :], (acc * 0.25).to(y.dtype.element_ty), mask=inside)


def pooled(x: Tensor, options: Options) -> Tensor:
    """Mean of every 2×2 pixels: [B, C, H, W] → [B, C, H/2, W/2]."""
    x, p = pixels(x)
    b, c, h, w = x.shape
    y, total, bm, bn = fresh(b, c, h // 2, w // 2, x), b * (h // 2) * (w // 2), 16, 64
    launch(
        pool_kernel, (tiles(total, bm), tiles(c, bn)), x, p, y, c, h // 2, w // 2, c, total,
        BM=bm, BN=bn, num_warps=4, options=options,
    )  # fmt: skip
    return y
