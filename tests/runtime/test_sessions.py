"""The CPU runtimes on a real tiny detector: same numbers, honest facts, one clear line for every bad input."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tiny_onnx import images, tiny_detector
from yoloproof.errors import YoloproofError
from yoloproof.names import ArtifactFormat, Precision, Runtime
from yoloproof.runtime import (
    AUTO_ORDER,
    RUNTIMES,
    NonFiniteOutput,
    SessionOptions,
    SessionSpec,
    available_runtimes,
    missing_part,
    open_session,
)

FILE_RUNTIMES = [Runtime.ONNXRUNTIME, Runtime.OPENVINO]


def spec_for(runtime: Runtime, path: Path, **settings: object) -> SessionSpec:
    if runtime not in available_runtimes():
        pytest.skip(f"{runtime}: {missing_part(runtime)}")
    return SessionSpec(runtime, path, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_onnxruntime_and_openvino_agree(tmp_path: Path, precision: str) -> None:
    path = tiny_detector(tmp_path / "tiny.onnx", precision)
    outputs = []
    for runtime in FILE_RUNTIMES:
        with open_session(spec_for(runtime, path, threads=1)) as session:
            assert session.inputs[0].dtype == precision
            assert session.outputs[0].shape == (1, 84, 16)
            outputs.append(session.infer(images())[0])
    assert outputs[0].dtype == np.dtype(precision)
    assert np.abs(outputs[0]).max() > 0.05
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5 if precision == "float32" else 5e-3)


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_a_session_says_how_it_runs(tmp_path: Path, runtime: Runtime) -> None:
    path = tiny_detector(tmp_path / "tiny.onnx")
    with open_session(spec_for(runtime, path, threads=2, flush_to_zero=True)) as session:
        facts = session.facts
    assert (facts.name, facts.threads, facts.flush_to_zero, facts.precision) == (runtime, 2, True, "float32")
    assert facts.version
    with open_session(spec_for(runtime, path)) as session:
        assert session.facts.threads >= 1
        assert session.facts.flush_to_zero is False


def test_the_calling_thread_keeps_what_the_first_session_set(tmp_path: Path) -> None:
    path = tiny_detector(tmp_path / "tiny.onnx")
    program = (
        "import sys; from yoloproof.runtime import SessionSpec, open_session\n"
        "made = [open_session(SessionSpec('onnxruntime', sys.argv[1], flush_to_zero=f)).facts for f in (True, False)]\n"
        "print([(m.flush_to_zero, m.caller_flushes_to_zero) for m in made])"
    )
    command = [sys.executable, "-c", program, str(path)]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=paths)
    assert result.stdout.strip() == "[(True, True), (False, True)]"


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_fetched_outputs_outlive_the_next_run(tmp_path: Path, runtime: Runtime) -> None:
    with open_session(spec_for(runtime, tiny_detector(tmp_path / "tiny.onnx"), threads=1)) as session:
        first = session.infer(images(seed=1))[0]
        kept = first.copy()
        second = session.infer(images(seed=2))[0]
    np.testing.assert_array_equal(first, kept)
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_loading_takes_its_own_copy_of_the_images(tmp_path: Path, runtime: Runtime) -> None:
    given = images()
    with open_session(spec_for(runtime, tiny_detector(tmp_path / "tiny.onnx"), threads=1)) as session:
        expected = session.infer(given)[0]
        session.load(given)
        given[:] = 0
        session.execute()
        np.testing.assert_array_equal(session.fetch()[0], expected)


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_a_dynamic_batch_takes_every_batch(tmp_path: Path, runtime: Runtime) -> None:
    path = tiny_detector(tmp_path / "tiny.onnx", batch="batch")
    with open_session(spec_for(runtime, path, threads=1)) as session:
        assert isinstance(session.inputs[0].shape[0], str)
        three = session.infer(images(3))[0]
        one = session.infer(images(3)[1:2])[0]
    assert three.shape == (3, 84, 16)
    np.testing.assert_allclose(three[1:2], one, atol=1e-5)


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_the_size_input_of_rt_detr_is_filled_and_recorded(tmp_path: Path, runtime: Runtime) -> None:
    path = with_companion(tmp_path / "rtdetr.onnx", "orig_target_sizes", TensorProto.INT64, [1, 2])
    with open_session(spec_for(runtime, path, threads=1)) as session:
        sizes = session.infer(images(size=64)[:, :, :32])[1]
        assert session.facts.filled_inputs == {"orig_target_sizes": "[[64, 32]]"}  # width, height
    np.testing.assert_array_equal(sizes, [[64, 32]])


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_an_unknown_further_input_is_refused_unless_given(tmp_path: Path, runtime: Runtime) -> None:
    path = with_companion(tmp_path / "prompted.onnx", "prompt", TensorProto.FLOAT, [1, 5])
    with open_session(spec_for(runtime, path)) as session, pytest.raises(YoloproofError, match="prompt"):
        session.load(images(size=64)[:, :, :32])
    given = spec_for(runtime, path, options=SessionOptions(inputs={"prompt": [[1, 2, 3, 4, 5]]}))
    with open_session(given) as session:
        np.testing.assert_array_equal(session.infer(images(size=64)[:, :, :32])[1], [[1, 2, 3, 4, 5]])


def with_companion(path: Path, name: str, kind: int, shape: list[int]) -> Path:
    """A model whose second input comes out unchanged as its second output."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["images"], ["y"]), helper.make_node("Identity", [name], ["echo"])],
        "companion",
        [
            helper.make_tensor_value_info(name, kind, shape),
            helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 64]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 32, 64]),
            helper.make_tensor_value_info("echo", kind, shape),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_nan_is_an_error(tmp_path: Path, runtime: Runtime) -> None:
    path = tiny_detector(tmp_path / "overflow.onnx", scale=1e30)
    with open_session(spec_for(runtime, path)) as session, pytest.raises(NonFiniteOutput, match="output0 holds"):
        session.infer(images())


