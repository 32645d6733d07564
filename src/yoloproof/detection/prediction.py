"""Sources → detector → pictures, JSON, CSV, YOLO labels."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yoloproof.detection.draw import draw
from yoloproof.detection.images import find_images, read_image
from yoloproof.detection.pipeline import Detector, Found, Suppression, detect
from yoloproof.detection.video import Frame, frame_rate, frames, is_live, is_video
from yoloproof.detection.writing import CSV_HEADER, counted, csv_rows, json_records, yolo_lines
from yoloproof.errors import YoloproofError
from yoloproof.files.new import write_new

# A side longer than this is more than JPEG can hold.
MOST_JPEG = 65_500


@dataclass(frozen=True)
class Broken:
    """A video that could not be read: reported in its place among the other sources."""

    source: str
    error: YoloproofError


Source = Path | Frame | Broken


class Model(Protocol):
    """What is needed of an opened model (yoloproof.opening.OpenModel is one): a detector, the names of its classes by
    index, and the (height, width) it is fed with."""

    @property
    def detector(self) -> Detector: ...
    @property
    def names(self) -> Mapping[int, str]: ...
    @property
    def imgsz(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Outputs:
    """Where results go: folders for pictures and labels, a CSV file; each new (a folder may be there, empty)."""

    pictures: Path | None = None
    labels: Path | None = None
    csv: Path | None = None

    def check(self) -> None:
        """Refuse whatever would be overwritten, before any work is done."""
        for folder in (self.pictures, self.labels):
            if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise YoloproofError(f"{folder} exists and is not empty; nothing was overwritten. Name another folder")
        if self.csv is not None and self.csv.exists():
            raise YoloproofError(f"{self.csv} exists; nothing was overwritten. Name another file or remove it")


@dataclass
class Prediction:
    """What came of it: a JSON record per image or frame (error instead of detections where it could not be read)."""

    records: list[dict[str, object]] = field(default_factory=list)
    broken: int = 0
    interrupted: bool = False


def sources_of(arguments: Sequence[str]) -> list[Path | str]:
    """Image files, and videos by their argument, in the order given. YoloproofError for what names nothing."""
    found: list[Path | str] = []
    for argument in arguments:
        if is_video(argument) and (is_live(argument) or Path(argument).is_file()):
            found.append(argument)
        else:
            files = find_images([argument])
            found += [str(file) if is_video(str(file)) else file for file in files]
    return list(dict.fromkeys(found))


def predict(
    model: Model,
    sources: Sequence[Path | str],
    outputs: Outputs,
    rule: Suppression,
    *,
    most_frames: int | None = None,
    keep: bool = True,
    say: Callable[[str], None] = lambda line: None,
    kept: Callable[[Prediction], None] = lambda so_far: None,
    complain: Callable[[str], None] = lambda line: None,
) -> Prediction:
    """Run every source through `model` and write what `outputs` asks for; `say` gets a line per image or frame.

    keep -- collect the JSON records; kept -- gets them after each image, before `say`
    A broken image or video is complained of and counted, and the rest goes on.
    Ctrl-C ends it, as it ends a camera, with what there is until then. Raises YoloproofError where nothing can be written.
    """
    outputs.check()
    result = Prediction()
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        result.interrupted = True
        writer = _Writer(outputs, model, stack)
        for found in detect(model.detector, _items(sources, most_frames), _pixels, model.imgsz, rule):
            name, frame = _named(found.item)
            record: dict[str, object] = {"source": name} | ({} if frame is None else {"frame": frame})
            if found.image is None:
                result.broken += 1
                record["error"] = str(found.error)
            else:
                height, width = found.image.shape[:2]
                writer.write(found, found.image)
                record |= {"height": height, "width": width, "detections": json_records(found.detections, model.names)}
            if keep:
                result.records.append(record)
                kept(result)
            if found.image is None:
                complain(str(found.error))
            else:
                place = name if frame is None else f"{name} frame {frame}"
                say(f"{place} ({width}x{height}): {counted(found.detections, model.names)}")
        result.interrupted = False
    return result


def _items(sources: Sequence[Path | str], most_frames: int | None) -> Iterator[Source]:
    for source in sources:
        if isinstance(source, Path):
            yield source
        else:
            try:
                yield from frames(source, most_frames)
            except YoloproofError as error:
                yield Broken(source, error)


def _pixels(item: Source) -> NDArray[np.uint8]:
    if isinstance(item, Broken):
        raise item.error
    return item.image if isinstance(item, Frame) else read_image(item)


def _named(item: Source) -> tuple[str, int | None]:
    if isinstance(item, Path):
        return str(item), None
    return item.source, item.number if isinstance(item, Frame) else None


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """YoloproofError where writing to `path` fails."""
    try:
        yield path
    except OSError as error:
        raise YoloproofError(
            f"{path}: cannot be written ({error.strerror or error}); make room or choose another place"
        ) from None


class _Writer:
    """Files written as results come; closes what it opened with `stack`."""

    def __init__(self, outputs: Outputs, model: Model, stack: ExitStack) -> None:
        self._outputs, self._model, self._stack = outputs, model, stack
        self._taken: set[str] = set()
        self._videos: dict[str, tuple[cv2.VideoWriter, str]] = {}
        self._rows: TextIO | None = None
        for folder in (outputs.pictures, outputs.labels):
            if folder is not None:
                with _written(folder):
                    folder.mkdir(parents=True, exist_ok=True)
        if outputs.csv is not None:
            with _written(outputs.csv):
                file = stack.enter_context(
                    outputs.csv.open("x", newline="", encoding="utf-8", errors="backslashreplace")
                )
            self._rows = file
            self._csv([CSV_HEADER])

    def write(self, found: Found[Source], image: NDArray[np.uint8]) -> None:
        name, frame = _named(found.item)
        if self._rows is not None:
            self._csv(csv_rows(name, frame, found.detections, self._model.names))
        if self._outputs.pictures is None and self._outputs.labels is None:
            return
        stem = self._stem(name, frame)
        if self._outputs.labels is not None:
            lines = yolo_lines(found.detections, *image.shape[:2])
            with _written(self._outputs.labels / f"{stem}.txt") as path:
                write_new(lines, path)
        if self._outputs.pictures is not None:
            drawn = draw(image, found.detections, self._model.names)
            if frame is None:
                suffix = "jpg" if max(drawn.shape) <= MOST_JPEG else "png"
                with _written(self._outputs.pictures / f"{stem}.{suffix}") as path:
                    Image.fromarray(drawn).save(path, quality=90)
            else:
                self._video(name, drawn, self._outputs.pictures).write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))

    def _csv(self, rows: Sequence[Sequence[object]]) -> None:
        """Rows of one image, on the disk before anything is said of it."""
        assert self._rows is not None
        assert self._outputs.csv is not None
        with _written(self._outputs.csv):
            csv.writer(self._rows).writerows(rows)
            self._rows.flush()

    def _stem(self, name: str, frame: int | None) -> str:
        """A file name of its own for each result, also where two folders hold images of one name."""
        base = f"camera{name}" if name.isdigit() and frame is not None else Path(name).stem or "stream"
        stem = base = base if frame is None else f"{base}-{frame:06d}"
        number = 1
        while stem in self._taken:
            number += 1
            stem = f"{base}-{number}"
        self._taken.add(stem)
        return stem

    def _video(self, source: str, drawn: NDArray[np.uint8], folder: Path) -> cv2.VideoWriter:
        if source not in self._videos:
            base = f"camera{source}" if source.isdigit() else Path(source).stem or "stream"
            path = folder / f"{base}-{len(self._videos) + 1}.mp4" if self._videos else folder / f"{base}.mp4"
            size = (drawn.shape[1], drawn.shape[0])
            # A camera may be opened once only; its rate is what OpenCV would state before the first frame anyway.
            rate = 25.0 if source.isdigit() else frame_rate(source)
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
            if not writer.isOpened():
                raise YoloproofError(f"{path}: this OpenCV cannot write MP4 video; leave --save out for videos")
            self._stack.callback(writer.release)
            self._videos[source] = (writer, str(path))
        return self._videos[source][0]
