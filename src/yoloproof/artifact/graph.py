"""An ONNX graph as data flow: which node computes a tensor, which read it, what reaches what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx


class Graph:
    """Producers and readers of the tensors in a model's main graph, computed once.

    nodes -- in graph order, without Constant nodes
    inputs -- the model's own inputs, without the weights that old files list among them
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = [n for n in model.graph.node if n.op_type != "Constant"]
        self.outputs: list[str] = [value.name for value in model.graph.output]
        self.inputs = {i.name for i in model.graph.input} - {t.name for t in model.graph.initializer}
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in _inputs(node):
                self.readers[name].append(node)

    @property
    def output(self) -> str:
        """The first output, which is the detector's: what reaches only another one takes no part in its answer."""
        return self.outputs[0]

    @cached_property
    def constants(self) -> dict[str, NDArray[np.generic]]:
        """Name → array of every initializer and Constant node, weights of any type as they are."""
        from onnx import numpy_helper

        stored = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        return stored | {n.output[0]: _value(n) for n in self.model.graph.node if n.op_type == "Constant"}

    @cached_property
    def fixed(self) -> set[str]:
        """Every tensor that no image changes: weights, and what is computed from them or from shapes alone."""
        found = {t.name for t in self.model.graph.initializer}
        for node in self.model.graph.node:  # in topological order
            if node.op_type in ("Shape", "Size") or all(name in found for name in _inputs(node)):
                found.update(node.output)
        return found

    def live(self, node: onnx.NodeProto) -> list[str]:
        """A node's inputs that depend on the image."""
        return [name for name in node.input if name and name not in self.fixed]

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The node that alone reads `tensor`; None where several do, or where it is an output of the model."""
        readers = self.readers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def behind(self, names: Iterable[str]) -> set[str]:
        """Every tensor that reaches one of `names`, these included."""
        return _reached(names, lambda name: _inputs(self.producer[name]) if name in self.producer else ())

    def ahead(self, names: Iterable[str]) -> set[str]:
        """Every tensor that one of `names` reaches, these included."""
        return _reached(names, lambda name: (o for reader in self.readers.get(name, ()) for o in reader.output))

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


def _reached(names: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    seen, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name and name not in seen:
            seen.add(name)
            todo.extend(following(name))
    return seen


def every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """`nodes` and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from every_node(graph.node)


def _value(constant: onnx.NodeProto) -> NDArray[np.generic]:
    """What a Constant node holds, in whichever of its attributes."""
    import onnx
    from onnx import numpy_helper

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
