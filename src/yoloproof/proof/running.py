"""The checks that run an artifact: its outputs on many images, its detections, its sensitivity, other sizes and batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from yoloproof.detection.nms import detections_from_output
from yoloproof.detection.pipeline import batch_of
from yoloproof.errors import YoloproofError
from yoloproof.names import Runtime
from yoloproof.network.wiring import Network
from yoloproof.proof.parity import Tolerance, anchor_parity, detection_parity, output_parity
from yoloproof.proof.probes import FIRES, noise, transformed
from yoloproof.proof.reference import Reference
from yoloproof.proof.sensitivity import response_check
from yoloproof.proof.showing import Shown, answers, as_taken, outputs_for, show
from yoloproof.records import Check
from yoloproof.runtime import Session

CONFIDENCE = 0.25
MOST_IMAGES = 32  # of the user's: their outputs are compared at once, 3 MB an image at 640 px
EXAMINED = "examined"
REAL, COPIES, NOISE, EXCITED = "real images", "transformed copies", "random input", "inputs that excite each class"
LARGEST_SIDE, LARGEST_BATCH, LARGE = 4096, 64, 1280  # px, images, px: of a file for any size and batch
LONGEST_S = 20.0  # that the network may take for one more size
Array = NDArray[np.float32]


def running_checks(
    session: Session,
    wanted: Reference,
    images: Array,
    tolerance: Tolerance,
    say: Callable[[str], None],
    seed: int = 0,
    profile: Sequence[tuple[int, ...]] = (),
) -> list[Check]:
    """What was shown; outputs on real images, transformed copies, noise and images that excite each class; other sizes and
    batches where the artifact takes any; detections; sensitivity.

    seed -- of the noise and of the order in a batch; taken from the artifact's hash, so that no artifact can be built to
    expect them
    profile -- an engine's other shapes [B, 3, H, W], from the smallest to the largest it takes
    """
    batch, images = batch_of(session), images[:MOST_IMAGES]
    _fits(session, images)
    say("inputs that excite each class")
    size = (int(images.shape[2]), int(images.shape[3]))
    kinds = {REAL: images, COPIES: transformed(images), NOISE: noise(size, seed), EXCITED: wanted.excited(size)}
    pool = as_taken(np.concatenate(list(kinds.values())), session)
    say("outputs")
    try:
        shown = show(session, pool, batch, seed)
    except YoloproofError as error:  # what is not finite, or cannot run, says so itself
        return [Check(f"outputs, {REAL}", False, {}, str(error))]
    references = [wanted.output(image[None])[0] for image in pool]
    checks, first, beyond = [], 0, tolerance.beyond_photographs()
    for kind, members in kinds.items():
        if len(members):
            inside = [one for one in shown if first <= one.image < first + len(members)]
            given, held_to = np.stack([one.output for one in inside]), np.stack([references[o.image] for o in inside])
            checks.append(output_parity(held_to, given, tolerance if kind == REAL else beyond, kind))
        first += len(members)
    say("other sizes and batches")
    checks += _other_shapes(session, wanted, profile or _shapes(session, images.shape), beyond, seed)
    say("detections")
    reals = [one for one in shown if one.image < len(images)]
    pairs = [(references[one.image], one.output) for one in reals]
    checks.append(_detections(wanted.network, pairs, tolerance))
    say("sensitivity")
    checks.append(_sensitivity(wanted, pool[:1], [one for one in shown if one.image == 0], tolerance))
    return [_examined(kinds, references, batch, wanted.network), *checks]


def _examined(kinds: dict[str, Array], references: list[Array], batch: int, network: Network) -> Check:
    """What the artifact was shown: the scope of everything that follows."""
    scores = np.stack([one[4:].max(1) for one in references]).max(0)
    fired = int((scores > FIRES).sum())
    height, width = kinds[REAL].shape[2:]
    counts = ", ".join(f"{len(images)} {kind}" for kind, images in kinds.items() if len(images))
    figures = {**{kind: len(images) for kind, images in kinds.items()}, "height": height, "width": width, "batch": batch,
               "classes": network.classes, "classes_fired": fired}  # fmt: skip
    slots = f", different ones in {batch} batch slots" if batch > 1 else ""
    return Check(EXAMINED, True, figures,
                 f"{counts} of {height}x{width}{slots}; {fired} of {network.classes} classes fire")  # fmt: skip


def _other_shapes(
    session: Session, wanted: Reference, shapes: Sequence[tuple[int, ...]], tolerance: Tolerance, seed: int
) -> list[Check]:
    """An artifact for any size or batch, on noise of other sizes and batches up to the largest."""
    run, skipped = [], []
    for given in shapes:
        images = as_taken(np.random.default_rng(seed).random(given, np.float32), session)
        started = time.monotonic()
        try:
            output = answers(session, images)
        except YoloproofError as error:
            return [Check("outputs, other sizes", False, {"seed": seed, "shape": list(given)}, str(error))]
        if (time.monotonic() - started) > LONGEST_S:
            skipped.append(given)
            continue
        check = output_parity(outputs_for(wanted, images), output, tolerance, "other sizes")
        if not check.passed:
            detail = f"{list(given)}: {check.detail}"
            return [Check(check.name, False, {**check.figures, "shape": list(given)}, detail)]
        run.append(given)
    if not run:
        return []
    sizes = ", ".join("x".join(map(str, (b, h, w))) for b, _, h, w in run)
    late = f"; too slow here for {len(skipped)} more" if skipped else ""
    return [Check("outputs, other sizes", True, {"shapes": [list(one) for one in run]}, f"agree on {sizes}{late}")]


def _shapes(session: Session, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes to try where the sides that are text are free: another size, many images, long ones, a large one."""
    sides = session.inputs[0].shape
    any_batch, _, any_height, any_width = (isinstance(side, str) for side in sides)
    known = session.facts.name in (Runtime.ONNXRUNTIME, Runtime.OPENVINO)
    if not known or not (any_batch or any_height or any_width):
        return []
    batch = 1 if any_batch else int(sides[0])
    height, width = (
        (other if shape[axis] != other else other + 64) if free else shape[axis]
        for axis, other, free in ((2, 256, any_height), (3, 384, any_width))
    )
    low, narrow = (64 if any_height else shape[2]), (64 if any_width else shape[3])
    found: list[tuple[int, ...]] = [(2 if any_batch else batch, 3, height, width)]
    if any_batch:
        found += [(3, 3, low, narrow), (LARGEST_BATCH if any_height and any_width else 8, 3, low, narrow)]
    if any_height:
        found.append((batch, 3, LARGEST_SIDE, narrow))
    if any_width:
        found.append((batch, 3, low, LARGEST_SIDE))
    if any_height and any_width:
        found.append((batch, 3, LARGE, LARGE))
    return found


