"""An ONNX graph becomes the same kernels as the layer shapes, and foreign graphs are read honestly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloproof.errors import YoloproofError
from yoloproof.estimate import estimate, estimate_line
from yoloproof.estimate.graph import kernels_from_onnx
from yoloproof.estimate.kernels import HALF, attention_kernels, table_from_kernels
from yoloproof.estimate.posterior import committed_posterior, point_latency_s
from yoloproof.estimate.shapes import kernels_from_shapes


def exported(folder: Path, name: str, attention: str) -> Path:
    from yoloproof.artifact.onnx import export_onnx
    from yoloproof.network import network_from_variant, variant_from_name

    path = folder / f"{name}-{attention}.onnx"
    export_onnx(network_from_variant(variant_from_name(name), 80, attention).eval(), path)
    return path


@pytest.mark.slow
def test_our_export_and_the_layer_shapes_agree(tmp_path):
    name, attention = "yolov13n", "fused"
    path = exported(tmp_path, name, attention)
    graph, shapes = kernels_from_onnx(path), kernels_from_shapes(name, attention)
    kinds, expected = (Counter(k.kind for k in kernels) for kernels in (graph.kernels, shapes))
    for kind in ("gemm", "depthwise", "attention", "score"):
        assert kinds[kind] == expected[kind], kind
    assert sum(k.flops for k in graph.kernels) == sum(k.flops for k in shapes)
    assert abs(kinds["activation"] - expected["activation"]) <= 1
    first, second = (
        point_latency_s(committed_posterior().point, table_from_kernels([k]))[0] for k in (graph.kernels, shapes)
    )
    assert first == pytest.approx(second, rel=0.05)
    assert graph.unmodelled == ()
    assert {k.block for k in shapes} - {k.block for k in graph.kernels} <= {
        "model.16",
        "model.20",
        "model.25",
        "model.29",
    }
    assert estimate(path).attention == "as in the graph"
    assert f"{name}-{attention}.onnx on Tesla T4" in estimate_line(path)


@pytest.mark.parametrize("attention", ["explicit", "published", "stripped"])
def test_our_other_spellings_are_recognised(tmp_path, attention):
    import torch

    from yoloproof.network.attention import AAttn

    path = tmp_path / "a.onnx"
    module = AAttn(64, 2, 4, attention).eval()
    torch.onnx.export(module, (torch.zeros(1, 64, 40, 40),), path, opset_version=23, dynamo=True, verbose=False)
    found = Counter(k.kind for k in kernels_from_onnx(path).kernels)
    expected = Counter(k.kind for k in attention_kernels("a", "b", 8, 400, 32, 32, attention))
    convolutions = 2 if attention == "stripped" else 3
    assert found == expected + Counter(gemm=convolutions, depthwise=1)


def write(path: Path, nodes, inputs, outputs, weights, opset=20) -> Path:
    tensors = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    values = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in group.items()]
        for group in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "g", *values, tensors)
    onnx.save(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("somebody", 1)], ir_version=10
        ),
        path,
    )
    return path


def block(x: str, name: str, weight: str, activated: bool = True):
    convolution = helper.make_node("Conv", [x, weight], [f"{name}_c"], name=f"/{name}/Conv", pads=[1, 1, 1, 1])
    if not activated:
        return [convolution]
    return [
        convolution,
        helper.make_node("Sigmoid", [f"{name}_c"], [f"{name}_s"], name=f"/{name}/Sigmoid"),
        helper.make_node("Mul", [f"{name}_c", f"{name}_s"], [f"{name}_o"], name=f"/{name}/Mul"),
    ]


def test_activations_join_and_residuals_cost_only_their_bytes(tmp_path):
    nodes = [
        *block("x", "a", "wa"),
        *block("a_o", "b", "wb"),
        helper.make_node("Add", ["a_o", "b_o"], ["sum"], name="/b/Add"),
        *block("sum", "c", "wc", activated=False),
        helper.make_node("Add", ["sum", "c_c"], ["y"], name="/c/Add"),
    ]
    weights = dict.fromkeys(("wa", "wb", "wc"), (16, 16, 3, 3))
    path = write(tmp_path / "m.onnx", nodes, {"x": (2, 16, 32, 32)}, {"y": None}, weights)
    kernels = kernels_from_onnx(path).kernels
    assert [k.kind for k in kernels] == ["gemm", "activation", "gemm", "activation", "gemm"]
    tensor = HALF * 2 * 16 * 32 * 32
    assert [k.bytes_activations / tensor for k in kernels] == [2, 2, 2, 3, 3]  # the last two read a residual as well
    assert [k.block for k in kernels] == ["a", "a", "b", "b", "c"]


def test_dynamic_inputs_take_the_batch_and_size_asked_for(tmp_path):
    path = write(
        tmp_path / "d.onnx", block("x", "a", "w"), {"x": ("N", 3, "H", "W")}, {"a_o": None}, {"w": (8, 3, 3, 3)}
    )
    one, four = (kernels_from_onnx(path, batch, 64).kernels[0] for batch in (1, 4))
    assert (one.m, four.m) == (64 * 64, 4 * 64 * 64)
    assert kernels_from_onnx(path, 1, 128).kernels[0].m == 128 * 128


def test_attention_as_foreign_exporters_spell_it(tmp_path):
    """Scale after the product and a transposition of the weights, as in YOLO11's graph."""
    nodes = [
        helper.make_node("Transpose", ["q"], ["qt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["qt", "k"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["ss"]),
        helper.make_node("Softmax", ["ss"], ["p"], axis=-1),
        helper.make_node("Transpose", ["p"], ["pt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["v", "pt"], ["y"]),
    ]
    inputs = {"q": (1, 2, 32, 400), "k": (1, 2, 32, 400), "v": (1, 2, 64, 400)}
    path = write(tmp_path / "a.onnx", nodes, inputs, {"y": None}, {"scale": (1,)})
    kernels = kernels_from_onnx(path).kernels
    assert [k.kind for k in kernels] == ["reformat", "gemm", "score", "gemm", "reformat"]
    assert [k.flops for k in kernels if k.kind == "gemm"] == [2 * 2 * 400 * 400 * d for d in (32, 64)]


def test_unknown_operators_are_named_and_unknown_shapes_refused(tmp_path):
    odd = helper.make_node("Det", ["x"], ["y"])
    path = write(tmp_path / "o.onnx", [odd], {"x": (4, 8, 8)}, {"y": None}, {})
    assert kernels_from_onnx(path).unmodelled == ("Det",)
    foreign = helper.make_node("Mystery", ["x"], ["y"], domain="somebody")
    path = write(
        tmp_path / "u.onnx", [foreign, *block("y", "a", "w")], {"x": (1, 8, 8, 8)}, {"a_o": None}, {"w": (8, 8, 3, 3)}
    )
    with pytest.raises(YoloproofError, match="shape of tensor"):
        kernels_from_onnx(path)
    (tmp_path / "n.onnx").write_bytes(b"not a model")
    with pytest.raises(YoloproofError, match=r"n\.onnx"):
        kernels_from_onnx(tmp_path / "n.onnx")


def test_what_tensorrt_folds_into_a_convolution_costs_nothing(tmp_path):
    """A batch norm and a ReLU vanish, a residual costs its bytes."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="/a/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "one", "one", "one", "one"], ["n"], name="/a/BatchNorm"),
        helper.make_node("Add", ["n", "x"], ["s"], name="/a/Add"),
        helper.make_node("Relu", ["s"], ["y"], name="/a/Relu"),
    ]
    shape = (1, 16, 32, 32)
    path = write(tmp_path / "r.onnx", nodes, {"x": shape}, {"y": None}, {"w": (16, 16, 3, 3), "one": (16,)})
    (kernel,) = kernels_from_onnx(path).kernels
    assert kernel.kind == "gemm"
    assert kernel.bytes_activations == 3 * HALF * 16 * 32 * 32


def detr(queries: int = 50):
    """A detector as RT-DETR builds one: convolutions, an encoder layer, the best tokens as queries, a decoder that
    attends to itself and samples the image."""
    import torch
    from torch import nn

    class Detr(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 32, 4, 4), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 4, 4))
            self.encoder = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, activation="gelu")
            self.scores, self.norm = nn.Linear(64, 80), nn.LayerNorm(64)
            self.decoder = nn.MultiheadAttention(64, 4, batch_first=True)
            self.offsets, self.boxes = nn.Linear(64, 8), nn.Linear(64, 4)

        def forward(self, x):
            maps = self.stem(x)
            batch, channels, height, width = maps.shape
            tokens = self.encoder(maps.flatten(2).transpose(1, 2))
            best = self.scores(tokens).max(-1).values.topk(queries, 1).indices
            q = torch.gather(tokens, 1, best.unsqueeze(-1).expand(-1, -1, channels))
            q = self.norm(q + self.decoder(q, q, q, need_weights=False)[0])
            grid = torch.tanh(self.offsets(q)).view(batch, queries, 4, 2)
            image = tokens.transpose(1, 2).reshape(batch, channels, height, width)
            sampled = nn.functional.grid_sample(image, grid, align_corners=False)
            return self.boxes(q + sampled.mean(-1).transpose(1, 2)).sigmoid(), self.scores(q)

    return Detr().eval()


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_transformer_whose_graph_computes_its_own_shapes(tmp_path, dynamic, monkeypatch):
    """The older exporter leaves Shape, Gather and Concat in front of every Reshape."""
    import torch

    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: False)
    path = tmp_path / "detr.onnx"
    axes = {"images": {0: "batch", 2: "height", 3: "width"}} if dynamic else None
    torch.onnx.export(
        detr(), (torch.zeros(1, 3, 128, 128),), path, dynamo=False, opset_version=17, input_names=["images"],
        dynamic_axes=axes,
    )  # fmt: skip
    found = kernels_from_onnx(path, 1, 128)
    tokens = [k.m for k in found.kernels if k.kind == "score"]
    assert len(tokens) == 2  # the encoder's softmax and the decoder's
    products = sorted(k.flops for k in found.kernels if k.kind == "gemm" and k.groups == 4)
    assert products == [2 * 4 * n * n * 16 for n in (50, 50, 64, 64)]
    assert Counter(k.kind for k in found.kernels)["selection"] == 1
    assert found.unmodelled == ()
    assert found.input_shape == (1, 3, 128, 128)
    if dynamic:
        wider = kernels_from_onnx(path, 2, 256)
        assert wider.input_shape == (2, 3, 256, 256)
        assert max(k.m for k in wider.kernels if k.kind == "gemm" and k.groups == 8) == 256  # tokens


def test_an_onnx_file_keeps_its_own_size_and_says_so(tmp_path):
    nodes, weights = block("x", "a", "w"), {"w": (8, 3, 3, 3)}
    fixed = write(tmp_path / "f.onnx", nodes, {"x": (2, 3, 96, 160)}, {"a_o": None}, weights)
    found = estimate(fixed)
    assert (found.batch, found.imgsz, found.calibrated) == (2, (96, 160), False)
    for asked in ({"batch": 4}, {"imgsz": 320}):
        with pytest.raises(YoloproofError, match="fixed at 2 × 3 × 96 × 160"):
            estimate(fixed, **asked)
    with pytest.raises(YoloproofError, match="in its graph"):
        estimate(fixed, attention="fused")
    free = write(tmp_path / "d.onnx", nodes, {"x": ("N", 3, "H", "W")}, {"a_o": None}, weights)
    assert estimate(free).calibrated
    assert (estimate(free, batch=4, imgsz=320).batch, estimate(free, imgsz=320).imgsz) == (4, (320, 320))


def test_a_second_input_shares_the_batch(tmp_path):
    """As RT-DETR's export has it: the images and the size of each."""
    nodes = [*block("x", "a", "w"), helper.make_node("Relu", ["sizes"], ["s"])]
    inputs = {"x": ("N", 3, "H", "W"), "sizes": ("N", 2)}
    path = write(tmp_path / "t.onnx", nodes, inputs, {"a_o": None, "s": None}, {"w": (8, 3, 3, 3)})
    assert kernels_from_onnx(path, 3, 64).kernels[-1].bytes_activations == 2 * HALF * 3 * 2
