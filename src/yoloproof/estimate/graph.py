"""Any ONNX detector as kernels: shape inference, then TensorRT's fusions as far as a latency estimate needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError
from yoloproof.estimate.attention_pattern import AttentionMatch, matches
from yoloproof.estimate.kernels import (
    HALF,
    Kernel,
    attention_kernels,
    convolution_kernels,
    memory_kernel,
    product_kernel,
)
from yoloproof.estimate.onnx_shapes import Shape, model_with_shapes

VIEWS = frozenset([
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Constant", "ConstantOfShape", "Shape", "Split",
    "Slice", "Expand", "Dropout", "Range", "Cast", "EyeLike", "Size"
])  # fmt: skip
"""No kernel: another view of the same bytes, or a number known when the engine is built."""
POINTWISE = frozenset([
    "Add", "Sub", "Mul", "Div", "Sigmoid", "Tanh", "Exp", "Relu", "LeakyRelu", "HardSwish", "HardSigmoid", "Gelu",
    "Erf", "Sqrt", "Pow", "Clip", "Max", "Min", "Neg", "Log", "Softplus", "Mish", "Where", "Reciprocal", "Abs",
    "Floor", "Ceil", "Round", "PRelu", "Swish", "Elu", "Selu", "Sin", "Cos", "Mod", "Not", "And", "Or", "Equal",
    "Greater", "Less", "GreaterOrEqual", "LessOrEqual"
])  # fmt: skip
MEMORY = frozenset([
    "Softmax", "LogSoftmax", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceProd", "ReduceL2",
    "MaxPool", "AveragePool", "Resize", "Upsample", "GlobalAveragePool", "GlobalMaxPool", "Gather",
    "GatherElements", "GatherND", "ScatterND", "ScatterElements", "ArgMax", "Pad", "Tile", "BatchNormalization",
    "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization", "DepthToSpace",
    "SpaceToDepth", "CumSum", "OneHot", "GridSample"
])  # fmt: skip
SELECTION = frozenset(("TopK", "NonMaxSuppression", "EfficientNMS_TRT", "BatchedNMS_TRT", "NonZero"))
EPILOGUE = frozenset(("Add", "Relu", "Clip"))
"""What TensorRT computes where the convolution writes its result; SiLU and the like are not among it before Ampere."""
SCOPE = re.compile(r"'([^']*)'")
PRODUCTS = frozenset(("Conv", "ConvTranspose", "MatMul", "Gemm", "Attention"))


@dataclass
class Graph:
    """An ONNX graph with what the fusions ask for: producers, consumers, shapes and what is constant."""

    path: str
    nodes: list[Any]
    shapes: dict[str, Shape]
    constants: set[str]
    producer: dict[str, Any] = field(default_factory=dict)
    consumers: dict[str, list[Any]] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)
    input_shape: Shape = ()

    def shape(self, tensor: str) -> Shape:
        """Shape of a tensor; raises YoloproofError if inference did not find it."""
        if tensor not in self.shapes:
            raise YoloproofError(
                f"{self.path}: the shape of tensor '{tensor}' is not known: simplify the graph or export fixed sizes"
            )
        return self.shapes[tensor]

    def live(self, node: Any) -> list[str]:
        """Inputs that are no constants."""
        return [name for name in node.input if name and name not in self.constants]

    def only_consumer(self, tensor: str) -> Any | None:
        """The node that alone reads `tensor`, if there is one."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None


def graph_from_onnx(path: Path, batch: int = 1, imgsz: int = 640) -> Graph:
    """Read and infer; a dynamic image input becomes [batch, 3, imgsz, imgsz].

    Raises YoloproofError for a file that is no ONNX model or whose shapes cannot be inferred.
    """
    model, shapes = model_with_shapes(Path(path), batch, imgsz)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    graph = Graph(
        str(path), list(model.graph.node), shapes, constants, outputs={value.name for value in model.graph.output},
        input_shape=shapes.get(inputs[0], ()) if inputs else (),
    )  # fmt: skip
    for node in graph.nodes:
        if all(not name or name in constants for name in node.input) or node.op_type in ("Shape", "Size"):
            constants.update(node.output)
        graph.producer.update(dict.fromkeys(node.output, node))
        for name in node.input:
            graph.consumers.setdefault(name, []).append(node)
    return graph


