"""ONNX Runtime, on the CPU or through one of its GPU providers.

The provider is asked for by name and every node is looked up afterwards: a provider that could not load, or that
left nodes to the CPU, is an error and not a slower row. Threads do not spin between runs, so that a second session
in the same process, or a clock, is not disturbed.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.files.onnx import read_onnx_file
from yoloproof.records import SessionFacts
from yoloproof.runtime.base import Outputs, Session, SessionSpec, TensorSpec, took_too_long
from yoloproof.runtime.tensors import cast_images, check_images, companion_inputs, image_first, with_filled_inputs
from yoloproof.runtime.threads import physical_cores

CPU = "CPUExecutionProvider"
# TensorRT-RTX's provider is a plugin of its own beside the plain onnxruntime (1.24 and later;
# nvidia.github.io/TensorRT-RTX-EP-ABI), for Ampere and newer; there was one inside onnxruntime-trt-rtx 1.23.
PLUGINS = {"NvTensorRTRTXExecutionProvider": "onnxruntime_ep_nv_tensorrt_rtx"}


class OnnxRuntimeSession(Session):
    """An ONNX file opened by ONNX Runtime.

    Of the options it knows `provider`, `cpu_nodes` and `inputs`.
    """

    def __init__(self, spec: SessionSpec) -> None:
        import onnxruntime

        path = _path(spec)
        file = read_onnx_file(path)
        if spec.precision is not None and spec.precision.dtype != file.precision:
            raise YoloproofError(
                f"{path} holds {file.precision} weights, not {spec.precision.dtype}; ONNX Runtime computes in what the "
                f"file holds: export it with --precision {spec.precision}"
            )
        self._path = path
        self._provider = _provider(spec, onnxruntime.get_available_providers())
        threads = spec.threads or physical_cores()
        self._session = _open(path, self._provider, spec, threads)
        nodes = _nodes_by_provider(self._session)
        self._refuse_fallback(path, nodes, spec.options.cpu_nodes)
        self._given = spec.options.inputs
        self.inputs = image_first([_tensor_spec(value) for value in self._session.get_inputs()], str(path))
        self.outputs = tuple(_tensor_spec(value) for value in self._session.get_outputs())
        # A plugin's device memory cannot be had from Python: its rows hold the copies, and say so.
        on_host = self._provider == CPU or is_plugin(self._provider)
        self.facts = SessionFacts(
            name=spec.runtime,
            version=onnxruntime.__version__,
            device=spec.device,
            provider=self._provider,
            provider_options=_provider_options(spec.device, self._provider),
            nodes_by_provider={name: sum(ops.values()) for name, ops in nodes.items()},
            threads=threads,
            precision=file.precision,
            flush_to_zero=spec.flush_to_zero,
            caller_flushes_to_zero=_caller_flushes(spec.flush_to_zero),
            opset=file.opset,
            copies_timed=on_host and self._provider != CPU,
        )
        self._kind, self._index = ("cpu", 0) if on_host else ("cuda", int(spec.device.partition(":")[2] or 0))
        self._binding = self._session.io_binding()
        self._values: list[Any] = []

    def _refuse_fallback(self, path: Path, nodes: Mapping[str, Counter[str]], cpu_nodes: bool) -> None:
        if self._provider not in self._session.get_providers():
            raise YoloproofError(
                f"{path}: {self._provider} did not start and ONNX Runtime fell back to the CPU; "
                "check that its CUDA libraries are installed (`yoloproof doctor`)"
            )
        left = nodes.get(CPU, Counter())
        if self._provider != CPU and left and not cpu_nodes:
            ops = ", ".join(f"{count} {op}" for op, count in left.most_common(4))
            raise YoloproofError(
                f"{path}: {self._provider} left {sum(left.values())} nodes to the CPU ({ops}); "
                "export with a fixed size and without --nms, or open it with SessionOptions(cpu_nodes=True)"
            )

    def load(self, images: NDArray[np.float32]) -> None:
        from onnxruntime import OrtValue

        check_images(images, self.inputs[0])
        arrays = {self.inputs[0].name: cast_images(images, self.inputs[0].dtype)}
        arrays |= companion_inputs(self.inputs[1:], images.shape, self._given)
        self.facts = with_filled_inputs(self.facts, {spec.name: arrays[spec.name] for spec in self.inputs[1:]})
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        # A CPU OrtValue is a view: the list keeps the arrays under it alive.
        self._values = [arrays]
        for name, array in arrays.items():
            value = OrtValue.ortvalue_from_numpy(array, self._kind, self._index)
            self._values.append(value)
            self._binding.bind_ortvalue_input(name, value)
        for spec in self.outputs:
            self._bind_output(spec)

    def _bind_output(self, spec: TensorSpec) -> None:
        from onnxruntime import OrtValue

        if any(isinstance(size, str) for size in spec.shape):
            self._binding.bind_output(spec.name, self._kind, self._index)
            return
        shape = [int(size) for size in spec.shape]
        value = OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(spec.dtype), self._kind, self._index)
        self._values.append(value)
        self._binding.bind_ortvalue_output(spec.name, value)

    def execute(self) -> None:
        self._run(None)

    def execute_within(self, limit_s: float) -> None:
        import onnxruntime

        over = threading.Event()
        options = onnxruntime.RunOptions()  # not in `execute`: a run with options takes longer

        def stop() -> None:
            over.set()
            options.terminate = True  # looked at before each node, inside of loops, too

        timer = threading.Timer(limit_s, stop)
        timer.daemon = True
        timer.start()
        try:
            self._run(options)
        except YoloproofError:
            if over.is_set():
                raise took_too_long(self._path, limit_s) from None
            raise
        finally:
            timer.cancel()

    def _run(self, options: Any) -> None:
        try:
            self._session.run_with_iobinding(self._binding, options)
        except Exception as error:  # its own kinds, by version
            reason = " ".join(str(error).split())[:300]
            raise YoloproofError(f"{self._path}: ONNX Runtime failed while it ran the file: {reason}") from None

    def fetch(self) -> Outputs:
        return tuple(np.array(value.numpy(), copy=True) for value in self._binding.get_outputs())


def _path(spec: SessionSpec) -> Path:
    if spec.path is None:
        raise YoloproofError("onnxruntime opens a file: give a path to an .onnx")
    return Path(spec.path)


def _provider(spec: SessionSpec, available: list[str]) -> str:
    provider = spec.options.provider or (CPU if spec.device == "cpu" else "CUDAExecutionProvider")
    if (provider == CPU) != (spec.device == "cpu"):
        raise YoloproofError(f"{provider} does not run on device {spec.device}; name a device and provider that agree")
    if provider not in available and not is_plugin(provider):
        raise YoloproofError(
            f"this onnxruntime has no {provider} (it has {', '.join(available)}); `yoloproof doctor` says what installs it"
        )
    return provider


def _provider_options(device: str, provider: str) -> dict[str, str]:
    """The device, and what keeps the arithmetic that of the file: the CUDA provider rounds float32 to TF32 where it can
    unless told not to."""
    if provider == CPU:
        return {}
    fixed = {"use_tf32": "0"} if provider == "CUDAExecutionProvider" else {}
    return {"device_id": device.partition(":")[2] or "0", **fixed}


def _open(path: Path, provider: str, spec: SessionSpec, threads: int) -> Any:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    if provider != CPU:
        # CUDA and cuDNN of the pip packages lie where the loader does not look; a process that has not imported
        # PyTorch falls back to the CPU without this (ONNX Runtime's documentation, "Preload DLLs").
        getattr(onnxruntime, "preload_dlls", lambda: None)()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: what goes wrong comes back as an exception
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_session_config_entry("session.set_denormal_as_zero", "1" if spec.flush_to_zero else "0")
    providers: list[Any] | None = [CPU]
    if is_plugin(provider):
        _append_plugin(options, provider, _provider_options(spec.device, provider))
        providers = None
    elif provider != CPU:
        providers = [(provider, _provider_options(spec.device, provider)), CPU]
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.EPFail,
        state.RuntimeException,
    ) as error:
        reason = str(error).split(" : ")[-1].strip().splitlines()[0]
        raise YoloproofError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot open it: {reason[:300]}; "
            "export it again for this version, or update onnxruntime"
        ) from None
    session.disable_fallback()
    return session


def has_provider(provider: str) -> bool:
    """Whether this onnxruntime has the provider, in itself or as an installed plugin."""
    import onnxruntime

    return provider in onnxruntime.get_available_providers() or is_plugin(provider)


def is_plugin(provider: str) -> bool:
    """Whether the provider comes from an installed plugin and not from onnxruntime itself."""
    import onnxruntime

    if provider not in PLUGINS or find_spec(PLUGINS[provider]) is None:
        return False
    registered = {device.ep_name for device in onnxruntime.get_ep_devices()}
    return provider in registered or provider not in onnxruntime.get_available_providers()


def _append_plugin(options: Any, provider: str, settings: dict[str, str]) -> None:
    """Register the plugin's library, once per process, and put its device `device_id` into the session's options."""
    import onnxruntime

    plugin = import_module(PLUGINS[provider])
    if provider not in {device.ep_name for device in onnxruntime.get_ep_devices()}:
        try:
            onnxruntime.register_execution_provider_library(provider, plugin.get_library_path())
        except Exception as error:  # onnxruntime's own kinds, by version
            reason = str(error).split(" : ")[-1]
            raise YoloproofError(
                f"{provider}: its plugin does not load here: {reason}; see `yoloproof doctor`"
            ) from None
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]
    index = int(settings.pop("device_id"))
    if index >= len(devices):
        raise YoloproofError(f"{provider} finds {len(devices)} GPUs that it can use; it needs Ampere or newer")
    options.add_provider_for_devices([devices[index]], settings)


def _nodes_by_provider(session: Any) -> dict[str, Counter[str]]:
    """Provider → how many nodes of each operator it was given, as ONNX Runtime recorded it when it cut the graph up."""
    nodes: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        nodes.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return nodes


def _caller_flushes(wanted: bool) -> bool:
    """Whether the thread that calls `execute` flushes subnormal numbers to zero.

    Every session sets its own worker threads, but the calling thread only by the first session of the process
    (onnxruntime_session_options_config_keys.h). Timings with and without belong in processes of their own.
    """
    global _first_session_flushes
    if _first_session_flushes is None:
        _first_session_flushes = wanted
    return _first_session_flushes


# ONNX Runtime's own state of the process, which it does not tell.
_first_session_flushes: bool | None = None

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def _tensor_spec(value: Any) -> TensorSpec:
    if value.type not in _DTYPES:
        raise YoloproofError(
            f"{value.name} is a {value.type}, which NumPy cannot hold; export it in float32 or float16"
        )
    shape = tuple(size if isinstance(size, int) else str(size or "?") for size in value.shape)
    return TensorSpec(value.name, shape, _DTYPES[value.type])
