"""Where the attentions of an ONNX graph stand, however they are spelled.

An attention is softmax(q·kᵀ)·v. In a graph it is one operator, or a product, a softmax and a second product, or the
same with the softmax itself spelled as exp(x) / Σ exp(x). The second product must sum over the axis that the softmax
normalised. That leaves out a softmax over the wrong axis, and so does a separate v: the hypergraph of YOLOv13 gathers
the very tokens that it compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from yoloproof.artifact.graph import Graph

if TYPE_CHECKING:
    import onnx

OPERATORS = {"Attention": ("", "ai.onnx"), "MultiHeadAttention": ("com.microsoft",)}
PRODUCTS = frozenset(("MatMul", "Einsum", "Gemm", "FusedMatMul"))
SAME_BYTES = frozenset(("Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze"))
# What may stand between the products: scales, masks, another type or layout, and what keeps the exponentials in range.
# A mean over heads may not, nor may a slice or a sum.
BETWEEN = SAME_BYTES | frozenset((
    "Mul", "Div", "Add", "Sub", "Max", "Min", "Clip", "Where", "Expand", "Dropout", "ReduceMax", "QuantizeLinear",
    "DequantizeLinear",
))  # fmt: skip


@dataclass(frozen=True)
class GraphAttention:
    """One attention of a graph.

    spelling -- "fused" (one operator), "explicit" (a Softmax), "bounded" (a Softmax over scores cut off below their
    maximum) or "published" (exp and sum)
    q, k, v, output -- the tensors that enter it and the one that leaves it; q and k in the order of the product
    core -- the operator; or the first product, its Softmax (or Exp), and the second product
    nodes -- every node from the first product to the second, in graph order
    """

    spelling: str
    q: str
    k: str
    v: str
    output: str
    core: tuple[onnx.NodeProto, ...]
    nodes: tuple[onnx.NodeProto, ...]

    @property
    def weights(self) -> onnx.NodeProto:
        """The node that makes it an attention: the operator, the Softmax or the Exp."""
        return self.core[len(self.core) // 2]

    def is_fed_by(self, q: set[str], k: set[str], v: set[str]) -> bool:
        """Whether its queries, keys and values are among these tensors; a product knows no order of q and k."""
        pair = (self.q in q and self.k in k) or (self.q in k and self.k in q)
        return pair and self.v in v


def attentions(graph: Graph) -> list[GraphAttention]:
    """Every complete attention of the graph, in graph order. A softmax without both its products is none."""
    found: list[GraphAttention | None] = []
    for node in graph.nodes:
        if node.op_type in OPERATORS and node.domain in OPERATORS[node.op_type] and len(node.input) > 2:
            q, k, v = node.input[:3]
            found.append(GraphAttention("fused", q, k, v, node.output[0], (node,), (node,)))
        elif node.op_type == "Softmax":
            found.append(_spelled(graph, node, node.input[0], node))
        elif node.op_type == "Div" and (exp := _exponential(graph, node)) is not None:
            found.append(_spelled(graph, exp, exp.input[0], node))
    return [attention for attention in found if attention is not None]


def _exponential(graph: Graph, divide: onnx.NodeProto) -> onnx.NodeProto | None:
    """The Exp of exp(x) / Σ exp(x), also with casts in between as in float16; None for another division."""
    exp, total = (graph.producer_through_casts(name) for name in divide.input)
    if exp is None or total is None or (exp.op_type, total.op_type) != ("Exp", "ReduceSum"):
        return None
    return exp if graph.producer_through_casts(total.input[0]) is exp else None


def _spelled(graph: Graph, softmax: onnx.NodeProto, scores: str, last: onnx.NodeProto) -> GraphAttention | None:
    """The attention around a softmax that reads `scores` and ends in the node `last`."""
    first = _product_before(graph, scores)
    second = _product_after(graph, last.output[0], -2 if _axis(softmax) == -2 else -1)
    if first is None or second is None:
        return None
    product, weights = second
    (q, k), values = first.input[:2], [name for name in product.input[:2] if name != weights]
    if not values or _origin(graph, values[0]) in (_origin(graph, q), _origin(graph, k)):
        return None
    between = graph.ahead(first.output) & graph.behind([weights])
    nodes = tuple(n for n in graph.nodes if n is first or n is product or not between.isdisjoint(n.output))
    maxima = softmax.op_type == "Softmax" and any(n.op_type == "ReduceMax" for n in nodes)
    spelling = "published" if softmax.op_type == "Exp" else "bounded" if maxima else "explicit"
    return GraphAttention(spelling, q, k, values[0], product.output[0], (first, softmax, product), nodes)


def _axis(softmax: onnx.NodeProto) -> int:
    return next((a.i for a in softmax.attribute if a.name == "axis"), -1)


def _product_before(graph: Graph, scores: str) -> onnx.NodeProto | None:
    """The nearest product of two tensors of the image that `scores` are made from through BETWEEN alone."""
    queue, seen = [scores], {scores}
    for name in queue:
        node: onnx.NodeProto | None = graph.producer.get(name)
        if node is None:
            continue
        if node.op_type in PRODUCTS and len(graph.live(node)) >= 2:
            return node
        if node.op_type in BETWEEN:
            queue += [other for other in node.input if other not in seen]
            seen.update(node.input)
    return None


def _product_after(graph: Graph, weights: str, axis: int) -> tuple[onnx.NodeProto, str] | None:
    """The nearest product that sums the weights over `axis` (-1 or -2), and the weights' name there."""
    queue, seen = [(weights, axis)], {weights}
    for name, summed in queue:
        for node in graph.readers.get(name, ()):
            if node.op_type in PRODUCTS and len(graph.live(node)) >= 2:
                if node.op_type != "MatMul" or node.input[0 if summed == -1 else 1] == name:
                    return node, name
            elif node.op_type in BETWEEN and node.output[0] not in seen:
                queue.append((node.output[0], -3 - summed if _turns(node) else summed))
                seen.add(node.output[0])
    return None


def _turns(node: onnx.NodeProto) -> bool:
    """Whether a node swaps the last two axes."""
    order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
    return node.op_type == "Transpose" and order[-2:] == [len(order) - 1, len(order) - 2]


def _origin(graph: Graph, name: str) -> str:
    """The tensor that `name` is another layout or type of."""
    while (node := graph.producer.get(name)) is not None and node.op_type in SAME_BYTES:
        name = node.input[0]
    return name
