"""Nothing right is refused: right artifacts, spelled as other exporters, tools and users leave them, get no alarm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from proof_graphs import array, copied, first, put, splice
from yoloproof.artifact.nms import NmsOptions, add_nms
from yoloproof.artifact.onnx import export_onnx
from yoloproof.names import Precision, Runtime
from yoloproof.network import Network, load_network
from yoloproof.proof.reference import Reference
from yoloproof.proof.verify import verify
from yoloproof.simplify.choice import RUNTIME_REWRITES
from yoloproof.simplify.rewrites import simplify

Images = NDArray[np.float32]
Change = Callable[[onnx.ModelProto, Network], None]
pytestmark = pytest.mark.xdist_group("mutants")  # the right artifacts are exported once


def as_it_is(model: onnx.ModelProto, network: Network) -> None:
    del model, network


def says_nothing(model: onnx.ModelProto, network: Network) -> None:
    del model.metadata_props[:]


def nameless(model: onnx.ModelProto, network: Network) -> None:
    for node in model.graph.node:
        node.name = ""


def renamed(model: onnx.ModelProto, network: Network) -> None:
    """Every tensor but the inputs and outputs under another name, as onnxsim and others leave them."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if name in kept or not name else f"t/{name}" for name in names]
    for tensor in model.graph.initializer:
        tensor.name = f"t/{tensor.name}"


def constant_nodes(model: onnx.ModelProto, network: Network) -> None:
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    first(model, *(helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors))


def weights_among_inputs(model: onnx.ModelProto, network: Network) -> None:
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def unread(model: onnx.ModelProto, network: Network) -> None:
    model.graph.initializer.append(helper.make_tensor("unread", TensorProto.BFLOAT16, [1000], bytes(2000), raw=True))
    first(model, helper.make_node("MaxPool", ["images"], ["pooled"], "unread/MaxPool", kernel_shape=[2, 2]))


def identities(model: onnx.ModelProto, network: Network) -> None:
    outputs = {value.name for value in model.graph.output}
    for name in [node.output[0] for node in model.graph.node if node.op_type == "Conv"][::7]:
        if name not in outputs:
            splice(model, name, ("Identity", (), {}))
    for i, node in enumerate(n for n in model.graph.node if n.name.startswith("spliced")):
        node.name = f"identity{i}"


def weights_in_float16(model: onnx.ModelProto, network: Network) -> None:
    """Stored in float16 and cast when read, as tools that shrink a file leave it."""
    says_nothing(model, network)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 4:
            name, values = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, f"{name}/half"))
            casts.append(helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
    first(model, *casts)


def folded_in_float16(model: onnx.ModelProto, network: Network) -> None:
    """Batch norms folded after `.half()`, each step rounded, as the official exporter does."""
    there = {tensor.name for tensor in model.graph.initializer}
    for path, module in network.named_modules():
        norm, convolution = getattr(module, "bn", None), getattr(module, "conv", None)
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(convolution, nn.Conv2d):
            continue
        name = f"{path}.conv.weight"
        if name not in there or array(model, name).shape != tuple(convolution.weight.shape):
            continue  # merged with others
        gamma, beta, mean, variance, weight = (
            t.detach().half() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var, convolution.weight)
        )
        scale = gamma / torch.sqrt(variance + norm.eps)
        folded = (weight * scale.view(-1, 1, 1, 1)).numpy()
        if not np.allclose(folded, array(model, name), rtol=0.01, atol=1e-3):
            continue  # its inputs come in another order
        put(model, name, folded)
        put(model, f"{path}.conv.bias", (beta - gamma * mean / torch.sqrt(variance + norm.eps)).numpy())


