"""`export` on one screen: weights → network → ONNX → (suppression) → (engine) → (Triton repository)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yoloproof.artifact.onnx import export_onnx
from yoloproof.errors import YoloproofError
from yoloproof.files.onnx import load_onnx
from yoloproof.network import Network, load_network
from yoloproof.simplify.choice import PUBLISHED_REWRITES, RUNTIME_REWRITES
from yoloproof.simplify.rewrites import DEFAULT_REWRITES, simplify

if TYPE_CHECKING:
    from yoloproof.artifact.tensorrt import EngineOptions


@dataclass(frozen=True)
class Order:
    """What to make; the fields are the command's options. imgsz: (height, width)."""

    model: str
    format: str = "onnx"
    output: Path | None = None
    precision: str = "fp32"
    attention: str = "fused"
    imgsz: tuple[int, int] = (640, 640)
    batch: int = 1
    dynamic: bool = False
    input_type: str = "float32"
    simplified: bool = True
    opset: int = 23
    runtime: str = ""
    target: tuple[str, ...] = ()
    nms: bool = False
    random_weights: bool = False
    version_compatible: bool = False
    hardware_compatible: str | None = None
    timing_cache: Path | None = None


@dataclass(frozen=True)
class Made:
    """Where the artifact lies, its identity for machines, and the lines that say it to a person."""

    path: Path
    identity: dict[str, Any]
    lines: tuple[str, ...]


def artifact_from_order(
    order: Order, say: Callable[[str], None] | None = None, bar: Callable[[str, float], None] | None = None
) -> Made:
    """Make what `order` asks for, telling `say` each step's name and `bar` the share of a long one.

    Raises YoloproofError for arguments that do not go together and files that exist.
    """
    say = say or (lambda step: None)
    _check(order)
    output = order.output or Path(
        f"{Path(order.model).stem}{'.onnx' if order.format == 'onnx' else '.engine' if order.format == 'engine' else ''}"
    )
    if order.format != "triton" and output.exists():
        raise YoloproofError(f"{output} exists; nothing was overwritten. Name another file with -o or remove it")
    say(f"loading {order.model}")
    network = load_network(order.model, order.attention, random_weights=order.random_weights)
    with tempfile.TemporaryDirectory(prefix="yoloproof-") as folder:
        stem = f"{network.variant.name}-{order.attention}-{order.precision}"
        onnx = output if order.format == "onnx" else Path(folder) / f"{stem}.onnx"
        say("exporting")
        made = _onnx(network, order, onnx)
        if order.format == "engine":
            return _engine(onnx, output, order, bar)
        if order.format == "triton":
            served = onnx
            if order.runtime == "tensorrt":
                say("building")
                served = onnx.with_suffix(".engine")
                _engine(onnx, served, order, bar)
            return _repository(served, order, load_network(order.model, random_weights=order.random_weights), say)
        return made


def rewrites_of(order: Order) -> tuple[str, ...]:
    """The simplifications an order implies; `published` and `stripped` are left as the official code exports them."""
    if order.attention in ("published", "stripped"):
        return PUBLISHED_REWRITES
    if not order.simplified:
        return ()
    chosen = RUNTIME_REWRITES.get(order.runtime, DEFAULT_REWRITES)
    return (*chosen, "pixels") if order.input_type == "uint8" else chosen


def _onnx(network: Network, order: Order, path: Path) -> Made:
    raw = path.with_suffix(".raw.onnx") if order.nms else path
    artifact = export_onnx(
        simplify(network, rewrites_of(order)), raw, imgsz=order.imgsz, batch=order.batch, precision=order.precision,
        input_type=order.input_type, dynamic=order.dynamic, opset=order.opset,
    )  # fmt: skip
    if order.nms:
        from yoloproof.artifact.nms import add_nms

        try:
            add_nms(raw, path)
        finally:
            raw.unlink()
    graph = load_onnx(path).graph
    attentions = sum(node.op_type == "Attention" for node in graph.node)
    lines = (
        f"{path}: {network.variant.name}, {order.precision}, attention {order.attention}, {len(graph.node)} nodes,"
        f" {path.stat().st_size} bytes",
        *((f"{attentions} Attention operators, one per block",) if attentions else ()),
        f"next: yoloproof verify {path} --against {order.model}{' --random-weights' if order.random_weights else ''}",
    )
    identity = {"path": str(path), "format": "onnx", "sha256": artifact.sha256, "bytes": path.stat().st_size,
                "nodes": len(graph.node), "metadata": artifact.metadata}  # fmt: skip
    return Made(path, identity, lines)


