"""Images of the host as a native engine reads them: float16 in channels-last memory, cast in several threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

BANDS = 2  # for each thread: one that is held up leaves its second to the others


class ImageCast:
    """Casts images [B, C, H, W] of one shape, always into the same memory.

    NumPy's cast to float16 is bound by computing, not by memory, and releases the GIL: threads share the rows.
    threads -- the caller's and those that are kept until `close`
    """

    def __init__(self, shape: Sequence[int], threads: int) -> None:
        batch, channels, height, width = shape
        self._pixels = np.empty((batch, height, width, channels), np.float16)
        self._helpers = threads - 1
        self._pool = ThreadPoolExecutor(max(self._helpers, 1), "image-cast")  # starts a thread when it has work for it

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float16]:
        """float16 [B, H, W, C], the values that `astype` gives; the next call overwrites them."""
        _, channels, height, _ = images.shape
        rows = -(-height // (BANDS * (self._helpers + 1)))
        bands = iter(range(0, height, rows))

        def cast() -> None:
            for top in bands:  # each thread takes the next that nobody has
                for channel in range(channels):  # NumPy casts and transposes at once far more slowly
                    self._pixels[:, top : top + rows, :, channel] = images[:, channel, top : top + rows]

        given = [self._pool.submit(cast) for _ in range(self._helpers)]
        try:
            cast()
        finally:
            begun = [job for job in given if not job.cancel()]  # the others have nothing left to do
            wait(begun)
        for job in begun:
            job.result()  # raises what it raised
        return self._pixels

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