def block_from_node(node: Any) -> str:
    """ "model.6.attn/MatMul" or "/model.6/attn/MatMul" → "model.6"; without a path in its name, the module that
    PyTorch's exporter noted down; otherwise the operator."""
    first, _, rest = str(node.name).strip("/").partition("/")
    scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "")
    modules = [word for word in SCOPE.findall(scopes)[:-1] if word]  # the last one is the node itself
    if modules and not rest:
        first, rest = modules[-1], "node"
    if first.startswith("model.") or rest:
        return ".".join(first.split(".")[:2])
    return str(node.op_type)


@dataclass(frozen=True)
class GraphKernels:
    """The kernels, the operators that the model has no cost for (counted as plain memory kernels), and the shape of
    the first input, () where the graph does not say."""

    kernels: list[Kernel]
    unmodelled: tuple[str, ...]
    input_shape: Shape


def kernels_from_onnx(path: Path, batch: int = 1, imgsz: int = 640) -> GraphKernels:
    """The kernels of an ONNX model in float16, whatever precision the file has.

    Attention is taken as the graph has it: an `Attention` operator is one fused kernel, MatMul → Softmax → MatMul is
    "explicit", the spelled-out softmax "published". Raises YoloproofError as `graph_from_onnx` does.
    """
    graph = graph_from_onnx(path, batch, imgsz)
    found = matches(graph)
    absorbed = {id(node) for match in found for node in match.nodes}
    groups = _pointwise_groups(graph, absorbed)
    leader = {id(group[-1]): group for group in groups}
    member = {id(node) for group in groups for node in group}
    start = {id(match.nodes[-1]): match for match in found}
    extra: dict[str, float] = {}  # bytes of residuals that a convolution reads in its epilogue
    kernels: list[Kernel] = []
    unmodelled: set[str] = set()
    for node in graph.nodes:
        if id(node) in start:
            kernels += _attention(start[id(node)], block_from_node(start[id(node)].nodes[0]))
        elif id(node) in absorbed or all(name in graph.constants for name in node.output):
            continue
        elif id(node) in leader:
            kernels += _pointwise(graph, leader[id(node)], extra)
        elif id(node) in member or node.op_type in VIEWS or _joined_in_place(graph, node) or _folds(graph, node):
            continue
        else:
            if node.op_type not in MEMORY | SELECTION | PRODUCTS | {"Concat", "Transpose"}:
                unmodelled.add(node.op_type)
            kernels += _node(graph, node)
    with_residuals = [
        replace(kernel, bytes_activations=kernel.bytes_activations + extra.get(kernel.name, 0.0)) for kernel in kernels
    ]
    if not with_residuals:
        raise YoloproofError(f"{path}: no operator that costs time; is this a detector?")
    return GraphKernels(with_residuals, tuple(sorted(unmodelled)), graph.input_shape)


def _elements(graph: Graph, names: Iterable[str]) -> int:
    return sum(prod(graph.shape(name)) for name in names)


def _joined_in_place(graph: Graph, node: Any) -> bool:
    """A concatenation inside one block, whose producers write side by side; between blocks it may have to copy."""
    if node.op_type != "Concat":
        return False
    before = [graph.producer[name] for name in graph.live(node) if name in graph.producer]
    return all(block_from_node(other) == block_from_node(node) for other in before)


def _folds(graph: Graph, node: Any) -> bool:
    """A batch norm behind a convolution becomes part of its weights."""
    before = graph.producer.get(node.input[0]) if node.op_type == "BatchNormalization" else None
    return before is not None and before.op_type == "Conv" and graph.only_consumer(node.input[0]) is node


