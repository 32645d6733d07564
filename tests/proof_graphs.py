"""Surgery on ONNX models, for tests of the proof."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

BLOCK = "model.6.m.0.1.attn"
SIZE = (320, 320)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def array(model: onnx.ModelProto, name: str) -> NDArray[np.generic]:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def put(model: onnx.ModelProto, name: str, values: NDArray[np.generic]) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
            return
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)
