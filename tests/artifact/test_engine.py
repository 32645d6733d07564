"""Real TensorRT-RTX builds for the T4, on a machine without a GPU."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from tiny_onnx import tiny_detector
from yoloproof.artifact.engine import engine_from_onnx
from yoloproof.artifact.engine_audit import kernels_from_inspector, kernels_from_log
from yoloproof.artifact.nms import NmsOptions, add_nms
from yoloproof.artifact.tensorrt import EngineOptions
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import network_name, read_identity

T4 = EngineOptions(target="t4")
ATTENTION = "model.6.m.0.0.attn"


@pytest.fixture(autouse=True)
def _needs_tensorrt_rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install 'yoloproof[gpu]')")


def test_an_engine_for_the_t4_fuses_its_attention_and_says_so(tmp_path: Path) -> None:
    source = tiny_detector(tmp_path / "tiny.onnx", "float16")
    path = tmp_path / "tiny.engine"
    seen: list[tuple[float, str]] = []
    built = engine_from_onnx(source, path, T4, progress=lambda done, phase: seen.append((done, phase)))
    audit = built.audit
    assert audit.pairs == audit.attentions == (ATTENTION,)
    assert "mha" in audit.fused[ATTENTION]
    assert audit.faults() == []
    assert audit.layer_types["ATTENTION_INPUT"] == audit.layer_types["ATTENTION_OUTPUT"] == 1
    assert audit.layer_precisions["HALF"] > 10
    assert f"{ATTENTION}/Attention_AttentionOutput" in audit.layers_by_precision["HALF"]
    assert set(audit.kernel_precisions) == {"Half"}
    assert audit.activation_bytes is not None
    assert audit.scratch_bytes is not None
    assert audit.weights_bytes is not None
    fractions = [done for done, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    identity = read_identity(path)
    assert identity == built.identity
    assert identity.compute_capabilities == ("7.5",)
    assert identity.precision == "float16"
    assert identity.onnx_sha256 == sha256_of(source)
    assert identity.inputs == (("images", (1, 3, 32, 32), "float16"),)
    assert identity.audit["pairs"] == [ATTENTION]
    # the identity inside the file
    assert network_name(sha256_of(source)).encode() in path.read_bytes()


def test_several_targets_and_the_portable_one(tmp_path: Path) -> None:
    source = tiny_detector(tmp_path / "tiny.onnx", "float16")
    several = engine_from_onnx(source, tmp_path / "several.engine", EngineOptions(target="sm75,sm86"))
    assert several.identity.compute_capabilities == ("7.5", "8.6")
    portable = engine_from_onnx(source, tmp_path / "portable.engine", EngineOptions(target="portable"))
    assert "7.5" not in portable.identity.compute_capabilities
    assert portable.audit.pairs == several.audit.pairs == (ATTENTION,)
    contents = {(tmp_path / f"{name}.engine").read_bytes() for name in ("several", "portable")}
    assert len(contents) == 2


def test_a_float32_attention_falls_apart_and_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tiny_detector(tmp_path / "tiny.onnx", "float32")
    with pytest.raises(YoloproofError, match="--precision fp16, or with --attention explicit"):
        engine_from_onnx(source, tmp_path / "tiny.engine", T4)
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "tiny.engine").exists()
    assert not (tmp_path / "tiny.engine.json").exists()


def test_where_it_may_fall_apart_it_is_on_record(tmp_path: Path) -> None:
    source = tiny_detector(tmp_path / "tiny.onnx", "float32")
    options = EngineOptions(target="sm86", require_fused=False)
    built = engine_from_onnx(source, tmp_path / "tiny.engine", options)
    assert built.audit.unfused == (ATTENTION,)
    assert built.identity.audit["faults"] == [f"no fused kernel computes {ATTENTION}"]
    assert built.identity.precision == "float32"


def test_a_float32_product_is_not_built_for_turing(tmp_path: Path) -> None:
    source = tmp_path / "product.onnx"
    weight = onnx.numpy_helper.from_array(np.ones((32, 64), np.float32), "weight")
    info = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["images", "weight"], ["output0"], "model.9.hgnn/MatMul")],
        "product",
        [info("images", onnx.TensorProto.FLOAT, [1, 3, 32, 32])],
        [info("output0", onnx.TensorProto.FLOAT, [1, 3, 32, 64])],
        [weight],
    )
    opsets = [onnx.helper.make_opsetid("", 23)]
    onnx.save(onnx.helper.make_model(made, opset_imports=opsets, ir_version=11), str(source))
    with pytest.raises(YoloproofError, match=r"no float32 matrix product for Turing, as model\.9\.hgnn/MatMul is"):
        engine_from_onnx(source, tmp_path / "product.engine", T4)
    engine_from_onnx(source, tmp_path / "product.engine", EngineOptions(target="sm86"))


def test_a_dynamic_batch_is_built_by_profile(tmp_path: Path) -> None:
    source = tiny_detector(tmp_path / "tiny.onnx", "float16", batch="batch")
    with pytest.raises(YoloproofError, match="is dynamic; give the smallest"):
        engine_from_onnx(source, tmp_path / "none.engine", T4)
    shapes = {"images": ((1, 3, 32, 32), (4, 3, 32, 32), (8, 3, 32, 32))}
    built = engine_from_onnx(source, tmp_path / "tiny.engine", EngineOptions(target="t4", shapes=shapes))
    assert built.audit.fused.keys() == {ATTENTION}
    assert built.identity.inputs[0][1] == (-1, 3, 32, 32)
    assert read_identity(built.path).options["shapes"]["images"][2][0] == 8
    upside_down = {"images": tuple(reversed(shapes["images"]))}
    with pytest.raises(YoloproofError, match="do not fit"):
        engine_from_onnx(source, tmp_path / "none.engine", EngineOptions(target="t4", shapes=upside_down))


def test_suppression_inside_builds_for_turing(tmp_path: Path) -> None:
    source = tiny_detector(tmp_path / "tiny.onnx", "float16", size=128)
    add_nms(source, tmp_path / "nms.onnx", NmsOptions(candidates=128, max_detections=100))
    built = engine_from_onnx(tmp_path / "nms.onnx", tmp_path / "nms.engine", T4)
    assert [name for name, _, _ in built.identity.outputs] == ["count", "boxes", "scores", "classes", "settled"]
    assert built.audit.fused.keys() == {ATTENTION}
    with pytest.raises(YoloproofError, match="yoloproof export --nms"):
        engine_from_onnx(with_operator(source, tmp_path / "operator.onnx"), tmp_path / "operator.engine", T4)


def with_operator(source: Path, path: Path) -> Path:
    """The detector with ONNX's own operator for suppression behind it, as other tools export it."""
    model = onnx.load(source)
    graph, raw = model.graph, model.graph.output[0].name
    anchors = graph.output[0].type.tensor_type.shape.dim[2].dim_value
    boxes = np.random.default_rng(0).random((1, anchors, 4), np.float32)
    graph.initializer.append(onnx.numpy_helper.from_array(boxes, "boxes"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([10], np.int64), "most"))
    graph.node.append(onnx.helper.make_node("Cast", [raw], ["scores"], to=onnx.TensorProto.FLOAT))
    graph.node.append(
        onnx.helper.make_node("NonMaxSuppression", ["boxes", "scores", "most"], ["selected"], "NonMaxSuppression")
    )
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("selected", onnx.TensorProto.INT64, ["m", 3]))
    onnx.save(model, path)
    return path


