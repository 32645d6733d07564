"""Raw output → detections: confidence threshold and class-aware greedy suppression, exact, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError

FIRST_CANDIDATES = 4096


def detections_from_output(
    output: NDArray[Any],
    confidence: float = 0.25,
    iou: float = 0.7,
    max_detections: int = 300,
    multi_label: bool = True,
) -> NDArray[np.float32]:
    """One image's raw output [4 + nc, A] (cx, cy, w, h in input pixels, class probabilities) → detections [n, 6].

    Rows are x1, y1, x2, y2 in network-input pixels, score, class index; best score first, equal scores in the order of
    class, then anchor. A box is kept when its score is above `confidence` and no kept box of its class overlaps it by
    more than `iou`. multi_label -- an anchor may be a box of several classes (as in the published evaluation), else of
    its best only. Raises YoloproofError for another shape or values that are not finite.
    """
    if output.ndim != 2 or output.shape[0] < 5:
        raise YoloproofError(f"a detector's raw output of one image is [4 + classes, anchors], not {list(output.shape)}")
    output = output.astype(np.float32, copy=False)
    if not np.isfinite(output.sum()):
        raise YoloproofError("the network's output holds NaN or infinity; no detections can be read from it")
    scores, classes, anchors = _candidates(output[4:], confidence, multi_label)
    count = FIRST_CANDIDATES
    while True:
        best = _best(scores, count)
        cx, cy, w, h = output[:4, anchors[best]]
        boxes = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
        kept = suppressed(boxes, scores[best], classes[best], iou, max_detections)
        # Enough kept, or nothing left out: no candidate below can change the result.
        if len(kept) == max_detections or count >= len(scores):
            break
        count *= 8
    rows = [*boxes[:, kept], scores[best][kept], classes[best][kept].astype(np.float32)]
    return np.stack(rows, axis=1).astype(np.float32, copy=False)


def _candidates(
    scores: NDArray[np.float32], confidence: float, multi_label: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Score, class and anchor of all above `confidence`, ordered by class, then anchor."""
    if multi_label:
        flat = np.flatnonzero(scores > confidence)
        return scores.ravel()[flat], flat // scores.shape[1], flat % scores.shape[1]
    classes = scores.argmax(0)
    top = scores[classes, np.arange(scores.shape[1])]
    anchors = np.flatnonzero(top > confidence)
    return top[anchors], classes[anchors], anchors


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of the `count` best scores, best first, equal ones in their order; all that tie with the last come too."""
    if len(scores) > count:
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        chosen = np.flatnonzero(scores >= least)
        return chosen[np.argsort(-scores[chosen], kind="stable")]
    return np.argsort(-scores, kind="stable")


def suppressed(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.int64], iou: float, most: int
) -> NDArray[np.int64]:
    """Greedy class-aware suppression of boxes [4, n] sorted by descending score → indices kept, at most `most`.

    Classes do not touch each other, so in each round every class keeps its best box left and drops what overlaps it;
    the rounds are as many as the fullest class keeps boxes. Once `most` are kept, whatever ranks below is dropped too.
    """
    left = np.argsort(classes, kind="stable")  # grouped by class, best first within
    kept: list[NDArray[np.int64]] = []
    total = 0
    area = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
    while len(left):
        group = classes[left]
        first = np.empty(len(left), bool)
        first[0] = True
        np.not_equal(group[1:], group[:-1], out=first[1:])
        kept.append(left[first])
        total += len(kept[-1])
        winner = left[first][np.cumsum(first) - 1]
        keep = _iou(boxes, area, left, winner) <= iou
        keep[first] = False
        if total >= most:
            keep &= left < np.partition(np.concatenate(kept), most - 1)[most - 1]
        left = left[keep]
    return np.sort(np.concatenate(kept))[:most] if kept else np.zeros(0, np.int64)


def _iou(
    boxes: NDArray[np.float32], area: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Intersection over union of box a[i] with box b[i]; 0 where neither has an area."""
    one, other = boxes[:, a], boxes[:, b]
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    side = np.maximum(high - low, 0)
    overlap: NDArray[np.float32] = side[0] * side[1]
    union = area[a] + area[b] - overlap
    return overlap / np.where(union > 0, union, 1)
