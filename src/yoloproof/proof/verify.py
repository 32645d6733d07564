"""`verify`: is this artifact still the same detector as the network it is said to be?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.files.engine import EngineIdentity, read_identity
from yoloproof.files.native import SUFFIX
from yoloproof.files.onnx import load_onnx
from yoloproof.names import Attention, Precision, Progress, Runtime, no_progress
from yoloproof.network.wiring import Network, attention_paths
from yoloproof.proof.audit import graph_audit
from yoloproof.proof.blocks import block_parity
from yoloproof.proof.native import native_checks
from yoloproof.proof.parity import TOLERANCES, Tolerance
from yoloproof.proof.reference import Reference
from yoloproof.proof.running import as_taken, batch_of, filled, running_checks
from yoloproof.proof.stated import Stated, stated_of
from yoloproof.proof.suppression import engine_checks, is_suppressed, suppression_check, without_suppression
from yoloproof.records import Check, Verdict
from yoloproof.runtime import Session, SessionSpec, open_session

Array = NDArray[np.float32]
Say = Callable[[str], None]


def verify(
    artifact: Path | None,
    network: Network | Reference,
    images: Array,
    *,
    session: Session | None = None,
    precision: str | None = None,
    progress: Progress = no_progress,
) -> Verdict:
    """Every check of `artifact` against `network` (as loaded, not simplified; float32 on the CPU is the reference).

    artifact -- the file; None for a network that runs as it is, which only a session can show. With suppression inside,
        an ONNX file is verified without it, and the suppression by itself
    network -- loaded with attention "fused"; it is only read. As a Reference, it answers what several artifacts ask once
        for all of them
    images -- letterboxed real images [n, 3, H, W] of the artifact's size, 0…1
    session -- the artifact opened in the runtime it is meant for; without one, an ONNX file opens in ONNX Runtime
    precision -- what rounding is allowed for, a `Precision` or its text; by default what the artifact claims, or its
        session says
    Thread-safe: several threads may verify at once against one network or Reference, each with its own session.
    Raises YoloproofError when the artifact cannot be read or opened, the images do not fit it, or the network was
    written to meanwhile.
    """
    path = Path(artifact) if artifact is not None else None
    is_onnx = path is not None and path.suffix == ".onnx"
    reference = network if isinstance(network, Reference) else Reference(network)
    stated = stated_of(path)
    say: Say = lambda what: progress(what, None)  # noqa: E731
    with ExitStack() as stack:
        if session is None:
            if not is_onnx:
                raise YoloproofError(
                    f"{artifact}: only an ONNX file can be verified without a session; name a --runtime"
                )
            session = stack.enter_context(open_session(SessionSpec(Runtime.ONNXRUNTIME, path)))
        tolerance = TOLERANCES[precision_allowed(precision, stated, session)]
        if is_onnx and path is not None:
            checks = _of_onnx(path, session, reference, images, stated, tolerance, say, stack)
        else:
            built = path is not None and path.suffix == ".engine"
            checks = [engine_check(read_identity(path), reference.network)] if built and path is not None else []
            if path is not None and path.suffix == SUFFIX:
                checks = [*native_checks(path, len(attention_paths(reference.network.named_modules()))),
                          class_names_check(reference.network, stated)]  # fmt: skip
            if is_suppressed(session):
                checks += engine_checks(session, reference.network, images, tolerance, stated)
            else:
                checks += running_checks(session, reference, images, tolerance, say, stated.seed)
    reference.check_unchanged()
    return Verdict(tuple(checks))


def precision_allowed(asked: str | None, stated: Stated, session: Session) -> Precision:
    """Whose rounding is allowed for: the caller's word, else the artifact's claim, else what its session says."""
    if asked is None:
        return stated.precision or Precision.of_dtype(session.facts.precision) or Precision.FP32
    try:
        return Precision(asked)
    except ValueError:
        raise YoloproofError(f"precision '{asked}' is none of {', '.join(Precision)}") from None


def engine_check(engine: EngineIdentity, network: Network) -> Check:
    """An engine was built from these weights, and its build's audit found no attention lost that should be fused."""
    faults, fused, attentions = (_listed(engine.audit, key) for key in ("faults", "fused", "attentions"))
    if "faults" not in engine.audit:
        faults = ["no audit in its sidecar"]
    figures = {"attentions": len(attentions), "fused": len(fused), "faults": faults}
    if engine.checkpoint_sha256 != network.sha256:
        return Check("engine", False, figures, "its sidecar names other weights than these")
    passed = len(attentions) > 0 and (not faults or engine.attention != Attention.FUSED)
    detail = f"built from these weights; {len(fused)} of {len(attentions)} attentions in fused kernels"
    return Check("engine", passed, figures, detail + (f"; {faults[0]}" if faults else ""))


def _listed(audit: Mapping[str, object], key: str) -> list[object]:
    value = audit.get(key)
    return list(value) if isinstance(value, list | tuple | Mapping) else []


def _of_onnx(
    path: Path, session: Session, reference: Reference, images: Array, stated: Stated, tolerance: Tolerance, say: Say,
    stack: ExitStack,
) -> list[Check]:  # fmt: skip
    model: onnx.ModelProto = load_onnx(path)
    network = reference.network
    extra = []
    if is_suppressed(session):
        say("suppression")
        cut = without_suppression(model, network, session, stated, stack)
        if isinstance(cut, Check):
            return [cut]
        extra.append(suppression_check(cut, session, stated, images))
        model, session = cut.raw, cut.session
    say("graph audit")
    checks = [*graph_audit(model, network, stated), class_names_check(network, stated)]
    checks += running_checks(session, reference, images, tolerance, say, stated.seed)
    say("blocks")
    batch = batch_of(session)
    checks.append(block_parity(model, network, filled(as_taken(images[:batch], session), batch), tolerance))
    return [*checks, *extra]


def class_names_check(network: Network, stated: Stated) -> Check:
    """The class names the file states, ours and those that other loaders read, are the checkpoint's."""
    for names in stated.names:
        if not names:
            return Check("classes", False, {}, "the file's class names cannot be read")
        wrong = [index for index, name in network.names.items() if names.get(index) != name]
        if wrong or len(names) != network.classes:
            detail = f"class {wrong[0] if wrong else len(names)} has another name or number than in the checkpoint"
            return Check("classes", False, {"wrong": len(wrong)}, detail)
    figures = {"classes": network.classes}
    if not stated.names:
        return Check("classes", True, figures, "the file names no classes of its own")
    return Check("classes", True, figures, f"{network.classes} class names as in the checkpoint")
