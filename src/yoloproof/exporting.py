"""`export`: the road as far as the artifact, written where the user wants it: an ONNX file, an engine, a Triton repository."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloproof.artifact.build import native_engine, onnx_from_network, published_network
from yoloproof.artifact.engine import Engine, buildable, engine_from_onnx
from yoloproof.artifact.nms import NmsOptions, add_nms
from yoloproof.errors import YoloproofError
from yoloproof.export_options import ENDINGS, Export, builds_engine, check_export, engine_options
from yoloproof.files.digest import sha256_of
from yoloproof.files.native import write_native
from yoloproof.files.onnx import load_onnx
from yoloproof.files.plan import Plan
from yoloproof.inspection import inspect
from yoloproof.names import ArtifactFormat, Attention, Precision, Progress, Runtime, no_progress
from yoloproof.network import Network
from yoloproof.records import Case
from yoloproof.simplify.choice import PUBLISHED_REWRITES, RUNTIME_REWRITES
from yoloproof.simplify.rewrites import DEFAULT_REWRITES, simplify


@dataclass(frozen=True)
class Exported:
    """Where the artifact lies, its identity for machines, and the lines that say it to a person."""

    path: Path
    identity: Mapping[str, object]
    lines: tuple[str, ...]


def export(case: Case, wanted: Export, progress: Progress = no_progress) -> Exported:
    """Write a case's artifact. Raises YoloproofError for options that do not go together and files that exist."""
    check_export(case, wanted)
    if builds_engine(wanted):
        buildable(engine_options(case, wanted))
    ending = ENDINGS.get(wanted.format, "")
    output = wanted.output or Path(f"{Path(case.model).stem}{ending}" if ending else "triton")
    if ending and output.exists():
        raise YoloproofError(f"{output} exists; nothing was overwritten. Name another file with -o or remove it")
    case = replace(case, rewrites=rewrites_of_export(case, wanted))
    progress(f"loading {case.model}", None)
    network = published_network(case)
    if wanted.format is ArtifactFormat.ONNX:
        return _onnx(network, case, wanted, output, progress)
    if wanted.format is ArtifactFormat.NATIVE:
        return _native(network, case, wanted, output, progress)
    with tempfile.TemporaryDirectory(prefix="yoloproof-") as folder:
        onnx = Path(folder) / f"{network.variant.name}-{case.attention}-{case.precision}.onnx"
        _onnx(network, case, wanted, onnx, progress)
        if wanted.format is ArtifactFormat.ENGINE:
            return _engine(onnx, output, case, wanted, progress)
        served = onnx
        if wanted.runtime is Runtime.TENSORRT:
            served = onnx.with_suffix(".engine")
            _engine(onnx, served, case, wanted, progress)
        return _repository(served, output, case, wanted, progress)


def rewrites_of_export(case: Case, wanted: Export) -> tuple[str, ...]:
    """The simplifications; `published` and `stripped` are left as the official code exports them."""
    if case.attention in (Attention.PUBLISHED, Attention.STRIPPED):
        return PUBLISHED_REWRITES
    if not wanted.simplified:
        return ()
    chosen = DEFAULT_REWRITES if wanted.runtime is None else RUNTIME_REWRITES.get(wanted.runtime, DEFAULT_REWRITES)
    return (*chosen, "pixels") if wanted.onnx.input_type == "uint8" else chosen


def _onnx(network: Network, case: Case, wanted: Export, path: Path, progress: Progress) -> Exported:
    progress("exporting", None)
    with tempfile.TemporaryDirectory(prefix="yoloproof-") as folder:
        plain = Path(folder) / "plain.onnx" if wanted.nms else path
        artifact = onnx_from_network(simplify(network, case.rewrites), case, plain, wanted.onnx)
        if wanted.nms:
            path.parent.mkdir(parents=True, exist_ok=True)
            add_nms(plain, path, wanted.nms)
    graph = load_onnx(path, external_data=False).graph
    attentions = sum(node.op_type == "Attention" for node in graph.node)
    described = inspect(path)
    size = path.stat().st_size
    verification = ["yoloproof", "verify", str(path), "--against", case.model]
    if wanted.images:
        verification += ["--images", os.path.commonpath([image.parent for image in wanted.images])]
    verification += ["--random-weights"] if case.random_weights else []
    lines = (
        f"{path}: {network.variant.name}, {case.precision}, attention {case.attention}, {len(graph.node)} nodes, {size} bytes",
        *((f"{attentions} Attention operators, one per block",) if attentions else ()),
        *(
            f"{side} {tensor.name} [{', '.join(map(str, tensor.shape))}] {tensor.dtype}"
            for side, tensors in (("input", described.inputs), ("output", described.outputs))
            for tensor in tensors
        ),
        f"detections: {described.reading}",
        *(
            (f"suppression: score > {wanted.nms.score:g}, IoU {wanted.nms.iou:g}, at most {wanted.nms.max_detections}",)
            if wanted.nms
            else ()
        ),
        f"next: {shlex.join(verification)}",
    )
    identity = {"path": str(path), "format": "onnx", "sha256": sha256_of(path), "bytes": size,
                "nodes": len(graph.node), "metadata": artifact.metadata}  # fmt: skip
    return Exported(path, identity, lines)


