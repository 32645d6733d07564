"""Which runtime runs a model is settled before any work, and a runtime that cannot is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import yoloproof.runtime.choice as module
from tiny_onnx import tiny_detector
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import EngineIdentity, write_identity
from yoloproof.names import Precision, Runtime
from yoloproof.records import Case
from yoloproof.runtime import missing_part
from yoloproof.runtime.choice import candidates, default_precision


def rtx_engine(path: Path) -> Path:
    path.write_bytes(b"a plan")
    write_identity(
        path,
        EngineIdentity(
            sha256_of(path), 6, "a" * 64, None, Runtime.TENSORRT_RTX, "1.7.1.116", "t4", ("7.5",), None, "linux-x86_64",
            "float16", "fused", {}, {},
        ),
    )  # fmt: skip
    return path


def runtimes(
    model: str | Path, runtime: Runtime = Runtime.AUTO, precision: Precision = Precision.FP32
) -> list[Runtime]:
    return [case.runtime for case in candidates(Case(str(model), runtime, precision))]


def test_an_engine_runs_on_what_built_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rtx_engine(tmp_path / "n.engine")
    with pytest.raises(YoloproofError, match="is a tensorrt-rtx engine, which openvino cannot run"):
        runtimes(path, Runtime.OPENVINO)
    if missing_part(Runtime.TENSORRT_RTX) is not None:
        with pytest.raises(YoloproofError, match="runtime tensorrt-rtx: "):
            runtimes(path)
    monkeypatch.setattr(module, "missing_part", lambda name: None)
    (case,) = candidates(Case(str(path)))
    assert (case.runtime, case.precision) == (Runtime.TENSORRT_RTX, Precision.FP16)


def test_an_onnx_file_runs_on_what_reads_onnx_as_it_says(tmp_path: Path) -> None:
    path = tiny_detector(tmp_path / "n.onnx", "float16")
    assert set(runtimes(path)) <= {Runtime.OPENVINO, Runtime.ONNXRUNTIME}
    (case,) = candidates(Case(str(path), Runtime.ONNXRUNTIME))
    assert case.precision is Precision.FP16
    (case,) = candidates(Case(str(path), Runtime.OPENVINO, Precision.BF16))
    assert case.precision is Precision.BF16
    with pytest.raises(YoloproofError, match="PyTorch runs weights"):
        runtimes(path, Runtime.PYTORCH)


def test_weights_run_on_everything_that_is_here() -> None:
    assert runtimes("yolov13n")[-1] is Runtime.PYTORCH
    assert runtimes("yolov13n", Runtime.PYTORCH) == [Runtime.PYTORCH]


def test_what_a_runtime_cannot_compute_in_is_refused_before_any_work() -> None:
    with pytest.raises(
        YoloproofError, match="onnxruntime does not compute in bf16; name --runtime pytorch or --runtime openvino"
    ):
        runtimes("yolov13n", Runtime.ONNXRUNTIME, Precision.BF16)
    assert Runtime.ONNXRUNTIME not in runtimes("yolov13n", precision=Precision.BF16)


def test_a_gpu_computes_in_float16_unless_asked() -> None:
    rows = [
        (Runtime.ONNXRUNTIME, "cpu"), (Runtime.TENSORRT, "cpu"), (Runtime.ONNXRUNTIME_TENSORRT, "cpu"),
        (Runtime.PYTORCH, "cuda:1"),
    ]  # fmt: skip
    assert [default_precision(*row) for row in rows] == [Precision.FP32, *[Precision.FP16] * 3]
