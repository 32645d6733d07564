"""What each kernel of a launch plan computes, in NumPy: the reference that a plan is executed by without a GPU.

Parameters are the kernel's own, in its order. Pointers are flat arrays from the address on; a function writes nothing
that its grid's programs would not. Values are read as float32 and rounded once where the kernel stores them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Memory = NDArray[Any]  # float16 or float32, one dimension
Grid = tuple[int, int, int]
HEAD_DIM = 32
EDGES = 16  # hyperedges, padded


def rows(x: Memory, count: int, spacing: int, width: int) -> Memory:
    """A view [count, width] of rows that start `spacing` values apart; IndexError where it leaves the buffer."""
    if min(count, spacing, width) < 1 or (count - 1) * spacing + width > x.size:
        raise IndexError(f"{count} rows of {width} values, {spacing} apart, in {x.size}")
    return as_strided(x, (count, width), (spacing * x.itemsize, x.itemsize))


def wide(x: Memory) -> NDArray[np.float32]:
    return x.astype(np.float32)


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.float32(1) / (np.float32(1) + np.exp(-x))


def gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = (0.5 * x * (1 + np.vectorize(erf)(x * 0.5**0.5))).astype(np.float32)
    return result


def images_of(x: Memory, spacing: int, count: int, height: int, width: int, c: int) -> NDArray[np.float32]:
    """[count, height, width, c] from pixels `spacing` apart."""
    return wide(rows(x, count * height * width, spacing, c)).reshape(count, height, width, c)


def finished(
    acc: NDArray[np.float32], add: Memory, add_p: int, size: tuple[int, int], ACT: int, ADD: int
) -> NDArray[np.float32]:
    """acc [pixels, channels] with the activation and the sum; size: of the result (h, w)."""
    m, n = acc.shape
    h, w = size
    if ADD == 2:
        coarse = images_of(add, add_p, m // (h * w), h // 2, w // 2, n)
        acc = acc + coarse.repeat(2, 1).repeat(2, 2).reshape(m, n)
    if ACT:
        acc = acc * sigmoid(acc)
    if ADD == 1:
        acc = acc + wide(rows(add, m, add_p, n))
    return acc


def stored(
    acc: NDArray[np.float32], add: Memory, add_p: int, y: Memory, y_p: int, size: tuple[int, int], grid: Grid,
    ACT: int, ADD: int, BM: int, BN: int,
) -> None:  # fmt: skip
    """`finished`, where a program writes."""
    m, n = min(len(acc), grid[0] * BM), min(acc.shape[1], grid[1] * BN)
    acc = finished(acc, add, add_p, size, ACT, ADD)
    rows(y, acc.shape[0], y_p, acc.shape[1])[:m, :n] = acc[:m, :n]


def taps(x: NDArray[np.float32], K: int, S: int, out_h: int, out_w: int) -> list[NDArray[np.float32]]:
    """For each place of a K×K kernel, row by row, the pixels under it: [B, out_h, out_w, c]."""
    half = K // 2
    x = np.pad(x, ((0, 0), (half, half + S), (half, half + S), (0, 0)))
    return [
        x[:, dy : dy + S * out_h : S, dx : dx + S * out_w : S][:, :out_h, :out_w] for dy in range(K) for dx in range(K)
    ]


def conv_kernel(
    x0, x1, x2, x3, x4, x5, c0, c1, c2, c3, c4, c5, p0, p1, p2, p3, p4, p5,
    w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c_in, c_out, m_total,
    *, grid: Grid, K, S, SOURCES, ACT, ADD, BM, BN, BK, **_,
):  # fmt: skip
    count = m_total // (out_h * out_w)
    sources = list(zip((x0, x1, x2, x3, x4, x5), (c0, c1, c2, c3, c4, c5), (p0, p1, p2, p3, p4, p5), strict=True))
    weight = wide(rows(w, c_out, K * K * c_in, K * K * c_in)).reshape(c_out, K * K, c_in)
    acc = np.zeros((m_total, c_out), np.float32) + wide(rows(bias, 1, c_out, c_out))
    base = 0
    for x, c, p in sources[:SOURCES]:
        for tap, part in enumerate(taps(images_of(x, p, count, height, width, c), K, S, out_h, out_w)):
            acc += part.reshape(m_total, c) @ weight[:, tap, base : base + c].T
        base += c
    stored(acc, add, add_p, y, y_p, (out_h, out_w), grid, ACT, ADD, BM, BN)


def thin_conv_kernel(
    x, p, w, bias, add, add_p, y, y_p, height, width, out_h, out_w, m_total,
    *, grid: Grid, K, S, GROUPS, C, C_OUT, ACT, ADD, ROWS, COLUMNS, BN, **_,
):  # fmt: skip
    count, c_out = m_total // (out_h * out_w), GROUPS * C_OUT
    weight = wide(rows(w, c_out, K * K * C, K * K * C)).reshape(GROUPS, C_OUT, K * K, C)
    acc = np.zeros((m_total, GROUPS, C_OUT), np.float32) + wide(rows(bias, 1, c_out, c_out)).reshape(GROUPS, C_OUT)
    for tap, part in enumerate(taps(images_of(x, p, count, height, width, GROUPS * C), K, S, out_h, out_w)):
        acc += np.einsum("mgc,gnc->mgn", part.reshape(m_total, GROUPS, C), weight[:, :, tap])
    acc = finished(acc.reshape(m_total, c_out), add, add_p, (out_h, out_w), ACT, ADD)
    out = rows(y, m_total, y_p, c_out)
    for program in range(grid[2]):  # the channels of an image that a layer of the grid writes
        block, rest = program % -(-C_OUT // BN), program // -(-C_OUT // BN)
        group, image = rest % GROUPS, rest // GROUPS
        n = slice(group * C_OUT + block * BN, group * C_OUT + min(C_OUT, (block + 1) * BN))
        seen = (slice(image, image + 1), slice(grid[1] * ROWS), slice(grid[0] * COLUMNS), n)
        pixels = as_strided(
            out, (count, out_h, out_w, c_out), (out_h * out_w * out.strides[0], out_w * out.strides[0], *out.strides)
        )
        pixels[seen] = acc.reshape(count, out_h, out_w, c_out)[seen]


def _depthwise(x, p, w, c, height, width, out_h, out_w, m_total, K, S) -> NDArray[np.float32]:
    count = m_total // (out_h * out_w)
    weight = wide(rows(w, K * K, c, c))
    parts = taps(images_of(x, p, count, height, width, c), K, S, out_h, out_w)
    return np.sum([part * one for part, one in zip(parts, weight, strict=True)], 0, dtype=np.float32).reshape(
        m_total, c
    )


def depthwise_kernel(
    x, p, w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c, m_total,
    *, grid: Grid, K, S, ROWS, STRIP, ACT, ADD, BM, BN, **_,
):  # fmt: skip
    acc = _depthwise(x, p, w, c, height, width, out_h, out_w, m_total, K, S) + wide(rows(bias, 1, c, c))
    strips = min(grid[0] * BM, m_total // out_w * -(-out_w // STRIP))  # of so many pixels, fewer at the end of a row
    covered = strips // -(-out_w // STRIP) * out_w + strips % -(-out_w // STRIP) * STRIP
    stored(acc, add, add_p, y, y_p, (out_h, out_w), (covered, grid[1], 1), ACT, ADD, 1, BN)


def separable_kernel(
    x, p, dw, w, bias, add, add_p, y, y_p, height, width, out_h, out_w, c_in, c_out, m_total,
    *, grid: Grid, K, S, ROWS, ACT, ADD, BM, BN, BK, **_,
):  # fmt: skip
    mixed = _depthwise(x, p, dw, c_in, height, width, out_h, out_w, m_total, K, S).astype(np.float16)
    acc = wide(mixed) @ wide(rows(w, c_out, c_in, c_in)).T + wide(rows(bias, 1, c_out, c_out))
    stored(acc, add, add_p, y, y_p, (out_h, out_w), grid, ACT, ADD, BM, BN)


def gated_sum_kernel(
    x0, p0, x1, p1, gate, y, y_p, height, width, c, m_total, *, grid: Grid, PER_CHANNEL, COARSE, BM, BN, **_
):  # fmt: skip
    count = m_total // (height * width)
    scale = wide(rows(gate, 1, c, c))[0] if PER_CHANNEL else np.float32(gate[0])
    if COARSE:
        other = images_of(x1, p1, count, height // 2, width // 2, c).repeat(2, 1).repeat(2, 2).reshape(m_total, c)
    else:
        other = wide(rows(x1, m_total, p1, c))
    stored(wide(rows(x0, m_total, p0, c)) + scale * other, x0, 0, y, y_p, (height, width), grid, 0, 0, BM, BN)


def pool_kernel(x, p, y, y_p, out_h, out_w, c, m_total, *, grid: Grid, BM, BN, **_):
    count = m_total // (out_h * out_w)
    x = images_of(x, p, count, 2 * out_h, 2 * out_w, c).reshape(count, out_h, 2, out_w, 2, c)
    stored(x.mean((2, 4)).reshape(m_total, c), y, 0, y, y_p, (out_h, out_w), grid, 0, 0, BM, BN)


def attention_kernel(qkv, p, y, y_p, tokens, heads, *, grid: Grid, BM, BN, **_):
    c, runs = heads * HEAD_DIM, grid[2]
    q, k, v = (
        wide(rows(qkv, runs * tokens, p, 3 * c)).reshape(runs, tokens, 3, heads, HEAD_DIM).transpose(2, 0, 3, 1, 4)
    )
    scores = q @ k.transpose(0, 1, 3, 2)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out = (weights @ v / weights.sum(-1, keepdims=True)).transpose(0, 2, 1, 3)  # [runs, tokens, heads, 32]
    queries, taken = min(tokens, grid[0] * BM), min(heads, grid[1])
    result = rows(y, runs * tokens, y_p, c)
    result = as_strided(
        result, (runs, tokens, heads, HEAD_DIM),
        (tokens * result.strides[0], result.strides[0], HEAD_DIM * result.itemsize, result.itemsize),
    )  # fmt: skip
    result[:, :queries, :taken] = out[:, :queries, :taken]


def decode_kernel(
    box0, box1, box2, box_p0, box_p1, box_p2, score0, score1, score2, score_p0, score_p1, score_p2,
    y, width0, width1, width2, cells0, cells1, cells2, classes, *, grid: Grid, BM, BC, **_,
):  # fmt: skip
    total, images = cells0 + cells1 + cells2, grid[1]
    out = rows(y, images * (4 + classes), total, total).reshape(images, 4 + classes, total)
    bins, start, programs = np.arange(16, dtype=np.float32), 0, grid[0]
    levels = (
        (box0, box_p0, score0, score_p0, width0, cells0), (box1, box_p1, score1, score_p1, width1, cells1),
        (box2, box_p2, score2, score_p2, width2, cells2),
    )  # fmt: skip
    for (box, box_p, score, score_p, width, cells), stride in zip(levels, (8, 16, 32), strict=True):
        there = min(cells, max(programs, 0) * BM)
        programs -= -(-cells // BM)
        logits = wide(rows(box, images * cells, box_p, 64)).reshape(images, cells, 4, 16)
        share = np.exp(logits - logits.max(-1, keepdims=True))
        left, up, right, down = ((share * bins).sum(-1) / share.sum(-1)).transpose(2, 0, 1)
        cell = np.arange(cells)
        x, top = (cell % width + 0.5).astype(np.float32), (cell // width + 0.5).astype(np.float32)
        boxes = ((x + (right - left) / 2) * stride, (top + (down - up) / 2) * stride, (left + right) * stride,
                 (up + down) * stride)  # fmt: skip
        scores = sigmoid(wide(rows(score, images * cells, score_p, classes))).reshape(images, cells, classes)
        values = np.concatenate((np.stack(boxes, 1), scores.transpose(0, 2, 1)), 1)
        out[:, :, start : start + there] = values[:, :, :there]
        start += cells


def _tokens(x, p, gap, both, tokens, d, BRANCHES) -> NDArray[np.float32]:
    """Tokens of each image's branches: [both, tokens, d]."""
    images = both // BRANCHES
    pixels = wide(rows(x, images * tokens, p, (BRANCHES - 1) * gap + d)).reshape(images, tokens, -1)
    return np.stack([pixels[:, :, j * gap : j * gap + d] for j in range(BRANCHES)], 1).reshape(both, tokens, d)


