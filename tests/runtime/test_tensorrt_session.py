"""The TensorRT session on a stand-in library and a stand-in device: what it answers and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tensorrt_stand_in
from tiny_onnx import images
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import EngineIdentity, host_platform, write_identity
from yoloproof.names import Precision, Runtime
from yoloproof.runtime import NonFiniteOutput, SessionOptions, SessionSpec, missing_part, open_session
from yoloproof.runtime import tensorrt as module
from yoloproof.runtime.cuda import CudaDevice


class Device:
    """CudaDevice's interface with host memory; `log` has what was asked of it, `buffers` the tensors by address."""

    name, compute_capability, device = "Tesla T4", "7.5", "cuda:0"

    def __init__(self, device: str) -> None:
        self.log: list[str] = []
        self.buffers: dict[int, torch.Tensor] = {}
        self.stream = type("Stream", (), {"cuda_stream": 7})()

    def empty(self, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        made = torch.empty(shape, dtype=getattr(torch, dtype))
        self.buffers[made.data_ptr()] = made
        return made

    def upload(self, values: np.ndarray, tensor: torch.Tensor) -> None:
        self.log.append("upload")
        tensor.copy_(torch.from_numpy(values))

    def download(self, tensor: torch.Tensor) -> np.ndarray:
        return tensor.clone().numpy()

    def run(self, call: Callable[[], None]) -> None:
        self.log.append("run")
        call()

    def timed(self, call: Callable[[], None]) -> float:
        self.log.append("timed")
        call()
        return 0.002

    def captured(self, call: Callable[[], None]) -> Callable[[], None]:
        self.log.append("captured")
        return call


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> tensorrt_stand_in.Library:
    """The stand-in in the place of `tensorrt` and `tensorrt_rtx`, on a stand-in T4."""
    library = tensorrt_stand_in.library("10.16.1.11")
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, library)
    monkeypatch.setattr("yoloproof.runtime.missing_part", lambda name: None)

    def device(name: str) -> Device:
        library.device = Device(name)
        return library.device

    monkeypatch.setattr(module, "CudaDevice", device)
    return library


def engine(path: Path, **changes: Any) -> Path:
    path.write_bytes(b"a TensorRT plan")
    identity = EngineIdentity(
        engine_sha256=sha256_of(path),
        engine_bytes=path.stat().st_size,
        onnx_sha256="a" * 64,
        checkpoint_sha256=None,
        runtime=Runtime.TENSORRT,
        version="10.16.1.11",
        target="current",
        compute_capabilities=("7.5",),
        gpu="Tesla T4",
        platform=host_platform(),
        precision="float16",
        attention="fused",
        options={},
        audit={},
    )
    write_identity(path, replace(identity, **changes))
    return path


def test_an_engine_runs_and_says_how(tmp_path: Path, trt: tensorrt_stand_in.Library) -> None:
    """What happens once, the first run and the capture, happens while loading; its seconds are on record."""
    with open_session(SessionSpec(Runtime.TENSORRT, engine(tmp_path / "n.engine"), "cuda")) as session:
        session.load(images())
        facts = session.facts
        assert session.execute() == 0.002
        (output,) = session.fetch()
        session.load(images(seed=2))  # a shape seen before
        assert trt.device.log.count("captured") == trt.device.log.count("run") == 1
    expected = 2 * images().astype(np.float16).astype(np.float32).mean()
    np.testing.assert_allclose(output, np.full((1, 84, 16), expected), rtol=1e-3)
    assert output.dtype == np.float16
    assert (facts.cuda_graph, facts.precision, facts.provider) == (True, "float16", "Tesla T4")
    assert None not in (facts.deserialize_s, facts.first_run_s, facts.capture_s)


def test_without_a_cuda_graph_when_told(tmp_path: Path, trt: tensorrt_stand_in.Library) -> None:
    spec = SessionSpec(
        Runtime.TENSORRT, engine(tmp_path / "n.engine"), "cuda", options=SessionOptions(cuda_graph=False)
    )
    with open_session(spec) as session:
        session.infer(images())
        assert session.facts.cuda_graph is False
        assert "captured" not in trt.device.log


def test_tensorrt_rtx_keeps_what_it_compiled(tmp_path: Path, trt: tensorrt_stand_in.Library) -> None:
    trt.DynamicShapesKernelSpecializationStrategy = tensorrt_stand_in.enumeration("LAZY", "EAGER")
    path = engine(tmp_path / "n.engine", runtime=Runtime.TENSORRT_RTX, gpu=None)
    states = []
    for _ in range(2):
        with open_session(SessionSpec(Runtime.TENSORRT_RTX, path, "cuda")) as session:
            session.infer(images())
            states.append(session.facts.runtime_cache)
    (cache,) = tmp_path.glob("*.rtxcache")
    cache.write_bytes(b"another driver's")
    with open_session(SessionSpec(Runtime.TENSORRT_RTX, path, "cuda")) as session:
        states.append(session.facts.runtime_cache)
    assert states == ["empty", "loaded", "rejected"]