def _native(network: Network, case: Case, wanted: Export, output: Path, progress: Progress) -> Exported:
    from yoloproof.artifact.native.explain import plan_lines
    from yoloproof.artifact.native.targets import capabilities_from_targets

    started = time.perf_counter()
    suppression = wanted.nms if wanted.end_to_end else None
    engine = native_engine(
        case, network, capabilities_from_targets(wanted.targets), progress, wanted.images, suppression
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    write_native(engine, output)
    built_s, size = time.perf_counter() - started, output.stat().st_size
    capabilities = ", ".join(f"{major}.{minor}" for major, minor in sorted(engine.code))
    kernels = [one for kernels in engine.code.values() for one in kernels if one is not None]
    spilling = sum(one.facts.spilled_bytes > 0 for one in kernels)
    lines = (
        *(plan_lines(engine.plan, engine.weights) if wanted.explain else ()),
        f"{output}: {network.variant.name}, fp16, for compute capability {capabilities}, {size} bytes, built in {built_s:.1f} s",
        f"{len(engine.plan.operations)} operations, {len(kernels)} kernels, {spilling} of which spill registers",
        *_ends_lines(engine.plan, suppression),
        f"next, on the GPU: {shlex.join(['yoloproof', 'verify', str(output)])}",
    )
    identity = {"path": str(output), "format": "native", "sha256": sha256_of(output), "bytes": size, "built_s": built_s,
                "capabilities": capabilities, "built": dict(engine.built), "metadata": dict(engine.properties)}  # fmt: skip
    return Exported(output, identity, lines)


def _ends_lines(plan: Plan, suppression: NmsOptions | None) -> tuple[str, ...]:
    if plan.frames is None or suppression is None:
        return ()
    most = plan.buffers[plan.frames.frame].bytes
    return (
        f"takes one RGB frame, uint8 [H, W, 3], of up to {most} bytes; gives boxes in its pixels, scores, classes",
        f"suppression: score > {suppression.score:g}, IoU {suppression.iou:g}, at most {suppression.max_detections}",
    )


def _engine(onnx: Path, output: Path, case: Case, wanted: Export, progress: Progress) -> Exported:
    checked = _float16_lines(onnx, case, wanted, progress)
    progress("building", None)
    try:
        engine = engine_from_onnx(
            onnx, output, engine_options(case, wanted), lambda share, phase: progress(phase, share)
        )
    except YoloproofError as error:  # the ONNX file in between is gone when the message is read
        raise YoloproofError(str(error).replace(str(onnx), case.model)) from None
    identity = {"path": str(output), "format": "engine", **asdict(engine.identity)}
    return Exported(output, identity, (*engine_lines(engine), *checked))


def _float16_lines(onnx: Path, case: Case, wanted: Export, progress: Progress) -> tuple[str, ...]:
    """The ranges in float16 of the file an engine is built from: the GPU it is for may not be here to show an overflow."""
    from yoloproof.proof.float16 import float16_check

    progress("float16 ranges", None)
    check = float16_check(load_onnx(onnx), None, _pictures(case, wanted))
    if check is not None and check.passed is False:
        raise YoloproofError(f"{case.model}: {check.detail}; export it with --precision fp32")
    return () if check is None else (check.detail,)


def _pictures(case: Case, wanted: Export) -> NDArray[np.float32]:
    """The images of the proof, letterboxed: [n, 3, H, W], 0…1."""
    from yoloproof.demo import demo_images
    from yoloproof.detection.letterbox import letterboxed

    return letterboxed(wanted.images or demo_images(), case.imgsz)


def engine_lines(engine: Engine) -> list[str]:
    """What was built and the evidence that its attention is whole."""
    identity = engine.identity
    return [
        f"{engine.path}: {identity.runtime} {identity.version} for {identity.target}"
        f" (compute capability {', '.join(identity.compute_capabilities)}), {identity.engine_bytes} bytes,"
        f" built in {identity.build_s:.1f} s",
        *engine.audit.lines(),
    ]


def _repository(artifact: Path, output: Path, case: Case, wanted: Export, progress: Progress) -> Exported:
    """A Triton Server repository of an artifact that is verified before it is put there."""
    from yoloproof.artifact.triton import triton_repository
    from yoloproof.proof.verify import verify
    from yoloproof.runtime import SessionSpec, open_session

    progress("verifying", None)
    images = _pictures(case, wanted)
    reference = published_network(replace(case, attention=Attention.FUSED))
    device = "cpu" if case.precision is Precision.FP32 and artifact.suffix == ".onnx" else "gpu"
    runtime, where = (Runtime.TENSORRT, "cuda") if artifact.suffix == ".engine" else (Runtime.ONNXRUNTIME, "cpu")
    with open_session(SessionSpec(runtime, artifact, where)) as session:
        verdict = verify(artifact, reference, images, session=session)
    folder = triton_repository(artifact, output, verdict, name=Path(case.model).stem, device=device)
    checks = [asdict(check) for check in verdict.checks]
    identity = {"path": str(folder), "format": "triton", "proof": {"passed": verdict.passed, "checks": checks}}
    return Exported(folder, identity, (f"{folder}: model repository entry, verified before it was written",))
