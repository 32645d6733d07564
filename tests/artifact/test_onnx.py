"""Network → ONNX: sizes, precisions, inputs, identity, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from yoloproof.artifact.onnx import export_onnx, read_artifact
from yoloproof.demo import demo_checkpoint
from yoloproof.errors import YoloproofError
from yoloproof.network import Network, load_network
from yoloproof.proof.audit import graph_audit
from yoloproof.proof.stated import stated_of
from yoloproof.runtime import SessionSpec, open_session
from yoloproof.simplify.choice import RUNTIME_REWRITES
from yoloproof.simplify.rewrites import DEFAULT_REWRITES, simplify

Images = NDArray[np.float32]


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network(demo_checkpoint())


def outputs(path: Path, images: Images) -> NDArray[np.float32]:
    with open_session(SessionSpec("onnxruntime", path)) as session:
        return np.asarray(session.infer(images)[0], np.float32)


def reference(network: Network, images: Images) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(images)).numpy())


def test_a_file_says_what_it_is(network: Network, tmp_path: Path) -> None:
    artifact = export_onnx(simplify(network), tmp_path / "n.onnx", imgsz=(64, 96))
    said = read_artifact(tmp_path / "n.onnx")
    assert said == artifact
    assert said.metadata["variant"] == "yolov13n"
    assert said.metadata["checkpoint_sha256"] == network.sha256
    assert (said.metadata["attention"], said.metadata["precision"], said.metadata["opset"]) == ("fused", "fp32", 23)
    assert said.metadata["imgsz"] == [64, 96]
    model = onnx.load(tmp_path / "n.onnx")
    onnx.checker.check_model(model)
    assert sum(n.op_type == "Attention" for n in model.graph.node) == 8
    assert any(n.name == "model.6.m.0.1.attn/Attention" for n in model.graph.node)
    assert not [p for n in model.graph.node for p in n.metadata_props]  # no stack traces of the machine that exported


def test_one_file_for_any_batch_and_size(network: Network, tmp_path: Path) -> None:
    export_onnx(simplify(network), tmp_path / "d.onnx", dynamic=True)
    rng = np.random.default_rng(0)
    for shape in ((1, 3, 64, 64), (3, 3, 96, 160)):
        images = rng.random(shape, np.float32)
        np.testing.assert_allclose(outputs(tmp_path / "d.onnx", images), reference(network, images), atol=2e-3)


def test_pixels_go_in_as_they_are(network: Network, tmp_path: Path) -> None:
    folded = simplify(network, (*DEFAULT_REWRITES, "pixels"))
    export_onnx(folded, tmp_path / "u.onnx", imgsz=(64, 64), input_type="uint8")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64)).astype(np.uint8)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "u.onnx"), providers=["CPUExecutionProvider"])
    given = session.run(None, {"images": pixels})[0]
    np.testing.assert_allclose(given, reference(network, pixels.astype(np.float32) / 255), atol=2e-3)


def test_float16_is_in_the_graph(network: Network, images: Images, tmp_path: Path) -> None:
    export_onnx(simplify(network), tmp_path / "h.onnx", imgsz=(320, 320), precision="fp16", input_type="float16")
    model = onnx.load(tmp_path / "h.onnx")
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT  # boxes are decoded in float32
    weights = [t for t in model.graph.initializer if t.name.endswith("conv.weight")]
    assert {t.data_type for t in weights} == {onnx.TensorProto.FLOAT16}
    difference = np.abs(outputs(tmp_path / "h.onnx", images[:1]) - reference(network, images[:1]))
    assert np.quantile(difference[:, :4], 0.999) < 1.0
    assert difference[:, 4:].max() < 0.02


@pytest.mark.parametrize(("runtime", "attention"), [("onnxruntime", "explicit"), ("openvino", "fused")])
def test_what_a_runtime_gets_passes_the_audit(tmp_path: Path, runtime: str, attention: str) -> None:
    network = load_network(demo_checkpoint(), attention)
    more = ("bounds",) if attention == "explicit" else ()
    artifact = export_onnx(simplify(network, (*RUNTIME_REWRITES[runtime], *more)), tmp_path / "r.onnx", imgsz=(64, 96))
    checks = graph_audit(onnx.load(tmp_path / "r.onnx"), network, stated_of(artifact.path))
    assert {c.name: c.passed for c in checks if not c.passed} == {}
    images = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    np.testing.assert_allclose(outputs(tmp_path / "r.onnx", images), reference(network, images), atol=2e-3)


def test_an_attention_that_forgets_its_keys_fails_the_audit(network: Network, tmp_path: Path) -> None:
    """q·qᵀ instead of q·kᵀ where q and k come from convolutions of their own."""
    explicit = load_network(demo_checkpoint(), "explicit")
    simplified = simplify(explicit, RUNTIME_REWRITES["onnxruntime"])
    artifact = export_onnx(simplified, tmp_path / "k.onnx", imgsz=(64, 64))
    model = onnx.load(tmp_path / "k.onnx")
    block = "model.8.m.0.0.attn"
    q, k = (next(n for n in model.graph.node if n.name.startswith(f"{block}.{part}.conv/")) for part in "qk")
    for node in model.graph.node:
        node.input[:] = [q.output[0] if name == k.output[0] else name for name in node.input]
    failed = {c.name: c.detail for c in graph_audit(model, network, stated_of(artifact.path)) if not c.passed}
    assert failed.keys() == {"weights", "attention"}
    assert block in failed["attention"]


def test_swish_is_one_operator(network: Network, tmp_path: Path) -> None:
    export_onnx(simplify(network), tmp_path / "s.onnx", opset=24, imgsz=(64, 64))
    model = onnx.load(tmp_path / "s.onnx")
    assert len(model.graph.node) <= 480
    assert sum(n.op_type == "Swish" for n in model.graph.node) == 90
    images = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    np.testing.assert_allclose(outputs(tmp_path / "s.onnx", images), reference(network, images), atol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"imgsz": (100, 64)}, "multiples of 32"),
        ({"batch": 0}, "batch 0"),
        ({"precision": "int8"}, "fp16"),
        ({"input_type": "int8"}, "uint8"),
        ({"input_type": "uint8"}, "pixels"),
    ],
)
def test_wrong_arguments_are_refused(
    network: Network, tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(YoloproofError, match=words):
        export_onnx(network, tmp_path / "x.onnx", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "x.onnx").exists()


def test_nothing_is_overwritten(network: Network, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"mine")
    with pytest.raises(YoloproofError, match="exists"):
        export_onnx(network, tmp_path / "mine.onnx")
    assert (tmp_path / "mine.onnx").read_bytes() == b"mine"


@pytest.mark.parametrize(("attention", "opset"), [("explicit", 17), ("published", 17)])
def test_older_opsets_compute_the_same(attention: str, opset: int, network: Network, tmp_path: Path) -> None:
    plain = simplify(
        load_network(demo_checkpoint(), attention), DEFAULT_REWRITES if attention == "explicit" else ("norms",)
    )
    said = export_onnx(plain, tmp_path / "old.onnx", imgsz=(64, 96), opset=opset)
    model = onnx.load(tmp_path / "old.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert said.opset == model.opset_import[0].version == opset
    assert model.ir_version <= (8 if opset == 17 else 10)
    images = np.random.default_rng(1).random((1, 3, 64, 96), np.float32)
    np.testing.assert_allclose(outputs(tmp_path / "old.onnx", images), reference(network, images), atol=2e-3)
