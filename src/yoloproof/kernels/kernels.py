"""Triton kernels on channels-last float16 tensors: convolution, depthwise convolution, both in one, pooling, decoding.

One launch does what a framework does in up to five: concatenation of its inputs (read where they lie), convolution,
bias, SiLU, residual. Products are summed in float32 and rounded once. Pixel strides (`p…`) count elements from one
pixel to the next, so that a slice of channels is an input like any other. EARLY: see `begin`.
"""

from __future__ import annotations

import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # Triton 3.2, the last for Turing, which has no such launches; EARLY stays off there

    @triton.jit
    def gdc_wait():
        pass

    gdc_launch_dependents = gdc_wait

# Sizes of the picture: a kernel compiled for one serves all.
SIZES = ["height", "width", "out_h", "out_w", "m_total"]


@triton.jit
def begin(EARLY: tl.constexpr):
    """With programmatic dependent launch (EARLY), wait for the kernel before, then let the next one be set up."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()


@triton.jit
def finish(
    acc, add, add_p, y, y_p, m, n, m_total, c_out, oy, ox, b, out_h, out_w, ACT: tl.constexpr, ADD: tl.constexpr
):
    """Activation, sum with `add` (1: after the activation; 2: before it, from half the resolution), store."""
    inside = (m < m_total)[:, None] & (n < c_out)[None, :]
    if ADD == 2:
        coarse = (b * (out_h // 2) + oy // 2) * (out_w // 2) + ox // 2
        acc += tl.load(add + coarse[:, None] * add_p + n[None, :], mask=inside, other=0.0).to(tl.float32)
    if ACT:
        acc = acc / (1.0 + tl.exp(-acc))
    if ADD == 1:
        acc += tl.load(add + m[:, None] * add_p + n[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(y + m[:, None] * y_p + n[None, :], acc.to(y.dtype.element_ty), mask=inside)


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


@triton.jit(do_not_specialize=SIZES)
def depthwise_kernel(
    x, p, w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c, m_total,
    K: tl.constexpr, S: tl.constexpr, ROWS: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Depthwise K×K convolution, w [K·K, c]."""
    begin(EARLY)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    b, place = m // (out_h * out_w), m % (out_h * out_w)
    oy, ox = place // out_w, place % out_w
    acc = taps(x, p, w, b, oy, ox, m < m_total, n, c, height, width, K, S, ROWS, BM, BN)
    acc += tl.load(bias + n, mask=n < c, other=0.0).to(tl.float32)[None, :]
    finish(acc, add, add_p, y, y_p, m, n, m_total, c, oy, ox, b, out_h, out_w, ACT, ADD)


@triton.jit(do_not_specialize=SIZES)
def separable_kernel(
    x, p, dw, w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c_in, c_out, m_total,
    K: tl.constexpr, S: tl.constexpr, ROWS: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Depthwise K×K (dw [K·K, c_in]) and pointwise (w [c_out, c_in]) in one, nothing written between the two."""
    begin(EARLY)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    b, place = m // (out_h * out_w), m % (out_h * out_w)
    oy, ox = place // out_w, place % out_w
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(tl.cdiv(c_in, BK)):
        ch = k * BK + tl.arange(0, BK)
        mixed = taps(x, p, dw, b, oy, ox, m < m_total, ch, c_in, height, width, K, S, ROWS, BM, BK)
        at = n[None, :] * c_in + ch[:, None]
        wt = tl.load(w + at, mask=(n < c_out)[None, :] & (ch < c_in)[:, None], other=0.0)
        acc = tl.dot(mixed.to(wt.dtype), wt, acc)
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


@triton.jit(do_not_specialize=["height", "width", "m_total"])
def gated_sum_kernel(
    x0, p0, x1, p1, gate, y, y_p, height, width, c, m_total,
    PER_CHANNEL: tl.constexpr, HALF: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """x0 + gate·x1, the gate one number or one a channel; HALF: x1 has half the height and width."""
    begin(EARLY)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (m < m_total)[:, None] & (n < c)[None, :]
    other = m
    if HALF:
        b, place = m // (height * width), m % (height * width)
        other = (b * (height // 2) + place // width // 2) * (width // 2) + place % width // 2
    g = tl.load(gate + n * PER_CHANNEL, mask=n < c, other=0.0).to(tl.float32)
    acc = tl.load(x0 + m[:, None] * p0 + n[None, :], mask=inside, other=0.0).to(tl.float32)
    acc += g[None, :] * tl.load(x1 + other[:, None] * p1 + n[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(y + m[:, None] * y_p + n[None, :], acc.to(y.dtype.element_ty), mask=inside)


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