def test_ctrl_c_ends_a_build(tmp_path: Path) -> None:
    def stop(done: float, phase: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(tiny_detector(tmp_path / "tiny.onnx", "float16"), tmp_path / "tiny.engine", T4, stop)
    assert not (tmp_path / "tiny.engine").exists()


def test_the_audit_for_a_person(tmp_path: Path) -> None:
    source = tiny_detector(tmp_path / "tiny.onnx", "float16")
    lines = engine_from_onnx(source, tmp_path / "tiny.engine", T4).audit.lines()
    assert lines[0] == "attention: 1 in the file, 1 IAttention pairs, 1 fused"
    assert lines[1].startswith(f"  {ATTENTION} → _gemm_mha")
    assert lines[-1] == "builder warnings: none"


def test_an_engine_is_never_overwritten(tmp_path: Path) -> None:
    source = tiny_detector(tmp_path / "tiny.onnx", "float16")
    (tmp_path / "tiny.engine").write_bytes(b"somebody's")
    with pytest.raises(YoloproofError, match="never overwritten"):
        engine_from_onnx(source, tmp_path / "tiny.engine", T4)
    assert (tmp_path / "tiny.engine").read_bytes() == b"somebody's"


def test_what_cannot_be_built_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tiny.engine"
    with pytest.raises(YoloproofError, match="no such file"):
        engine_from_onnx(tmp_path / "none.onnx", path, T4)
    (tmp_path / "broken.onnx").write_bytes(b"nonsense" * 9)
    with pytest.raises(YoloproofError, match="not an ONNX model"):
        engine_from_onnx(tmp_path / "broken.onnx", path, T4)
    source = tiny_detector(tmp_path / "tiny.onnx", "float16")
    with pytest.raises(YoloproofError, match="none for Hopper"):
        engine_from_onnx(source, path, EngineOptions(target="h100"))
    model = onnx.load(str(source))
    model.graph.node[0].op_type = "Nonsense"
    onnx.save(model, str(tmp_path / "unknown.onnx"))
    with pytest.raises(YoloproofError, match=r"cannot parse it: .*Nonsense"):
        engine_from_onnx(tmp_path / "unknown.onnx", path, T4)


def test_kernels_are_read_from_the_builders_list_and_from_the_inspector() -> None:
    text = (
        "Layers:\nName: wait_0, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , Metadata: \n"
        "Name: _gemm_mha_v2_0, LayerType: kgen, Inputs: [ { Name: q, Datatype: Float } ], Constants: [], "
        "Outputs: [ { Name: y, Datatype: Half, Format: x } ], TacticName: t, Metadata: [ONNX Layer: a][ONNX Layer: b]"
    )
    (kernel,) = kernels_from_log(text)
    assert (kernel.name, kernel.onnx_nodes, kernel.dtypes) == ("_gemm_mha_v2_0", ("a", "b"), ("Half",))
    layer = {"Name": "fmha", "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b]", "Outputs": [{"Format/Datatype": "Half"}]}
    detailed, named = kernels_from_inspector(json.dumps({"Layers": [layer, "Reformat"]}))
    assert detailed.onnx_nodes == ("a", "b")
    assert re.fullmatch("Reformat", named.name)
