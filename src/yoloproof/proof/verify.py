"""`verify`: is this artifact still the same detector as the network it is said to be?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloproof.detection.pipeline import batch_of
from yoloproof.errors import YoloproofError
from yoloproof.files.engine import EngineIdentity, read_identity
from yoloproof.files.native import SUFFIX
from yoloproof.files.onnx import is_onnx_model, load_onnx
from yoloproof.names import Attention, Progress, Runtime, no_progress
from yoloproof.network.wiring import Network, attention_paths
from yoloproof.proof.audit import graph_audit
from yoloproof.proof.blocks import block_parity
from yoloproof.proof.ends import end_checks
from yoloproof.proof.float16 import float16_check
from yoloproof.proof.native import native_checks
from yoloproof.proof.parity import Tolerance
from yoloproof.proof.precision import Allowed, allowed_for
from yoloproof.proof.probes import BRIGHTEST, transformed
from yoloproof.proof.reference import Reference
from yoloproof.proof.running import EXAMINED, running_checks
from yoloproof.proof.showing import as_taken
from yoloproof.proof.stated import Stated, stated_of
from yoloproof.proof.suppression import engine_checks, is_suppressed, suppression_check, without_suppression
from yoloproof.records import Check, Verdict
from yoloproof.runtime import Session, SessionSpec, open_session
from yoloproof.runtime.native_frames import FrameSession

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
        an ONNX file and a native engine are verified without it, and the suppression by itself
    network -- loaded with attention "fused"; it is only read. As a Reference, it answers what several artifacts ask once
        for all of them
    images -- letterboxed real images [n, 3, H, W] of the artifact's size, 0…1
    session -- the artifact opened in the runtime it is meant for; without one, an ONNX file opens in ONNX Runtime
    precision -- what rounding is allowed for, a `Precision` or its text: the caller's claim. By default what the graph
        computes in, or the session; the artifact's own words never make it laxer
    The first check, "examined", says what was shown to the artifact, what computed it and which tolerance was used.
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
        refuse_coat(path, session)
        model = load_onnx(path) if is_onnx and path is not None else None
        allowed = allowed_for(precision, model, stated, session)
        if model is not None:
            checks = _of_onnx(model, session, reference, images, stated, allowed.tolerance, say, stack)
        else:
            built = path is not None and path.suffix == ".engine"
            checks = [engine_check(read_identity(path), reference.network)] if built and path is not None else []
            if path is not None and path.suffix == SUFFIX:
                checks = [*native_checks(path, len(attention_paths(reference.network.named_modules()))),
                          class_names_check(reference.network, stated)]  # fmt: skip
            if isinstance(session, FrameSession):
                pixels = np.rint(images * 255).astype(np.uint8).transpose(0, 2, 3, 1)
                checks += running_checks(session.network, reference, images, allowed.tolerance, say, stated.seed)
                checks += end_checks(session, pixels, stated)
            elif is_suppressed(session):
                checks += engine_checks(session, reference.network, images, allowed.tolerance, stated)
            else:
                checks += running_checks(
                    session, reference, images, allowed.tolerance, say, stated.seed, profile_of(stated.engine)
                )
    reference.check_unchanged()
    return Verdict(tuple(examined_first(checks, session, allowed)))


def examined_first(checks: list[Check], session: Session, allowed: Allowed) -> list[Check]:
    """The checks with what was examined in front: images, sizes, slots, classes, what computed, and the tolerance."""
    found = next((check for check in checks if check.name == EXAMINED), None)
    facts, detail = session.facts, found.detail if found else "nothing that ran to its end"
    computed = " ".join(str(word) for word in (facts.name, facts.version, facts.provider) if word)
    figures = {**(found.figures if found else {}), "computed_by": computed, "tolerance": allowed.precision.value,
               "tolerance_from": allowed.source}  # fmt: skip
    line = f"{detail}; computed by {computed}; tolerance of {allowed.precision}, {allowed.source}"
    return [Check(EXAMINED, True, figures, line), *(check for check in checks if check is not found)]


def profile_of(engine: EngineIdentity | None) -> tuple[tuple[int, ...], ...]:
    """The smallest and the largest shape of its images that a dynamic engine says it takes."""
    shapes = engine.options.get("shapes") if engine else None
    if not isinstance(shapes, Mapping) or not shapes:
        return ()
    smallest, _, largest = next(iter(shapes.values()))
    return tuple(smallest), tuple(largest)


def refuse_coat(path: Path | None, session: Session) -> None:
    """Raises YoloproofError for an `.engine` that no engine runtime runs, whatever its sidecar says it is."""
    if path is None or path.suffix != ".engine":
        return
    if not session.facts.name.builds_engines:
        raise YoloproofError(
            f"{path}: {session.facts.name} does not run engines, so this is not one; give an ONNX file as .onnx, which is audited"
        )
    if is_onnx_model(path):
        raise YoloproofError(f"{path} is an ONNX file under an engine's name; rename it to .onnx, which is audited")


def engine_check(engine: EngineIdentity, network: Network) -> Check:
    """An engine was built from these weights, and its build's audit found no attention lost that should be fused."""
    faults, fused, attentions = (_listed(engine.audit, key) for key in ("faults", "fused", "attentions"))
    if "faults" not in engine.audit:
        faults = ["no audit in its sidecar"]
    figures = {"attentions": len(attentions), "fused": len(fused), "faults": faults}
    if engine.checkpoint_sha256 != network.sha256:
        return Check("engine", False, figures, "its sidecar names different weights")
    passed = len(attentions) > 0 and (not faults or engine.attention != Attention.FUSED)
    detail = f"stated by its sidecar: built from these weights; {len(fused)} of {len(attentions)} attentions in fused kernels"
    return Check("engine", passed, figures, detail + (f"; {faults[0]}" if faults else ""))


def _listed(audit: Mapping[str, object], key: str) -> list[object]:
    value = audit.get(key)
    return list(value) if isinstance(value, list | tuple | Mapping) else []


def _of_onnx(
    model: onnx.ModelProto, session: Session, reference: Reference, images: Array, stated: Stated, tolerance: Tolerance,
    say: Say, stack: ExitStack,
) -> list[Check]:  # fmt: skip
    network = reference.network
    whole, extra = model, []
    if is_suppressed(session):
        say("suppression")
        cut = without_suppression(model, network, session, stated, stack)
        if isinstance(cut, Check):
            return [cut]
        extra.append(suppression_check(cut, session, stated, images))
        model, session = cut.raw, cut.session
    say("graph audit")
    checks = [*graph_audit(model, reference, stated, whole), class_names_check(network, stated)]
    checks += running_checks(session, reference, images, tolerance, say, stated.seed)
    say("float16")
    size = (images.shape[2], images.shape[3])
    probes = np.concatenate([images[:4], transformed(images)[BRIGHTEST], reference.excited(size)])
    float16 = float16_check(model, reference, as_taken(probes, session), tolerance.beyond_photographs())
    checks += [] if float16 is None else [float16]
    say("blocks")
    batch = batch_of(session)
    checks.append(
        block_parity(model, network, as_taken(np.resize(images, (batch, *images.shape[1:])), session), tolerance)
    )
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
