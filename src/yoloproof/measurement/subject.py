"""What is timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from yoloproof.runtime.base import SessionSpec

# Called with what is being done and the share of the whole that is done (0…1).
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Subject:
    """One artifact to time: a unique name, how to open it, the input's height and width, the batch."""

    name: str
    spec: SessionSpec
    imgsz: tuple[int, int] = (640, 640)
    batch: int = 1
