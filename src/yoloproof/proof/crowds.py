"""Synthetic raw outputs on which a suppression has much to do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
CROWDS = 4  # synthetic outputs


def crowded(shape: tuple[int, int, int], size: tuple[int, int], seed: int, score: float = 0.25) -> Array:
    """A synthetic raw output [B, 4 + classes, A] for images of `size` (H, W): sixty-four objects, one in each field of an
    8 x 8 board, of a few boxes each that overlap, most above the threshold `score`; elsewhere scores below it."""
    rng = np.random.default_rng(seed)
    batch, rows, anchors = shape
    raw = np.zeros(shape, np.float32)
    raw[:, 2:4] = 10
    raw[:, 4:] = rng.random((batch, rows - 4, anchors)) * score / 2
    low = 0.8 * score
    for image in raw:
        classes = rng.permutation(np.resize(np.arange(rows - 4), max(64, rows - 4)))
        for place in range(64):  # 4 anchors each
            field = np.array(divmod(place, 8), float)[::-1]
            centre = (field + rng.random(2)) / 8 * size[::-1]
            extent = np.exp(rng.uniform(np.log(8), np.log(min(size) / 3), 2))
            for anchor in (np.arange(4 * place, 4 * place + 4) * (anchors // 256)) % anchors:
                image[:2, anchor] = centre + rng.normal(0, 0.05, 2) * extent
                image[2:4, anchor] = extent * (1 + rng.normal(0, 0.1, 2))
                image[4 + classes[place], anchor] = low + (1 - low) * rng.random()
    return raw
