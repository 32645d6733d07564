"""Convolution, bias, SiLU and a sum: act(W ∗ (x0 beside x1 beside …) + bias + coarse sum) + sum.

One launch over up to six inputs where they lie (an implicit matrix product), or cuDNN's launch and one more. Reference:
`torch.nn.functional.conv2d` of the concatenated inputs, `silu`, addition.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

from yoloproof.kernels import thin_conv
from yoloproof.kernels.autotune import LIBRARY, Autotuner, Tunable
from yoloproof.kernels.epilogue import SIZES, begin, finish, sum_arguments, summed
from yoloproof.kernels.launch import Options, fresh, launch, pixels, tiles
from yoloproof.kernels.thin_conv import ThinTile

MOST_SOURCES = 6
FEWEST_CHANNELS = 16  # of conv_kernel's inputs: with fewer its depth is mostly empty
FEW_CHANNELS = 24  # of a k×k convolution's inputs: up to here thin_conv_kernel may be quicker


class DenseTile(NamedTuple):
    """A tile of the matrix product: rows are pixels, columns are output channels."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


CONFIGURATIONS = tuple(DenseTile(*tile) for tile in (
    (32, 32, 64, 4, 4), (64, 32, 64, 4, 4), (64, 64, 64, 4, 4), (128, 64, 64, 4, 3), (16, 64, 64, 4, 4), (32, 64, 64, 4, 4),
    (32, 32, 128, 4, 3), (16, 32, 128, 4, 3), (64, 32, 32, 2, 4), (128, 32, 32, 4, 4), (128, 128, 64, 8, 3),
))  # fmt: skip


