"""Each layout of a foreign detector's outputs read as the same three boxes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from yoloproof.detection.guests import Layout, detector_of, layout_of
from yoloproof.detection.pipeline import Suppression, detections_of_batch
from yoloproof.runtime import TensorSpec

HEIGHT, WIDTH, CLASSES = 96, 160, 7
# x1, y1, x2, y2 in input pixels, score, class; best first
ROWS = np.array([[10, 20, 50, 60, 0.9, 2], [0, 0, 160, 96, 0.5, 6], [80, 8, 100, 90, 0.3, 0]], np.float32)
SHARES = np.column_stack([
    (ROWS[:, 0] + ROWS[:, 2]) / 2 / WIDTH, (ROWS[:, 1] + ROWS[:, 3]) / 2 / HEIGHT,
    (ROWS[:, 2] - ROWS[:, 0]) / WIDTH, (ROWS[:, 3] - ROWS[:, 1]) / HEIGHT,
])  # fmt: skip
SCORES = np.zeros((3, CLASSES), np.float32)
SCORES[range(3), ROWS[:, 5].astype(int)] = ROWS[:, 4]
RAW = np.concatenate([SHARES * [WIDTH, HEIGHT, WIDTH, HEIGHT], SCORES], 1).T.astype(np.float32)
LOGITS = np.log(np.maximum(SCORES, 1e-9) / (1 - SCORES))
TURNED = [2, 0, 1]  # an answer need not be in order
OUTPUTS: dict[Layout, dict[str, NDArray[np.generic]]] = {
    Layout.RAW: {"output0": np.pad(RAW, ((0, 0), (0, 97)))[None]},
    Layout.ROWS: {"output0": ROWS[TURNED][None]},
    Layout.SHARED_ROWS: {"output0": np.column_stack([SHARES, ROWS[:, 4:]])[TURNED][None]},
    Layout.QUERIES: {"output0": np.concatenate([SHARES, SCORES], 1)[TURNED][None]},
    Layout.PAIR: {"dets": SHARES[TURNED][None], "labels": LOGITS[TURNED][None]},
    Layout.LABELLED: {
        "labels": ROWS[None, :, 5].astype(np.int64),
        "boxes": ROWS[None, :, :4],
        "scores": ROWS[None, :, 4],
    },
}
METADATA = {Layout.SHARED_ROWS: {"head": "RTDETRDecoder"}, Layout.QUERIES: {"head": "RTDETRDecoder"}}


class Guest:
    """A session that answers with given outputs."""

    def __init__(self, outputs: dict[str, NDArray[np.generic]]) -> None:
        self.inputs = (TensorSpec("images", (1, 3, HEIGHT, WIDTH), "float32"),)
        self.outputs = tuple(TensorSpec(name, array.shape, str(array.dtype)) for name, array in outputs.items())
        self._answer = tuple(outputs.values())

    def load(self, images: NDArray[np.float32]) -> None: ...
    def execute(self) -> None: ...
    def fetch(self) -> tuple[NDArray[np.generic], ...]:
        return self._answer

    def infer(self, images: NDArray[np.float32]) -> tuple[NDArray[np.generic], ...]:
        return self._answer


@pytest.mark.parametrize("layout", OUTPUTS)
@pytest.mark.parametrize("timed", [False, True])
def test_every_layout_is_the_same_detections(layout: Layout, timed: bool) -> None:
    guest = Guest(OUTPUTS[layout])
    assert layout_of(guest.outputs, METADATA.get(layout, {}), CLASSES) is layout
    detector = detector_of(guest, layout)
    images = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    if timed:
        detector.load(images)
        detector.execute()
    outputs = detector.fetch() if timed else detector.infer(images)
    (found,) = detections_of_batch(detector, outputs, Suppression(0.2))
    np.testing.assert_allclose(found, ROWS, atol=1e-4)


@pytest.mark.parametrize(
    ("shapes", "classes", "layout"),
    [
        ({"output0": (1, 84, 8400)}, None, Layout.RAW),
        ({"output0": (1, 6, 8400)}, None, Layout.RAW),
        ({"output0": (1, 300, 6)}, None, Layout.ROWS),
        ({"output0": ("batch", "boxes", 6)}, 80, Layout.ROWS),
        ({"output0": (1, 300, 84)}, 80, Layout.QUERIES),
        ({"output0": ("batch", 84, "anchors")}, 80, Layout.RAW),
        ({"count": (1,), "boxes": (1, 300, 4), "scores": (1, 300), "classes": (1, 300)}, 80, Layout.SUPPRESSED),
        ({"output0": (1, 1000)}, None, None),
        ({"output0": (1, 25200, 85)}, None, None),
        ({"dets": (1, 300, 5), "labels": (1, 300, 91)}, None, None),
    ],
)
def test_a_layout_is_told_by_shape_names_and_classes(
    shapes: dict[str, tuple[int | str, ...]], classes: int | None, layout: Layout | None
) -> None:
    assert layout_of([TensorSpec(name, shape, "float32") for name, shape in shapes.items()], {}, classes) is layout