BROKEN: dict[str, Callable[[Path], object]] = {
    "no such file": lambda path: None,
    "is empty": lambda path: path.write_bytes(b""),
    "Git-LFS pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "not an ONNX model": lambda path: path.write_bytes(b"nonsense" * 10),
    "truncated": lambda path: path.write_bytes(tiny_detector(path).read_bytes()[:-1000]),
}


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, runtime: Runtime, fault: str) -> None:
    path = tmp_path / "model.onnx"
    BROKEN[fault](path)
    with pytest.raises(YoloproofError, match=fault) as caught:
        open_session(spec_for(runtime, path))
    assert "\n" not in str(caught.value)


def test_a_model_of_a_future_opset_is_refused(tmp_path: Path) -> None:
    path = tiny_detector(tmp_path / "future.onnx")
    model = onnx.load(str(path))
    model.opset_import[0].version = 99
    onnx.save(model, str(path))
    with pytest.raises(YoloproofError, match="cannot open it"):
        open_session(spec_for(Runtime.ONNXRUNTIME, path))


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_images_that_do_not_fit_are_refused(tmp_path: Path, runtime: Runtime) -> None:
    with open_session(spec_for(runtime, tiny_detector(tmp_path / "tiny.onnx"))) as session:
        with pytest.raises(YoloproofError, match="imgsz"):
            session.load(images(size=64))
        with pytest.raises(YoloproofError, match="imgsz"):
            session.load(images()[0])


def test_onnxruntime_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    path = tiny_detector(tmp_path / "tiny.onnx")
    with pytest.raises(YoloproofError, match="holds float32 weights"):
        open_session(spec_for(Runtime.ONNXRUNTIME, path, precision=Precision.FP16))
    with pytest.raises(YoloproofError, match="no CUDAExecutionProvider"):
        open_session(spec_for(Runtime.ONNXRUNTIME, path, device="cuda"))
    with pytest.raises(YoloproofError, match="does not run on device cpu"):
        open_session(spec_for(Runtime.ONNXRUNTIME, path, options=SessionOptions(provider="TensorrtExecutionProvider")))


def test_a_gpu_provider_computes_what_the_file_says() -> None:
    from yoloproof.runtime.onnxruntime import _provider_options

    assert _provider_options("cuda:1", "CUDAExecutionProvider") == {"device_id": "1", "use_tf32": "0"}
    assert _provider_options("cuda", "TensorrtExecutionProvider") == {"device_id": "0"}
    assert _provider_options("cpu", "CPUExecutionProvider") == {}