def _runs(values: NDArray[np.float32], size: int, fill: float) -> NDArray[np.float32]:
    """[both, tokens, …] → [both, runs, size, …], the last run filled up."""
    short = -values.shape[1] % size
    padding = [(0, 0), (0, short), *[(0, 0)] * (values.ndim - 2)]
    padded = np.pad(values, padding, constant_values=fill)
    return padded.reshape(values.shape[0], -1, size, *values.shape[2:])


def context_kernel(x, p, gap, partial, tokens, d, *, grid: Grid, BRANCHES, BT, BD, **_):
    both, runs, taken = grid[2], grid[0], min(d, grid[1] * BD)
    values = _tokens(x, p, gap, both, tokens, d, BRANCHES)
    out = rows(partial, both * runs * 2, d, d).reshape(both, runs, 2, d)
    out[:, :, 0, :taken] = _runs(values, BT, 0.0)[:, :runs].sum(2)[..., :taken]
    out[:, :, 1, :taken] = _runs(values, BT, -np.inf)[:, :runs].max(2)[..., :taken]


def prototypes_kernel(
    partial, context, base, prototypes, tokens, runs, d, count, *, grid: Grid, BRANCHES, BR, BK, **_
):  # fmt: skip
    both, taken = grid[1], min(count, grid[0] * BR)
    parts = rows(partial, both * runs * 2, d, d).reshape(both, runs, 2, d)
    mean, most = parts[:, :, 0].sum(1) / tokens, parts[:, :, 1].max(1)
    weight = wide(rows(context, BRANCHES * count, 2 * d, 2 * d)).reshape(BRANCHES, count, 2 * d)
    start = wide(rows(base, BRANCHES, count, count))
    known = np.concatenate((mean, most), 1).astype(np.float32)  # [both, 2d]
    values = np.stack([start[i % BRANCHES] + weight[i % BRANCHES] @ known[i] for i in range(both)])
    rows(prototypes, both, count, count)[:, :taken] = values[:, :taken]


