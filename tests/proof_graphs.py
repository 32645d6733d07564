"""Surgery on ONNX models, for tests of the proof."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

BLOCK = "model.6.m.0.1.attn"
SIZE = (160, 160)
ANCHORS = sum((SIZE[0] // stride) * (SIZE[1] // stride) for stride in (8, 16, 32))
Op = tuple[str, tuple[str, ...], dict[str, object]]  # operator, its inputs after the first, attributes


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def array(model: onnx.ModelProto, name: str) -> NDArray[np.generic]:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def put(model: onnx.ModelProto, name: str, values: NDArray[np.generic]) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, order="C"), name))
            return
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def splice(model: onnx.ModelProto, tensor: str, *ops: Op) -> None:
    """Whoever reads `tensor` gets what `ops`, one after the other, make of it."""
    nodes = list(model.graph.node)
    at = next(i for i, n in enumerate(nodes) if tensor in n.output)
    raw = f"{tensor}/raw"
    nodes[at].output[list(nodes[at].output).index(tensor)] = raw
    for i, (kind, more, attributes) in enumerate(ops):
        name = tensor if i == len(ops) - 1 else f"{tensor}/{i}"
        nodes.insert(
            at + 1 + i, onnx.helper.make_node(kind, [raw, *more], [name], f"spliced/{kind}{i or ''}", **attributes)
        )
        raw = name
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def first(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Nodes that read the image, in front of all others."""
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *kept])


def scores(model: onnx.ModelProto) -> str:
    """The tensor of all class scores, [B, classes, A]."""
    concat = next(n for n in model.graph.node if model.graph.output[0].name in n.output)
    return str(concat.input[1])
