"""`verify`: is this artifact still the same detector as the network it is said to be?"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from yoloproof.artifact.onnx import PREFIX, read_artifact
from yoloproof.detection.nms import detections_from_output
from yoloproof.engine_file import EngineIdentity, read_identity
from yoloproof.errors import YoloproofError
from yoloproof.network.wiring import Network
from yoloproof.onnx_file import load_onnx
from yoloproof.proof.audit import graph_audit
from yoloproof.proof.parity import TOLERANCES, Tolerance, block_parity, detection_parity, output_parity
from yoloproof.proof.sensitivity import sensitivity
from yoloproof.proof.verdict import Check, Verdict
from yoloproof.runtime import PRECISIONS, NonFiniteOutput, Session, SessionSpec, open_session

CONFIDENCE = 0.25
Array = NDArray[np.float32]


def verify(
    artifact: Path | None,
    network: Network,
    images: Array,
    *,
    session: Session | None = None,
    precision: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Verdict:
    """Every check of `artifact` against `network` (as loaded, not simplified; float32 on the CPU is the reference).

    artifact -- the file; None for a network that runs as it is, which only a session can show
    images -- letterboxed real images [n, 3, H, W] of the artifact's size, 0…1
    session -- the artifact opened in the runtime it is meant for; without one, an ONNX file opens in ONNX Runtime
    precision -- what rounding is allowed for ("fp32", "fp16", "bf16"); by default what the artifact claims, or its
        session says
    Raises YoloproofError when the artifact cannot be read or opened, or the images do not fit it.
    """
    onnx_file = Path(artifact) if artifact is not None and Path(artifact).suffix == ".onnx" else None
    engine = read_identity(artifact) if artifact is not None and Path(artifact).suffix == ".engine" else None
    metadata = read_artifact(onnx_file).metadata if onnx_file else _stated(engine)
    precision = precision or metadata.get("precision", "fp32")
    if precision not in TOLERANCES:
        raise YoloproofError(f"precision '{precision}' is none of {', '.join(TOLERANCES)}")
    say = progress or (lambda step: None)
    checks: list[Check] = []
    if "nms" in metadata:
        return _verify_suppressed(artifact, network, images, metadata, session, precision, say)
    if onnx_file:
        say("graph audit")
        checks += graph_audit(load_onnx(onnx_file), network, metadata)
        checks.append(_names(network, metadata))
    if engine is not None:
        checks.append(engine_check(engine, network))
    if session is not None:
        checks += running_checks(session, network, images, TOLERANCES[precision], say)
    else:
        if onnx_file is None:
            raise YoloproofError(f"{artifact}: only an ONNX file can be verified without a session; name a --runtime")
        with open_session(SessionSpec("onnxruntime", onnx_file)) as opened:
            checks += running_checks(opened, network, images, TOLERANCES[precision], say)
    if onnx_file:
        say("blocks")
        batch = _batch(session, metadata)
        checks.append(
            block_parity(load_onnx(onnx_file), network, _filled(images[:batch], batch), TOLERANCES[precision])
        )
    return Verdict(tuple(checks))


def _stated(engine: EngineIdentity | None) -> dict[str, Any]:
    """What the ONNX file that an engine was made from said of itself; the precision is the engine's own."""
    if engine is None:
        return {}
    held = {k.removeprefix(PREFIX): json.loads(v) for k, v in engine.onnx_metadata.items() if k.startswith(PREFIX)}
    short = {long: short for short, long in PRECISIONS.items()}
    return {**held, "precision": short.get(engine.precision, engine.precision)}


def engine_check(engine: EngineIdentity, network: Network) -> Check:
    """An engine was made from these weights, and its build's audit found no attention lost that should be fused."""
    faults = list(engine.audit.get("faults", ["no audit in its sidecar"]))
    fused, attentions = len(engine.audit.get("fused", {})), len(engine.audit.get("attentions", ()))
    figures = {"attentions": attentions, "fused": fused, "faults": faults}
    if engine.checkpoint_sha256 != network.sha256:
        return Check("engine", False, figures, "its sidecar names other weights than these")
    passed = attentions > 0 and (not faults or engine.attention != "fused")
    detail = f"made from these weights; {fused} of {attentions} attentions in fused kernels"
    return Check("engine", passed, figures, detail + (f"; {faults[0]}" if faults else ""))