def gather_kernel(
    x, p, gap, prototypes, logits, peaks, masses, sums, tokens, d, edges, *, grid: Grid, BRANCHES, BT, BK, **_
):  # fmt: skip
    runs, both = grid[:2]
    values = _tokens(x, p, gap, both, tokens, d, BRANCHES)
    known = np.zeros((both, EDGES, d), np.float32)
    known[:, :edges] = wide(rows(prototypes, both * edges, d, d)).reshape(both, edges, d)
    scores = values @ known.transpose(0, 2, 1)  # [both, tokens, 16]
    covered = min(tokens, runs * BT)
    rows(logits, both * EDGES, tokens, tokens).reshape(both, EDGES, tokens)[:, :, :covered] = scores.transpose(0, 2, 1)[
        :, :, :covered
    ]
    scores, values = _runs(scores, BT, -np.inf)[:, :runs], _runs(values, BT, 0.0)[:, :runs]
    peak = scores.max(2)
    share = np.exp(scores - peak[:, :, None])
    rows(peaks, both, runs * EDGES, runs * EDGES)[:] = peak.reshape(both, -1)
    rows(masses, both, runs * EDGES, runs * EDGES)[:] = share.sum(2).reshape(both, -1)
    total = wide(share.astype(np.float16)).transpose(0, 1, 3, 2) @ values  # [both, runs, 16, d]
    rows(sums, both, runs * EDGES * d, runs * EDGES * d)[:] = total.reshape(both, -1)


