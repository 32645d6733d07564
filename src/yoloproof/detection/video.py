"""Frames of video files, streams and webcams, through OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError

SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts"})
SCHEMES = ("http", "https", "rtsp", "rtmp", "udp")


@dataclass(frozen=True)
class Frame:
    """One frame: its number from 0, and its pixels [H, W, 3] RGB."""

    source: str
    number: int
    image: NDArray[np.uint8]


def is_video(argument: str) -> bool:
    """A webcam's index, a stream's or a video's address, or a file with a video's suffix."""
    return is_live(argument) or Path(argument).suffix.lower() in SUFFIXES


def is_live(argument: str) -> bool:
    """A webcam's index (no file of that name) or an address: nothing that lies on this disk."""
    if argument.isdecimal():
        return not Path(argument).exists()
    return argument.partition("://")[0].lower() in SCHEMES


def frame_rate(source: str) -> float:
    """Frames per second as the source states them; 25 where it states none."""
    capture = _opened(source)
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if 0 < rate < 1000 else 25.0


def frames(source: str, most: int | None = None) -> Iterator[Frame]:
    """Frames in order, at most `most`. Raises YoloproofError where the source does not open or gives no frame at all."""
    capture = _opened(source)
    number = 0
    try:
        while most is None or number < most:
            more, picture = capture.read()
            if not more:
                break
            yield Frame(source, number, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
            number += 1
    finally:
        capture.release()
    if not number:
        raise YoloproofError(f"{source}: no frame can be read from it; is it a video that OpenCV decodes?")


def _opened(source: str) -> cv2.VideoCapture:
    camera = source.isdecimal() and is_live(source)
    if not is_live(source) and not Path(source).is_file():
        raise YoloproofError(f"{source}: no such file")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it warns of is in the errors raised here
    try:
        capture = cv2.VideoCapture(int(source)) if camera else cv2.VideoCapture(source)
    except (cv2.error, OverflowError) as error:
        raise YoloproofError(f"{source}: OpenCV cannot open it ({error})") from None
    if not capture.isOpened():
        kind = "no camera answers to this number" if camera else "OpenCV cannot open it as a video"
        raise YoloproofError(f"{source}: {kind}")
    return capture
