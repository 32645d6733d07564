"""What the kernels of an end-to-end plan must know of a frame, and how its detections lie in memory.

Where a picture lies in the network's input is decided here for `detection.letterbox`, too. Its bilinear weights are those of
OpenCV's `resize` of bytes (modules/imgproc/src/resize.cpp, INTER_LINEAR): 11 bits, worked out in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_FRAME_BYTES = 3840 * 2160 * 3
HEAD = 8  # values in front of the pixels' offsets and weights
WEIGHT = 2048  # of a whole pixel
COLUMNS = 6  # of a detection
ORDER = "RGB"


@dataclass(frozen=True)
class Fit:
    """Where a picture lies in the network's input: input = picture · scale + (left, top). height, width -- in the input"""

    scale: float
    top: int
    left: int
    height: int
    width: int


def fitted(height: int, width: int, imgsz: tuple[int, int]) -> Fit:
    """A picture scaled to fit imgsz = (h, w) and centred; an odd border pixel goes right and below, as in the published
    preprocessing."""
    scale = min(imgsz[0] / height, imgsz[1] / width)
    # a 20000 x 30 picture still gets one row
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    top, left = round((imgsz[0] - rows) / 2 - 0.1), round((imgsz[1] - columns) / 2 - 0.1)
    return Fit(scale, top, left, rows, columns)


def parameter_count(imgsz: tuple[int, int]) -> int:
    """How many values `frame_parameters` gives."""
    return HEAD + 4 * (imgsz[0] + imgsz[1])


def frame_parameters(height: int, width: int, imgsz: tuple[int, int]) -> NDArray[np.int32]:
    """What a plan's kernels read of a frame of height × width, as int32 [8 + 4·(w + h)] for an input of imgsz = (h, w).

    In front, as float32: left, top, scale, width, height of the frame, three zeros. Then for each of the w columns, and
    for each of the h rows: [4, w] and [4, h], the offsets in bytes of the two pixels that it is made of (-1: border), and
    their weights, 2048 in all.
    """
    fit = fitted(height, width, imgsz)
    head = np.array([fit.left, fit.top, fit.scale, width, height, 0, 0, 0], np.float32).view(np.int32)
    columns = _taps(width, fit.width, fit.left, imgsz[1], 3, stop_at_edges=True)
    rows = _taps(height, fit.height, fit.top, imgsz[0], 3 * width, stop_at_edges=False)
    return np.concatenate([head, columns.ravel(), rows.ravel()])


def _taps(size: int, placed: int, before: int, whole: int, step: int, stop_at_edges: bool) -> NDArray[np.int32]:
    """Offsets and weights [4, whole] along one side: `size` pixels become `placed`, behind `before` pixels of border.

    stop_at_edges -- a place beyond the outermost pixels' centres takes that pixel whole (OpenCV does so along a row only,
      elsewhere both taps are that pixel)
    """
    at = ((np.arange(placed) + 0.5) * (1.0 / (placed / size)) - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    share = at - first.astype(np.float32)
    if stop_at_edges:
        share[(first < 0) | (first >= size - 1)] = 0
    weights = [np.rint(part * np.float32(WEIGHT)).astype(np.int64) for part in (np.float32(1) - share, share)]
    found = np.full((4, whole), -1, np.int32)
    found[2:] = 0
    pixels = [first.clip(0, size - 1) * step, (first + 1).clip(0, size - 1) * step]
    found[:, before : before + placed] = np.stack([*pixels, *weights])
    return found


def detections_bytes(most: int) -> int:
    """Of a plan's detections: float32 [most, 6], then int32 count and candidates."""
    return 4 * (COLUMNS * most + 2)


@dataclass(frozen=True)
class Detections:
    """rows -- float32 [most, 6]: x1, y1, x2, y2 in the frame's pixels, score, class; best first, zeros behind the last
    count -- of rows; candidates -- boxes above the threshold before suppression"""

    rows: NDArray[np.float32]
    count: int
    candidates: int

    def outputs(self) -> tuple[NDArray[Any], ...]:
        """count int32 [1], boxes float32 [1, most, 4], scores float32 [1, most], classes int32 [1, most], -1 behind the last."""
        classes = np.where(np.arange(len(self.rows)) < self.count, self.rows[:, 5], -1)
        boxes, scores = self.rows[None, :, :4].copy(), self.rows[None, :, 4].copy()
        return np.array([self.count], np.int32), boxes, scores, classes[None].astype(np.int32)


def detections_from_memory(memory: NDArray[np.float32], most: int) -> Detections:
    """The detections in a plan's memory, float32 [6·most + 2]."""
    count, candidates = memory[COLUMNS * most :].view(np.int32).tolist()
    return Detections(memory[: COLUMNS * most].reshape(most, COLUMNS), count, candidates)