def edges_kernel(
    peaks, masses, sums, edge, edge_bias, hidden, peak, mass, runs, d, *, grid: Grid, BRANCHES, BN, BK, **_
):  # fmt: skip
    both, taken = grid[1], min(d, grid[0] * BN)
    tops = rows(peaks, both * runs, EDGES, EDGES).reshape(both, runs, EDGES)
    top = tops.max(1)
    scale = np.exp(tops - top[:, None])
    whole = (scale * rows(masses, both * runs, EDGES, EDGES).reshape(both, runs, EDGES)).sum(1)
    gathered = (scale[..., None] * rows(sums, both * runs * EDGES, d, d).reshape(both, runs, EDGES, d)).sum(1)
    gathered = wide((gathered / whole[..., None]).astype(np.float16))
    weight = wide(rows(edge, BRANCHES * d, d, d)).reshape(BRANCHES, d, d)
    bias = wide(rows(edge_bias, BRANCHES, d, d))
    values = np.stack([gelu(gathered[i] @ weight[i % BRANCHES].T + bias[i % BRANCHES]) for i in range(both)])
    rows(hidden, both * EDGES, d, d).reshape(both, EDGES, d)[:, :, :taken] = values[:, :, :taken]
    rows(peak, both, EDGES, EDGES)[:] = top
    rows(mass, both, EDGES, EDGES)[:] = whole


