"""Images through a detector: reading and suppression overlap with inference; and the same, stage by stage, timed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Generic, Protocol, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from yoloproof.detection.images import read_image
from yoloproof.detection.letterbox import Letterbox, boxes_to_image, letterbox
from yoloproof.detection.nms import detections_from_output
from yoloproof.errors import YoloproofError
from yoloproof.records import StageTimes

Item = TypeVar("Item")
Place = Callable[[NDArray[np.uint8]], tuple[NDArray[Any], Letterbox]]
READERS = min(4, os.cpu_count() or 1)  # threads that decode and letterbox; both leave Python's lock alone
IN_GRAPH = ("count", "boxes", "scores", "classes")  # outputs of an artifact with suppression inside


class Detector(Protocol):
    """What is needed of a session: an opened artifact (yoloproof.runtime.Session is one)."""

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    def load(self, images: NDArray[Any]) -> None: ...
    def execute(self) -> float | None: ...
    def fetch(self) -> tuple[NDArray[Any], ...]: ...
    def infer(self, images: NDArray[Any]) -> tuple[NDArray[Any], ...]: ...


class FrameDetector(Detector, Protocol):
    """One that takes pictures as they are, uint8 [H, W, 3], and answers in their pixels."""

    def check_frame(self, frame: NDArray[np.uint8]) -> None:
        """Raise YoloproofError for a picture that it does not take."""


def takes_frames(session: Detector) -> TypeGuard[FrameDetector]:
    """Whether an artifact letterboxes by itself: its input is one picture of any size."""
    return len(session.inputs[0].shape) == 3


@dataclass(frozen=True)
class Suppression:
    """How raw output becomes detections; without effect below an in-graph suppression's own thresholds."""

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = 300

    def __post_init__(self) -> None:
        for name in ("confidence", "iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise YoloproofError(f"{name} {getattr(self, name)}: must be between 0 and 1")
        if self.max_detections < 1:
            raise YoloproofError(f"max detections {self.max_detections}: must be at least 1")


@dataclass(frozen=True)
class Found(Generic[Item]):
    """One item's detections [n, 6] in image pixels and the picture itself, or what was wrong with it."""

    item: Item
    image: NDArray[np.uint8] | None
    detections: NDArray[np.float32]
    error: YoloproofError | None = None


def batch_of(session: Detector) -> int:
    """The batch an artifact is fixed to; 1 where it takes any."""
    size = session.inputs[0].shape[0]
    return size if isinstance(size, int) else 1


def detections_of_batch(
    session: Detector, outputs: Sequence[NDArray[Any]], rule: Suppression
) -> list[NDArray[np.float32]]:
    """A run's outputs → detections [n, 6] in network-input pixels for each image of the batch.

    Takes raw [B, 4 + nc, A] output and that of artifacts with suppression inside. Raises YoloproofError for others.
    """
    named = {spec.name: array for spec, array in zip(session.outputs, outputs, strict=True)}
    if all(name in named for name in IN_GRAPH):
        return [_in_graph_rows(named, image, rule) for image in range(len(named["count"]))]
    raw = outputs[0]
    if raw.ndim != 3 or raw.shape[1] < 5 or raw.shape[1] > max(raw.shape[2], 1004):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in named.items())
        raise YoloproofError(
            f"outputs {shapes}: detections are read from [B, 4 + classes, anchors], or from what"
            " `yoloproof export --nms` writes; other detectors can be timed but not drawn or evaluated here"
        )
    return [detections_from_output(one, rule.confidence, rule.iou, rule.max_detections) for one in raw]


def _in_graph_rows(named: dict[str, NDArray[Any]], image: int, rule: Suppression) -> NDArray[np.float32]:
    count = int(named["count"][image])
    columns = [
        named["boxes"][image][:count],
        named["scores"][image][:count, None],
        named["classes"][image][:count, None],
    ]
    rows = np.concatenate(columns, axis=1).astype(np.float32)
    return rows[rows[:, 4] > rule.confidence][: rule.max_detections]


