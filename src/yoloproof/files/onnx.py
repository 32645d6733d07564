"""What an ONNX file says of itself before a runtime opens it; a broken file gets its one clear line here."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError
from yoloproof.files.reading import check_regular

# An opset-23 file is a few kilobytes at least; a Git-LFS pointer starts with this line.
_LFS_HEAD = b"version https://git-lfs"
MOST_PROTOBUF_BYTES = (1 << 31) - 1  # what protobuf itself can hold
MOST_VALUES = 1 << 29  # of an image input: two gigabytes of float32
MOST_NODES = 200_000


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
    sizes: Counter[int] = Counter()
    read = {name for node in model.graph.node for name in node.input}
    for tensor in model.graph.initializer:
        size = int(tensor.name in read)  # what no node reads says nothing of the computation
        for dimension in tensor.dims:
            size *= dimension
        sizes[tensor.data_type] += size
    kinds = onnx.TensorProto
    names: dict[int, str] = {
        kinds.FLOAT: "float32",
        kinds.FLOAT16: "float16",
        kinds.BFLOAT16: "bfloat16",
        kinds.DOUBLE: "float64",
    }
    floating = {names[kind]: size for kind, size in sizes.items() if kind in names}
    return OnnxFile(
        opset=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        ir_version=model.ir_version,
        precision=max(floating, key=lambda kind: floating[kind]) if floating else "float32",
        producer=f"{_text(model.producer_name)} {_text(model.producer_version)}".strip(),
        metadata={_text(entry.key): _text(entry.value) for entry in model.metadata_props},
        input_shape=_input_shape(model),
    )


def _text(value: str | bytes) -> str:
    """protobuf hands over as bytes what is no UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def _input_shape(model: Any) -> tuple[int, ...]:
    weights = {tensor.name for tensor in model.graph.initializer}
    image = next((value for value in model.graph.input if value.name not in weights), None)
    if image is None:
        return ()
    return tuple(
        side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else -1
        for side in image.type.tensor_type.shape.dim
    )


def load_onnx(path: Path, external_data: bool = True) -> Any:
    """The file as an onnx.ModelProto; raises YoloproofError where it is missing, empty, truncated or no ONNX model."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not path.exists() or path.is_dir():
        raise YoloproofError(
            f"{path}: no such file; export one with `yoloproof export MODEL -o {shlex.quote(path.name)}`"
        )
    if str(path).encode(errors="replace").decode() != str(path):
        raise YoloproofError(f"{path}: its name is not UTF-8, which no runtime can open; rename the file")
    check_regular(path, MOST_PROTOBUF_BYTES)
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
    _check_image_input(model.graph, path)
    _check_functions(model, path)
    return model


def is_onnx_model(path: Path) -> bool:
    """Whether a file under any name is an ONNX model with nodes."""
    try:
        load_onnx(path, external_data=False)
    except YoloproofError:
        return False
    return True


def _check_image_input(graph: Any, path: Path) -> None:
    """Refuse an input without pixels, or of more than any detector's, before anything is made of its size."""
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        sides = [dim.dim_value for dim in dims if dim.HasField("dim_value") and dim.dim_value >= 0]
        if value.name not in weights and len(dims) == 4 and not 0 < prod(sides) <= MOST_VALUES:
            shape = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims]
            raise YoloproofError(
                f"{path}: input {value.name[:40]} takes images {shape}, which no detector has; export it for other sizes"
            )


def _check_functions(model: Any, path: Path) -> None:
    """Refuse local functions that call each other so that the whole has more nodes than any network: runtimes write each
    call out before they say a word."""
    bodies = {(one.domain, one.name): one.node for one in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def nodes_of(nodes: Iterable[Any]) -> int:
        count = 0
        for node in nodes:
            count += 1 + sum(nodes_of(part.g.node) for part in node.attribute if part.HasField("g"))
            key = node.domain, node.op_type
            if key in bodies:
                if key not in sizes:
                    sizes[key] = MOST_NODES  # of one that calls itself
                    sizes[key] = nodes_of(bodies[key])
                count += sizes[key]
        return min(count, MOST_NODES)

    try:
        many = nodes_of(model.graph.node) >= MOST_NODES
    except RecursionError:
        many = True
    if many:
        raise YoloproofError(
            f"{path}: {MOST_NODES:,} nodes or more with its functions written out; that is no detector"
        )