def suitable_tiles(k: int, c_in: int, c_out: int) -> tuple[DenseTile, ...]:
    """Tiles that a k×k convolution may be quick in: its channels fill them, and there is work for the large ones."""
    much = k * k * c_in >= 512

    def fits(tile: DenseTile) -> bool:
        depth = c_in >= 128 if tile.depth == 128 else c_in <= 64 and k == 1 if tile.depth == 32 else True
        columns = tile.columns <= 32 or (c_out > tile.columns // 2 and (tile.columns < 128 or much))
        return depth and columns and (tile.rows * tile.columns < 128 * 64 or much or c_in <= 128)

    return tuple(tile for tile in CONFIGURATIONS if fits(tile))


@triton.jit
def windows(m, m_total, height, width, out_h, out_w, K: tl.constexpr, S: tl.constexpr):
    """For output pixels m: the input pixel at the first tap, and the taps that lie inside the picture, as bits."""
    if K == 1:
        return m, (m < m_total).to(tl.int32)
    b, place = m // (out_h * out_w), m % (out_h * out_w)
    iy, ix = place // out_w * S - K // 2, place % out_w * S - K // 2
    seen = tl.zeros_like(m)
    for tap in tl.static_range(K * K):
        y, x = iy + tap // K, ix + tap % K
        inside = (m < m_total) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        seen |= inside.to(tl.int32) << tap
    return (b * height + iy) * width + ix, seen


@triton.jit
def operands(x, c, p, base, tap, start, w, corner, seen, n, width, c_in, c_out, K: tl.constexpr, BK: tl.constexpr):
    """Pixels [BM, BK] and weights [BK, BN] of one tap of the K×K kernel, channels from `start` on."""
    ch = start + tl.arange(0, BK)
    if K == 1:
        tap, inside, pixel = 0, seen != 0, corner
    else:
        inside, pixel = (seen >> tap & 1) != 0, corner + tap // K * width + tap % K
    a = tl.load(x + pixel[:, None] * p + ch[None, :], mask=inside[:, None] & (ch < c)[None, :], other=0.0)
    at = n[None, :] * (K * K * c_in) + (tap * c_in + base + ch)[:, None]
    return a, tl.load(w + at, mask=(n < c_out)[None, :] & (ch < c)[:, None], other=0.0)


@triton.jit
def following(
    source, x, c, p, base, tap, start, x1, x2, x3, x4, x5, c1, c2, c3, c4, c5, p1, p2, p3, p4, p5,
    K: tl.constexpr, BK: tl.constexpr, SOURCES: tl.constexpr,
):  # fmt: skip
    """The next BK channels: of this tap, or the first of the next one; behind the last tap, of the next input."""
    over = start + BK >= c
    start = tl.where(over, 0, start + BK)
    tap = tl.where(over, tap + 1, tap)
    if SOURCES > 1:
        over = over & (tap == K * K)
        tap, source = tl.where(over, 0, tap), tl.where(over, source + 1, source)
        base = tl.where(over, base + c, base)
        x, c, p = tl.where(over, x1, x), tl.where(over, c1, c), tl.where(over, p1, p)
        if SOURCES > 2:
            over = over & (source > 1)
            x, c, p = tl.where(over, x2, x), tl.where(over, c2, c), tl.where(over, p2, p)
        if SOURCES > 3:
            over = over & (source > 2)
            x, c, p = tl.where(over, x3, x), tl.where(over, c3, c), tl.where(over, p3, p)
        if SOURCES > 4:
            over = over & (source > 3)
            x, c, p = tl.where(over, x4, x), tl.where(over, c4, c), tl.where(over, p4, p)
        if SOURCES > 5:
            over = over & (source > 4)
            x, c, p = tl.where(over, x5, x), tl.where(over, c5, c), tl.where(over, p5, p)
    return source, x, c, p, base, tap, start


@triton.jit(do_not_specialize=SIZES)
def conv_kernel(
    x0, x1, x2, x3, x4, x5, c0, c1, c2, c3, c4, c5, p0, p1, p2, p3, p4, p5,
    w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c_in, c_out, m_total,
    K: tl.constexpr, S: tl.constexpr, SOURCES: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Dense K×K convolution as an implicit matrix product: w [c_out, K·K·c_in] over up to six inputs side by side.

    1×1 ones have stride 1. AHEAD: the next operands are loaded into registers while this product runs, which the
    compiler arranges by itself from 8.0 on.
    """
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.float32) + tl.load(bias + n, mask=n < c_out, other=0.0).to(tl.float32)[None, :]
    begin(EARLY)
    corner, seen = windows(m, m_total, height, width, out_h, out_w, K, S)
    summand = summed(add, add_p, m, n, m_total, c_out, out_h, out_w, ADD)
    steps = tl.cdiv(c0, BK)
    if SOURCES > 1:
        steps += tl.cdiv(c1, BK)
    if SOURCES > 2:
        steps += tl.cdiv(c2, BK)
    if SOURCES > 3:
        steps += tl.cdiv(c3, BK)
    if SOURCES > 4:
        steps += tl.cdiv(c4, BK)
    if SOURCES > 5:
        steps += tl.cdiv(c5, BK)
    source, x, c, p, base, tap, start = 0, x0, c0, p0, 0, 0, 0
    if AHEAD:
        a, wt = operands(x, c, p, base, tap, start, w, corner, seen, n, width, c_in, c_out, K, BK)
        source, x, c, p, base, tap, start = following(
            source, x, c, p, base, tap, start, x1, x2, x3, x4, x5, c1, c2, c3, c4, c5, p1, p2, p3, p4, p5, K, BK, SOURCES
        )  # fmt: skip
        for _ in range(K * K * steps - 1):
            next_a, next_w = operands(x, c, p, base, tap, start, w, corner, seen, n, width, c_in, c_out, K, BK)
            source, x, c, p, base, tap, start = following(
                source, x, c, p, base, tap, start, x1, x2, x3, x4, x5, c1, c2, c3, c4, c5, p1, p2, p3, p4, p5, K, BK, SOURCES
            )  # fmt: skip
            acc = tl.dot(a, wt, acc)
            a, wt = next_a, next_w
        acc = tl.dot(a, wt, acc)
    else:
        for _ in range(K * K * steps):
            a, wt = operands(x, c, p, base, tap, start, w, corner, seen, n, width, c_in, c_out, K, BK)
            source, x, c, p, base, tap, start = following(
                source, x, c, p, base, tap, start, x1, x2, x3, x4, x5, c1, c2, c3, c4, c5, p1, p2, p3, p4, p5, K, BK, SOURCES
            )  # fmt: skip
            acc = tl.dot(a, wt, acc)
    finish(acc, summand, y, y_p, m, n, m_total, c_out, ACT, ADD)


@triton.jit(do_not_specialize=["out_h", "out_w", "m_total"])
def finish_kernel(
    x, x_p, bias, add, add_p, y, y_p, out_h, out_w, c_out, m_total,
    ACT: tl.constexpr, ADD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Bias, activation and sum behind a convolution of cuDNN."""
    begin(EARLY)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (m < m_total)[:, None] & (n < c_out)[None, :]
    acc = tl.load(x + m[:, None] * x_p + n[None, :], mask=inside, other=0.0).to(tl.float32)
    acc += tl.load(bias + n, mask=n < c_out, other=0.0).to(tl.float32)[None, :]
    summand = summed(add, add_p, m, n, m_total, c_out, out_h, out_w, ADD)
    finish(acc, summand, y, y_p, m, n, m_total, c_out, ACT, ADD)


class DenseConv(Tunable):
    """A convolution that is not depthwise; configurations: cuDNN, and the tiles of the kernel of ours that suits it.

    act -- SiLU
    """

    kind = "convolution"

    def __init__(self, conv: nn.Conv2d, act: bool, options: Options, autotuner: Autotuner) -> None:
        super().__init__(options, autotuner)
        weight, bias = conv.weight.detach(), conv.bias
        self.weight = nn.Parameter(weight, requires_grad=False)
        bias = torch.zeros(weight.shape[0]) if bias is None else bias.detach()
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.k, self.s, self.groups, self.act = conv.kernel_size[0], conv.stride[0], conv.groups, act
        matrix = weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1).contiguous()
        self.matrix = nn.Parameter(matrix, requires_grad=False)

    def parameters_of_operation(self) -> tuple[int, ...]:
        return (self.k, self.s, self.groups, int(self.act), *self.weight.shape)

    def configurations(self) -> tuple[object, ...]:
        c_out, c_in = self.weight.shape[:2]
        if self.groups > 1 or c_in < FEWEST_CHANNELS:
            return (LIBRARY, *thin_conv.CONFIGURATIONS)
        few = thin_conv.CONFIGURATIONS if self.k > 1 and c_in <= FEW_CHANNELS else ()
        return (LIBRARY, *suitable_tiles(self.k, c_in, c_out), *few)

    def run(self, configuration: object, sources: list[Tensor], add: Tensor | None, coarse: bool) -> Tensor:
        if isinstance(configuration, DenseTile) and len(sources) <= MOST_SOURCES:
            return self._dense(configuration, sources, add, coarse)
        x = sources[0] if len(sources) == 1 else torch.cat(sources, 1)
        if isinstance(configuration, ThinTile):
            return self._thin(configuration, x, add, coarse)
        y = F.conv2d(x, self.weight, None, self.s, self.k // 2, 1, self.groups)
        return self._finished(y, add, coarse)

    def _finished(self, y: Tensor, add: Tensor | None, coarse: bool) -> Tensor:
        y, spacing = pixels(y)
        b, c, h, w = y.shape
        added, added_p, mode = sum_arguments(add, coarse, y)
        total, bm, bn = b * h * w, 32, 64
        launch(
            finish_kernel, (tiles(total, bm), tiles(c, bn)),
            y, spacing, self.bias, added, added_p, y, spacing, h, w, c, total,
            ACT=self.act, ADD=mode, BM=bm, BN=bn, num_warps=4, options=self.options,
        )  # fmt: skip
        return y

    def _dense(self, tile: DenseTile, sources: list[Tensor], add: Tensor | None, coarse: bool) -> Tensor:
        laid = [pixels(x) for x in sources]
        b, _, h, w = sources[0].shape
        out_h, out_w = (h - 1) // self.s + 1, (w - 1) // self.s + 1
        c_out, total = self.weight.shape[0], b * out_h * out_w
        y = fresh(b, c_out, out_h, out_w, sources[0])
        added, added_p, mode = sum_arguments(add, coarse, y)
        laid += [laid[0]] * (MOST_SOURCES - len(laid))
        launch(
            conv_kernel, (tiles(total, tile.rows), tiles(c_out, tile.columns)),
            *[x for x, _ in laid], *[x.shape[1] for x, _ in laid], *[p for _, p in laid],
            self.matrix, self.bias, added, added_p, y, c_out, h, w, out_h, out_w, self.weight.shape[1], c_out, total,
            K=self.k, S=self.s, SOURCES=len(sources), ACT=self.act, ADD=mode,
            BM=tile.rows, BN=tile.columns, BK=tile.depth, AHEAD=self.options.ahead, num_warps=tile.warps,
            num_stages=tile.stages, options=self.options,
        )  # fmt: skip
        return y

    def _thin(self, tile: ThinTile, x: Tensor, add: Tensor | None, coarse: bool) -> Tensor:
        x, p = pixels(x)
        b, _, h, w = x.shape
        out_h, out_w = (h - 1) // self.s + 1, (w - 1) // self.s + 1
        c_out = self.weight.shape[0] // self.groups
        bn = thin_conv.channels_at_once(c_out)
        y = fresh(b, self.weight.shape[0], out_h, out_w, x)
        added, added_p, mode = sum_arguments(add, coarse, y)
        launch(
            thin_conv.thin_conv_kernel,
            (tiles(out_w, tile.columns), tiles(out_h, tile.rows), b * self.groups * tiles(c_out, bn)),
            x, p, self.matrix, self.bias, added, added_p, y, y.shape[1], h, w, out_h, out_w, b * out_h * out_w,
            K=self.k, S=self.s, GROUPS=self.groups, C=self.weight.shape[1], C_OUT=c_out, ACT=self.act, ADD=mode,
            ROWS=tile.rows, COLUMNS=tile.columns, BN=bn, BK=thin_conv.DEPTH, num_warps=tile.warps, options=self.options,
        )  # fmt: skip
        return y
