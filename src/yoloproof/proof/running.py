"""The checks that run an artifact: its outputs on real and on random images, its detections, its sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from yoloproof.detection.nms import detections_from_output
from yoloproof.errors import YoloproofError
from yoloproof.names import Runtime
from yoloproof.network.wiring import Network
from yoloproof.proof.parity import Tolerance, detection_parity, output_parity
from yoloproof.proof.reference import Reference
from yoloproof.proof.sensitivity import response_check
from yoloproof.records import Check
from yoloproof.runtime import Session

CONFIDENCE = 0.25
Array = NDArray[np.float32]


def running_checks(
    session: Session, wanted: Reference, images: Array, tolerance: Tolerance, say: Callable[[str], None], seed: int = 0
) -> list[Check]:
    """Outputs on real and on random images, detections, sensitivity.

    seed -- of the random images; taken from the artifact's hash, so that no artifact can be built to expect them
    """
    batch = batch_of(session)
    _fits(session, images)
    images = as_taken(images, session)
    checks = []
    say("outputs on real images")
    try:
        given = np.concatenate([_run(session, images[i : i + batch], batch) for i in range(0, len(images), batch)])
    except YoloproofError as error:  # what is not finite, or cannot run, says so itself
        return [Check("outputs, real images", False, {}, str(error))]
    reference = np.concatenate([wanted.output(image[None]) for image in images])
    checks.append(output_parity(reference, given, tolerance, "real images"))
    say("outputs on random input")
    checks.append(_random_parity(session, wanted, images.shape, tolerance, seed))
    say("detections")
    checks.append(_detections(wanted.network, reference, given, tolerance))
    say("sensitivity")
    checks.append(response_check(wanted.stages(images[:1]), given[:1], tolerance.floor))
    return checks


def _random_parity(
    session: Session, wanted: Reference, shape: tuple[int, ...], tolerance: Tolerance, seed: int
) -> Check:
    """Outputs on noise; of an artifact for any batch and size, on two images of another size than the real ones."""
    side = session.inputs[0].shape
    free = (
        [isinstance(d, str) for d in side]
        if session.facts.name in (Runtime.ONNXRUNTIME, Runtime.OPENVINO)
        else [False] * 4
    )
    height, width = (
        (other if shape[axis] != other else other + 64) if free[axis] else shape[axis]
        for axis, other in ((2, 256), (3, 384))
    )
    noise = np.random.default_rng(seed).random((2 if free[0] else 1, 3, height, width), np.float32)
    noise = as_taken(noise, session)
    batch = len(noise) if free[0] else batch_of(session)
    try:
        given = _run(session, noise, batch)
    except YoloproofError as error:
        return Check("outputs, random input", False, {"seed": seed, "shape": list(noise.shape)}, str(error))
    return output_parity(wanted.output(noise), given, tolerance, "random input")


def as_taken(images: Array, session: Session) -> Array:
    """Images as float32, rounded to what the artifact's input type can hold: its input's rounding is not its fault."""
    kind = np.dtype(session.inputs[0].dtype)
    if kind.kind in "ui":
        return (np.rint(images * 255) / 255).astype(np.float32)
    return images.astype(kind).astype(np.float32)


def batch_of(session: Session) -> int:
    """The artifact's fixed batch, or 1."""
    batch = session.inputs[0].shape[0]
    return batch if isinstance(batch, int) else 1


def _detections(network: Network, reference: Array, given: Array, tolerance: Tolerance) -> Check:
    if reference.shape != given.shape:
        return Check("detections", False, {}, "outputs of different shapes cannot be compared")
    if network.sha256 is None:
        # Random weights score every anchor alike, and suppression among ties is chance: compare the anchors themselves.
        return _anchor_parity(reference, given, tolerance)
    low = CONFIDENCE - tolerance.detection_score
    pairs = [
        (detections_from_output(a, confidence=low), detections_from_output(b, confidence=low))
        for a, b in zip(reference, given, strict=True)
    ]
    return detection_parity(pairs, tolerance, CONFIDENCE)


def _anchor_parity(reference: Array, given: Array, tolerance: Tolerance) -> Check:
    """Anchor by anchor: the same best class (or a tie within the tolerance), its score, and the box's IoU."""
    a, b = (
        reference.transpose(0, 2, 1).reshape(-1, reference.shape[1]),
        given.transpose(0, 2, 1).reshape(-1, given.shape[1]),
    )
    best = a[:, 4:].argmax(1)
    rows = np.arange(len(a))
    score = np.abs(a[rows, 4 + best] - b[rows, 4 + best])
    tie = b[:, 4:].max(1) - b[rows, 4 + best]
    low = np.maximum(a[:, :2] - a[:, 2:4] / 2, b[:, :2] - b[:, 2:4] / 2)
    high = np.minimum(a[:, :2] + a[:, 2:4] / 2, b[:, :2] + b[:, 2:4] / 2)
    shared = np.clip(high - low, 0, None).prod(1)
    iou = shared / np.maximum(a[:, 2:4].prod(1) + b[:, 2:4].prod(1) - shared, 1e-9)
    same = (score <= tolerance.detection_score) & (tie <= tolerance.detection_score) & (iou >= tolerance.iou)
    figures = {
        "anchors": len(a),
        "matched": int(same.sum()),
        "worst_iou": float(iou.min()),
        "worst_score": float(score.max()),
    }
    passed = bool(same.mean() >= 1 - tolerance.unmatched)
    return Check(
        "detections", passed, figures, f"{int(same.sum())} of {len(a)} anchors match (random weights: no suppression)"
    )


def _run(session: Session, images: Array, batch: int) -> Array:
    """The artifact's first output for up to `batch` images, the rest of a fixed batch filled by repetition."""
    try:
        outputs = session.infer(filled(images, batch))
    except YoloproofError:
        raise
    except Exception as error:  # every runtime has its own, and an artifact that cannot run is a finding
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise YoloproofError(
            f"the artifact does not run on images of {list(images.shape)}: {reason}; export it again for this runtime and size"
        ) from None
    return np.asarray(outputs[0], np.float32)[: len(images)]


def filled(images: Array, batch: int) -> Array:
    missing = batch - len(images)
    return images if missing <= 0 else np.concatenate([images, np.repeat(images[:1], missing, 0)])


def _fits(session: Session, images: Array) -> None:
    shape = session.inputs[0].shape
    sides: Sequence[int | str] = shape[2:] if len(shape) == 4 else ()
    for have, want in zip(images.shape[2:], sides, strict=False):
        if isinstance(want, int) and have != want:
            raise YoloproofError(
                f"the artifact takes images of {shape[2]}x{shape[3]}, given {images.shape[2]}x{images.shape[3]}"
            )
