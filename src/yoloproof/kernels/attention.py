"""Area attention on the pixels where they lie: softmax(q·kᵀ)·v inside runs of tokens, heads of 32 channels.

Reference: `scaled_dot_product_attention` on views of the same tensor, which is a configuration, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from yoloproof.kernels.autotune import LIBRARY, Autotuner, Tunable
from yoloproof.kernels.epilogue import begin
from yoloproof.kernels.launch import Options, fresh, launch, pixels, tiles

LOG2E = tl.constexpr(1.4426950408889634)


class AttentionTile(NamedTuple):
    queries: int
    keys: int
    warps: int


CONFIGURATIONS = (AttentionTile(32, 64, 2), AttentionTile(64, 64, 4), AttentionTile(32, 128, 4))


@triton.jit
def keys(qkv, first, start, tokens, p, lane, BN: tl.constexpr):
    """Keys of BN tokens, [32, BN]; none behind the last token."""
    col = start + tl.arange(0, BN)
    return tl.load(qkv + (first + col)[None, :] * p + lane[:, None], mask=(col < tokens)[None, :], other=0.0)


@triton.jit(do_not_specialize=["tokens"])
def attention_kernel(
    qkv, p, y, y_p, tokens, heads, BM: tl.constexpr, BN: tl.constexpr, EARLY: tl.constexpr, AHEAD: tl.constexpr
):  # fmt: skip
    """softmax(q·kᵀ)·v inside runs of `tokens` pixels, 32 channels a head (the scale stands in q already).

    A pixel of qkv holds q, k and v, each head by head. One program: BM queries of one head of one run; keys come BN at
    a time under a running maximum (Milakov and Gimelshein, arXiv 1805.02867), sums in float32.
    """
    begin(EARLY)
    row, head = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1)
    first = tl.program_id(2) * tokens
    d = tl.arange(0, 32)
    lane, c = head * 32 + d, heads * 32
    q = tl.load(qkv + (first + row)[:, None] * p + lane[None, :], mask=(row < tokens)[:, None], other=0.0)
    peak = tl.full((BM,), float("-inf"), tl.float32)
    mass = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, 32), tl.float32)
    if AHEAD:  # the next keys are loaded while these are used, which the compiler arranges by itself from 8.0 on
        k = keys(qkv, first, 0, tokens, p, c + lane, BN)
    for start in range(0, tokens, BN):
        col = start + tl.arange(0, BN)
        if not AHEAD:
            k = keys(qkv, first, start, tokens, p, c + lane, BN)
        v = tl.load(qkv + (first + col)[:, None] * p + 2 * c + lane[None, :], mask=(col < tokens)[:, None], other=0.0)
        s = tl.where((col < tokens)[None, :], tl.dot(q, k) * LOG2E, float("-inf"))
        if AHEAD:
            k = keys(qkv, first, start + BN, tokens, p, c + lane, BN)
        higher = tl.maximum(peak, tl.max(s, 1))
        e = tl.exp2(s - higher[:, None])
        shrink = tl.exp2(peak - higher)
        mass = mass * shrink + tl.sum(e, 1)
        acc = tl.dot(e.to(v.dtype), v, acc * shrink[:, None])
        peak = higher
    out = y + (first + row)[:, None] * y_p + lane[None, :]
    tl.store(out, (acc / mass[:, None]).to(y.dtype.element_ty), mask=(row < tokens)[:, None])


class FusedAreaAttention(Tunable):
    """qkv [B, 3C, H, W] (q, k, v; in each, head by head) → [B, C, H, W].

    library -- the same by a library, [B, C, H, W] or a view of as many elements; scale -- of q·kᵀ, which our kernel takes
    for 1
    """

    kind = "area attention"

    def __init__(
        self, heads: int, area: int, scale: float, library: Callable[[Tensor], Tensor], options: Options,
        autotuner: Autotuner,
    ) -> None:  # fmt: skip
        super().__init__(options, autotuner)
        self.heads, self.area, self.scale, self.library = heads, area, scale, library

    def parameters_of_operation(self) -> tuple[float, ...]:
        return (self.heads, self.area, self.scale)

    def configurations(self) -> tuple[object, ...]:
        return (LIBRARY, *CONFIGURATIONS) if self.scale == 1.0 else (LIBRARY,)

    def run(self, configuration: object, sources: list[Tensor], add: Tensor | None, coarse: bool) -> Tensor:
        qkv, p = pixels(sources[0])
        b, c, h, w = qkv.shape
        if not isinstance(configuration, AttentionTile):
            return self.library(qkv).reshape(b, c // 3, h, w)
        y, tokens = fresh(b, c // 3, h, w, qkv), h * w // self.area
        bm, bn, warps = configuration
        launch(
            attention_kernel, (tiles(tokens, bm), self.heads, b * self.area),
            qkv, p, y, c // 3, tokens, self.heads, BM=bm, BN=bn, AHEAD=self.options.ahead, num_warps=warps, options=self.options,
        )  # fmt: skip
        return y
