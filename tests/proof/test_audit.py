"""What the graph audit sees in a file that nobody runs: ways to hide a loss, each named by the right check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from proof_graphs import BLOCK, SIZE, array, copied, node, put
from yoloproof.names import Precision
from yoloproof.network import Network, load_network
from yoloproof.proof.audit import graph_audit
from yoloproof.proof.stated import Stated
from yoloproof.records import Check

pytestmark = pytest.mark.xdist_group("mutants")  # the right artifacts are exported once
MAP = (1, 64, SIZE[0] // 16, SIZE[1] // 16)


def audited(model: onnx.ModelProto, network: Network, claims: str = "fp32") -> dict[str, Check]:
    rewrites = ("norms", "groups", "scale", "upsampling", "branches", "edges", "attention", "entries", "head")
    return {c.name: c for c in graph_audit(model, network, Stated(precision=Precision(claims), rewrites=rewrites))}


def record(model: onnx.ModelProto, values: NDArray[np.generic], *through: str) -> None:
    """The attention's output replaced by a constant that goes through the named operators first."""
    put(model, "recorded", values)
    name = "recorded"
    for i, kind in enumerate(through):
        attributes = {"to": TensorProto.FLOAT} if kind == "Cast" else {}
        index = next(i for i, n in enumerate(model.graph.node) if n.name == f"{BLOCK}/Add")
        model.graph.node.insert(index, helper.make_node(kind, [name], [f"through{i}"], **attributes))
        name = f"through{i}"
    node(model, f"{BLOCK}/Add").input[0] = name


def lost_to_a_second_output(model: onnx.ModelProto) -> None:
    """The attention is computed and leads somewhere, only not to the detections."""
    lost = node(model, f"{BLOCK}/Add").input[0]
    record(model, np.zeros(MAP, np.float32))
    model.graph.output.append(helper.make_tensor_value_info(lost, TensorProto.FLOAT, MAP))


def recorded_as_bytes(model: onnx.ModelProto) -> None:
    record(model, np.ones(MAP, np.int8), "Cast")


