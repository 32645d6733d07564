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

from yoloproof.kernels.autotune import LIBRARY, Autotuner, Tunable
from yoloproof.kernels.epilogue import SIZES, begin, finish, sum_arguments
from yoloproof.kernels.launch import Options, fresh, launch, pixels, tiles

MOST_SOURCES = 6


class DenseTile(NamedTuple):
    """A tile of the matrix product: rows are pixels, columns are output channels."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


CONFIGURATIONS = tuple(DenseTile(*tile) for tile in (
    (32, 32, 64, 2, 4), (64, 32, 64, 4, 4), (64, 64, 64, 4, 4), (128, 64, 64, 4, 3),
    (16, 64, 64, 4, 4), (32, 32, 128, 4, 3), (64, 32, 128, 4, 3), (128, 128, 64, 8, 3),
))  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def conv_kernel(
    x0, x1, x2, x3, x4, x5, c0, c1, c2, c3, c4, c5, p0, p1, p2, p3, p4, p5,
    w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c_in, c_out, m_total,
    K: tl.constexpr, S: tl.constexpr, SOURCES: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Dense K×K convolution as an implicit matrix product: w [c_out, K·K·c_in] over up to six inputs side by side."""
    begin(EARLY)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    b, place = m // (out_h * out_w), m % (out_h * out_w)
    oy, ox = place // out_w, place % out_w
    acc = tl.zeros((BM, BN), tl.float32)
    base = 0
    for i in tl.static_range(SOURCES):
        if i == 0:
            x, c, p = x0, c0, p0
        elif i == 1:
            x, c, p = x1, c1, p1
        elif i == 2:
            x, c, p = x2, c2, p2
        elif i == 3:
            x, c, p = x3, c3, p3
        elif i == 4:
            x, c, p = x4, c4, p4
        else:
            x, c, p = x5, c5, p5
        steps = tl.cdiv(c, BK)
        for k in range(K * K * steps):
            tap = k // steps
            ch = (k % steps) * BK + tl.arange(0, BK)
            iy, ix = oy * S - K // 2 + tap // K, ox * S - K // 2 + tap % K
            seen = (m < m_total) & (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
            pixel = (b * height + iy) * width + ix
            a = tl.load(x + pixel[:, None] * p + ch[None, :], mask=seen[:, None] & (ch < c)[None, :], other=0.0)
            at = n[None, :] * (K * K * c_in) + (tap * c_in + base + ch)[:, None]
            acc = tl.dot(a, tl.load(w + at, mask=(n < c_out)[None, :] & (ch < c)[:, None], other=0.0), acc)
        base += c
    acc += tl.load(bias + n, mask=n < c_out, other=0.0).to(tl.float32)[None, :]
    finish(acc, add, add_p, y, y_p, m, n, m_total, c_out, oy, ox, b, out_h, out_w, ACT, ADD)


@triton.jit(do_not_specialize=["out_h", "out_w", "m_total"])
def finish_kernel(
    x, x_p, bias, add, add_p, y, y_p, out_h, out_w, c_out, m_total,
    ACT: tl.constexpr, ADD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Bias, activation and sum behind a convolution of cuDNN."""
    begin(EARLY)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    b, place = m // (out_h * out_w), m % (out_h * out_w)
    inside = (m < m_total)[:, None] & (n < c_out)[None, :]
    acc = tl.load(x + m[:, None] * x_p + n[None, :], mask=inside, other=0.0).to(tl.float32)
    acc += tl.load(bias + n, mask=n < c_out, other=0.0).to(tl.float32)[None, :]
    finish(
        acc, add, add_p, y, y_p, m, n, m_total, c_out, place // out_w, place % out_w, b, out_h, out_w, ACT, ADD
    )  # fmt: skip


def ungrouped(weight: Tensor, groups: int) -> Tensor:
    """The weights [c_out, c_in/groups, k, k] of a grouped convolution as a dense one's, zeros between the groups."""
    dense = weight.new_zeros(weight.shape[0], weight.shape[1] * groups, *weight.shape[2:])
    for i, part in enumerate(weight.chunk(groups)):
        c_out, c_in = part.shape[:2]
        dense[i * c_out : (i + 1) * c_out, i * c_in : (i + 1) * c_in] = part
    return dense


class DenseConv(Tunable):
    """A convolution that is not depthwise; configurations: cuDNN, and the tiles of our kernel, which takes groups as zeros.

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
        matrix = ungrouped(weight, conv.groups).permute(0, 2, 3, 1).reshape(weight.shape[0], -1).contiguous()
        self.matrix = nn.Parameter(matrix, requires_grad=False)

    def parameters_of_operation(self) -> tuple[int, ...]:
        return (self.k, self.s, self.groups, int(self.act), *self.weight.shape)

    def configurations(self) -> tuple[object, ...]:
        return (LIBRARY, *CONFIGURATIONS)

    def run(self, configuration: object, sources: list[Tensor], add: Tensor | None, coarse: bool) -> Tensor:
        if isinstance(configuration, DenseTile) and len(sources) <= MOST_SOURCES:
            return self._dense(configuration, sources, add, coarse)
        x = sources[0] if len(sources) == 1 else torch.cat(sources, 1)
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
            self.matrix, self.bias, added, added_p, y, c_out, h, w, out_h, out_w, self.weight.shape[1] * self.groups, c_out,
            total,
            K=self.k, S=self.s, SOURCES=len(sources), ACT=self.act, ADD=mode,
            BM=tile.rows, BN=tile.columns, BK=tile.depth, num_warps=tile.warps, num_stages=tile.stages,
            options=self.options,
        )  # fmt: skip
        return y
