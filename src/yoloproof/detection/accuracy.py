"""COCO accuracy of an opened artifact on an annotated set, streaming and resumable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloproof.detection.coco import CocoSet, categories_of, evaluate
from yoloproof.detection.images import read_image
from yoloproof.detection.pipeline import IN_GRAPH, Detector, Suppression, detect
from yoloproof.errors import YoloproofError
from yoloproof.files.reading import MOST_JSON_BYTES, check_regular
from yoloproof.records import Accuracy, AccuracyProtocol

EVALUATION = Suppression(confidence=0.001, iou=0.7, max_detections=300)


def accuracy_of(
    session: Detector,
    names: Mapping[int, str],
    data: CocoSet,
    *,
    imgsz: tuple[int, int] = (640, 640),
    rule: Suppression = EVALUATION,
    identity: str = "",
    resume: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Accuracy:
    """COCO accuracy on `data`, and the protocol that it holds under.

    names -- the detector's classes by index; identity -- the artifact's SHA-256, which a resumed file is held to
    resume -- a file of JSON lines that takes each image's detections as they come; what it already holds is not run again
    progress -- called with (images done, images in all)
    Raises YoloproofError for an unreadable image, classes that do not fit, or a resume file of another run.
    """
    categories = categories_of(data, [names[i] for i in sorted(names)])
    protocol = protocol_of(session, imgsz, rule)
    run = json.dumps({"artifact": identity, "protocol": asdict(protocol), "set": _digest(data)}, separators=(",", ":"))
    found = {} if resume is None else _resumed(resume, run, set(data.ids))
    todo = [(i, file) for i, file in zip(data.ids, data.files, strict=True) if i not in found]
    for result in detect(session, todo, lambda item: read_image(item[1]), imgsz, rule):
        if result.error is not None:
            raise result.error
        image = result.item[0]
        found[image] = result.detections
        if resume is not None:
            row = {"image": image, "detections": result.detections.tolist()}
            _append(resume, json.dumps(row, separators=(",", ":")))
        if progress is not None:
            progress(len(found), len(data.ids))
    return evaluate(data, found, categories, protocol)


def protocol_of(session: Detector, imgsz: tuple[int, int], rule: Suppression) -> AccuracyProtocol:
    """Everything besides the artifact and the set that an AP depends on."""
    inside = all(name in {spec.name for spec in session.outputs} for name in IN_GRAPH)
    return AccuracyProtocol(
        evaluation="COCO bbox, IoU 0.50:0.95, at most 100 detections an image counted",
        resize="letterbox",
        imgsz=imgsz,
        confidence=rule.confidence,
        iou=rule.iou,
        max_detections=rule.max_detections,
        labels="best class of an anchor",
        nms="in the artifact, at its own thresholds" if inside else "class-aware, outside the artifact",
    )


def _digest(data: CocoSet) -> str:
    text = json.dumps([data.ids, [file.name for file in data.files], data.annotations(), data.names])
    return hashlib.sha256(text.encode()).hexdigest()


def _append(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise YoloproofError(f"{path}: cannot be written ({error.strerror}); name another --resume file") from None


def _resumed(path: Path, run: str, known: set[int]) -> dict[int, NDArray[np.float32]]:
    """What an earlier run left; a line cut off by its end is cut away and run again. run -- the first line's JSON"""
    if path.is_dir():
        raise YoloproofError(f"{path}: a folder; --resume names a file")
    check_regular(path, MOST_JSON_BYTES)
    if not path.exists() or not path.stat().st_size:
        _append(path, run)
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    first, *rows = whole.decode(errors="replace").splitlines() or [""]
    if first != run:
        raise YoloproofError(
            f"{path}: belongs to another artifact, set or protocol, or is no --resume file at all; name another"
        )
    if whole != content:
        os.truncate(path, len(whole))
    found = {}
    for row in rows:
        try:
            record = json.loads(row)
            image, detections = record["image"], np.array(record["detections"], np.float32).reshape(-1, 6)
            if not isinstance(image, int) or not np.isfinite(detections).all():
                raise ValueError
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise YoloproofError(f"{path}: not a file of detections to resume from; name another file") from None
        if image not in known:
            raise YoloproofError(f"{path}: holds image {image}, which is not in the set; name another file")
        found[image] = detections
    return found