def _verify_suppressed(
    artifact: Path | None, network: Network, images: Array, metadata: Mapping[str, Any], session: Session | None,
    precision: str, say: Callable[[str], None],
) -> Verdict:  # fmt: skip
    """`verify` of an artifact with suppression inside: see suppressed.py."""
    from yoloproof.proof.suppressed import answers_check, network_part, suppression_check

    record = metadata["nms"]
    path = Path(artifact or "")
    if session is None:
        with open_session(SessionSpec("onnxruntime", path)) as opened:
            return _verify_suppressed(path, network, images, metadata, opened, precision, say)
    if path.suffix == ".engine":
        checks = [engine_check(read_identity(path), network)]
    else:
        model = load_onnx(path)
        with tempfile.TemporaryDirectory(prefix="yoloproof-") as folder:
            part = Path(folder) / path.name
            onnx.save(network_part(model, record), part)
            facts = session.facts
            spec = SessionSpec(facts["name"], part, facts["device"], facts["threads"], facts["precision"])
            with open_session(spec) as plain:
                checks = list(verify(part, network, images, session=plain, precision=precision, progress=say).checks)
        say("suppression")
        checks.append(suppression_check(model, record))
    say("detections after suppression")
    _fits(session, images)
    reference = np.concatenate([_reference(network, image[None]) for image in images])
    check = answers_check(session, network, images, reference, record, TOLERANCES[precision])
    checks.append(replace(check, name="detections after suppression"))
    return Verdict(tuple(checks))


def running_checks(
    session: Session, network: Network, images: Array, tolerance: Tolerance, say: Callable[[str], None]
) -> list[Check]:
    """The checks that run the artifact: outputs on real and on random images, detections, sensitivity."""
    batch = session.inputs[0].shape[0]
    batch = batch if isinstance(batch, int) else 1
    _fits(session, images)
    checks = []
    say("outputs on real images")
    try:
        given = np.concatenate([_run(session, images[i : i + batch], batch) for i in range(0, len(images), batch)])
    except NonFiniteOutput as error:
        return [Check("outputs, real images", False, {}, str(error))]
    reference = np.concatenate([_reference(network, image[None]) for image in images])
    checks.append(output_parity(reference, given, tolerance, "real images"))
    say("outputs on random input")
    noise = np.random.default_rng(0).random((1, *images.shape[1:]), np.float32)
    checks.append(output_parity(_reference(network, noise), _run(session, noise, batch), tolerance, "random input"))
    say("detections")
    checks.append(_detections(network, reference, given, tolerance))
    say("sensitivity")
    checks.append(sensitivity(network, images[:1], given[:1], tolerance.floor))
    return checks


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


def _names(network: Network, metadata: dict[str, object]) -> Check:
    names = metadata.get("names")
    if not isinstance(names, dict):
        return Check("classes", True, {"classes": network.classes}, "the file names no classes of its own")
    wrong = [i for i, name in network.names.items() if names.get(str(i)) != name]
    if wrong or len(names) != network.classes:
        detail = f"class {wrong[0] if wrong else len(names)} has another name or number than in the checkpoint"
        return Check("classes", False, {"wrong": len(wrong)}, detail)
    return Check("classes", True, {"classes": network.classes}, f"{network.classes} class names as in the checkpoint")


def _reference(network: Network, images: Array) -> Array:
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(np.ascontiguousarray(images))).numpy(), np.float32)


def _run(session: Session, images: Array, batch: int) -> Array:
    """The artifact's first output for up to `batch` images, the rest of a fixed batch filled by repetition."""
    return np.asarray(session.infer(_filled(images, batch))[0], np.float32)[: len(images)]


def _filled(images: Array, batch: int) -> Array:
    missing = batch - len(images)
    return images if missing <= 0 else np.concatenate([images, np.repeat(images[:1], missing, 0)])


def _batch(session: Session | None, metadata: dict[str, object]) -> int:
    batch = session.inputs[0].shape[0] if session is not None else metadata.get("batch", 1)
    return batch if isinstance(batch, int) else 1


def _fits(session: Session, images: Array) -> None:
    shape = session.inputs[0].shape
    sides: Sequence[int | str] = shape[2:] if len(shape) == 4 else ()
    for have, want in zip(images.shape[2:], sides, strict=False):
        if isinstance(want, int) and have != want:
            raise YoloproofError(
                f"the artifact takes images of {shape[2]}x{shape[3]}, given {images.shape[2]}x{images.shape[3]}"
            )
