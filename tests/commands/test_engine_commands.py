"""What a user meets who has an engine, or wants one, on a machine that cannot: one line, status 2, nothing done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tiny_onnx import tiny_detector
from yoloproof.artifact.options import OnnxOptions
from yoloproof.demo import demo_checkpoint
from yoloproof.errors import YoloproofError
from yoloproof.exporting import Export, export
from yoloproof.names import ArtifactFormat, Precision, Runtime
from yoloproof.records import Case

DEMO = str(demo_checkpoint())
ENGINE = ArtifactFormat.ENGINE


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_an_engine_without_a_gpu_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    from yoloproof.artifact.engine import engine_from_onnx
    from yoloproof.artifact.tensorrt import EngineOptions

    engine_from_onnx(
        tiny_detector(tmp_path / "t.onnx", "float16"), tmp_path / "t.engine", EngineOptions(target="t4", shapes={})
    )
    for arguments in (["profile", "t.engine"], ["verify", "t.engine", "--against", DEMO]):
        command = [sys.executable, "-m", "yoloproof", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert "runtime tensorrt-rtx: PyTorch finds no CUDA device" in line


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Export(ENGINE, targets=("banana",)), "target 'banana' is not one of"),
        (Export(ENGINE, targets=("h100",)), "none for Hopper"),
        (Export(onnx=OnnxOptions(opset=18)), "operator Attention of opset 23; add --attention explicit"),
        (Export(ENGINE, runtime=Runtime.OPENVINO), "does not build engines"),
        (
            Export(ENGINE, targets=("t4",), hardware_compatible="same"),
            "hardware-compatible is an option of TensorRT alone",
        ),
        (Export(runtime=Runtime.TENSORRT), "is for --format engine"),
        (Export(targets=("t4",)), "are for --format engine"),
        (Export(timing_cache=Path("t")), "are for --format engine"),
        (Export(ArtifactFormat.TRITON, runtime=Runtime.TENSORRT_RTX), "Triton cannot serve tensorrt-rtx engines"),
        (Export(nms=True, onnx=OnnxOptions(dynamic=True)), "fixed batch and size"),
    ],
)
def test_what_cannot_be_built_is_said_before_the_weights_are_read(wanted: Export, words: str) -> None:
    """The weights do not exist, and that is not what the message says."""
    with pytest.raises(YoloproofError, match=words):
        export(Case("no.pt", precision=Precision.FP16), wanted)