def all_in_float16(model: onnx.ModelProto, network: Network) -> None:
    """Input, head and output too, as the official exporter's `half=True` leaves them."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in scales(model):
            put(model, tensor.name, numpy_helper.to_array(tensor).astype(np.float16))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16


def scales(model: onnx.ModelProto) -> set[str]:
    return {node.input[2] for node in model.graph.node if node.op_type == "Resize"}


def answers_in_float16(model: onnx.ModelProto, network: Network) -> None:
    splice(model, model.graph.output[0].name, ("Cast", (), {"to": TensorProto.FLOAT16}))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def takes_float16(model: onnx.ModelProto, network: Network) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in model.graph.node:
        node.input[:] = ["wide" if name == "images" else name for name in node.input]
    first(model, helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT))


def stamped(opset: int) -> Change:
    def change(model: onnx.ModelProto, network: Network) -> None:
        model.opset_import[0].version = opset

    return change


def other_attributes(model: onnx.ModelProto, network: Network) -> None:
    model.producer_name, model.doc_string = "elsewhere", "[/x]"
    for node in model.graph.node:
        node.doc_string = "traced"


def transposed_twice(model: onnx.ModelProto, network: Network) -> None:
    splice(
        model,
        model.graph.output[0].name,
        ("Transpose", (), {"perm": [0, 2, 1]}),
        ("Transpose", (), {"perm": [0, 2, 1]}),
    )


E32, F32, F16, E16 = "explicit-fp32", "fused-fp32", "fused-fp16", "explicit-fp16"
CHANGES: dict[str, Change] = {
    "as it is": as_it_is, "says nothing": says_nothing, "nameless": nameless, "renamed": renamed,
    "constants as nodes": constant_nodes, "weights among inputs": weights_among_inputs, "unread parts": unread,
    "identities": identities, "other words": other_attributes, "transposed twice": transposed_twice,
}  # fmt: skip
RIGHT: dict[str, tuple[str, Change]] = {
    **{f"{base}: {name}": (base, change) for base in (E32, F16) for name, change in CHANGES.items()},
    "fused": (F32, as_it_is),
    "fused, opset 24": (F32, stamped(24)),
    "explicit, opset 21": (E32, stamped(21)),
    "explicit in float16": (E16, as_it_is),
    "explicit in float16, opset 21": (E16, stamped(21)),
    "weights stored in float16": (E32, weights_in_float16),
    "batch norms folded in float16": (F16, folded_in_float16),
    "batch norms folded in float16, says nothing": (E16, folded_in_float16),
    "all in float16": (F16, all_in_float16),
    "all in float16, folded there": (F16, lambda m, n: (all_in_float16(m, n), folded_in_float16(m, n))),
    "answers in float16": (F16, answers_in_float16),
    "takes float16": (F16, takes_float16),
    "takes and answers in float16": (E16, lambda m, n: (takes_float16(m, n), answers_in_float16(m, n))),
    "a batch of four": ("explicit-fp32-b4", as_it_is),
    "a batch of four in float16": ("fused-fp16-b4", as_it_is),
    "a batch of four, renamed": ("explicit-fp32-b4", renamed),
    "any size and batch": ("explicit-fp32-any", as_it_is),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_artifact_gets_no_alarm(
    name: str, right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    base, change = RIGHT[name]
    model = copied(right[base])
    change(model, held.network)
    onnx.save(model, tmp_path / "right.onnx")
    verdict = verify(tmp_path / "right.onnx", held, images[:2])
    assert verdict.passed is True, verdict.failures


@pytest.mark.parametrize(
    "options", [NmsOptions(), NmsOptions(score=0.01, iou=0.45), NmsOptions(score=0.9, max_detections=20)]
)
def test_any_thresholds_of_a_suppression_pass_and_are_printed(
    options: NmsOptions, right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    onnx.save(right[F32], tmp_path / "raw.onnx")
    add_nms(tmp_path / "raw.onnx", tmp_path / "nms.onnx", options)
    verdict = verify(tmp_path / "nms.onnx", held, images[:2])
    assert verdict.passed is True, verdict.failures
    said = next(check.detail for check in verdict.checks if check.name == "suppression")
    assert f"score above {options.score:g}, overlap {options.iou:g}, at most {options.max_detections}" in said


@pytest.mark.parametrize("runtime", [Runtime.ONNXRUNTIME, Runtime.OPENVINO])
def test_what_is_laid_out_for_a_runtime_passes(
    runtime: Runtime, held: Reference, images: Images, tmp_path: Path
) -> None:
    export_onnx(simplify(held.network, RUNTIME_REWRITES[runtime]), tmp_path / "laid.onnx", imgsz=images.shape[2:])
    verdict = verify(tmp_path / "laid.onnx", held, images[:2])
    assert verdict.passed is True, verdict.failures


@pytest.mark.parametrize("name", ["yolov12n", "yolo12n"])
def test_a_detector_of_other_classes_that_finds_nothing_here_is_judged(
    name: str, images: Images, tmp_path: Path
) -> None:
    """In float16: all anchors are compared where no detection is there to be."""
    network = load_network(name, random_weights=True, classes=3)
    with torch.no_grad():
        for branch in network.model[-1].cv3:
            branch[2].bias -= 6
    export_onnx(simplify(network), tmp_path / "right.onnx", imgsz=images.shape[2:], precision="fp16")
    network.sha256 = "0" * 64  # as trained weights have one
    verdict = verify(tmp_path / "right.onnx", network, images[:1], precision=Precision.FP16)
    found = next(check for check in verdict.checks if check.name == "detections")
    assert found.passed is True
    assert "detects nothing" in found.detail
    assert verdict.passed is True, verdict.failures
