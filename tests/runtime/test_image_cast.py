"""Images cast to float16 in threads: NumPy's values, every row, no thread left."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from yoloproof.runtime.image_cast import ImageCast

EDGES = [0, -0.0, 1, 2.0**-24, 2.0**-25, np.nextafter(np.float32(2.0**-25), np.float32(1)), 2.0**-14, 2.0**-14 - 2.0**-25,
         1 + 2.0**-11, 1 + 3 * 2.0**-11, 65504, 65519, -1, np.inf, -np.inf, np.nan]  # fmt: skip


def cast_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("image-cast")]


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("shape", [(1, 3, 640, 640), (3, 3, 33, 20), (2, 3, 1, 4)])
def test_values_are_those_of_astype_in_channels_last_memory(shape, threads):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 0x477FE000, shape, np.uint32)  # every exponent up to 65504's, a tenth subnormal
    pixels = (rng.integers(0, 256, shape) / np.float32(255)).astype(np.float32)
    edges = np.resize(np.array(EDGES, np.float32), shape)
    cast = ImageCast(shape, threads)
    for images in (bits.view(np.float32), pixels, edges, pixels.astype(np.float64), pixels[..., ::-1]):
        found = cast(images)
        wanted = np.ascontiguousarray(images.astype(np.float16).transpose(0, 2, 3, 1))
        assert found.flags.c_contiguous
        assert np.array_equal(found.view(np.uint16), wanted.view(np.uint16))
    cast.close()


def test_threads_live_until_it_is_closed_and_write_to_the_same_memory():
    images = np.ones((1, 3, 640, 640), np.float32)
    cast = ImageCast(images.shape, 4)
    assert not cast_threads()
    first = cast(images)
    begun = set(cast_threads())
    assert 1 <= len(begun) <= 3
    assert cast(images) is first
    assert begun <= set(cast_threads())
    cast.close()
    assert not cast_threads()


@pytest.mark.parametrize("failing", ["caller", "helper"])
def test_an_error_of_any_thread_comes_out_when_no_other_writes_any_more(failing):
    helper_reads, read = threading.Event(), threading.Event()

    class Images(np.ndarray):
        def __getitem__(self, rows):
            if threading.current_thread() in cast_threads():
                helper_reads.set()
                assert failing != "helper", "cannot be read"
                time.sleep(0.05)
                read.set()
            elif helper_reads.wait(10):
                assert failing != "caller", "cannot be read"
            return super().__getitem__(rows)

    cast = ImageCast((1, 3, 2, 4), 2)
    with pytest.raises(AssertionError, match="cannot be read"):
        cast(np.ones((1, 3, 2, 4), np.float32).view(Images))
    assert read.is_set() == (failing == "caller")
    assert (cast(np.zeros((1, 3, 2, 4), np.float32)) == 0).all()
    cast.close()