def _detections(network: Network, pairs: list[tuple[Array, Array]], tolerance: Tolerance) -> Check:
    if any(reference.shape != given.shape for reference, given in pairs):
        return Check("detections", False, {}, "outputs of different shapes cannot be compared")
    if network.sha256 is None:
        # Random weights score every anchor alike, and suppression among ties is chance: compare the anchors themselves.
        return anchor_parity(pairs, tolerance, "random weights: no suppression")
    low = CONFIDENCE - tolerance.detection_score
    found = [(detections_from_output(a, confidence=low), detections_from_output(b, confidence=low)) for a, b in pairs]
    check = detection_parity(found, tolerance, CONFIDENCE)
    if check.passed is None:
        return anchor_parity(pairs, tolerance, f"the network detects nothing above {CONFIDENCE:g} on these images")
    return check


def _sensitivity(wanted: Reference, image: Array, shown: list[Shown], tolerance: Tolerance) -> Check:
    """The artifact follows its attention in every slot of its batch; slots that answer alike are judged once."""
    stages, check = wanted.stages(image), None
    judged: list[Array] = []
    for one in shown:
        if any(np.allclose(one.output, output, rtol=1e-5, atol=1e-6) for output in judged):
            continue
        judged.append(one.output)
        check = response_check(stages, one.output[None], tolerance.floor)
        if not check.passed:
            slot = f" (batch slot {one.slot})" if len(shown) > 1 else ""
            return Check(check.name, check.passed, check.figures, check.detail + slot)
    assert check is not None
    return check


def _fits(session: Session, images: Array) -> None:
    shape = session.inputs[0].shape
    sides = shape[2:] if len(shape) == 4 else ()
    for have, want in zip(images.shape[2:], sides, strict=False):
        if isinstance(want, int) and have != want:
            raise YoloproofError(
                f"the artifact takes images of {shape[2]}x{shape[3]}, given {images.shape[2]}x{images.shape[3]}"
            )