def test_a_provider_that_leaves_nodes_to_the_cpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU build is here: the real CPU session stands in for one whose provider took nothing."""
    from yoloproof.runtime import onnxruntime as module

    path = tiny_detector(tmp_path / "tiny.onnx")
    real_open = module._open
    monkeypatch.setattr(module, "_provider", lambda spec, available: "CUDAExecutionProvider")
    monkeypatch.setattr(module, "_open", lambda path, provider, spec, threads: real_open(path, module.CPU, spec, 1))
    with pytest.raises(YoloproofError, match="fell back to the CPU"):
        open_session(spec_for(Runtime.ONNXRUNTIME, path))

    class Started:
        """The session, saying that the GPU provider is on."""

        def __init__(self, session: object) -> None:
            self._session = session

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", module.CPU]

        def __getattr__(self, name: str) -> object:
            return getattr(self._session, name)

    monkeypatch.setattr(
        module, "_open", lambda path, provider, spec, threads: Started(real_open(path, module.CPU, spec, 1))
    )
    with pytest.raises(YoloproofError, match=r"left 10 nodes to the CPU \(3 Conv"):
        open_session(spec_for(Runtime.ONNXRUNTIME, path))


def test_onnxruntimes_gpu_providers_are_runtimes_of_their_own(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    for runtime in (Runtime.ONNXRUNTIME_CUDA, Runtime.ONNXRUNTIME_TENSORRT, Runtime.ONNXRUNTIME_TENSORRT_RTX):
        with pytest.raises(YoloproofError, match="no CUDA device"):
            open_session(SessionSpec(runtime, tiny_detector(tmp_path / "tiny.onnx")))


def test_a_provider_that_is_a_plugin_is_registered_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for NVIDIA's plugin package, whose library is none, to the real onnxruntime."""
    from yoloproof.runtime import onnxruntime as module

    library = tmp_path / "libplugin.so"
    library.write_bytes(b"no library")
    (tmp_path / "onnxruntime_ep_nv_tensorrt_rtx.py").write_text(
        f"def get_library_path():\n    return {str(library)!r}\n"
    )
    provider = "NvTensorRTRTXExecutionProvider"
    assert not module.has_provider(provider)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert module.has_provider(provider)
    monkeypatch.setattr("yoloproof.runtime.missing_part", lambda name: None)
    path = tiny_detector(tmp_path / "tiny.onnx")
    with pytest.raises(YoloproofError, match="its plugin does not load here") as caught:
        open_session(SessionSpec(Runtime.ONNXRUNTIME_TENSORRT_RTX, path))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("onnxruntime.register_execution_provider_library", lambda name, path: None)
    with pytest.raises(YoloproofError, match=r"finds 0 GPUs .* Ampere"):
        open_session(SessionSpec(Runtime.ONNXRUNTIME_TENSORRT_RTX, path))


