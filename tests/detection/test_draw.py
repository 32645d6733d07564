"""Drawing: every box shows in its class's colour, at every size, and never leaves the picture."""

from __future__ import annotations

import numpy as np
import pytest

from yoloproof.detection.draw import colour_of, draw


@pytest.mark.parametrize("size", [(1, 1), (30, 2000), (64, 64), (480, 640), (3000, 4000)])
def test_any_size_is_drawn_on_a_copy(size: tuple[int, int]) -> None:
    height, width = size
    image = np.zeros((height, width, 3), np.uint8)
    box = [width * 0.2, height * 0.3, width * 0.8, height * 0.9, 0.9, 3]
    drawn = draw(image, np.array([box], np.float32), {3: "cat"})
    assert drawn.shape == image.shape
    assert not image.any()
    assert drawn.any()


def test_outline_lies_on_the_box_in_the_classes_colour() -> None:
    image = np.full((480, 640, 3), 128, np.uint8)
    drawn = draw(image, np.array([[100, 200, 300, 400, 0.9, 7]], np.float32), {})
    for y, x in ((300, 100), (300, 299), (400, 200)):
        np.testing.assert_array_equal(drawn[y, x], colour_of(7))
    assert (drawn[250:350, 150:250] == 128).all()


def test_a_crowd_and_boxes_beyond_the_edges() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(-50, 600, (300, 2))
    rows = np.concatenate(
        [corner, corner + rng.uniform(0, 90, (300, 2)), rng.random((300, 1)), rng.integers(0, 80, (300, 1))], 1
    )
    assert draw(np.zeros((480, 640, 3), np.uint8), rows.astype(np.float32), {}).any()


def test_colours_are_stable_and_apart() -> None:
    colours = [np.array(colour_of(i)) for i in range(80)]
    assert tuple(colour_of(0)) == tuple(colours[0])
    assert min(np.abs(a - b).sum() for i, a in enumerate(colours) for b in colours[:i]) >= 12
    assert np.abs(colours[15] - colours[57]).sum() > 100  # a cat on a couch
