"""Raw output → detections: confidence threshold and class-aware greedy suppression, exact, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError

CHUNK = 256  # candidates compared at once: small enough for the cache, large enough that NumPy's calls do not count


def detections_from_output(
    output: NDArray[Any],
    confidence: float = 0.25,
    iou: float = 0.7,
    max_detections: int = 300,
) -> NDArray[np.float32]:
    """One image's raw output [4 + nc, A] (cx, cy, w, h in input pixels, class probabilities) → detections [n, 6].

    Rows are x1, y1, x2, y2 in network-input pixels, score, class index; best score first, equal scores in the order of
    class, then anchor. An anchor is a box of its best class (the lower index of equal ones), kept when its score is above
    `confidence` and no kept box of that class overlaps it by more than `iou`.
    Raises YoloproofError for another shape or values that are not finite.
    """
    if output.ndim != 2 or output.shape[0] < 5:
        raise YoloproofError(
            f"a detector's raw output of one image is [4 + classes, anchors], not {list(output.shape)}"
        )
    output = output.astype(np.float32, copy=False)
    if not np.isfinite(output).all():
        raise YoloproofError("the network's output holds NaN or infinity; no detections can be read from it")
    scores, classes, anchors = _candidates(output[4:], confidence)
    # Most images fill `max_detections` long before the last candidate: sort only as many as are needed.
    count = max(8 * max_detections, 1024)
    while True:
        best = _best(scores, count)
        cx, cy, w, h = output[:4, anchors[best]]
        boxes = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
        kept = suppressed(boxes, classes[best], iou, max_detections)
        if len(kept) == max_detections or count >= len(scores):
            break
        count *= 8
    rows = [*boxes[:, kept], scores[best][kept], classes[best][kept]]
    return np.stack(rows, axis=1).astype(np.float32, copy=False)


def _candidates(
    scores: NDArray[np.float32], confidence: float
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Score, class and anchor of all above `confidence`, ordered by class, then anchor."""
    top = scores.max(0)
    anchors = np.flatnonzero(top > confidence)
    classes = scores[:, anchors].argmax(0)
    order = np.argsort(classes, kind="stable")
    return top[anchors[order]], classes[order], anchors[order]


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of the `count` best scores, best first, equal ones in their order; all that tie with the last come too."""
    if len(scores) > count:
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        chosen = np.flatnonzero(scores >= least)
        return chosen[np.argsort(-scores[chosen], kind="stable")]
    return np.argsort(-scores, kind="stable")


def suppressed(boxes: NDArray[np.float32], classes: NDArray[np.int64], iou: float, most: int) -> NDArray[np.int64]:
    """Greedy class-aware suppression of boxes [4, n] sorted by descending score → indices kept, at most `most`.

    Chunk by chunk: drop what a kept box covers, then settle the chunk's survivors among themselves in their order.
    """
    kept = np.zeros(0, np.int64)
    for start in range(0, len(classes), CHUNK):
        chunk = np.arange(start, min(start + CHUNK, len(classes)))
        if len(kept):
            chunk = chunk[~_covers(boxes, classes, kept, chunk, iou).any(0)]
        covers = np.triu(_covers(boxes, classes, chunk, chunk, iou), 1)
        alive = np.ones(len(chunk), bool)
        for row in np.flatnonzero(covers.any(1)):
            if alive[row]:
                alive &= ~covers[row]
        kept = np.concatenate([kept, chunk[alive]])
        if len(kept) >= most:
            return kept[:most]
    return kept


def _covers(
    boxes: NDArray[np.float32], classes: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64], iou: float
) -> NDArray[np.bool_]:
    """[len(a), len(b)]: same class, and intersection over union above `iou`."""
    one, other = boxes[:, a, None], boxes[:, None, b]
    width = np.minimum(one[2], other[2]) - np.maximum(one[0], other[0])
    height = np.minimum(one[3], other[3]) - np.maximum(one[1], other[1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area_one, area_other = (one[2] - one[0]) * (one[3] - one[1]), (other[2] - other[0]) * (other[3] - other[1])
    covers: NDArray[np.bool_] = shared > iou * (area_one + area_other - shared)
    covers &= classes[a, None] == classes[None, b]
    return covers
