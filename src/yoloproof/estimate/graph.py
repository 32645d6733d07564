"""Any ONNX detector as kernels: shape inference, then TensorRT's fusions as far as a latency estimate needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from onnx import NodeProto

from yoloproof.artifact.attention_pattern import GraphAttention, attentions
from yoloproof.artifact.graph import Graph
from yoloproof.errors import YoloproofError
from yoloproof.estimate.kernels import (
    HALF,
    Kernel,
    attention_kernels,
    convolution_kernels,
    memory_kernel,
    product_kernel,
)
from yoloproof.estimate.onnx_shapes import Shape, model_with_shapes
from yoloproof.estimate.shapes import ATTENTIONS

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
LAYOUT = frozenset(("Transpose", "Reshape", "Split", "Slice", "Squeeze", "Unsqueeze", "Identity", "Cast"))
SCALES = frozenset(("Mul", "Div"))
PRODUCTS = frozenset(("Conv", "ConvTranspose", "MatMul", "Gemm", "Attention"))


class ShapedGraph(Graph):
    """An ONNX graph with the shape of every tensor, at one batch and size.

    input_shape -- of the first input, () where the graph does not say
    """

    def __init__(self, path: Path, batch: int, imgsz: int) -> None:
        """Read and infer; a dynamic image input becomes [batch, 3, imgsz, imgsz].

        Raises YoloproofError for a file that is no ONNX model or whose shapes cannot be inferred.
        """
        model, self.shapes = model_with_shapes(path, batch, imgsz)
        super().__init__(model)
        self.path = path
        first = next((value.name for value in model.graph.input if value.name in self.inputs), "")
        self.input_shape: Shape = self.shapes.get(first, ())

    def shape(self, tensor: str) -> Shape:
        """Shape of a tensor; raises YoloproofError if inference did not find it."""
        if tensor not in self.shapes:
            raise YoloproofError(
                f"{self.path}: the shape of tensor '{tensor}' is not known: simplify the graph or export fixed sizes"
            )
        return self.shapes[tensor]


def block_from_node(node: NodeProto) -> str:
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

    Self-attention is taken as the graph spells it: "fused", "explicit" or "published", as `attention_kernels` has them.
    Any other attention is counted operator by operator. Raises YoloproofError as `ShapedGraph` does.
    """
    graph = ShapedGraph(path, batch, imgsz)
    attention_at, absorbed = _attentions(graph)
    groups = _pointwise_groups(graph, absorbed)
    leader = {id(group[-1]): group for group in groups}
    member = {id(node) for group in groups for node in group}
    residuals: dict[str, float] = {}  # kernel → bytes that a convolution reads in its epilogue
    kernels: list[Kernel] = []
    unmodelled: set[str] = set()
    for node in graph.nodes:
        if id(node) in attention_at:
            kernels += attention_at[id(node)]
        elif id(node) in absorbed or all(name in graph.fixed for name in node.output):
            continue
        elif id(node) in leader:
            kernels += _pointwise(graph, leader[id(node)], residuals)
        elif id(node) in member or node.op_type in VIEWS or _joined_in_place(graph, node) or _folds(graph, node):
            continue
        else:
            if node.op_type not in MEMORY | SELECTION | PRODUCTS | {"Concat", "Transpose"}:
                unmodelled.add(node.op_type)
            kernels.append(_kernel(graph, node))
    if not kernels:
        raise YoloproofError(f"{path}: no operator that costs time; is this a detector?")
    whole = [replace(k, bytes_activations=k.bytes_activations + residuals.get(k.name, 0.0)) for k in kernels]
    return GraphKernels(whole, tuple(sorted(unmodelled)), graph.input_shape)


def _elements(graph: ShapedGraph, names: Iterable[str]) -> int:
    return sum(prod(graph.shape(name)) for name in names)


def _joined_in_place(graph: ShapedGraph, node: NodeProto) -> bool:
    """A concatenation inside one block, whose producers write side by side; between blocks it may have to copy."""
    if node.op_type != "Concat":
        return False
    before = [graph.producer[name] for name in graph.live(node) if name in graph.producer]
    return all(block_from_node(other) == block_from_node(node) for other in before)


def _folds(graph: ShapedGraph, node: NodeProto) -> bool:
    """A batch norm behind a convolution becomes part of its weights."""
    before = graph.producer.get(node.input[0]) if node.op_type == "BatchNormalization" else None
    return before is not None and before.op_type == "Conv" and graph.only_reader(node.input[0]) is node


def _attentions(graph: ShapedGraph) -> tuple[dict[int, list[Kernel]], set[int]]:
    """The kernels of each self-attention by id of its last node, and the ids of all nodes that they stand for: the
    transpositions and reshapes (and q's scaling) that bring q, k, v in and the result out included."""
    order = {id(node): index for index, node in enumerate(graph.nodes)}
    kernels: dict[int, list[Kernel]] = {}
    absorbed: set[int] = set()
    for found in attentions(graph):
        sizes = _attention_sizes(graph, found)
        if sizes is None or found.spelling not in ATTENTIONS:
            continue
        around = {id(node): node for node in (*found.nodes, *_layout(graph, found))}
        first, *_, last = sorted(around, key=order.__getitem__)
        name, block = around[first].name or around[first].output[0], block_from_node(around[first])
        kernels[last] = attention_kernels(name, block, *sizes, found.spelling)
        absorbed |= around.keys()
    return kernels, absorbed


