"""Is a native engine still the detector that it was built from? By its plan, its machine code and its own evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.native import NativeEngine, read_native
from yoloproof.names import Precision
from yoloproof.proof.ends import end_checks
from yoloproof.proof.parity import TOLERANCES, output_parity
from yoloproof.proof.plan import attentions_of, check_covers
from yoloproof.proof.stated import stated_from_properties
from yoloproof.records import Check, Verdict
from yoloproof.runtime import Session
from yoloproof.runtime.native_frames import FrameSession

# Kernels whose work is matrix products: each uses tensor cores.
DENSE = (
    "conv_kernel", "thin_conv_kernel", "separable_kernel", "attention_kernel", "gather_kernel", "edges_kernel",
    "scatter_kernel",
)  # fmt: skip


def verify_by_evidence(path: Path, session: Session) -> Verdict:
    """Every check that needs neither weights nor the network; `session` is the file opened on the GPU at hand."""
    engine = read_native(path)
    ends: list[Check] = []
    if isinstance(session, FrameSession):
        stated = stated_from_properties(engine.properties, path, sha256_of(path))
        ends = end_checks(session, engine.evidence.images, stated)
        session = session.network
    checks = (
        plan_check(engine, len(attentions_of(engine.plan))),
        machine_code_check(engine),
        evidence_check(engine, session),
    )
    return Verdict((*checks, *ends))


def native_checks(path: Path, attentions: int) -> list[Check]:
    """What the file alone shows, for a network with so many attention blocks."""
    engine = read_native(path)
    return [plan_check(engine, attentions), machine_code_check(engine)]


def plan_check(engine: NativeEngine, attentions: int) -> Check:
    """The plan holds together, reads every weight and launches every attention, whatever tactics are chosen."""
    figures = {"operations": len(engine.plan.operations), "attentions": attentions, "weights": len(engine.weights)}
    try:
        check_covers(engine.plan, engine.weights, attentions)
    except YoloproofError as error:
        return Check("launch plan", False, figures, str(error))
    detail = f"{len(engine.plan.operations)} operations, {attentions} attentions, every one of {len(engine.weights)} weights read"
    return Check("launch plan", attentions > 0, figures, detail)


def machine_code_check(engine: NativeEngine) -> Check:
    """Every dense kernel uses tensor cores, in the code for every capability."""
    without, spilled, count = [], 0, 0
    for (major, minor), kernels in engine.code.items():
        for kernel, compiled in zip(engine.plan.kernels, kernels, strict=True):
            if compiled is None:
                continue
            count += 1
            spilled += compiled.facts.spilled_bytes > 0
            if kernel.name in DENSE and not compiled.facts.tensor_cores:
                without.append(f"{kernel.name} for {major}.{minor}")
    figures = {"kernels": count, "without_tensor_cores": len(without), "kernels_that_spill": spilled}
    if without:
        return Check("machine code", False, figures, f"{without[0]} uses no tensor cores ({len(without)} in all)")
    return Check(
        "machine code",
        True,
        figures,
        f"tensor cores in every dense kernel; {spilled} of {count} kernels spill registers",
    )


def evidence_check(engine: NativeEngine, session: Session) -> Check:
    """On the images in the file the session gives what the float32 network gave when the file was built."""
    images = np.ascontiguousarray(engine.evidence.images.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
    batch = engine.plan.images[0]
    given = []
    try:
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
            given.append(session.infer(filled)[0][: len(part)])
    except YoloproofError as error:  # what is not finite, or cannot run, says so itself
        return Check("outputs, the file's own images", False, {}, str(error))
    return output_parity(
        engine.evidence.outputs, np.concatenate(given), TOLERANCES[Precision.FP16], "the file's own images"
    )
