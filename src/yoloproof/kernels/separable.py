"""Depthwise and pointwise convolution, SiLU and a sum: in one launch with nothing written in between, or one each.

Reference: `conv2d` twice, `silu`, addition.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor, nn

from yoloproof.kernels.autotune import Autotuner, Tunable
from yoloproof.kernels.conv import DenseConv
from yoloproof.kernels.depthwise import DepthwiseConv, rows_at_once, taps
from yoloproof.kernels.epilogue import SIZES, begin, finish, sum_arguments, summed
from yoloproof.kernels.launch import Options, fresh, launch, pixels, tiles

APART = "one launch each"


class SeparableTile(NamedTuple):
    """rows are pixels, columns are output channels, depth counts the channels between the two convolutions."""

    rows: int
    columns: int
    depth: int
    parallel_rows: bool
    warps: int


CONFIGURATIONS = tuple(SeparableTile(*tile) for tile in (
    (32, 32, 32, False, 4), (32, 64, 32, False, 4), (16, 64, 32, True, 8),
))  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def separable_kernel(
    x, p, dw, w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c_in, c_out, m_total,
    K: tl.constexpr, S: tl.constexpr, ROWS: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Depthwise K×K (dw [K·K, c_in]) and pointwise (w [c_out, c_in]) in one, nothing written between the two."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.float32) + tl.load(bias + n, mask=n < c_out, other=0.0).to(tl.float32)[None, :]
    begin(EARLY)
    b, place = m // (out_h * out_w), m % (out_h * out_w)
    oy, ox = place // out_w, place % out_w
    summand = summed(add, add_p, m, n, m_total, c_out, out_h, out_w, ADD)
    for k in range(tl.cdiv(c_in, BK)):
        ch = k * BK + tl.arange(0, BK)
        mixed = taps(x, p, dw, b, oy, ox, m < m_total, ch, c_in, height, width, K, S, ROWS, BM, BK)
        at = n[None, :] * c_in + ch[:, None]
        wt = tl.load(w + at, mask=(n < c_out)[None, :] & (ch < c_in)[:, None], other=0.0)
        acc = tl.dot(mixed.to(wt.dtype), wt, acc)
    finish(acc, summand, y, y_p, m, n, m_total, c_out, ACT, ADD)


class SeparableConv(Tunable):
    """A depthwise convolution without activation, a pointwise one with SiLU."""

    kind = "separable convolution"

    def __init__(self, dw: nn.Conv2d, pw: nn.Conv2d, options: Options, autotuner: Autotuner) -> None:
        super().__init__(options, autotuner)
        self.first = DepthwiseConv(dw, False, options, autotuner)
        self.second = DenseConv(pw, True, options, autotuner)

    def parameters_of_operation(self) -> tuple[int, ...]:
        return (self.first.k, self.first.s, *self.second.weight.shape)

    def configurations(self) -> tuple[object, ...]:
        # a 7×7 kernel's taps, one after the other, take more registers than there are
        return (APART, *(tile for tile in CONFIGURATIONS if tile.parallel_rows or self.first.k < 7))

    def run(self, configuration: object, sources: list[Tensor], add: Tensor | None, coarse: bool) -> Tensor:
        if not isinstance(configuration, SeparableTile):
            return self.second(self.first(sources[0]), add=add, coarse=coarse)
        d, m = self.first, self.second
        x, p = pixels(sources[0])
        b, c, h, w = x.shape
        out_h, out_w = (h - 1) // d.s + 1, (w - 1) // d.s + 1
        c_out, total = m.weight.shape[0], b * out_h * out_w
        y = fresh(b, c_out, out_h, out_w, x)
        added, added_p, mode = sum_arguments(add, coarse, y)
        bm, bn, bk, parallel, warps = configuration
        launch(
            separable_kernel, (tiles(total, bm), tiles(c_out, bn)),
            x, p, d.taps, m.matrix, m.bias, added, added_p, y, c_out, h, w, out_h, out_w, c, c_out, total,
            K=d.k, S=d.s, ROWS=rows_at_once(parallel, d.k), ACT=True, ADD=mode, BM=bm, BN=bn, BK=bk,
            num_warps=warps, num_stages=2, options=self.options,
        )  # fmt: skip
        return y
