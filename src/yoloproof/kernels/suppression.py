"""Raw output to detections: threshold, order, greedy class-aware suppression, exact. Reference: `detection.nms`.

Four launches whose shapes do not depend on the image. Each anchor's best class; the place of each candidate in the order
(how many are better: score, then class, then anchor), which sorts the best LIST of them; who covers whom, a bit each; and
the greedy choice, 32 candidates at a time: those that a kept one covers go, the rest settle among themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from yoloproof.kernels.epilogue import begin
from yoloproof.kernels.launch import Options, launch, tiles

MOST_CANDIDATES = 2048


@triton.jit(do_not_specialize=["anchors", "classes"])
def best_kernel(
    raw, score, index, anchors, classes, BM: tl.constexpr, BC: tl.constexpr, EARLY: tl.constexpr
):  # fmt: skip
    """Each anchor's best class (the first of equal ones) and its score; infinite where one is no number."""
    begin(EARLY)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    best, which, wrong = tl.full((BM,), -1.0, tl.float32), tl.zeros((BM,), tl.int32), tl.zeros((BM,), tl.int32)
    for c0 in range(0, classes, BC):
        c = c0 + tl.arange(0, BC)
        inside = (c < classes)[:, None] & (m < anchors)[None, :]
        p = tl.load(raw + (4 + c)[:, None] * anchors + m[None, :], mask=inside, other=-1.0)
        wrong += tl.sum((p != p).to(tl.int32), 0)
        top = tl.max(p, 0)
        first = tl.min(tl.where(p == top[None, :], c[:, None], classes), 0)
        which = tl.where(top > best, first, which)
        best = tl.maximum(best, top)
    tl.store(score + m, tl.where(wrong > 0, float("inf"), best), mask=m < anchors)
    tl.store(index + m, which, mask=m < anchors)