def _attention_sizes(graph: ShapedGraph, found: GraphAttention) -> tuple[int, int, int, int] | None:
    """Independent runs, tokens, dimension of q and k, dimension of v; None for attention to other tokens."""
    if found.spelling == "fused":
        q, v = graph.shape(found.q), graph.shape(found.v)
        if len(q) == 4:
            return q[0] * q[1], q[2], q[3], v[3]
        heads = next((a.i for a in found.weights.attribute if a.name in ("q_num_heads", "num_heads")), 1)
        return q[0] * heads, q[1], q[2] // heads, v[2] // heads
    scores, out, q = graph.shape(found.core[0].output[0]), graph.shape(found.output), graph.shape(found.q)
    if len(scores) < 3 or scores[-1] != scores[-2]:
        return None
    tokens, runs = scores[-1], prod(scores[:-2])
    return runs, tokens, q[-1] if q[-1] != tokens else q[-2], prod(out) // (runs * tokens)


def _layout(graph: ShapedGraph, found: GraphAttention) -> list[NodeProto]:
    """The nodes around an attention that only move or scale what enters or leaves it."""
    nodes: list[NodeProto] = []
    for name in (found.q, found.k, found.v):
        node = None if name in graph.fixed else graph.producer.get(name)
        while node is not None and node.op_type in LAYOUT | SCALES and len(graph.live(node)) == 1:
            nodes.append(node)
            node = graph.producer.get(graph.live(node)[0])
    node = graph.only_reader(found.output)
    while node is not None and node.op_type in LAYOUT:
        nodes.append(node)
        node = graph.only_reader(node.output[0])
    return nodes


def _pointwise_groups(graph: ShapedGraph, absorbed: set[int]) -> list[list[NodeProto]]:
    """Chains of pointwise nodes that become one kernel: each but the last is read by the next one alone."""
    group_of: dict[int, list[NodeProto]] = {}
    groups: list[list[NodeProto]] = []
    for node in graph.nodes:  # in topological order
        if node.op_type not in POINTWISE or id(node) in absorbed or not graph.live(node):
            continue
        group = [node]
        for name in graph.live(node):
            before = graph.producer.get(name)
            if before is not None and id(before) in group_of and graph.only_reader(name) is not None:
                joined = group_of[id(before)]
                if joined is not group:
                    groups = [other for other in groups if other is not joined]
                    group = joined + group
        for part in group:
            group_of[id(part)] = group
        groups.append(group)
    return groups


def _pointwise(graph: ShapedGraph, group: Sequence[NodeProto], residuals: dict[str, float]) -> list[Kernel]:
    """The kernel of one group; a residual and a ReLU join the convolution before them: the residual costs its bytes."""
    inside = {name for node in group for name in node.output}
    outside = list(dict.fromkeys(name for node in group for name in graph.live(node) if name not in inside))
    last = group[-1]
    name, block = last.name or last.output[0], block_from_node(last)
    own = (name for name in outside if all(reader in group for reader in graph.readers[name]))
    before = ((name, _convolution_before(graph, name)) for name in own)
    joined, convolution = next(((name, node) for name, node in before if node is not None), ("", None))
    if convolution is not None and all(node.op_type in EPILOGUE for node in group):
        key = convolution.name or convolution.output[0]
        read = HALF * _elements(graph, (name for name in outside if name != joined))
        residuals[key] = residuals.get(key, 0.0) + read
        return []
    moved = _elements(graph, outside) + prod(graph.shape(last.output[0]))
    return [memory_kernel(name, block, moved, "activation" if convolution is not None else "memory")]


def _convolution_before(graph: ShapedGraph, tensor: str) -> NodeProto | None:
    """The convolution that writes `tensor`, a batch norm folded into it included."""
    node = graph.producer.get(tensor)
    if node is not None and _folds(graph, node):
        node = graph.producer[node.input[0]]
    return node if node is not None and node.op_type == "Conv" else None


def _kernel(graph: ShapedGraph, node: NodeProto) -> Kernel:
    """The kernel of one node that is neither a view nor pointwise nor part of an attention."""
    name, block, op = node.name or node.output[0], block_from_node(node), node.op_type
    out = graph.shape(node.output[0])
    if op in ("Conv", "ConvTranspose"):
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        x, weight = graph.shape(node.input[0]), graph.shape(node.input[1])
        pixels_in, pixels_out = x[0] * prod(x[2:]), out[0] * prod(out[2:])
        if op == "ConvTranspose":  # as many products as the input has pixels
            return product_kernel(name, block, pixels_in, x[1], weight[1] * prod(weight[2:]), weights=True)
        side = round(prod(weight[2:]) ** 0.5)
        return convolution_kernels(name, block, side, groups, x[1], out[1], pixels_in, pixels_out, False)[0]
    if op in ("MatMul", "Gemm"):
        first, weights = graph.shape(node.input[0]), node.input[1] in graph.fixed
        transposed = op == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
        depth = first[0] if transposed else first[-1]
        if weights or len(out) < 3:
            return product_kernel(name, block, prod(out[:-1]), depth, out[-1], weights=weights)
        return product_kernel(name, block, out[-2], depth, out[-1], prod(out[:-2]))
    moved = _elements(graph, graph.live(node)) + _elements(graph, (o for o in node.output if o in graph.shapes))
    kind = {"Concat": "concat", "Transpose": "reformat"}.get(op, "selection" if op in SELECTION else "memory")
    return memory_kernel(name, block, moved, kind)
