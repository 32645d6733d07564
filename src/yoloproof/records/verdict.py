"""What was found out about an artifact besides its speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yoloproof.records.base import Record


@dataclass(frozen=True)
class Check(Record):
    """One question about an artifact.

    passed -- True, False, or None for "could not be checked", which never counts as passed; figures -- the numbers it
    rests on, units in their names; detail -- one line for a person
    """

    name: str
    passed: bool | None
    figures: Mapping[str, object]
    detail: str


@dataclass(frozen=True)
class Verdict(Record):
    """All checks of one artifact, in the order they were run."""

    checks: tuple[Check, ...] = ()

    @property
    def passed(self) -> bool | None:
        """False when a check failed; else None when one could not be run, or none was; else True."""
        answers = [check.passed for check in self.checks]
        if False in answers:
            return False
        return True if answers and None not in answers else None

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed or could not be run."""
        return tuple(check for check in self.checks if not check.passed)


@dataclass(frozen=True)
class AccuracyProtocol(Record):
    """Everything besides the artifact and the set that an AP depends on."""

    evaluation: str
    resize: str
    imgsz: tuple[int, int]
    confidence: float
    iou: float
    max_detections: int
    labels: str
    nms: str


@dataclass(frozen=True, kw_only=True)
class Accuracy(Record):
    """COCO accuracy of one artifact, 0…1; None where there is nothing to measure it by.

    AP_float32 -- of the network itself in float32 on the CPU; AP_lost -- AP_float32 - AP
    """

    AP: float | None
    AP50: float | None
    AP75: float | None
    APsmall: float | None
    APmedium: float | None
    APlarge: float | None
    per_class: Mapping[str, float | None]
    images: int
    detections: int
    protocol: AccuracyProtocol
    AP_float32: float | None = None
    AP_lost: float | None = None


@dataclass(frozen=True)
class StageTimes(Record):
    """Medians of preprocessing, inference, suppression and their sum, one after the other; `samples` by stage."""

    preprocess_s: float
    inference_s: float
    nms_s: float
    total_s: float
    samples: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class PublishedFigure(Record):
    """A latency that somebody reported; rounding_s -- half a unit of its last digit; `ap` in 0…1, `protocol` in their words."""

    model: str
    latency_s: float
    gpu: str
    source: str
    rounding_s: float = 0.0
    runtime: str | None = None
    precision: str | None = None
    imgsz: int | None = None
    batch: int | None = None
    ap: float | None = None
    protocol: str = ""
