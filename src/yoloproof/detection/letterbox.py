"""Image → network input and back: scaled to fit, centred on grey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloproof.detection.images import read_image
from yoloproof.errors import YoloproofError
from yoloproof.files.frames import fitted

GREY = 114  # the border of the published preprocessing


@dataclass(frozen=True)
class Letterbox:
    """Where an image of height × width pixels lies in the network input: input = image · scale + (left, top)."""

    scale: float
    left: int
    top: int
    height: int
    width: int


def letterbox(image: NDArray[np.uint8], imgsz: tuple[int, int] = (640, 640)) -> tuple[NDArray[np.float32], Letterbox]:
    """Pixels [H, W, 3] 0…255 → network input [3, h, w] 0…1 with imgsz = (h, w), and where the image lies in it.

    Bilinear, border 114, an odd border pixel goes right and below: as the published preprocessing does.
    """
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype != np.uint8:
        raise YoloproofError(f"an image is uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    height, width = image.shape[:2]
    fit = fitted(height, width, imgsz)
    size = (fit.width, fit.height)
    placed = image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    canvas = np.full((*imgsz, 3), GREY, np.uint8)
    canvas[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = placed
    blob: NDArray[np.float32] = cv2.dnn.blobFromImage(canvas, 1 / 255)[0]  # HWC → CHW and float in one pass
    return blob, Letterbox(fit.scale, fit.left, fit.top, height, width)


def boxes_to_image(detections: NDArray[np.float32], box: Letterbox) -> NDArray[np.float32]:
    """Detections [n, 6] with x1, y1, x2, y2 in network-input pixels → the same in image pixels, cut at its edges."""
    placed = detections.copy()
    placed[:, [0, 2]] = ((placed[:, [0, 2]] - box.left) / box.scale).clip(0, box.width)
    placed[:, [1, 3]] = ((placed[:, [1, 3]] - box.top) / box.scale).clip(0, box.height)
    return placed


def letterboxed(paths: Sequence[Path], imgsz: tuple[int, int] = (640, 640)) -> NDArray[np.float32]:
    """Image files → network input [n, 3, h, w]. Raises YoloproofError for the first that cannot be read, and for none."""
    if not paths:
        raise YoloproofError("no images given")
    return np.stack([letterbox(read_image(path), imgsz)[0] for path in paths])