def recorded_in_the_grids_size(model: onnx.ModelProto) -> None:
    anchors = sum((SIZE[0] // s) * (SIZE[1] // s) for s in (8, 16, 32))
    put(model, "boxes", np.random.default_rng(0).random((1, 4, anchors), np.float32))
    concat = next(n for n in model.graph.node if model.graph.output[0].name in n.output)
    concat.input[0] = "boxes"


def nearly_the_same(model: onnx.ModelProto) -> None:
    weight = array(model, "model.2.cv2.conv.weight").astype(np.float32)
    put(model, "model.2.cv2.conv.weight", weight + np.float32(1e-3) * np.abs(weight).max())


def through_bfloat16(model: onnx.ModelProto) -> None:
    import ml_dtypes

    for tensor in list(model.graph.initializer):
        if tensor.data_type in (TensorProto.FLOAT16, TensorProto.FLOAT) and np.prod(tensor.dims) > 64:
            values = array(model, tensor.name)
            put(model, tensor.name, values.astype(ml_dtypes.bfloat16).astype(values.dtype))


def choosing_by_the_image(model: onnx.ModelProto) -> None:
    """The right weights on bright images, nothing on dark ones."""
    add = node(model, f"{BLOCK}/Add")
    branches = {
        f"{kind}_branch": helper.make_graph(
            [helper.make_node(op, [add.input[0]], [f"{kind}_out"])],
            kind,
            [],
            [helper.make_tensor_value_info(f"{kind}_out", TensorProto.FLOAT, MAP)],
        )
        for kind, op in (("then", "Identity"), ("else", "Neg"))
    }
    put(model, "threshold", np.float32(0.1))
    index = next(i for i, n in enumerate(model.graph.node) if n is add or n.name == add.name)
    for new in (
        helper.make_node("If", ["bright"], ["chosen"], name="choice", **branches),
        helper.make_node("Greater", ["level", "threshold"], ["bright"]),
        helper.make_node("ReduceMean", ["images"], ["level"], keepdims=0),
    ):
        model.graph.node.insert(index, new)
    node(model, f"{BLOCK}/Add").input[0] = "chosen"


def own_function(model: onnx.ModelProto) -> None:
    """An operator with a standard-looking name whose meaning the file itself defines."""
    relu = helper.make_node("Relu", ["x"], ["y"])
    model.functions.append(helper.make_function("own", "Softmax", ["x"], ["y"], [relu], model.opset_import))
    model.opset_import.append(helper.make_opsetid("own", 1))
    node(model, f"{BLOCK}/Softmax").domain = "own"


def foreign_in_a_branch(model: onnx.ModelProto) -> None:
    choosing_by_the_image(model)
    branch = next(a.g for a in node(model, "choice").attribute if a.name == "else_branch")
    branch.node[0].domain = "com.elsewhere"


def bypassed(model: onnx.ModelProto) -> None:
    """Values alone leave the attention: q and k are computed and multiplied, and nobody reads the product."""
    softmax = node(model, f"{BLOCK}/Softmax")
    put(model, "even", np.full((4, 2, 25, 25), 0.01, np.float32))
    for n in model.graph.node:
        for i, name in enumerate(n.input):
            if name == softmax.output[0]:
                n.input[i] = "even"


HIDDEN: dict[str, tuple[str, Callable[[onnx.ModelProto], None], dict[str, str]]] = {
    # name: (right artifact, mutation, check that must fail → what its line must name)
    "led to a second output": (
        "explicit-fp32", lost_to_a_second_output, {"attention": f"{BLOCK}: its output is the recorded constant"},
    ),
    "recorded as bytes": ("explicit-fp32", recorded_as_bytes, {"constants": "recorded", "attention": "flash-attn"}),
    "boxes recorded": ("fused-fp32", recorded_in_the_grids_size, {"constants": "boxes"}),
    "nearly the same weights": ("fused-fp32", nearly_the_same, {"weights": "model.2.cv2.conv.weight"}),
    "bfloat16 sold as float16": (
        "fused-fp16", through_bfloat16, {"precision": "coarser type", "weights": "coarser type"},
    ),
    "float32 through bfloat16": ("fused-fp32", through_bfloat16, {"precision": "coarser type"}),
    "chosen by the image": ("explicit-fp32", choosing_by_the_image, {"operators": "choice (If) decides"}),
    "a function of its own": ("explicit-fp32", own_function, {"operators": "own::Softmax"}),
    "foreign in a branch": ("explicit-fp32", foreign_in_a_branch, {"operators": "com.elsewhere::Neg"}),
    "softmax bypassed": ("explicit-fp32", bypassed, {"attention": BLOCK, "constants": "even"}),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_each_hiding_place_is_found(name: str, right: dict[str, onnx.ModelProto], network: Network) -> None:
    source, mutation, expected = HIDDEN[name]
    mutant = copied(right[source])
    mutation(mutant)
    checks = audited(mutant, network, source.split("-")[1])
    for check, named in expected.items():
        assert checks[check].passed is False, checks[check].detail
        assert named in checks[check].detail


@pytest.mark.parametrize("source", ["explicit-fp32", "fused-fp32", "fused-fp16"])
def test_the_right_ones_pass(source: str, right: dict[str, onnx.ModelProto], network: Network) -> None:
    checks = audited(right[source], network, source.split("-")[1]).values()
    assert all(check.passed for check in checks), [c for c in checks if not c.passed]


def test_another_checkpoint_and_another_class_count_are_seen(right: dict[str, onnx.ModelProto]) -> None:
    for other in (
        load_network("yolov13n", random_weights=True),
        load_network("yolov13n", random_weights=True, classes=7),
    ):
        check = audited(right["fused-fp32"], other)["weights"]
        assert check.passed is False
        assert "other weights" in check.detail


def test_constants_are_read_from_every_attribute() -> None:
    from yoloproof.artifact.graph import Graph

    kinds: dict[str, Any] = {"value_float": 2.0, "value_ints": [1, 2], "value_floats": [1.0, 2.0, 3.0]}
    nodes = [helper.make_node("Constant", [], [kind], **{kind: value}) for kind, value in kinds.items()]
    output = helper.make_tensor_value_info("value_float", TensorProto.FLOAT, [])
    graph = Graph(helper.make_model(helper.make_graph(nodes, "g", [], [output])))
    assert {name: values.size for name, values in graph.constants.items()} == {
        "value_float": 1, "value_ints": 2, "value_floats": 3,
    }  # fmt: skip