def test_a_dynamic_batch_within_its_profile(tmp_path: Path, trt: tensorrt_stand_in.Library) -> None:
    trt.images = (-1, 3, 32, 32)
    with open_session(SessionSpec(Runtime.TENSORRT, engine(tmp_path / "n.engine"), "cuda")) as session:
        assert isinstance(session.inputs[0].shape[0], str)
        assert session.infer(images(3))[0].shape == (3, 84, 16)
        assert session.infer(images(1))[0].shape == (1, 84, 16)
        with pytest.raises(YoloproofError, match=r"takes \[1, 3, 32, 32\] to \[4, 3, 32, 32\]"):
            session.load(images(5))


def test_refusals_come_before_the_library_sees_the_file(tmp_path: Path, trt: tensorrt_stand_in.Library) -> None:
    path = engine(tmp_path / "n.engine")
    spec = SessionSpec(Runtime.TENSORRT, path, "cuda")
    for changed, words in (
        (replace(spec, precision=Precision.FP32), "float16"),
        (replace(spec, runtime=Runtime.TENSORRT_RTX), "--runtime tensorrt"),
        (replace(spec, path=None), "give a path"),
    ):
        with pytest.raises(YoloproofError, match=words):
            open_session(changed)
    path.write_bytes(b"a TensorRT plant")
    with pytest.raises(YoloproofError, match="edited, truncated or replaced"):
        open_session(spec)
    assert trt.calls == []


def test_what_the_library_refuses_is_said_with_its_reason(tmp_path: Path, trt: tensorrt_stand_in.Library) -> None:
    spec = SessionSpec(Runtime.TENSORRT, engine(tmp_path / "n.engine"), "cuda")
    trt.unloadable = True
    with pytest.raises(YoloproofError, match="magic tag does not match"):
        open_session(spec)
    trt.EngineValidity = tensorrt_stand_in.enumeration("VALID", "INVALID")
    diagnostics = tensorrt_stand_in.enumeration("VERSION_MISMATCH", "UNSUPPORTED_CC")
    trt.EngineInvalidityDiagnostics = type("Diagnostics", (), {"__members__": vars(diagnostics)})
    trt.validity, trt.diagnostics = trt.EngineValidity.INVALID, 2
    with pytest.raises(YoloproofError, match="UNSUPPORTED_CC"):
        open_session(spec)


def test_an_engine_of_another_network_than_its_sidecars_is_refused(
    tmp_path: Path, trt: tensorrt_stand_in.Library
) -> None:
    """A sidecar written anew around a foreign engine: the name inside the engine tells."""
    trt.engine_name = "Unnamed Network 0"
    with pytest.raises(YoloproofError, match=r"another network \(Unnamed Network 0\) .*yoloproof export"):
        open_session(SessionSpec(Runtime.TENSORRT, engine(tmp_path / "n.engine"), "cuda"))


def test_a_graph_that_cannot_be_captured_is_said_before_it_is_tried(
    tmp_path: Path, trt: tensorrt_stand_in.Library
) -> None:
    trt.capturable = False
    spec = SessionSpec(Runtime.TENSORRT, engine(tmp_path / "n.engine"), "cuda")
    with open_session(spec) as session, pytest.raises(YoloproofError, match="cannot be captured"):
        session.load(images())
    with open_session(replace(spec, options=SessionOptions(cuda_graph=False))) as session:
        assert session.infer(images())[0].shape == (1, 84, 16)


def test_a_version_compatible_engine_may_bring_its_own_code(tmp_path: Path, trt: tensorrt_stand_in.Library) -> None:
    path = engine(tmp_path / "n.engine", options={"version_compatible": True})
    open_session(SessionSpec(Runtime.TENSORRT, path, "cuda")).close()
    assert trt.calls[0] == ("deserialize_cuda_engine", b"a TensorRT plan", True)


def test_a_run_that_fails_or_gives_nan_is_an_error(tmp_path: Path, trt: tensorrt_stand_in.Library) -> None:
    spec = SessionSpec(Runtime.TENSORRT, engine(tmp_path / "n.engine"), "cuda")
    with open_session(spec) as session, pytest.raises(NonFiniteOutput, match="output0 holds 1344 values"):
        session.infer(np.full((1, 3, 32, 32), np.nan, np.float32))
    trt.fails = True
    with open_session(spec) as session, pytest.raises(YoloproofError, match="did not run"):
        session.load(images())
    trt.fails, trt.output_shape = False, (1, -1, 16)
    with open_session(spec) as session, pytest.raises(YoloproofError, match="writes fixed shapes"):
        session.load(images())


def test_without_a_gpu_the_missing_part_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(YoloproofError, match="--device cpu"):
        CudaDevice("cuda")
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    assert "no CUDA device" in str(missing_part("tensorrt-rtx"))
    with pytest.raises(YoloproofError, match="no CUDA device"):
        open_session(SessionSpec(Runtime.TENSORRT_RTX, Path("n.engine"), "cuda"))
