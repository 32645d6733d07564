"""Images cast to float16 for a native engine: NumPy's values, every row."""

from __future__ import annotations

import numpy as np
import pytest

from yoloproof.runtime.image_cast import ImageCast

EDGES = [0, -0.0, 1, 2.0**-24, 2.0**-25, np.nextafter(np.float32(2.0**-25), np.float32(1)), 2.0**-14, 2.0**-14 - 2.0**-25,
         1 + 2.0**-11, 1 + 3 * 2.0**-11, 65504, 65519, 65520, -1, np.inf, -np.inf, np.nan]  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 3, 640, 640), (3, 3, 33, 20), (2, 3, 1, 4), (1, 3, 1, 1)])
def test_values_are_those_of_astype_in_channels_last_memory(shape):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 0x477FE000, shape, np.uint32)  # every exponent up to 65504's, a tenth subnormal
    pixels = (rng.integers(0, 256, shape) / np.float32(255)).astype(np.float32)
    edges = np.resize(np.array(EDGES, np.float32), shape)
    cast = ImageCast(shape)
    for images in (
        bits.view(np.float32), pixels, edges, pixels.astype(np.float64), pixels.astype(np.float16), pixels[..., ::-1],
    ):  # fmt: skip
        found = cast(images)
        with np.errstate(over="ignore"):
            wanted = images.astype(np.float16).transpose(0, 2, 3, 1)
        assert found.flags.c_contiguous
        assert np.array_equal(found.view(np.uint16), np.ascontiguousarray(wanted).view(np.uint16))


def test_it_writes_to_the_same_memory():
    images = np.ones((2, 3, 64, 32), np.float32)
    cast = ImageCast(images.shape)
    assert np.shares_memory(cast(images), cast(images))


def test_every_float16_and_its_neighbours_in_float32_round_as_numpy_does():
    halves = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32)
    finite = np.sort(halves[np.isfinite(halves)])
    ties = (finite[1:] + finite[:-1]) / 2
    values = np.concatenate([finite, ties, *(np.nextafter(ties, np.float32(way)) for way in (-np.inf, np.inf))])
    images = np.resize(values, (1, 3, 512, 172))  # more than there are
    assert images.size >= values.size
    found = ImageCast(images.shape)(images)
    assert np.array_equal(found.view(np.uint16), images.astype(np.float16).transpose(0, 2, 3, 1).view(np.uint16))