def _engine_options(order: Order) -> EngineOptions:
    from yoloproof.artifact.tensorrt import EngineOptions, shapes_up_to

    # a dynamic engine without a --batch of its own is built for up to 8 images
    shapes = shapes_up_to(order.imgsz, order.batch if order.batch > 1 else 8) if order.dynamic else {}
    return EngineOptions(
        order.runtime or "tensorrt-rtx", ",".join(order.target) or "current", order.attention == "fused", shapes,
        version_compatible=order.version_compatible, hardware_compatible=order.hardware_compatible,
        timing_cache=order.timing_cache,
    )  # fmt: skip


def _engine(onnx: Path, output: Path, order: Order, bar: Callable[[str, float], None] | None) -> Made:
    from yoloproof.artifact.engine import engine_from_onnx

    try:
        engine = engine_from_onnx(
            onnx, output, _engine_options(order), None if bar is None else lambda share, phase: bar(phase, share)
        )
    except YoloproofError as error:  # the ONNX file in between is gone when the message is read
        raise YoloproofError(str(error).replace(str(onnx), order.model)) from None
    identity = {"path": str(output), "format": "engine", **asdict(engine.identity)}
    return Made(output, identity, tuple(engine_lines(engine)))


def engine_lines(engine: Any) -> list[str]:
    """What was built and the evidence that its attention is whole."""
    identity = engine.identity
    return [
        f"{engine.path}: {identity.runtime} {identity.version} for {identity.target}"
        f" (compute capability {', '.join(identity.compute_capabilities)}), {identity.engine_bytes} bytes,"
        f" built in {identity.build_s:.1f} s",
        *engine.audit.lines(),
    ]


def _repository(artifact: Path, order: Order, network: Network, say: Callable[[str], None]) -> Made:
    from yoloproof.artifact.triton import Serving, triton_repository
    from yoloproof.demo import demo_images
    from yoloproof.detection.letterbox import letterboxed
    from yoloproof.proof import verify
    from yoloproof.results.schema import json_from_verdict
    from yoloproof.runtime import SessionSpec, open_session

    say("proving")
    images = letterboxed(demo_images(), order.imgsz)
    device = "cpu" if order.precision == "fp32" and artifact.suffix == ".onnx" else "gpu"
    if artifact.suffix == ".engine":
        with open_session(SessionSpec("tensorrt", artifact, "cuda")) as session:
            verdict = verify(artifact, network, images, session=session)
    else:
        verdict = verify(artifact, network, images)
    folder = triton_repository(
        artifact,
        order.output or Path("triton"),
        json_from_verdict(verdict),
        name=Path(order.model).stem,
        serving=Serving(device),
    )
    identity = {"path": str(folder), "format": "triton", "proof": json_from_verdict(verdict)}
    return Made(folder, identity, (f"{folder}: model repository entry, proved before it was put there",))


def _check(order: Order) -> None:
    if order.nms and order.dynamic:
        raise YoloproofError("--nms needs a fixed batch and size; leave --dynamic out")
    builds = order.format == "engine" or (order.format == "triton" and order.runtime == "tensorrt")
    if order.format == "engine" and order.runtime not in ("", "tensorrt", "tensorrt-rtx"):
        raise YoloproofError(f"--runtime {order.runtime} builds no engines; there are tensorrt and tensorrt-rtx")
    if order.format == "triton" and order.runtime == "tensorrt-rtx":
        raise YoloproofError("Triton serves no tensorrt-rtx engines; leave --runtime out (ONNX), or name tensorrt")
    if order.format == "onnx" and order.runtime.startswith("tensorrt"):
        raise YoloproofError(f"--runtime {order.runtime} is for --format engine; leave it out for an ONNX file")
    if order.runtime not in ("", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"):
        raise YoloproofError(
            f"--runtime {order.runtime}: there are onnxruntime, openvino, tensorrt, tensorrt-rtx to export for"
        )
    if not builds and (order.target or order.version_compatible or order.hardware_compatible or order.timing_cache):
        raise YoloproofError("--target, the compatibilities and --timing-cache are for --format engine")
    if order.attention not in ("fused", "explicit", "published", "stripped"):
        raise YoloproofError(f"--attention {order.attention}: there are fused, explicit, published, stripped")
    if builds:
        from yoloproof.artifact.engine import buildable

        buildable(_engine_options(order))
