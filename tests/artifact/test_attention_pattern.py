"""Attentions of a graph are found in every spelling, and what only looks like one is not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from tiny_onnx import tiny_detector
from yoloproof.artifact.attention_pattern import attentions
from yoloproof.artifact.graph import Graph

Node = tuple[str, list[str], list[str]]
FIRST, SCALE, CAST = ("MatMul", ["q", "k"], ["qk"]), ("Mul", ["qk", "s"], ["x"]), ("Cast", ["w"], ["p"])
SOFTMAX: list[Node] = [("Softmax", ["x"], ["w"])]
PUBLISHED: list[Node] = [
    ("ReduceMax", ["x"], ["m"]),
    ("Sub", ["x", "m"], ["d"]),
    ("Exp", ["d"], ["e"]),
    ("Cast", ["e"], ["wide"]),
    ("ReduceSum", ["wide"], ["t"]),
    ("Div", ["e", "t"], ["w"]),
]
BOUNDED: list[Node] = [
    ("ReduceMax", ["x"], ["m"]),
    ("Sub", ["m", "sixty"], ["least"]),
    ("Max", ["x", "least"], ["cut"]),
    ("Softmax", ["cut"], ["w"]),
]
LAST: Node = ("MatMul", ["p", "v"], ["y"])


def graph(nodes: list[Node], **attributes: dict[str, object]) -> Graph:
    """`attributes` by operator."""
    made = [
        helper.make_node(kind, i, o, f"model.8.attn/{kind}_{n}", **attributes.get(kind, {}))
        for n, (kind, i, o) in enumerate(nodes)
    ]
    return Graph(helper.make_model(helper.make_graph(made, "spelled", [], [])))


@pytest.mark.parametrize(
    ("middle", "spelling"), [(SOFTMAX, "explicit"), (PUBLISHED, "published"), (BOUNDED, "bounded")]
)
def test_each_spelling_is_found_with_its_entries(middle: list[Node], spelling: str) -> None:
    (found,) = attentions(graph([FIRST, SCALE, *middle, CAST, LAST]))
    assert (found.spelling, found.q, found.k, found.v, found.output) == (spelling, "q", "k", "v", "y")
    assert [node.op_type for node in found.core] == ["MatMul", found.weights.op_type, "MatMul"]
    assert found.core[0].name == "model.8.attn/MatMul_0"
    assert len(found.nodes) == 4 + len(middle)
    assert found.is_fed_by({"q"}, {"k"}, {"v"})
    assert found.is_fed_by({"k"}, {"q"}, {"v"})
    assert not found.is_fed_by({"q"}, {"q"}, {"v"})
    assert not found.is_fed_by({"q"}, {"k"}, {"x"})


def test_the_operator_is_found(tmp_path: Path) -> None:
    (found,) = attentions(Graph(onnx.load(str(tiny_detector(tmp_path / "tiny.onnx")))))
    assert (found.spelling, found.q, found.k, found.v, found.output) == ("fused", "q", "k", "v", "a")
    assert found.core == found.nodes == (found.weights,)


def test_transposed_weights_stand_on_the_right() -> None:
    turned: Node = ("Transpose", ["p"], ["pt"])
    right: Node = ("MatMul", ["v", "pt"], ["y"])
    (found,) = attentions(graph([FIRST, SCALE, *SOFTMAX, CAST, turned, right], Transpose={"perm": [0, 1, 3, 2]}))
    assert (found.v, found.output) == ("v", "y")
    assert not attentions(graph([FIRST, SCALE, *SOFTMAX, CAST, turned, right], Transpose={"perm": [0, 2, 1, 3]}))


@pytest.mark.parametrize(
    "nodes",
    [
        [FIRST, SCALE, *SOFTMAX, CAST, ("MatMul", ["v", "p"], ["y"])],  # sums over the queries
        [("Conv", ["q", "k"], ["qk"]), SCALE, *SOFTMAX, CAST, ("Conv", ["p", "v"], ["y"])],  # no products
        [FIRST, ("ReduceMean", ["qk"], ["x"]), *SOFTMAX, CAST, LAST],  # a hypergraph's mean over heads
        [("Transpose", ["v"], ["k"]), FIRST, SCALE, *SOFTMAX, CAST, LAST],  # gathers what it compared
        [FIRST, SCALE, *SOFTMAX, CAST],  # nothing reads the weights
        [FIRST, SCALE, *PUBLISHED[:-2], ("ReduceSum", ["x"], ["t"]), PUBLISHED[-1], CAST, LAST],  # another sum
    ],
)
def test_what_only_looks_like_attention_is_none(nodes: list[Node]) -> None:
    assert attentions(graph(nodes)) == []


def test_a_softmax_over_the_queries_is_no_attention() -> None:
    nodes = [FIRST, SCALE, *SOFTMAX, CAST, LAST]
    assert attentions(graph(nodes, Softmax={"axis": -2})) == []
    assert len(attentions(graph([*nodes[:-1], ("MatMul", ["v", "p"], ["y"])], Softmax={"axis": -2}))) == 1