def detect(
    session: Detector,
    items: Iterable[Item],
    read: Callable[[Item], NDArray[np.uint8]],
    imgsz: tuple[int, int],
    rule: Suppression,
) -> Iterator[Found[Item]]:
    """Detections of every item, in order, as a stream: a bounded number of pictures is in memory at any time.

    `read` runs in a thread beside inference; an item for which it raises YoloproofError comes out with that error.
    """
    size = batch_of(session)
    stream = iter(items)
    place = _placing(session, imgsz)
    with ThreadPoolExecutor(READERS, "read") as reader, ThreadPoolExecutor(1, "suppress") as suppressor:
        ahead: deque[tuple[Item, Future[Any]]] = deque()
        behind: deque[Future[list[Found[Item]]]] = deque()

        def refill() -> None:
            for item in islice(stream, 2 * size + READERS - len(ahead)):
                ahead.append((item, reader.submit(_input_of, item, read, place)))

        refill()
        while ahead:
            taken = [ahead.popleft() for _ in range(min(size, len(ahead)))]
            inputs = [(item, *future.result()) for item, future in taken]
            refill()
            outputs = _inferred(session, [made[2] for made in inputs if made[2] is not None], size, imgsz)
            behind.append(suppressor.submit(_finish, session, inputs, outputs, rule))
            if len(behind) > 1:
                yield from behind.popleft().result()
        while behind:
            yield from behind.popleft().result()


def _placing(session: Detector, imgsz: tuple[int, int]) -> Place:
    """How a picture becomes what the session takes, and where it lies in that."""
    if not takes_frames(session):
        return lambda image: letterbox(image, imgsz)

    def whole(image: NDArray[np.uint8]) -> tuple[NDArray[Any], Letterbox]:
        session.check_frame(image)
        return image, Letterbox(1.0, 0, 0, *image.shape[:2])

    return whole


def _input_of(item: Any, read: Callable[[Any], NDArray[np.uint8]], place: Place) -> tuple[Any, ...]:
    """(image, the session's input, letterbox, error) of one item."""
    try:
        image = read(item)
        return (image, *place(image), None)
    except YoloproofError as error:
        return (None, None, None, error)


def _inferred(
    session: Detector, images: list[NDArray[Any]], size: int, imgsz: tuple[int, int]
) -> tuple[NDArray[Any], ...]:
    if not images:
        return ()
    if takes_frames(session):
        return session.infer(images[0])
    batch = np.zeros((size, 3, *imgsz), np.float32)  # a last batch that is not full is filled with black
    batch[: len(images)] = images
    return session.infer(batch)


def _finish(
    session: Detector, inputs: list[Any], outputs: Sequence[NDArray[Any]], rule: Suppression
) -> list[Found[Any]]:
    rows = iter(detections_of_batch(session, outputs, rule) if outputs else ())
    nothing = np.zeros((0, 6), np.float32)
    return [
        Found(item, image, boxes_to_image(next(rows), box) if error is None else nothing, error)
        for item, image, _, box, error in inputs
    ]


def end_to_end(
    session: Detector,
    image_files: Sequence[Path],
    clock: Callable[[], float],
    imgsz: tuple[int, int] = (640, 640),
) -> StageTimes:
    """Seconds of each stage for each batch of image files, nothing overlapped.

    preprocess_s -- letterbox from decoded pixels to the device's memory (the last step is the session's `load`, the only one
      where the artifact takes frames: its letterbox and suppression are in inference_s)
    inference_s -- the network; nms_s -- fetching the output, suppression, boxes in image pixels; total_s -- all three
    Reading and decoding files is not part of it. The pictures are read before, a first batch is run untimed.
    Raises YoloproofError for no images, or one that cannot be read.
    """
    rule, size = Suppression(), batch_of(session)
    images = [read_image(path) for path in image_files]
    if not images:
        raise YoloproofError("no images given")
    batches = [[images[(start + i) % len(images)] for i in range(size)] for start in range(0, len(images), size)]
    _staged(session, batches[0], clock, imgsz, rule)
    marks = [_staged(session, batch, clock, imgsz, rule) for batch in batches]
    stages = {"preprocess_s": (0, 1), "inference_s": (1, 2), "nms_s": (2, 3), "total_s": (0, 3)}
    samples = {name: tuple(mark[end] - mark[start] for mark in marks) for name, (start, end) in stages.items()}
    return StageTimes(**{name: median(values) for name, values in samples.items()}, samples=samples)


def _staged(
    session: Detector,
    batch: list[NDArray[np.uint8]],
    clock: Callable[[], float],
    imgsz: tuple[int, int],
    rule: Suppression,
) -> tuple[float, float, float, float]:
    started = clock()
    place = _placing(session, imgsz)
    placed = [place(image) for image in batch]
    session.load(placed[0][0] if takes_frames(session) else np.stack([array for array, _ in placed]))
    loaded = clock()
    session.execute()
    ran = clock()
    for rows, (_, box) in zip(detections_of_batch(session, session.fetch(), rule), placed, strict=True):
        boxes_to_image(rows, box)
    return started, loaded, ran, clock()
