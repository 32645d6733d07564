"""Images of the host as a native engine reads them: float16 in channels-last memory.

By OpenCV, whose conversion uses the processor's instructions: NumPy's takes seven times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ImageCast:
    """Casts images [B, C, H, W] of one shape, always into the same memory: new pages would cost more than the cast."""

    def __init__(self, shape: Sequence[int]) -> None:
        batch, channels, height, width = shape
        self._zeros = np.zeros((height, width), np.float32)
        self._planes = np.empty((channels, height, width), np.float16)
        self._pixels = np.empty((batch, height, width, channels), np.float16)

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float16]:
        """float16 [B, H, W, C], the values that `astype` gives; the next call overwrites them."""
        if images.dtype != np.float32:
            self._pixels[...] = images.transpose(0, 2, 3, 1)
            return self._pixels
        import cv2  # takes 0.1 s, which a program whose images are on the GPU is spared

        for image, pixels in zip(images, self._pixels, strict=True):
            for plane, cast in zip(image, self._planes, strict=True):
                # x - 0 is x, also for -0: it is how OpenCV's Python reaches its conversion.
                cv2.subtract(np.ascontiguousarray(plane), self._zeros, dst=cast, dtype=cv2.CV_16F)
            cv2.merge([plane.view(np.int16) for plane in self._planes], pixels.view(np.int16))
        return self._pixels
