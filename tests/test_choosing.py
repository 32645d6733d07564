"""Which runtime runs a model is settled before any work, and a runtime that cannot is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yoloproof.choosing as module
from yoloproof.choosing import default_precision, precision_for, runtimes_for

from tiny_onnx import tiny_detector
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import EngineIdentity, write_identity
from yoloproof.runtime import missing_part


def rtx_engine(path: Path) -> Path:
    path.write_bytes(b"a plan")
    write_identity(
        path,
        EngineIdentity(
            sha256_of(path), 6, "a" * 64, None, "tensorrt-rtx", "1.7.1.116", "t4", ("7.5",), None, "linux-x86_64",
            "float16", "fused", {}, {},
        ),
    )  # fmt: skip
    return path


def test_an_engine_runs_on_what_built_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rtx_engine(tmp_path / "n.engine")
    with pytest.raises(YoloproofError, match="is a tensorrt-rtx engine, which openvino cannot run"):
        runtimes_for(path, "openvino", "cpu")
    assert precision_for(path, "tensorrt-rtx", "fp32") == "fp16"
    if missing_part("tensorrt-rtx") is not None:
        with pytest.raises(YoloproofError, match="runtime tensorrt-rtx: "):
            runtimes_for(path, "auto", "cpu")
    monkeypatch.setattr(module, "missing_part", lambda name: None)
    assert runtimes_for(path, "auto", "cpu") == ("tensorrt-rtx",)


def test_an_onnx_file_runs_on_what_reads_onnx(tmp_path: Path) -> None:
    path = tiny_detector(tmp_path / "n.onnx", "float16")
    assert set(runtimes_for(path, "auto", "cpu")) <= {"openvino", "onnxruntime"}
    assert precision_for(path, "onnxruntime", "fp32") == "fp16"
    assert precision_for(path, "openvino", "bf16") == "bf16"
    with pytest.raises(YoloproofError, match="PyTorch runs weights"):
        runtimes_for(path, "pytorch", "cpu")


def test_weights_run_on_everything_that_is_here() -> None:
    assert runtimes_for("yolov13n", "auto", "cpu")[-1] == "pytorch"
    assert runtimes_for("yolov13n.pt", "pytorch", "cpu") == ("pytorch",)


def test_a_gpu_computes_in_float16_unless_asked() -> None:
    rows = [("onnxruntime", "cpu"), ("tensorrt", "cpu"), ("onnxruntime-tensorrt", "cpu"), ("pytorch", "cuda:1")]
    assert [default_precision(*row) for row in rows] == ["fp32", "fp16", "fp16", "fp16"]


def test_auto_takes_the_next_where_one_fails_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from yoloproof import profiling
    from yoloproof.proof import Check, Verdict

    verdicts = {
        "onnxruntime": Verdict((Check("outputs", False, {}, ""),)),
        "pytorch": Verdict((Check("a", True, {}, ""),)),
    }

    def made(request: profiling.Request, settings: profiling.Settings, say: object) -> profiling.Row:
        if request.runtime == "openvino":
            raise YoloproofError("openvino cannot take it")
        return profiling.Row(request, profiling.session_spec(request, settings, None), None, {})

    def proved(row: profiling.Row, *_: object) -> profiling.Row:
        row.verdict = verdicts[row.request.runtime]
        return row

    monkeypatch.setattr(profiling, "made", made)
    monkeypatch.setattr(profiling, "proved", proved)
    monkeypatch.setattr(module, "missing_part", lambda name: None)
    request = profiling.Request("yolov13n", "auto", "fp32", "fused")
    (row,) = profiling.made_and_proved(request, profiling.Settings(), None, lambda step: None)  # type: ignore[arg-type]
    assert row.request.runtime == "pytorch"
    assert row.facts["passed_over"] == ["openvino: openvino cannot take it", "onnxruntime: not proved"]
    verdicts["pytorch"] = verdicts["onnxruntime"]
    (row,) = profiling.made_and_proved(request, profiling.Settings(), None, lambda step: None)  # type: ignore[arg-type]
    assert row.facts["passed_over"][-1] == "pytorch: not proved"
    only = profiling.Request("yolov13n", "openvino", "fp32", "fused")
    with pytest.raises(YoloproofError, match="cannot take it"):
        profiling.made_and_proved(only, profiling.Settings(), None, lambda step: None)  # type: ignore[arg-type]
