"""The kernels around an end-to-end engine's network under Triton's interpreter, each held to its NumPy reference.

Prints case → largest difference, as JSON. Run by test_frame_kernels.py in a process of its own, as gpu_interpreted.py is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import torch

from native_engines import frame
from native_plan.frame_kernels import FRAME_REFERENCES
from yoloproof.files.frames import HEAD, detections_from_memory, frame_parameters
from yoloproof.kernels import suppression
from yoloproof.kernels.launch import Options
from yoloproof.kernels.letterbox import placed
from yoloproof.kernels.suppression import Rule, suppressed
from yoloproof.proof.crowds import crowded

OPTIONS = Options()
SIZE = (64, 96)


def letterboxes() -> Iterator[tuple[str, float]]:
    for height, width in ((48, 64), (64, 96), (97, 41), (31, 200), (200, 150), (3, 2)):
        picture, parameters = frame(height, width), frame_parameters(height, width, SIZE)
        given = placed(
            torch.from_numpy(picture.reshape(-1)), torch.from_numpy(parameters[HEAD:]), SIZE, torch.float16, OPTIONS
        )
        expected = np.zeros((*SIZE, 3), np.float16)
        FRAME_REFERENCES["letterbox_kernel"](
            picture.reshape(-1), parameters[HEAD:], expected.reshape(-1), SIZE[1], SIZE[0], grid=(1, SIZE[0], 1), BM=128
        )
        difference = given.permute(0, 2, 3, 1)[0].numpy().astype(np.float32) - expected.astype(np.float32)
        yield f"letterbox {width}x{height}", float(np.abs(difference).max())


def raws() -> Iterator[tuple[str, np.ndarray, Rule]]:
    for seed, most in ((0, 300), (1, 20), (2, 64)):
        yield f"crowd {seed}, at most {most}", crowded((1, 84, 600), (640, 640), seed), Rule(0.25, 0.7, most)
    yield "nothing", np.zeros((1, 84, 600), np.float32), Rule(0.25, 0.7, 10)
    ties = np.full((1, 7, 200), 0.5, np.float32)  # every score alike: class, then anchor, decides
    ties[0, :4] = np.random.default_rng(3).random((4, 200)) * 90
    yield "ties", ties, Rule(0.25, 0.5, 100)
    yield "boxes everywhere over each other", dense(), Rule(0.25, 0.7, 200)
    more = crowded((1, 12, 900), (640, 640), 4)
    more[0, 4:] += np.random.default_rng(5).random((8, 900)).astype(np.float32) * 0.5
    yield "more candidates than are put in order", more, Rule(0.01, 0.7, 256)


def dense() -> np.ndarray:
    """A raw output of a 128 x 128 image in which each box overlaps many and all scores are near to each other."""
    rng, parts = np.random.default_rng(7), []
    for stride in (8, 16, 32):
        y, x = np.mgrid[: 128 // stride, : 128 // stride]
        part = np.zeros((12, x.size), np.float32)
        part[0], part[1] = (x.ravel() + 0.5) * stride, (y.ravel() + 0.5) * stride
        part[:2] += rng.normal(0, 0.3 * stride, (2, x.size))
        part[2:4] = 5 * stride * (1 + rng.normal(0, 0.05, (2, x.size)))
        part[4:6] = 0.5 + rng.normal(0, 0.01, (2, x.size))
        parts.append(part)
    return np.concatenate(parts, 1)[None]


def suppressions() -> Iterator[tuple[str, float]]:
    suppression.MOST_CANDIDATES = 256
    head = frame_parameters(720, 1280, (640, 640))[:HEAD].view(np.float32)
    for name, raw, rule in raws():
        memory = torch.full((6 * rule.most + 2,), float("nan"))
        suppressed(torch.from_numpy(raw), torch.from_numpy(head), memory, rule, OPTIONS)
        given = detections_from_memory(memory.numpy(), rule.most)
        expected = reference(raw, head, rule)
        assert (given.count, given.candidates) == (expected.count, expected.candidates), (name, given, expected)
        yield f"suppression, {name}", float(np.abs(given.rows - expected.rows).max())
    broken = crowded((1, 84, 600), (640, 640), 6)
    broken[0, 40, 17] = np.nan
    suppressed(torch.from_numpy(broken), torch.from_numpy(head), memory, rule, OPTIONS)
    yield "NaN is not lost", float(np.isfinite(memory[: 6 * rule.most].numpy()).all())


def reference(raw: np.ndarray, head: np.ndarray, rule: Rule):
    """The four references one after the other, with the launches' own grids."""
    _, rows, anchors = raw.shape
    size = suppression.listed(anchors)
    score, index = np.zeros(anchors, np.float32), np.zeros(anchors, np.int32)
    ordered, total = np.zeros(6 * size, np.float32), np.zeros(1, np.int32)
    covers, memory = np.zeros(size * size // 32, np.int32), np.zeros(6 * rule.most + 2, np.float32)
    flat, split = raw.reshape(-1), 6 * rule.most
    kernels, whole = FRAME_REFERENCES, (1 << 20, 1, 1)
    kernels["best_kernel"](flat, score, index, anchors, rows - 4, grid=whole, BM=64)
    kernels["order_kernel"](
        flat, score, index, ordered, total, anchors, suppression._bits(rule.score), grid=whole, LIST=size, BM=16
    )
    kernels["cover_kernel"](ordered, total, covers, suppression._bits(rule.iou), grid=whole, LIST=size)
    kernels["greedy_kernel"](
        ordered,
        total,
        covers,
        head,
        memory[:split],
        memory[split:].view(np.int32),
        grid=whole,
        LIST=size,
        MOST=rule.most,
    )
    return detections_from_memory(memory, rule.most)


if __name__ == "__main__":
    print(json.dumps(dict((*letterboxes(), *suppressions()))))