def scatter_kernel(
    x, p, gap, logits, peak, mass, hidden, node, node_bias, y, y_p, tokens, d, edges,
    *, grid: Grid, BRANCHES, BT, BN, BK, **_,
):  # fmt: skip
    both, covered, taken = grid[2], min(tokens, grid[0] * BT), min(d, grid[1] * BN)
    values = _tokens(x, p, gap, both, tokens, d, BRANCHES)
    weight = wide(rows(node, BRANCHES * d, d, d)).reshape(BRANCHES, d, d)
    bias = wide(rows(node_bias, BRANCHES, d, d))
    scores = rows(logits, both * EDGES, tokens, tokens).reshape(both, EDGES, tokens)[:, :edges]
    top, whole = (rows(one, both, EDGES, EDGES)[:, :edges, None] for one in (peak, mass))
    share = wide((np.exp(scores - top) / whole * 1024).astype(np.float16)) / 1024  # [both, edges, tokens]
    known = wide(rows(hidden, both * EDGES, d, d)).reshape(both, EDGES, d)[:, :edges]
    out = rows(y, both // BRANCHES * tokens, y_p, BRANCHES * d)
    for i in range(both):
        mixed = wide((known[i] @ weight[i % BRANCHES].T).astype(np.float16))  # [edges, d]
        result = gelu(share[i].T @ mixed + bias[i % BRANCHES]) + values[i]
        first, channel = i // BRANCHES * tokens, i % BRANCHES * d
        out[first : first + covered, channel : channel + taken] = result[:covered, :taken]


REFERENCES: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        conv_kernel, thin_conv_kernel, depthwise_kernel, separable_kernel, gated_sum_kernel, pool_kernel, attention_kernel,
        decode_kernel, context_kernel, prototypes_kernel, gather_kernel, edges_kernel, scatter_kernel,
    )
}  # fmt: skip
