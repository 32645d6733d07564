"""Suppression: the reference's detections, the textbook's greedy loop, ties and odd class counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from yoloproof.detection.images import read_image
from yoloproof.detection.letterbox import boxes_to_image, letterbox
from yoloproof.detection.nms import detections_from_output
from yoloproof.errors import YoloproofError
from yoloproof.network import load_network


def greedy(output: NDArray[np.float32], confidence: float, iou: float, most: int) -> list[list[float]]:
    """The textbook's loop, one box at a time, in float64."""
    found = []
    for anchor in range(output.shape[1]):
        scores = output[4:, anchor]
        cx, cy, w, h = output[:4, anchor].astype(np.float64)
        index = int(scores.argmax())
        if scores[index] > confidence:
            box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
            found.append((-float(scores[index]), index, anchor, box))
    kept: list[list[float]] = []
    for negative, index, _, box in sorted(found):
        if all(index != other[5] or overlap(box, other[:4]) <= iou for other in kept):
            kept.append([*box, -negative, index])
    return kept[:most]


def overlap(a: tuple[float, ...], b: list[float]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def made(classes: int, anchors: int, seed: int, levels: int = 0) -> NDArray[np.float32]:
    """Random raw output; `levels` > 0 rounds scores to so many values, which makes ties."""
    rng = np.random.default_rng(seed)
    # corners on a grid of whole pixels: overlaps are exact in float32 as in float64
    low, size = rng.integers(0, 60, (2, anchors)), rng.integers(0, 20, (2, anchors)) * 2
    scores = rng.random((classes, anchors))
    if levels:
        scores = np.ceil(scores * levels) / (levels + 1)
    return np.concatenate([low + size / 2, size, scores]).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    classes=st.sampled_from((1, 2, 3, 80, 1000)),
    anchors=st.integers(1, 120),
    seed=st.integers(0, 10_000),
    levels=st.sampled_from((0, 1, 5)),
    iou=st.sampled_from((0.0, 0.31, 0.7, 1.0)),
    most=st.sampled_from((1, 7, 300)),
)
def test_same_as_the_greedy_loop(classes: int, anchors: int, seed: int, levels: int, iou: float, most: int) -> None:
    output = made(classes, anchors, seed, levels)
    expected = greedy(output, 0.2, iou, most)
    found = detections_from_output(output, 0.2, iou, most)
    np.testing.assert_allclose(found, np.array(expected, np.float32).reshape(-1, 6), atol=1e-5)


@pytest.mark.parametrize("levels", [0, 3])
def test_many_candidates_settled_chunk_by_chunk(levels: int) -> None:
    output = made(2, 1500, 5, levels)
    expected = np.array(greedy(output, 0.001, 0.5, 900), np.float32)
    np.testing.assert_allclose(detections_from_output(output, 0.001, 0.5, 900), expected, atol=1e-5)


def test_more_candidates_than_are_sorted_at_first() -> None:
    """One heap of overlapping best boxes hides the others until the second, larger round."""
    output = made(1, 3000, 1)
    output[:, :2500] = np.array([[30], [30], [20], [20], [0.9]], np.float32)
    output[4, 2500:] *= 0.5
    expected = np.array(greedy(output, 0.001, 0.5, 20), np.float32)
    np.testing.assert_allclose(detections_from_output(output, 0.001, 0.5, 20), expected, atol=1e-5)


def test_nothing_above_the_threshold() -> None:
    assert detections_from_output(made(80, 50, 0), 1.0).shape == (0, 6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    output = made(3, 20, 0)
    output[5, 7] = value
    with pytest.raises(YoloproofError, match="NaN or infinity"):
        detections_from_output(output)


def test_half_precision_is_taken() -> None:
    found = detections_from_output(made(3, 50, 0).astype(np.float16))
    assert found.dtype == np.float32
    assert len(found)


def test_another_shape_is_refused() -> None:
    with pytest.raises(YoloproofError, match="4 \\+ classes"):
        detections_from_output(np.zeros((4, 100), np.float32))


def test_reference_detections(shared: Path, trained_path: Path) -> None:
    """Three of the 128 images here; `yoloproof val` on all of them gives the reference's AP (docs/accuracy.md)."""
    reference = json.loads((shared / "reference" / "yolov13n-coco128.detections.json").read_text())["detections"]
    network = load_network(trained_path).eval()
    torch.set_num_threads(1)  # on a shared machine, threads that wait for each other take many times as long
    for name in sorted(reference)[::50]:
        array, box = letterbox(read_image(shared / "coco128" / "images" / name))
        with torch.inference_mode():
            output = network(torch.from_numpy(array)[None])[0].numpy()
        found = boxes_to_image(detections_from_output(output), box)
        same_detections(found, np.array(reference[name], np.float32).reshape(-1, 6))


def same_detections(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """One to one: same class, boxes within 0.5 px, scores within 0.005."""
    assert len(found) == len(expected)
    left = list(range(len(found)))
    for row in expected:
        match = [
            i
            for i in left
            if found[i, 5] == row[5]
            and np.abs(found[i, :4] - row[:4]).max() <= 0.5
            and abs(found[i, 4] - row[4]) <= 0.005
        ]
        assert match, f"nothing found like {row}"
        left.remove(match[0])
