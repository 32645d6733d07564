"""Triton kernels on channels-last float16 tensors: convolution, depthwise convolution, both in one, decoding.

One launch does what a framework does in up to five: concatenation of its inputs (read where they lie), convolution,
bias, SiLU, residual. Products are summed in float32 and rounded once. Pixel strides (`p…`) count elements from one
pixel to the next, so that a slice of channels is an input like any other.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Sizes of the picture: a kernel compiled for one serves all.
SIZES = ["height", "width", "out_h", "out_w", "m_total"]


@triton.jit
def _finish(
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
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Dense K×K convolution as an implicit matrix product: w [c_out, K·K·c_in] over up to six inputs side by side."""
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
    _finish(acc, add, add_p, y, y_p, m, n, m_total, c_out, oy, ox, b, out_h, out_w, ACT, ADD)


@triton.jit(do_not_specialize=SIZES)
def depthwise_kernel(
    x, p, w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c, m_total,
    K: tl.constexpr, S: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Depthwise K×K convolution, w [K·K, c]."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    b, place = m // (out_h * out_w), m % (out_h * out_w)
    oy, ox = place // out_w, place % out_w
    acc = tl.zeros((BM, BN), tl.float32)
    for tap in tl.static_range(K * K):
        iy, ix = oy * S - K // 2 + tap // K, ox * S - K // 2 + tap % K
        seen = (m < m_total) & (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
        pixel = (b * height + iy) * width + ix
        a = tl.load(x + pixel[:, None] * p + n[None, :], mask=seen[:, None] & (n < c)[None, :], other=0.0)
        acc += a.to(tl.float32) * tl.load(w + tap * c + n, mask=n < c, other=0.0).to(tl.float32)[None, :]
    acc += tl.load(bias + n, mask=n < c, other=0.0).to(tl.float32)[None, :]
    _finish(acc, add, add_p, y, y_p, m, n, m_total, c, oy, ox, b, out_h, out_w, ACT, ADD)


@triton.jit(do_not_specialize=SIZES)
def separable_kernel(
    x, p, dw, w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c_in, c_out, m_total,
    K: tl.constexpr, S: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Depthwise K×K (dw [K·K, c_in]) and pointwise (w [c_out, c_in]) in one, nothing written between the two."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    b, place = m // (out_h * out_w), m % (out_h * out_w)
    oy, ox = place // out_w, place % out_w
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(tl.cdiv(c_in, BK)):
        ch = k * BK + tl.arange(0, BK)
        mixed = tl.zeros((BM, BK), tl.float32)
        for tap in tl.static_range(K * K):
            iy, ix = oy * S - K // 2 + tap // K, ox * S - K // 2 + tap % K
            seen = (m < m_total) & (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
            pixel = (b * height + iy) * width + ix
            a = tl.load(x + pixel[:, None] * p + ch[None, :], mask=seen[:, None] & (ch < c_in)[None, :], other=0.0)
            mixed += a.to(tl.float32) * tl.load(dw + tap * c_in + ch, mask=ch < c_in, other=0.0).to(tl.float32)[None, :]
        at = n[None, :] * c_in + ch[:, None]
        wt = tl.load(w + at, mask=(n < c_out)[None, :] & (ch < c_in)[:, None], other=0.0)
        acc = tl.dot(mixed.to(wt.dtype), wt, acc)
    acc += tl.load(bias + n, mask=n < c_out, other=0.0).to(tl.float32)[None, :]
    _finish(acc, add, add_p, y, y_p, m, n, m_total, c_out, oy, ox, b, out_h, out_w, ACT, ADD)


@triton.jit(do_not_specialize=["out_h", "out_w", "m_total"])
def finish_kernel(
    x, x_p, bias, add, add_p, y, y_p, out_h, out_w, c_out, m_total,
    ACT: tl.constexpr, ADD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Bias, activation and sum behind a convolution of cuDNN."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    b, place = m // (out_h * out_w), m % (out_h * out_w)
    inside = (m < m_total)[:, None] & (n < c_out)[None, :]
    acc = tl.load(x + m[:, None] * x_p + n[None, :], mask=inside, other=0.0).to(tl.float32)
    acc += tl.load(bias + n, mask=n < c_out, other=0.0).to(tl.float32)[None, :]
    _finish(
        acc, add, add_p, y, y_p, m, n, m_total, c_out, place // out_w, place % out_w, b, out_h, out_w, ACT, ADD
    )  # fmt: skip


@triton.jit
def decode_kernel(
    boxes, box_p, scores, score_p, y, offset, anchors, width, cells, classes, stride,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """One level's logits (64 bins and the classes of each cell) to float32 y [B, 4 + classes, anchors]."""
    b = tl.program_id(1)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
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
