"""What an ONNX file says of itself before a runtime opens it; a broken file gets its one clear line here."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError

# An opset-23 file is a few kilobytes at least; a Git-LFS pointer starts with this line.
_LFS_HEAD = b"version https://git-lfs"


@dataclass(frozen=True)
class OnnxFile:
    """opset -- of the default domain; precision -- the floating-point type that holds most of the weights
    input_shape -- of the first input that is no weight, -1 where dynamic; empty where the file does not say"""

    opset: int
    ir_version: int
    precision: str
    producer: str
    metadata: Mapping[str, str]
    input_shape: tuple[int, ...] = ()


def read_onnx_file(path: Path) -> OnnxFile:
    """Read an ONNX file's header and weights' types; YoloproofError for anything that is not a whole ONNX file."""
    import onnx

    model = load_onnx(path, external_data=False)
    sizes: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        size = 1
        for dimension in tensor.dims:
            size *= dimension
        sizes[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += size
    names = {"float": "float32", "float16": "float16", "bfloat16": "bfloat16", "double": "float64"}
    floating = {names[kind]: size for kind, size in sizes.items() if kind in names}
    return OnnxFile(
        opset=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        ir_version=model.ir_version,
        precision=max(floating, key=lambda kind: floating[kind]) if floating else "float32",
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        input_shape=_input_shape(model),
    )


def _input_shape(model: Any) -> tuple[int, ...]:
    weights = {tensor.name for tensor in model.graph.initializer}
    image = next(value for value in model.graph.input if value.name not in weights)
    return tuple(
        side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else -1
        for side in image.type.tensor_type.shape.dim
    )


def load_onnx(path: Path, external_data: bool = True) -> Any:
    """The file as an onnx.ModelProto; raises YoloproofError where it is missing, empty, truncated or no ONNX model."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not path.is_file():
        raise YoloproofError(
            f"{path}: no such file; export one with `yoloproof export MODEL -o {shlex.quote(path.name)}`"
        )
    with path.open("rb") as file:
        head = file.read(len(_LFS_HEAD))
    if not head:
        raise YoloproofError(f"{path} is empty; export it again")
    if head == _LFS_HEAD:
        raise YoloproofError(f"{path} is a Git-LFS pointer, not the model; fetch it with `git lfs pull`")
    try:
        model = onnx.load(str(path), load_external_data=external_data)
    except DecodeError:
        raise YoloproofError(f"{path} is not an ONNX model, or a truncated one; export it again") from None
    except (FileNotFoundError, onnx.checker.ValidationError) as error:
        raise YoloproofError(f"{path}: its external weights cannot be read ({error}); keep them beside it") from None
    if not model.graph.node or not model.graph.input:
        raise YoloproofError(f"{path} holds no ONNX graph with nodes and inputs; export it again")
    return model
