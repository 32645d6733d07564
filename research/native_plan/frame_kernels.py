"""What the kernels around an end-to-end plan's network compute, in NumPy; see `network_kernels`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from native_plan.network_kernels import Grid, rows


def letterbox_kernel(frame, taps, y, width, height, *, grid: Grid, BM, **_):
    columns, lines = rows(taps, 4, width, width), rows(taps[4 * width :], 4, height, height)
    seen = (columns[0] >= 0)[None, :] & (lines[0] >= 0)[:, None]

    def along(line: NDArray[np.int32]) -> NDArray[np.int32]:
        """Pixels of one source row each, already mixed along the row: [height, width, 3]."""
        mixed = np.zeros((height, width, 3), np.int32)
        for offsets, weights in ((columns[0], columns[2]), (columns[1], columns[3])):
            at = np.where(seen, line[:, None] + offsets[None, :], 0)[..., None] + np.arange(3)
            mixed += frame[at].astype(np.int32) * weights[None, :, None]
        return mixed

    value = (lines[2][:, None, None] * (along(lines[0]) >> 4)) >> 16
    value = (value + ((lines[3][:, None, None] * (along(lines[1]) >> 4)) >> 16) + 2) >> 2
    value = np.where(seen[..., None], value, 114).astype(np.float32) * np.float32(1 / 255)
    out = rows(y, height * width, 3, 3).reshape(height, width, 3)
    part = slice(grid[1]), slice(grid[0] * BM)
    out[part] = value[part]


def best_kernel(raw, score, index, anchors, classes, *, grid: Grid, BM, **_):
    probabilities = rows(raw, 4 + classes, anchors, anchors)[4:]
    wrong = np.isnan(probabilities).any(0)
    taken = slice(min(anchors, grid[0] * BM))
    score[:anchors][taken] = np.where(wrong, np.inf, probabilities.max(0))[taken]
    index[:anchors][taken] = probabilities.argmax(0)[taken]


def order_kernel(raw, score, index, ordered, total, anchors, threshold, *, grid: Grid, LIST, BM, **_):
    scores, classes = score[:anchors], index[:anchors]
    found = np.flatnonzero(scores > _float(threshold))
    order = found[np.lexsort((found, classes[found], -scores[found]))][:LIST]
    cx, cy, w, h = rows(raw, 4, anchors, anchors)[:, order]
    values = np.stack(
        [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, scores[order], classes[order].astype(np.float32)]
    )
    there = order < grid[0] * BM
    rows(ordered, 6, LIST, LIST)[:, : len(order)][:, there] = values[:, there]
    total[0] = len(found)


def cover_kernel(ordered, total, covers, limit, *, grid: Grid, LIST, **_):
    count = min(int(total[0]), LIST)
    x1, y1, x2, y2, _, kind = rows(ordered, 6, LIST, LIST)[:, :count]
    width = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1)
    height = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area = (x2 - x1) * (y2 - y1)
    over = (shared > _float(limit) * (area[None, :] + area[:, None] - shared)) & (kind[:, None] == kind)
    bits = np.zeros((LIST, LIST), bool)
    bits[:count, :count] = np.tril(over, -1)
    words = np.packbits(bits, 1, bitorder="little").view(np.int32)
    written = min(count, grid[0] * 32)
    rows(covers, LIST, LIST // 32, LIST // 32)[:written] = words[:written]


def greedy_kernel(ordered, total, covers, head, rows_, counts, *, grid: Grid, LIST, MOST, **_):
    count = min(int(total[0]), LIST)
    words = rows(covers, LIST, LIST // 32, LIST // 32)[:count]
    covered_by = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), 1, bitorder="little")[:, :count] == 1
    chosen = np.zeros(count, bool)
    for i in range(count):
        chosen[i] = not (covered_by[i, :i] & chosen[:i]).any()
    kept = np.flatnonzero(chosen)[:MOST]
    left, top, scale, width, height = head[:5]
    found = rows(ordered, 6, LIST, LIST)[:, kept].T.copy()
    found[:, 0:4:2] = ((found[:, 0:4:2] - left) / scale).clip(0, width)
    found[:, 1:4:2] = ((found[:, 1:4:2] - top) / scale).clip(0, height)
    out = rows(rows_, MOST, 6, 6)
    out[:] = 0
    out[: len(kept)] = found
    counts[:2] = len(kept), total[0]


def _float(bits: int) -> np.float32:
    return np.float32(np.array(bits, np.int32).view(np.float32))


FRAME_REFERENCES: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (letterbox_kernel, best_kernel, order_kernel, cover_kernel, greedy_kernel)
}
