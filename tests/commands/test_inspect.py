"""`inspect` of every kind of file: what it is, without running it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner, Result

from native_engines import engine
from tiny_onnx import tiny_detector
from yoloproof.cli import app
from yoloproof.demo import demo_checkpoint
from yoloproof.errors import YoloproofError
from yoloproof.files.native import write_native
from yoloproof.inspection import inspect


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_an_onnx_file(tmp_path: Path) -> None:
    file = tiny_detector(tmp_path / "t.onnx", "float16", batch="n")
    done = run(file, "--json", tmp_path / "t.json")
    assert done.exit_code == 0, done.output
    for words in ("images [n, 3, 32, 32] float16", "output0 [n, 84, 16] float16", "precision   fp16", "1 whole, 0 lost",
                  "model.6.m.0.0.attn: fused", "[B, 4 + classes, anchors]", "80: class0"):  # fmt: skip
        assert words in done.output, words
    assert json.loads((tmp_path / "t.json").read_text())["attention"][0]["spelling"] == "fused"


def test_a_lost_attention_and_thresholds(tmp_path: Path) -> None:
    model = onnx.load(tiny_detector(tmp_path / "t.onnx"))
    next(node for node in model.graph.node if node.op_type == "Attention").op_type = "Sum"
    onnx.helper.set_model_props(model, {"yoloproof.nms": '{"score": 0.4}', "author": "An \x1b[31mAuthor"})
    onnx.save(model, tmp_path / "lost.onnx")
    done = run(tmp_path / "lost.onnx")
    assert "0 whole, 1 lost" in done.output
    assert "model.6.m.0.0.attn: LOST" in done.output
    assert "score 0.4" in done.output
    assert "An ?[31mAuthor" in done.output


def test_weights_say_their_variant_classes_and_blocks() -> None:
    found = inspect(demo_checkpoint())
    assert found.kind.startswith("weights of yolov13n")
    assert (found.precision, len(found.names), len(found.attention)) == ("float16", 80, 8)


def test_a_native_engine(tmp_path: Path) -> None:
    write_native(engine(), tmp_path / "n.native")
    done = run(tmp_path / "n.native")
    assert "native engine for compute capability 7.5" in done.output
    assert "images [1, 3, 64, 96]" in done.output
    assert "output0 [B, 84, " in done.output
    assert "8 whole, 0 lost" in done.output
    assert "model.6.m.0.0.attention: fused kernel" in done.output


def test_an_engine(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    from yoloproof.artifact.engine import engine_from_onnx
    from yoloproof.artifact.tensorrt import EngineOptions

    file = tiny_detector(tmp_path / "t.onnx", "float16")
    engine_from_onnx(file, tmp_path / "t.engine", EngineOptions(target="t4", shapes={}))
    found = inspect(tmp_path / "t.engine")
    assert found.kind == "tensorrt-rtx engine for t4"
    assert [block.spelling for block in found.attention] == ["fused kernel"]
    assert (found.inputs[0].shape, found.outputs[0].shape) == ((1, 3, 32, 32), (1, 84, 16))


def test_what_is_none_of_these_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("no model")
    with pytest.raises(YoloproofError, match="neither a PyTorch zip"):
        inspect(tmp_path / "x.pt")
