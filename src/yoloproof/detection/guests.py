"""What foreign detectors answer with, told by shape, output names and metadata, and brought to the layouts read here.

Images go in as RGB in 0…1, letterboxed. What else a network wants (mean and deviation) has to be in its graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yoloproof.detection.pipeline import IN_GRAPH, Detector
from yoloproof.names import Name

Array = NDArray[np.float32]
MOST = 300  # detections of an image that a layout without an end of its own may give


class Layout(Name):
    """How a detector's outputs are read; MEANING says it in words."""

    RAW = "raw"
    SUPPRESSED = "suppressed"  # what `yoloproof export --nms` writes
    ROWS = "rows"  # YOLO26, YOLOv10, exports with suppression inside
    SHARED_ROWS = "rows in shares"  # RT-DETR of the ultralytics package, in six columns
    QUERIES = "queries"  # RT-DETR of the ultralytics package
    PAIR = "pair"  # RF-DETR
    LABELLED = "labelled"  # RT-DETR, D-FINE, DEIM


MEANING = {
    Layout.RAW: "[B, 4 + classes, anchors]: cx, cy, w, h in input pixels, scores; without suppression",
    Layout.SUPPRESSED: "count, boxes (x1, y1, x2, y2 in input pixels), scores, classes; after suppression",
    Layout.ROWS: "[B, n, 6]: x1, y1, x2, y2 in input pixels, score, class; end to end",
    Layout.SHARED_ROWS: "[B, n, 6]: cx, cy, w, h in shares of the image, score, class; end to end",
    Layout.QUERIES: "[B, n, 4 + classes]: cx, cy, w, h in shares of the image, scores; without suppression",
    Layout.PAIR: "boxes [B, n, 4] (cx, cy, w, h in shares of the image) and logits [B, n, classes]",
    Layout.LABELLED: "labels, boxes (x1, y1, x2, y2 in input pixels), scores; end to end",
}


class Spec(Protocol):
    """Name and shape of an output, a text for each dynamic side (yoloproof.runtime.TensorSpec is one)."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int | str, ...]: ...


def layout_of(outputs: Sequence[Spec], metadata: Mapping[str, str], classes: int | None) -> Layout | None:
    """How these outputs are read; None where neither shape, names nor metadata tell.

    metadata -- of the file; classes -- how many it names, None where it names none
    """
    shapes = {spec.name: spec.shape for spec in outputs}
    if shapes.keys() >= set(IN_GRAPH):
        return Layout.SUPPRESSED
    if {"labels", "boxes", "scores"} <= shapes.keys():
        return Layout.LABELLED
    first = outputs[0].shape
    detr = metadata.get("head") == "RTDETRDecoder"
    if len(outputs) == 2 and all(len(shape) == 3 for shape in shapes.values()):
        sides = [shape[2] for shape in shapes.values()]
        return Layout.PAIR if sides.count(4) == 1 else None
    if len(first) != 3:
        return None
    if first[2] == 6:
        return Layout.SHARED_ROWS if detr else Layout.ROWS
    if detr or (classes is not None and first[2] == 4 + classes and first[1] != 4 + classes):
        return Layout.QUERIES
    rows, anchors = first[1:]
    if isinstance(rows, str):
        return Layout.RAW if classes is not None else None
    return Layout.RAW if rows >= 5 and (isinstance(anchors, str) or rows <= max(anchors, 1004)) else None


def guest_rows(
    layout: Layout, names: Sequence[str], outputs: Sequence[NDArray[Any]], imgsz: tuple[int, int]
) -> list[Array]:
    """Outputs of an end-to-end layout → per image float32 [n, 6]: x1, y1, x2, y2 in input pixels, score, class; best first.

    names -- of the outputs, in their order; imgsz -- (height, width) that the network was fed with
    """
    named = {name: np.asarray(array, np.float32) for name, array in zip(names, outputs, strict=True)}
    height, width = imgsz
    scale = np.array([width, height, width, height], np.float32)
    first = next(iter(named.values()))
    if layout is Layout.LABELLED:
        columns = named["boxes"], named["scores"][..., None], named["labels"][..., None]
        found = np.concatenate(columns, axis=2)
    elif layout in (Layout.ROWS, Layout.SHARED_ROWS):
        found = first.copy()
        if layout is Layout.SHARED_ROWS:
            found[..., :4] = corners(found[..., :4] * scale)
    else:
        boxes, scores = first[..., :4], first[..., 4:]
        if layout is Layout.PAIR:
            boxes = next(array for array in named.values() if array.shape[2] == 4)
            logits = next(array for array in named.values() if array is not boxes)
            scores = 1 / (1 + np.exp(-logits.clip(-80, 80)))
        found = np.stack([_best(corners(b * scale), s) for b, s in zip(boxes, scores, strict=True)])
    return [image[np.argsort(-image[:, 4], kind="stable")] for image in found]


def corners(boxes: Array) -> Array:
    """[…, 4] as cx, cy, w, h → x1, y1, x2, y2."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def _best(boxes: Array, scores: Array) -> Array:
    """The best MOST pairs of query and class as rows [n, 6]."""
    flat = scores.ravel()
    best = np.argsort(-flat, kind="stable")[:MOST]
    query, index = best // scores.shape[1], best % scores.shape[1]
    return np.concatenate([boxes[query], flat[best, None], index[:, None].astype(np.float32)], axis=1)


@dataclass(frozen=True)
class Output:
    """Name, shape and NumPy type name of an output that a GuestDetector gives."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"


class GuestDetector:
    """A session whose end-to-end outputs come out as `count`, `boxes`, `scores`, `classes`, as from `export --nms`."""

    outputs = (
        Output("count", ("B",), "int32"), Output("boxes", ("B", "n", 4)), Output("scores", ("B", "n")),
        Output("classes", ("B", "n")),
    )  # fmt: skip

    def __init__(self, session: Detector, layout: Layout) -> None:
        self._session, self.layout, self.inputs = session, layout, session.inputs
        self._imgsz = (0, 0)

    def load(self, images: Array) -> None:
        self._imgsz = (images.shape[2], images.shape[3])
        self._session.load(images)

    def execute(self) -> float | None:
        return self._session.execute()

    def fetch(self) -> tuple[NDArray[Any], ...]:
        return self._read(self._session.fetch())

    def infer(self, images: Array) -> tuple[NDArray[Any], ...]:
        self._imgsz = (images.shape[2], images.shape[3])
        return self._read(self._session.infer(images))

    def _read(self, outputs: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        names = [spec.name for spec in self._session.outputs]
        rows = np.stack(guest_rows(self.layout, names, outputs, self._imgsz))
        count = np.full(len(rows), rows.shape[1], np.int32)
        return count, rows[..., :4], rows[..., 4], rows[..., 5]


def detector_of(session: Detector, layout: Layout | None) -> Detector:
    """The session itself where the pipeline reads its outputs as they are, else one that brings them to its layout."""
    if layout is None or layout in (Layout.RAW, Layout.SUPPRESSED):
        return session
    return GuestDetector(session, layout)
