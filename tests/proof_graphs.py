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


def end_to_end(model: onnx.ModelProto, rows: int = 300) -> onnx.ModelProto:
    """A detector with raw output [1, 4 + nc, A] as one that answers with its best anchors, [1, rows, 6], as YOLO26 does."""
    found = copied(model)
    raw, make = found.graph.output[0].name, onnx.helper.make_node
    put(found, "e/four", np.array([4, int(1e6)], np.int64))
    put(found, "e/split", np.array([4, _rows(model) - 4], np.int64))
    put(found, "e/n", np.array([rows], np.int64))
    put(found, "e/half", np.array(0.5, np.float32))
    put(found, "e/one", np.array([1], np.int64))
    found.graph.node.extend([
        make("Cast", [raw], ["e/raw"], "e/Cast", to=onnx.TensorProto.FLOAT),
        make("Split", ["e/raw", "e/split"], ["e/boxes", "e/scores"], "e/Split", axis=1),
        make("ReduceMax", ["e/scores", "e/one"], ["e/best"], "e/ReduceMax", keepdims=0),
        make("ArgMax", ["e/scores"], ["e/class"], "e/ArgMax", axis=1, keepdims=0),
        make("TopK", ["e/best", "e/n"], ["e/score", "e/at"], "e/TopK", axis=1),
        make("Transpose", ["e/boxes"], ["e/turned"], "e/Transpose", perm=[0, 2, 1]),
        make("Squeeze", ["e/at"], ["e/index"], "e/Squeeze"),
        make("Gather", ["e/turned", "e/index"], ["e/chosen"], "e/Gather", axis=1),
        make("Gather", ["e/class", "e/index"], ["e/label"], "e/Gather_1", axis=1),
        make("Split", ["e/chosen"], ["e/centre", "e/size"], "e/Split_1", axis=2, num_outputs=2),
        make("Mul", ["e/size", "e/half"], ["e/part"], "e/Mul"),
        make("Sub", ["e/centre", "e/part"], ["e/low"], "e/Sub"),
        make("Add", ["e/centre", "e/part"], ["e/high"], "e/Add"),
        make("Cast", ["e/label"], ["e/label32"], "e/Cast_1", to=onnx.TensorProto.FLOAT),
        make("Unsqueeze", ["e/score", "e/two"], ["e/score3"], "e/Unsqueeze"),
        make("Unsqueeze", ["e/label32", "e/two"], ["e/label3"], "e/Unsqueeze_1"),
        make("Concat", ["e/low", "e/high", "e/score3", "e/label3"], ["rows"], "e/Concat", axis=2),
    ])  # fmt: skip
    put(found, "e/two", np.array([2], np.int64))
    return _answering(found, onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, [1, rows, 6]))


def as_queries(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same as [1, A, 4 + nc] with boxes in shares of the image, as an RT-DETR answers."""
    found = copied(model)
    raw, anchors = found.graph.output[0].name, found.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    scale = np.ones((1, 1, _rows(model)), np.float32)
    scale[..., :4] /= SIZE[0]
    put(found, "e/scale", scale)
    found.graph.node.extend([
        onnx.helper.make_node("Cast", [raw], ["e/raw"], "e/Cast", to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Transpose", ["e/raw"], ["e/turned"], "e/Transpose", perm=[0, 2, 1]),
        onnx.helper.make_node("Mul", ["e/turned", "e/scale"], ["queries"], "e/Mul"),
    ])  # fmt: skip
    shape = [1, anchors, _rows(model)]
    return _answering(found, onnx.helper.make_tensor_value_info("queries", onnx.TensorProto.FLOAT, shape))


def _rows(model: onnx.ModelProto) -> int:
    return int(model.graph.output[0].type.tensor_type.shape.dim[1].dim_value)


def _answering(model: onnx.ModelProto, output: onnx.ValueInfoProto) -> onnx.ModelProto:
    """The model with that output alone, and what a foreign exporter would state: the names of its classes."""
    names = next(p.value for p in model.metadata_props if p.key == "names")
    del model.graph.output[:], model.metadata_props[:]
    model.graph.output.append(output)
    onnx.helper.set_model_props(model, {"names": names, "author": "somebody"})
    return model
