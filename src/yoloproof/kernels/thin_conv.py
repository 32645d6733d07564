"""Convolution of few channels or in groups: taps and channels are one axis of the matrix product, a group apart.

`conv_kernel`, which walks tap by tap, would fill its depth with zeros where there are 3 to 16 channels, and multiply by
the zeros between the groups. Reference: `torch.nn.functional.conv2d` with groups, `silu`, addition.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from yoloproof.kernels.epilogue import SIZES, begin, finish, summed

DEPTH = 32  # of a step, in taps × channels


class ThinTile(NamedTuple):
    """rows × columns output pixels, powers of two; a program takes up to 64 channels of one group."""

    rows: int
    columns: int
    warps: int


CONFIGURATIONS = (ThinTile(4, 16, 4), ThinTile(2, 16, 2), ThinTile(8, 16, 4))


def channels_at_once(c_out: int) -> int:
    """Columns of the product for a group's output channels: a power of two from 16 to 64."""
    return max(16, min(64, 1 << (c_out - 1).bit_length()))


@triton.jit
def thin_operands(
    x, corner, p, w, group, iy, ix, seen, n, start, height, width,
    K: tl.constexpr, C: tl.constexpr, C_OUT: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Pixels [BM, BK] and weights [BK, BN] from place `start` of K·K·C on."""
    at = start + tl.arange(0, BK)
    tap, ch = at // C, at % C
    dy, dx = tap // K, tap % K
    here = (iy[:, None] + dy[None, :] >= 0) & (iy[:, None] + dy[None, :] < height)
    here &= (ix[:, None] + dx[None, :] >= 0) & (ix[:, None] + dx[None, :] < width)
    offset = (dy * width + dx) * p + group * C + ch
    inside = seen[:, None] & here & (at < K * K * C)[None, :]
    a = tl.load(x + corner[:, None] * p + offset[None, :], mask=inside, other=0.0)
    row = (group * C_OUT + n)[None, :] * (K * K * C)
    return a, tl.load(w + row + at[:, None], mask=(n < C_OUT)[None, :] & (at < K * K * C)[:, None], other=0.0)


@triton.jit(do_not_specialize=SIZES)
def thin_conv_kernel(
    x, p, w, bias, add, add_p, y, y_p, height, width, out_h, out_w, m_total,
    K: tl.constexpr, S: tl.constexpr, GROUPS: tl.constexpr, C: tl.constexpr, C_OUT: tl.constexpr,
    ACT: tl.constexpr, ADD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BN: tl.constexpr,
    BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """K×K convolution in GROUPS groups of C inputs and C_OUT outputs: w [GROUPS·C_OUT, K·K·C].

    One program: ROWS×COLUMNS pixels and BN channels of one group of one image.
    """
    place = tl.arange(0, ROWS * COLUMNS)
    oy, ox = tl.program_id(1) * ROWS + place // COLUMNS, tl.program_id(0) * COLUMNS + place % COLUMNS
    BLOCKS: tl.constexpr = (C_OUT + BN - 1) // BN
    group, b = tl.program_id(2) // BLOCKS % GROUPS, tl.program_id(2) // (BLOCKS * GROUPS)
    n = tl.program_id(2) % BLOCKS * BN + tl.arange(0, BN)
    shift = tl.load(bias + group * C_OUT + n, mask=n < C_OUT, other=0.0)
    acc = tl.zeros((ROWS * COLUMNS, BN), tl.float32) + shift.to(tl.float32)[None, :]
    begin(EARLY)
    seen = (oy < out_h) & (ox < out_w)
    m = tl.where(seen, (b * out_h + oy) * out_w + ox, m_total)
    out, add = y + group * C_OUT, add + group * C_OUT
    summand = summed(add, add_p, m, n, m_total, C_OUT, out_h, out_w, ADD)
    iy, ix = oy * S - K // 2, ox * S - K // 2
    corner = (b * height + iy) * width + ix
    a, wt = thin_operands(x, corner, p, w, group, iy, ix, seen, n, 0, height, width, K, C, C_OUT, BK)
    for start in tl.static_range(BK, K * K * C, BK):  # the next operands are on their way while these are multiplied
        next_a, next_w = thin_operands(
            x, corner, p, w, group, iy, ix, seen, n, start, height, width, K, C, C_OUT, BK
        )  # fmt: skip
        acc = tl.dot(a, wt, acc)
        a, wt = next_a, next_w
    acc = tl.dot(a, wt, acc)
    finish(acc, summand, out, y_p, m, n, m_total, C_OUT, ACT, ADD)
