"""Depthwise convolution, bias, SiLU and a sum in one launch. Reference: `conv2d` with as many groups as channels."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from yoloproof.kernels.autotune import Autotuner, Tunable
from yoloproof.kernels.epilogue import SIZES, begin, finish, sum_arguments, summed
from yoloproof.kernels.launch import Options, fresh, launch, pixels, tiles


class DepthwiseTile(NamedTuple):
    """pixels, channels -- of a tile; parallel_rows -- the rows of the k×k kernel side by side, not one after the other;
    strip -- neighbours in a row, 1, 2 or 4, that each of the pixels stands for
    """

    pixels: int
    channels: int
    parallel_rows: bool
    warps: int
    strip: int = 1


CONFIGURATIONS = tuple(DepthwiseTile(*tile) for tile in (
    (16, 32, False, 2), (8, 32, True, 4), (16, 16, False, 2, 4), (16, 16, False, 2, 2), (8, 32, False, 2, 4),
))  # fmt: skip


@triton.jit
def taps(
    x, p, w, b, oy, ox, seen, n, c, height, width,
    K: tl.constexpr, S: tl.constexpr, ROWS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Depthwise sums in float32, w [K·K, c]: [BM pixels, BN channels n].

    ROWS 1 walks all K·K taps; more (a power of two from K on) lay the kernel's rows side by side and walk its columns,
    which keeps a small picture's few pixels from leaving most of the GPU idle.
    """
    if ROWS == 1:
        acc = tl.zeros((BM, BN), tl.float32)
        for tap in tl.static_range(K * K):
            iy, ix = oy * S - K // 2 + tap // K, ox * S - K // 2 + tap % K
            inside = seen & (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
            pixel = (b * height + iy) * width + ix
            a = tl.load(x + pixel[:, None] * p + n[None, :], mask=inside[:, None] & (n < c)[None, :], other=0.0)
            acc += a.to(tl.float32) * tl.load(w + tap * c + n, mask=n < c, other=0.0).to(tl.float32)[None, :]
    else:
        row = tl.arange(0, ROWS)
        iy = oy[:, None] * S - K // 2 + row[None, :]
        inside = seen[:, None] & (row < K)[None, :] & (iy >= 0) & (iy < height)
        start = (b[:, None] * height + iy) * width
        wide = tl.zeros((BM, ROWS, BN), tl.float32)
        for column in tl.static_range(K):
            ix = (ox * S - K // 2 + column)[:, None]
            here = inside & (ix >= 0) & (ix < width)
            at = ((start + ix) * p)[:, :, None] + n[None, None, :]
            a = tl.load(x + at, mask=here[:, :, None] & (n < c)[None, None, :], other=0.0)
            tap = (row * K + column)[:, None] * c + n[None, :]
            t = tl.load(w + tap, mask=(row < K)[:, None] & (n < c)[None, :], other=0.0)
            wide += a.to(tl.float32) * t.to(tl.float32)[None, :, :]
        acc = tl.sum(wide, 1)
    return acc


@triton.jit
def tap_weights(w, tap, n, c):
    return tl.load(w + tap * c + n, mask=n < c, other=0.0).to(tl.float32)[None, :]


@triton.jit
def strips(
    x, p, w, b, oy, ox, seen, n, c, height, width,
    K: tl.constexpr, S: tl.constexpr, STRIP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """As `taps`, for STRIP pixels from ox on: what the picture holds there is read once for all of them."""
    acc0, acc1 = tl.zeros((BM, BN), tl.float32), tl.zeros((BM, BN), tl.float32)
    acc2, acc3 = tl.zeros((BM, BN), tl.float32), tl.zeros((BM, BN), tl.float32)
    for row in range(K):  # not unrolled: a 7×7 kernel would take the compiler six seconds
        iy = oy * S - K // 2 + row
        start = (b * height + iy) * width
        for column in tl.static_range(K + (STRIP - 1) * S):
            ix = ox * S - K // 2 + column
            inside = seen & (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
            at = (start + ix)[:, None] * p + n[None, :]
            a = tl.load(x + at, mask=inside[:, None] & (n < c)[None, :], other=0.0).to(tl.float32)
            if column < K:
                acc0 += a * tap_weights(w, row * K + column, n, c)
            if column >= S and column < K + S:
                acc1 += a * tap_weights(w, row * K + column - S, n, c)
            if STRIP > 2:
                if column >= 2 * S and column < K + 2 * S:
                    acc2 += a * tap_weights(w, row * K + column - 2 * S, n, c)
                if column >= 3 * S:
                    acc3 += a * tap_weights(w, row * K + column - 3 * S, n, c)
    return acc0, acc1, acc2, acc3


@triton.jit(do_not_specialize=SIZES)
def depthwise_kernel(
    x, p, w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c, m_total,
    K: tl.constexpr, S: tl.constexpr, ROWS: tl.constexpr, STRIP: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Depthwise K×K convolution, w [K·K, c]; each of the BM pixels of a program stands for STRIP in its row."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    shift = tl.load(bias + n, mask=n < c, other=0.0).to(tl.float32)[None, :]
    begin(EARLY)
    across = tl.cdiv(out_w, STRIP)
    b, place = m // (out_h * across), m % (out_h * across)
    oy, ox = place // across, place % across * STRIP
    if STRIP == 1:
        summand = summed(add, add_p, m, n, m_total, c, out_h, out_w, ADD)
        acc = taps(x, p, w, b, oy, ox, m < m_total, n, c, height, width, K, S, ROWS, BM, BN)
        finish(acc + shift, summand, y, y_p, m, n, m_total, c, ACT, ADD)
    else:
        first = (b * out_h + oy) * out_w + ox
        acc0, acc1, acc2, acc3 = strips(
            x, p, w, b, oy, ox, first < m_total, n, c, height, width, K, S, STRIP, BM, BN
        )  # fmt: skip
        for i in tl.static_range(STRIP):
            acc = acc0 if i == 0 else acc1 if i == 1 else acc2 if i == 2 else acc3
            pixel = tl.where(ox + i < out_w, first + i, m_total)
            summand = summed(add, add_p, pixel, n, m_total, c, out_h, out_w, ADD)
            finish(acc + shift, summand, y, y_p, pixel, n, m_total, c, ACT, ADD)


def rows_at_once(parallel: bool, k: int) -> int:
    """ROWS of `taps` for a k×k kernel: the power of two from k on, or 1."""
    return 1 << (k - 1).bit_length() if parallel else 1


class DepthwiseConv(Tunable):
    """A depthwise convolution. act -- SiLU"""

    kind = "depthwise convolution"

    def __init__(self, conv: nn.Conv2d, act: bool, options: Options, autotuner: Autotuner) -> None:
        super().__init__(options, autotuner)
        weight = conv.weight.detach()
        self.k, self.s, self.act, self.c = conv.kernel_size[0], conv.stride[0], act, weight.shape[0]
        self.taps = nn.Parameter(weight.reshape(self.c, -1).t().contiguous(), requires_grad=False)
        bias = torch.zeros(self.c) if conv.bias is None else conv.bias.detach()
        self.bias = nn.Parameter(bias, requires_grad=False)

    def parameters_of_operation(self) -> tuple[int, ...]:
        return (self.k, self.s, int(self.act), self.c)

    def configurations(self) -> tuple[object, ...]:
        return CONFIGURATIONS

    def run(self, configuration: object, sources: list[Tensor], add: Tensor | None, coarse: bool) -> Tensor:
        assert isinstance(configuration, DepthwiseTile)
        x, p = pixels(sources[0])
        b, c, h, w = x.shape
        out_h, out_w = (h - 1) // self.s + 1, (w - 1) // self.s + 1
        y, total = fresh(b, c, out_h, out_w, x), b * out_h * out_w
        added, added_p, mode = sum_arguments(add, coarse, y)
        bm, bn, parallel, warps, strip = configuration
        launch(
            depthwise_kernel, (tiles(b * out_h * tiles(out_w, strip), bm), tiles(c, bn)),
            x, p, self.taps, self.bias, added, added_p, y, c, h, w, out_h, out_w, c, total,
            K=self.k, S=self.s, ROWS=rows_at_once(parallel, self.k), STRIP=strip, ACT=self.act, ADD=mode,
            BM=bm, BN=bn, num_warps=warps, options=self.options,
        )  # fmt: skip
        return y
