"""An ONNX graph as data flow: which node computes a tensor, which read it, what reaches what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


class Graph:
    """Producers, readers and constants of a model's main graph, computed once.

    output -- the first output, which is the detector's: what reaches only another one takes no part in its answer
    constants -- name → array of every initializer and Constant node (weights of any type as they are)
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = [n for n in model.graph.node if n.op_type != "Constant"]
        self.output = model.graph.output[0].name
        held = {t.name for t in model.graph.initializer}
        self.inputs = {i.name for i in model.graph.input} - held  # old files list weights among the inputs
        self.constants: dict[str, NDArray[np.generic]] = {
            t.name: numpy_helper.to_array(t) for t in model.graph.initializer
        }
        for node in model.graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = _value(node)
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in _inputs(node):
                self.readers[name].append(node)

    def behind(self, names: Iterable[str]) -> set[str]:
        """Every tensor that reaches one of `names`, these included."""
        seen, todo = set(), list(names)
        while todo:
            name = todo.pop()
            if name and name not in seen:
                seen.add(name)
                if name in self.producer:
                    todo.extend(_inputs(self.producer[name]))
        return seen

    def ahead(self, names: Iterable[str]) -> set[str]:
        """Every tensor that one of `names` reaches, these included."""
        seen, todo = set(), list(names)
        while todo:
            name = todo.pop()
            if name and name not in seen:
                seen.add(name)
                for reader in self.readers.get(name, ()):
                    todo.extend(reader.output)
        return seen

    def readers_through_casts(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that compute with tensor `name`, also where it is cast, transposed or reshaped first."""
        found = []
        for node in self.readers.get(name, ()):
            if node.op_type in ("Cast", "Identity", "Transpose", "Reshape", "DequantizeLinear"):
                found.extend(self.readers_through_casts(node.output[0]))
            else:
                found.append(node)
        return found

    def producer_through_casts(self, name: str) -> onnx.NodeProto | None:
        """The node that computes tensor `name`, before it was cast; None where nothing does."""
        node = self.producer.get(name)
        while node is not None and node.op_type in ("Cast", "Identity"):
            node = self.producer.get(node.input[0])
        return node


def every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """`nodes` and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from every_node(graph.node)


def _value(constant: onnx.NodeProto) -> NDArray[np.generic]:
    """What a Constant node holds, in whichever of its attributes."""
    value = onnx.helper.get_attribute_value(constant.attribute[0])
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, onnx.SparseTensorProto):
        return numpy_helper.to_array(value.values)
    return np.asarray(value)


def _inputs(node: onnx.NodeProto) -> list[str]:
    """A node's inputs, those of its subgraphs' nodes included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names.extend(_inputs(inner))
    return names
