"""`verify`: is this artifact still the same detector as the network it is said to be?"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloproof.artifact.onnx import metadata_from, read_artifact
from yoloproof.errors import YoloproofError
from yoloproof.files.engine import EngineIdentity, read_identity, sidecar_path
from yoloproof.files.onnx import load_onnx
from yoloproof.network.wiring import Network
from yoloproof.proof.audit import graph_audit
from yoloproof.proof.blocks import block_parity
from yoloproof.proof.parity import TOLERANCES, Tolerance
from yoloproof.proof.reference import Reference
from yoloproof.proof.running import as_taken, batch_of, filled, running_checks
from yoloproof.proof.suppression import engine_checks, is_suppressed, suppression_check, without_suppression
from yoloproof.proof.verdict import Check, Verdict
from yoloproof.runtime import Session, SessionSpec, open_session

Array = NDArray[np.float32]
SAYS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}  # a session's word for a precision → ours


def verify(
    artifact: Path | None,
    network: Network | Reference,
    images: Array,
    *,
    session: Session | None = None,
    precision: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Verdict:
    """Every check of `artifact` against `network` (as loaded, not simplified; float32 on the CPU is the reference).

    artifact -- the file; None for a network that runs as it is, which only a session can show. With suppression inside,
        an ONNX file is proved without it, and the suppression by itself
    network -- as a Reference, it answers what several artifacts ask once for all of them
    images -- letterboxed real images [n, 3, H, W] of the artifact's size, 0…1
    session -- the artifact opened in the runtime it is meant for; without one, an ONNX file opens in ONNX Runtime
    precision -- what rounding is allowed for ("fp32", "fp16", "bf16"); by default what the artifact claims, or its
        session says
    Raises YoloproofError when the artifact cannot be read or opened, or the images do not fit it.
    """
    path = Path(artifact) if artifact is not None else None
    is_onnx = path is not None and path.suffix == ".onnx"
    reference = network if isinstance(network, Reference) else Reference(network)
    network = reference.network
    metadata, seed = stated(path)
    say = progress or (lambda step: None)
    with ExitStack() as stack:
        if session is None:
            if not is_onnx:
                raise YoloproofError(
                    f"{artifact}: only an ONNX file can be verified without a session; name a --runtime"
                )
            session = stack.enter_context(open_session(SessionSpec("onnxruntime", path)))
        precision = precision or metadata.get("precision") or SAYS.get(session.facts.get("precision", ""), "fp32")
        if precision not in TOLERANCES:
            raise YoloproofError(f"precision '{precision}' is none of {', '.join(TOLERANCES)}")
        tolerance = TOLERANCES[precision]
        if is_onnx and path is not None:
            return Verdict(tuple(_of_onnx(path, session, reference, images, metadata, tolerance, say, seed, stack)))
        built = [engine_check(read_identity(path), network)] if path is not None and path.suffix == ".engine" else []
        if is_suppressed(session):
            return Verdict((*built, *engine_checks(session, network, images, tolerance, metadata)))
        return Verdict((*built, *running_checks(session, reference, images, tolerance, say, seed)))


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


def _of_onnx(
    path: Path, session: Session, reference: Reference, images: Array, metadata: Mapping[str, Any], tolerance: Tolerance,
    say: Callable[[str], None], seed: int, stack: ExitStack,
) -> list[Check]:  # fmt: skip
    model, network = load_onnx(path), reference.network
    extra = []
    if is_suppressed(session):
        say("suppression")
        cut = without_suppression(model, network, session, metadata, stack)
        if isinstance(cut, Check):
            return [cut]
        extra.append(suppression_check(cut, session, metadata, images, seed))
        model, session = cut.raw, cut.session
    say("graph audit")
    checks = [*graph_audit(model, network, metadata), _names(network, model, metadata)]
    checks += running_checks(session, reference, images, tolerance, say, seed)
    say("blocks")
    batch = batch_of(session)
    checks.append(block_parity(model, network, filled(as_taken(images[:batch], session), batch), tolerance))
    return [*checks, *extra]


def stated(path: Path | None) -> tuple[dict[str, Any], int]:
    """What an artifact says of itself, and a seed from its hash. YoloproofError for statements of the wrong kind."""
    if path is None:
        return {}, 0
    if path.suffix == ".onnx":
        read = read_artifact(path)
        metadata, digest = read.metadata, read.sha256
    elif sidecar_path(path).exists():
        identity = read_identity(path)
        metadata, digest = metadata_from(identity.onnx_metadata, path), identity.engine_sha256
        metadata |= {"precision": SAYS.get(identity.precision, identity.precision)}  # the engine's own
    else:
        return {}, 0
    for key, kind in (("precision", str), ("rewrites", list), ("names", dict), ("batch", int), ("nms", dict)):
        if key in metadata and not isinstance(metadata[key], kind):
            raise YoloproofError(f"{path}: its metadata say {key} = {metadata[key]!r:.60}; export it again")
    return metadata, int(digest[:8], 16)


def _names(network: Network, model: onnx.ModelProto, metadata: Mapping[str, Any]) -> Check:
    """The class names the file states, ours and those that other loaders read, are the checkpoint's."""
    stated = [metadata["names"]] if "names" in metadata else []
    for entry in model.metadata_props:
        if entry.key == "names":
            try:
                names = ast.literal_eval(entry.value)
                stated.append(
                    {str(k): v for k, v in (names if isinstance(names, dict) else dict(enumerate(names))).items()}
                )
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                return Check("classes", False, {}, "the file's class names cannot be read")
    for names in stated:
        wrong = [i for i, name in network.names.items() if names.get(str(i)) != name]
        if wrong or len(names) != network.classes:
            detail = f"class {wrong[0] if wrong else len(names)} has another name or number than in the checkpoint"
            return Check("classes", False, {"wrong": len(wrong)}, detail)
    figures = {"classes": network.classes}
    if not stated:
        return Check("classes", True, figures, "the file names no classes of its own")
    return Check("classes", True, figures, f"{network.classes} class names as in the checkpoint")