def test_openvino_computes_in_bfloat16_only_when_asked(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    path = tiny_detector(tmp_path / "tiny.onnx")
    with open_session(spec_for(Runtime.OPENVINO, path)) as session:
        assert session.facts.precision == "float32"
        exact = session.infer(images())[0]
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(YoloproofError, match="cannot compute in bf16 on this CPU; use --precision fp32"):
            open_session(spec_for(Runtime.OPENVINO, path, precision=Precision.BF16))
        return
    with open_session(spec_for(Runtime.OPENVINO, path, precision=Precision.BF16)) as session:
        assert session.facts.precision == "bfloat16"
        rough = session.infer(images())[0]
    assert 0 < np.abs(exact - rough).max() < 0.1


def test_openvino_under_throughput_runs_a_request_for_each_stream(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tiny_detector(tmp_path / "tiny.onnx")
    with open_session(spec_for(Runtime.OPENVINO, path)) as session:
        assert session.facts.requests is None
        assert "LATENCY" in str(session.facts.performance_hint)
        expected = session.infer(images(1))
    with open_session(spec_for(Runtime.OPENVINO, path, threads=2, options=SessionOptions(throughput=True))) as session:
        assert "THROUGHPUT" in str(session.facts.performance_hint)
        assert session.facts.requests == session.facts.streams
        assert session.facts.streams is not None
        assert session.facts.streams >= 1
        for found, wanted in zip(session.infer(images(1)), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_openvino_sessions_side_by_side_are_not_pinned_to_the_same_cores(tmp_path: Path) -> None:
    path = tiny_detector(tmp_path / "tiny.onnx")
    spec = spec_for(Runtime.OPENVINO, path, threads=1, options=SessionOptions(pinned=False))
    with open_session(spec) as first, open_session(spec) as second:
        assert first.facts.pinned is second.facts.pinned is False
        first.infer(images(1))


def test_openvino_refuses_a_gpu(tmp_path: Path) -> None:
    path = tiny_detector(tmp_path / "tiny.onnx")
    with pytest.raises(YoloproofError, match="--device cpu"):
        open_session(spec_for(Runtime.OPENVINO, path, device="cuda"))


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 84, 8, 8), torch.nn.Flatten(2))


def test_pytorch_runs_the_network() -> None:
    with open_session(SessionSpec(Runtime.PYTORCH, network=small_network, threads=1)) as session:
        outputs = session.infer(images())
        with torch.inference_mode():
            expected = small_network()(torch.from_numpy(images())).numpy()
        kept = outputs[0].copy()
        session.infer(images(2, seed=5))
        assert session.facts.threads == 1
        assert session.facts.precision == "float32"
        assert session.facts.cuda_graph is False
    np.testing.assert_allclose(outputs[0], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs[0], kept)


def test_pytorch_precisions_and_layout() -> None:
    exact = open_session(SessionSpec(Runtime.PYTORCH, network=small_network)).infer(images())[0]
    options = SessionOptions(channels_last=True)
    with open_session(
        SessionSpec(Runtime.PYTORCH, network=small_network, precision=Precision.BF16, options=options)
    ) as session:
        rough = session.infer(images())[0]
        assert session.facts.channels_last is True
    assert 0 < np.abs(exact - rough).max() < 0.05


def test_pytorch_refuses_what_it_cannot_do() -> None:
    with pytest.raises(YoloproofError, match="not a file"):
        open_session(SessionSpec(Runtime.PYTORCH))
    with pytest.raises(YoloproofError, match="gpu7 is not a device"):
        open_session(SessionSpec(Runtime.PYTORCH, network=small_network, device="gpu7"))
    if not torch.cuda.is_available():
        with pytest.raises(YoloproofError, match="--device cpu"):
            open_session(SessionSpec(Runtime.PYTORCH, network=small_network, device="cuda"))


def test_the_table_of_runtimes() -> None:
    assert set(RUNTIMES) == set(Runtime) - {Runtime.AUTO}
    assert set(available_runtimes()) <= set(RUNTIMES)
    assert Runtime.PYTORCH in available_runtimes()
    assert {name for name, row in RUNTIMES.items() if row.opens is ArtifactFormat.ENGINE} == {
        name for name in RUNTIMES if name.builds_engines
    }
    for device, order in AUTO_ORDER.items():
        assert set(order) < set(RUNTIMES), device
    with pytest.raises(YoloproofError, match="at least 1"):
        open_session(SessionSpec(Runtime.PYTORCH, network=small_network, threads=0))


def test_auto_is_not_a_runtime_to_open() -> None:
    with pytest.raises(YoloproofError, match=r"auto is a choice.*onnxruntime"):
        open_session(SessionSpec(Runtime.AUTO, Path("n.onnx")))


def test_a_spec_takes_the_words_of_the_command_line_and_no_others() -> None:
    spec = SessionSpec("openvino", precision="bf16")  # type: ignore[arg-type]
    assert (spec.runtime, spec.precision) == (Runtime.OPENVINO, Precision.BF16)
    assert isinstance(spec.runtime, Runtime)
    with pytest.raises(YoloproofError, match="no runtime tensorflow; choose from auto, pytorch"):
        SessionSpec("tensorflow")  # type: ignore[arg-type]
    with pytest.raises(YoloproofError, match="no precision float16; choose from fp32, fp16, bf16"):
        SessionSpec("pytorch", precision="float16")  # type: ignore[arg-type]


def test_a_missing_library_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloproof.runtime.is_installed", lambda module: False)
    with pytest.raises(YoloproofError, match=r"pip install 'yoloproof\[openvino\]'"):
        open_session(SessionSpec(Runtime.OPENVINO))


def test_a_spec_travels_to_another_process(tmp_path: Path) -> None:
    spec = SessionSpec(
        Runtime.ONNXRUNTIME, tiny_detector(tmp_path / "tiny.onnx"), threads=1, options=SessionOptions(inputs={})
    )
    with open_session(pickle.loads(pickle.dumps(spec))) as session:
        assert session.infer(images())[0].shape == (1, 84, 16)