def _attention(match: AttentionMatch, block: str) -> list[Kernel]:
    name = match.nodes[0].name or match.nodes[0].output[0]
    return attention_kernels(name, block, match.runs, match.tokens, match.dim_qk, match.dim_v, match.attention)


def _pointwise_groups(graph: Graph, absorbed: set[int]) -> list[list[Any]]:
    """Chains of pointwise nodes that become one kernel: each but the last is read by the next one alone."""
    group_of: dict[int, list[Any]] = {}
    groups: list[list[Any]] = []
    for node in graph.nodes:  # in topological order
        if node.op_type not in POINTWISE or id(node) in absorbed or not graph.live(node):
            continue
        group = [node]
        for name in graph.live(node):
            before = graph.producer.get(name)
            if before is not None and id(before) in group_of and graph.only_consumer(name) is not None:
                joined = group_of[id(before)]
                if joined is not group:
                    groups = [other for other in groups if other is not joined]
                    group = joined + group
        for part in group:
            group_of[id(part)] = group
        groups.append(group)
    return groups


def _pointwise(graph: Graph, group: Sequence[Any], extra: dict[str, float]) -> list[Kernel]:
    """The kernel of one group; a residual and a ReLU join the convolution before them: the residual costs its bytes."""
    inside = {name for node in group for name in node.output}
    outside = list(dict.fromkeys(name for node in group for name in graph.live(node) if name not in inside))
    last = group[-1]
    name, block = last.name or last.output[0], block_from_node(last)
    own = (name for name in outside if all(reader in group for reader in graph.consumers[name]))
    before = ((name, _convolution_before(graph, name)) for name in own)
    joined, convolution = next(((name, node) for name, node in before if node is not None), ("", None))
    if convolution is not None and all(node.op_type in EPILOGUE for node in group):
        residuals = [name for name in outside if name != joined]
        key = convolution.name or convolution.output[0]
        extra[key] = extra.get(key, 0.0) + HALF * _elements(graph, residuals)
        return []
    moved = _elements(graph, outside) + prod(graph.shape(last.output[0]))
    return [memory_kernel(name, block, moved, "activation" if convolution is not None else "memory")]


def _convolution_before(graph: Graph, tensor: str) -> Any | None:
    """The convolution that writes `tensor`, a batch norm folded into it included."""
    node = graph.producer.get(tensor)
    if node is not None and _folds(graph, node):
        node = graph.producer[node.input[0]]
    return node if node is not None and node.op_type == "Conv" else None


def _node(graph: Graph, node: Any) -> list[Kernel]:
    """The kernel of one node that is neither a view nor pointwise nor part of an attention."""
    name, block, op = node.name or node.output[0], block_from_node(node), node.op_type
    out = graph.shape(node.output[0])
    if op in ("Conv", "ConvTranspose"):
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        x, weight = graph.shape(node.input[0]), graph.shape(node.input[1])
        pixels_in, pixels_out = x[0] * prod(x[2:]), out[0] * prod(out[2:])
        if op == "ConvTranspose":  # as many products as the input has pixels
            taps = weight[1] * prod(weight[2:])
            return [replace(product_kernel(name, block, pixels_in, x[1], taps, weights=True))]
        side = prod(weight[2:]) ** 0.5
        body = convolution_kernels(name, block, round(side), groups, x[1], out[1], pixels_in, pixels_out, False)[0]
        return [body]
    if op in ("MatMul", "Gemm"):
        first, weights = graph.shape(node.input[0]), node.input[1] in graph.constants
        transposed = op == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
        depth = first[0] if transposed else first[-1]
        if weights or len(out) < 3:
            rows = prod(out[:-1])
            return [product_kernel(name, block, rows, depth, out[-1], weights=weights)]
        return [product_kernel(name, block, out[-2], depth, out[-1], prod(out[:-2]))]
    moved = _elements(graph, graph.live(node)) + _elements(graph, (o for o in node.output if o in graph.shapes))
    kind = {"Concat": "concat", "Transpose": "reformat"}.get(op, "selection" if op in SELECTION else "memory")
    return [memory_kernel(name, block, moved, kind)]
