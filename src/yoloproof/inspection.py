"""`inspect`: what a model file is, as far as the file alone shows it. Nothing is run and nothing is proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloproof.artifact.attention_report import AttentionBlock, attention_blocks
from yoloproof.artifact.graph import Graph
from yoloproof.artifact.stated import class_names, metadata_from, stated_names
from yoloproof.detection.guests import MEANING, layout_of
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import read_identity
from yoloproof.files.native import SUFFIX, read_native
from yoloproof.files.onnx import load_onnx, read_onnx_file
from yoloproof.names import Precision
from yoloproof.proof.plan import attentions_of
from yoloproof.runtime import TensorSpec
from yoloproof.runtime.native_frames import frame_tensors


@dataclass(frozen=True)
class Inspection:
    """What a file says and shows.

    reading -- how detections are read from the outputs; None where nobody knows
    suppression -- thresholds of a suppression inside, by name; attention -- block by block
    states -- further statements of the file, by name: as stated, nothing of it checked
    """

    path: Path
    kind: str
    bytes: int
    sha256: str
    made_by: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reading: str | None
    suppression: Mapping[str, object]
    attention: tuple[AttentionBlock, ...]
    names: Mapping[int, str]
    states: Mapping[str, str]


def inspect(path: Path) -> Inspection:
    """What the ONNX file, engine, native engine or checkpoint at `path` is. Raises YoloproofError for anything else."""
    readers = {".onnx": _onnx, ".engine": _engine, SUFFIX: _native}
    return readers.get(path.suffix, _weights)(path)


def _onnx(path: Path) -> Inspection:
    file, model = read_onnx_file(path), load_onnx(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [_spec(value) for value in model.graph.input if value.name not in weights]
    outputs = [_spec(value) for value in model.graph.output]
    kind = f"ONNX, opset {file.opset}, {len(model.graph.node)} nodes"
    blocks = attention_blocks(Graph(model))
    return _described(path, kind, file.producer, file.precision, inputs, outputs, blocks, file.metadata)


def _spec(value: Any) -> TensorSpec:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(side.dim_value if side.HasField("dim_value") else side.dim_param or "?" for side in kind.shape.dim)
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError:  # no tensor, or of a type that this onnx does not know
        dtype = "unknown"
    return TensorSpec(value.name, shape, dtype)


def _engine(path: Path) -> Inspection:
    identity = read_identity(path)
    inputs, outputs = ([TensorSpec(*tensor) for tensor in side] for side in (identity.inputs, identity.outputs))
    fused = identity.audit.get("fused")
    listed = [str(name) for name in fused] if isinstance(fused, list | tuple | dict) else []
    blocks = [AttentionBlock(name, "fused kernel") for name in listed]
    kind = f"{identity.runtime} engine for {identity.target}"
    made_by = f"{identity.runtime} {identity.version}"
    return _described(path, kind, made_by, identity.precision, inputs, outputs, blocks, identity.onnx_metadata)


def _native(path: Path) -> Inspection:
    engine = read_native(path)
    capabilities = ", ".join(f"{major}.{minor}" for major, minor in sorted(engine.code))
    inputs = [TensorSpec("images", engine.plan.images, "float32")]
    outputs = [TensorSpec("output0", ("B", *engine.evidence.outputs.shape[1:]), "float32")]
    if engine.plan.frames is not None:
        inputs, outputs = frame_tensors(engine.plan.frames.most)
    blocks = [AttentionBlock(operation.name, "fused kernel") for operation in attentions_of(engine.plan)]
    made_by = ", ".join(f"{name} {version}" for name, version in engine.built.items())
    kind = f"native engine for compute capability {capabilities}"
    return _described(path, kind, made_by, "float16", inputs, outputs, blocks, engine.properties)


def _weights(path: Path) -> Inspection:
    from yoloproof.network import attention_paths, network_from_checkpoint, read_checkpoint

    checkpoint = read_checkpoint(path)
    network = network_from_checkpoint(checkpoint)
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.tensors.values() if tensor.ndim == 4}
    parameters = sum(p.numel() for p in network.parameters())
    return Inspection(
        path, f"weights of {network.variant.name}, {parameters} parameters", path.stat().st_size, checkpoint.sha256, "",
        ", ".join(sorted(kinds)), (), (), None, {},
        tuple(AttentionBlock(name, "in the network") for name in attention_paths(network.named_modules())),
        network.names, {},
    )  # fmt: skip


def _described(
    path: Path, kind: str, made_by: str, precision: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec],
    attention: Sequence[AttentionBlock], metadata: Mapping[str, str],
) -> Inspection:  # fmt: skip
    names = stated_names(metadata)
    layout = layout_of(outputs, metadata, len(names) or None) if outputs else None
    ours = {key.removeprefix("yoloproof."): value for key, value in metadata.items() if key.startswith("yoloproof.")}
    stated = metadata_from(metadata, path).get("nms")
    suppression = stated if isinstance(stated, dict) else {}
    ours.pop("nms", None)
    ours.pop("names", None)
    theirs = {key: value for key, value in metadata.items() if not key.startswith("yoloproof.") and key != "names"}
    author = " ".join(theirs[key] for key in ("author", "version") if key in theirs)
    held = Precision.of_dtype(precision)
    return Inspection(
        path, kind, path.stat().st_size, sha256_of(path), ", ".join(part for part in (author, made_by) if part),
        str(held or precision), tuple(inputs), tuple(outputs), None if layout is None else MEANING[layout], suppression,
        tuple(attention), class_names(names, layout, outputs) if outputs else names, ours or theirs,
    )  # fmt: skip