@triton.jit(do_not_specialize=["anchors", "threshold"])
def order_kernel(
    raw, score, index, ordered, total, anchors, threshold,
    LIST: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Candidates sorted: ordered [6, LIST] (x1, y1, x2, y2, score, class), total of them. threshold -- float32's bits"""
    begin(EARLY)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    least = threshold.to(tl.float32, bitcast=True)
    mine = tl.load(score + m, mask=m < anchors, other=-1.0)
    is_first = tl.program_id(0) == 0
    if is_first | (tl.max(mine, 0) > least):
        kind = tl.load(index + m, mask=m < anchors, other=0)
        rank = kind * anchors + m  # of equal scores the lowest comes first
        better, there = tl.zeros((BM, BN), tl.int32), tl.zeros((BN,), tl.int32)
        for n0 in range(0, anchors, BN):
            n = n0 + tl.arange(0, BN)
            other = tl.load(score + n, mask=n < anchors, other=-1.0)
            its = tl.load(index + n, mask=n < anchors, other=0) * anchors + n
            equal = (other[None, :] == mine[:, None]) & (its[None, :] < rank[:, None])
            better += ((other[None, :] > mine[:, None]) | equal).to(tl.int32)
            there += (other > least).to(tl.int32)
        place = tl.sum(better, 1)
        known = (m < anchors) & (mine > least)
        listed = known & (place < LIST)
        cx, cy = tl.load(raw + m, mask=known, other=0.0), tl.load(raw + anchors + m, mask=known, other=0.0)
        w = tl.load(raw + 2 * anchors + m, mask=known, other=0.0) * 0.5
        h = tl.load(raw + 3 * anchors + m, mask=known, other=0.0) * 0.5
        tl.store(ordered + place, cx - w, mask=listed)
        tl.store(ordered + LIST + place, cy - h, mask=listed)
        tl.store(ordered + 2 * LIST + place, cx + w, mask=listed)
        tl.store(ordered + 3 * LIST + place, cy + h, mask=listed)
        tl.store(ordered + 4 * LIST + place, mine, mask=listed)
        tl.store(ordered + 5 * LIST + place, kind.to(tl.float32), mask=listed)
        if is_first:
            tl.store(total, tl.sum(there, 0))


@triton.jit(do_not_specialize=["limit"])
def cover_kernel(ordered, total, covers, limit, LIST: tl.constexpr, EARLY: tl.constexpr):
    """Bit j of covers [LIST, LIST / 32] in row i: j is better, of i's class, and overlaps it by more than limit (bits).

    Compiled without fused multiplications, whose rounding could decide otherwise than NumPy's at the limit.
    """
    begin(EARLY)
    block, lane = tl.program_id(0), tl.arange(0, 32)
    count = tl.minimum(tl.load(total), LIST)
    if block * 32 < count:
        most, i = limit.to(tl.float32, bitcast=True), block * 32 + lane
        known = i < count
        x1, y1 = tl.load(ordered + i, mask=known, other=0.0), tl.load(ordered + LIST + i, mask=known, other=0.0)
        x2 = tl.load(ordered + 2 * LIST + i, mask=known, other=0.0)
        y2 = tl.load(ordered + 3 * LIST + i, mask=known, other=0.0)
        kind, area = tl.load(ordered + 5 * LIST + i, mask=known, other=-1.0), (x2 - x1) * (y2 - y1)
        for word in range(block + 1):
            j = ordered + word * 32 + lane
            there = word * 32 + lane < count
            u1, v1 = tl.load(j, mask=there, other=0.0), tl.load(j + LIST, mask=there, other=0.0)
            u2 = tl.load(j + 2 * LIST, mask=there, other=0.0)
            v2 = tl.load(j + 3 * LIST, mask=there, other=0.0)
            same = tl.load(j + 5 * LIST, mask=there, other=-2.0)[None, :] == kind[:, None]
            width = tl.minimum(x2[:, None], u2[None, :]) - tl.maximum(x1[:, None], u1[None, :])
            height = tl.minimum(y2[:, None], v2[None, :]) - tl.maximum(y1[:, None], v1[None, :])
            shared = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
            over = shared > most * (((u2 - u1) * (v2 - v1))[None, :] + area[:, None] - shared)
            better = (word * 32 + lane)[None, :] < i[:, None]
            bits = (over & same & better & there[None, :]).to(tl.int32) << lane[None, :]
            tl.store(covers + i * (LIST // 32) + word, tl.sum(bits, 1), mask=known)


@triton.jit
def greedy_kernel(
    ordered, total, covers, head, rows, counts,
    LIST: tl.constexpr, MOST: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The greedy choice in one program: rows [MOST, 6] in the frame's pixels, counts (kept, candidates).

    head -- the first values of `frame_parameters`
    """
    begin(EARLY)
    lane, words = tl.arange(0, 32), tl.arange(0, LIST // 32)
    candidates = tl.load(total)
    count = tl.minimum(candidates, LIST)
    left, top, scale = tl.load(head), tl.load(head + 1), tl.load(head + 2)
    width, height = tl.load(head + 3), tl.load(head + 4)
    chosen, found, block = tl.zeros((LIST // 32,), tl.int32), 0, 0
    while (block * 32 < count) & (found < MOST):
        i = block * 32 + lane
        seen = (i < count)[:, None] & (words <= block)[None, :]
        row = tl.load(covers + i[:, None] * (LIST // 32) + words[None, :], mask=seen, other=0)
        covered = tl.max(((row & chosen[None, :]) != 0).to(tl.int32), 1)
        inner = tl.sum(tl.where((words == block)[None, :], row, 0), 1)
        free = (i < count) & (covered == 0)
        before, now = 0, tl.sum(free.to(tl.int32) << lane, 0)
        while now != before:  # the only state that stays is the greedy one, since only better ones cover
            before = now
            now = tl.sum((free & ((inner & before) == 0)).to(tl.int32) << lane, 0)
        kept = (now >> lane) & 1
        place = found + tl.cumsum(kept, 0) - kept
        write = (kept == 1) & (place < MOST)
        out = rows + place * 6
        x1, y1 = tl.load(ordered + i, mask=write, other=0.0), tl.load(ordered + LIST + i, mask=write, other=0.0)
        x2 = tl.load(ordered + 2 * LIST + i, mask=write, other=0.0)
        y2 = tl.load(ordered + 3 * LIST + i, mask=write, other=0.0)
        tl.store(out, tl.minimum(tl.maximum((x1 - left) / scale, 0.0), width), mask=write)
        tl.store(out + 1, tl.minimum(tl.maximum((y1 - top) / scale, 0.0), height), mask=write)
        tl.store(out + 2, tl.minimum(tl.maximum((x2 - left) / scale, 0.0), width), mask=write)
        tl.store(out + 3, tl.minimum(tl.maximum((y2 - top) / scale, 0.0), height), mask=write)
        tl.store(out + 4, tl.load(ordered + 4 * LIST + i, mask=write, other=0.0), mask=write)
        tl.store(out + 5, tl.load(ordered + 5 * LIST + i, mask=write, other=0.0), mask=write)
        chosen = tl.where(words == block, now, chosen)
        found += tl.sum(kept, 0)
        block += 1
    found = tl.minimum(found, MOST)
    for start in range(found * 6, MOST * 6, 32):
        tl.store(rows + start + lane, tl.zeros((32,), tl.float32), mask=start + lane < MOST * 6)
    tl.store(counts, found)
    tl.store(counts + 1, candidates)


@dataclass(frozen=True)
class Rule:
    """score -- boxes above it count; iou -- overlap above which the worse box of a class goes; most -- so many are kept"""

    score: float
    iou: float
    most: int


def listed(anchors: int) -> int:
    """How many candidates are put in order: a power of two, at least 32."""
    return min(MOST_CANDIDATES, max(32, 1 << (anchors - 1).bit_length()))


def suppressed(raw: Tensor, head: Tensor, detections: Tensor, rule: Rule, options: Options) -> None:
    """Raw output float32 [1, 4 + classes, A] → detections, float32 [6·most + 2] as `files.frames.Detections` reads it.

    head -- float32 [8], the first values of `frame_parameters`
    """
    _, rows, anchors = raw.shape
    size = listed(anchors)

    def buffer(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=raw.device)

    score, index, ordered = buffer(anchors), buffer(anchors, dtype=torch.int32), buffer(6, size)
    total, covers = buffer(1, dtype=torch.int32), buffer(size, size // 32, dtype=torch.int32)
    launch(
        best_kernel, (tiles(anchors, 64),), raw, score, index, anchors, rows - 4, BM=64, BC=16, num_warps=4, options=options
    )  # fmt: skip
    launch(
        order_kernel, (tiles(anchors, 8),), raw, score, index, ordered, total, anchors, _bits(rule.score),
        LIST=size, BM=8, BN=1024, num_warps=4, options=options,
    )  # fmt: skip
    launch(
        cover_kernel, (size // 32,), ordered, total, covers, _bits(rule.iou),
        LIST=size, num_warps=1, enable_fp_fusion=False, options=options,
    )  # fmt: skip
    counts = detections[6 * rule.most :].view(torch.int32)
    launch(
        greedy_kernel, (1,), ordered, total, covers, head, detections[: 6 * rule.most], counts,
        LIST=size, MOST=rule.most, num_warps=1, options=options,
    )  # fmt: skip


def _bits(value: float) -> int:
    """A float32 as the integer that kernels take it for."""
    return int(np.float32(value).view(np.int32))
