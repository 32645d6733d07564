"""Where in an ONNX graph an attention stands, in one of the spellings that exporters leave."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yoloproof.estimate.graph import Graph

LAYOUT = frozenset(("Transpose", "Reshape", "Split", "Slice", "Squeeze", "Unsqueeze", "Identity", "Cast"))
SCALES = frozenset(("Mul", "Div"))


@dataclass(frozen=True)
class AttentionMatch:
    """One attention: its spelling, its size, and the nodes that make it up, the layout changes around it included.

    nodes -- in graph order; the kernels stand where the last one does
    """

    attention: str
    runs: int
    tokens: int
    dim_qk: int
    dim_v: int
    nodes: tuple[Any, ...]


def matches(graph: Graph) -> list[AttentionMatch]:
    """Every self-attention in the graph. Products around a softmax over unequal lengths are counted singly."""
    order = {id(node): index for index, node in enumerate(graph.nodes)}
    found = []
    for node in graph.nodes:
        core = None
        if node.op_type == "Attention":
            core = _fused(graph, node)
        elif node.op_type == "Softmax":
            core = _softmax(graph, node)
        elif node.op_type == "ReduceMax":
            core = _spelled_out(graph, node)
        if core is not None:
            around = {id(part): part for part in (*core.nodes, *_layout(graph, core))}
            nodes = tuple(sorted(around.values(), key=lambda part: order[id(part)]))
            found.append(AttentionMatch(core.attention, core.runs, core.tokens, core.dim_qk, core.dim_v, nodes))
    return found


def _fused(graph: Graph, node: Any) -> AttentionMatch | None:
    q, v = graph.shape(node.input[0]), graph.shape(node.input[2])
    if len(q) == 4:
        runs, tokens, dim_qk, dim_v = q[0] * q[1], q[2], q[3], v[3]
    else:
        heads = next((a.i for a in node.attribute if a.name == "q_num_heads"), 1)
        runs, tokens, dim_qk, dim_v = q[0] * heads, q[1], q[2] // heads, v[2] // heads
    return AttentionMatch("fused", runs, tokens, dim_qk, dim_v, (node,))


def _before(graph: Graph, tensor: str, ops: frozenset[str]) -> tuple[Any | None, list[Any]]:
    """The producer of `tensor`, looking through single-reader nodes of `ops`, and the nodes looked through."""
    passed: list[Any] = []
    node = graph.producer.get(tensor)
    while node is not None and node.op_type in ops and len(graph.live(node)) == 1:
        passed.append(node)
        node = graph.producer.get(graph.live(node)[0])
    return node, passed


def _after(graph: Graph, tensor: str, ops: frozenset[str]) -> tuple[Any | None, list[Any]]:
    """The only reader of `tensor`, looking through nodes of `ops`, and the nodes looked through."""
    passed: list[Any] = []
    node = graph.only_consumer(tensor)
    while node is not None and node.op_type in ops:
        passed.append(node)
        node = graph.only_consumer(node.output[0])
    return node, passed


def _core(graph: Graph, attention: str, first: Any, middle: list[Any], last: Any | None) -> AttentionMatch | None:
    """The match of two products with `middle` between them, if they are what they seem."""
    if first is None or last is None or first.op_type != "MatMul" or last.op_type != "MatMul":
        return None
    score, out = graph.shape(first.output[0]), graph.shape(last.output[0])
    if len(score) < 3 or score[-1] != score[-2]:
        return None
    tokens, runs = score[-1], prod(score[:-2])
    return AttentionMatch(
        attention, runs, tokens, graph.shape(first.input[0])[-1] if graph.shape(first.input[0])[-1] != tokens
        else graph.shape(first.input[0])[-2], prod(out) // (runs * tokens), (first, *middle, last)
    )  # fmt: skip


def _softmax(graph: Graph, softmax: Any) -> AttentionMatch | None:
    first, scales = _before(graph, softmax.input[0], SCALES)
    last, turned = _after(graph, softmax.output[0], frozenset(("Transpose", "Cast")))
    return _core(graph, "explicit", first, [*scales, softmax, *turned], last)


def _spelled_out(graph: Graph, maximum: Any) -> AttentionMatch | None:
    """ReduceMax and Sub on the scaled product, Exp, ReduceSum and Div, then the second product."""
    first, scales = _before(graph, maximum.input[0], SCALES)
    subtract = graph.only_consumer(maximum.output[0])
    exp = graph.only_consumer(subtract.output[0]) if subtract is not None and subtract.op_type == "Sub" else None
    if exp is None or exp.op_type != "Exp":
        return None
    readers = {node.op_type: node for node in graph.consumers.get(exp.output[0], [])}
    if set(readers) != {"ReduceSum", "Div"}:
        return None
    last, turned = _after(graph, readers["Div"].output[0], frozenset(("Transpose", "Cast")))
    middle = [*scales, maximum, subtract, exp, readers["ReduceSum"], readers["Div"], *turned]
    return _core(graph, "published", first, middle, last)


def _layout(graph: Graph, core: AttentionMatch) -> list[Any]:
    """The transpositions and reshapes (and q's scaling) that bring q, k, v in and the result out."""
    first, last = core.nodes[0], core.nodes[-1]
    inner = {name for node in core.nodes for name in node.output}
    entries = [
        name for node in {id(first): first, id(last): last}.values() for name in graph.live(node) if name not in inner
    ]
    nodes: list[Any] = []
    for name in entries:
        nodes += _before(graph, name, LAYOUT | SCALES)[1]
    return nodes + _after(graph, last.output[0], LAYOUT)[1]
