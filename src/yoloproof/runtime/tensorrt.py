"""TensorRT and TensorRT-RTX: an engine on a GPU.

The file's identity is checked before the library sees it. Everything that happens once (TensorRT-RTX compiles an
engine's kernels in its first run, a CUDA graph is captured) happens while images are first loaded, and its seconds
stand apart on record. Device memory and streams are PyTorch's.

Source: docs.nvidia.com/deeplearning/tensorrt and /tensorrt-rtx, Python API, "Working with runtime cache".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.files.engine import REBUILD, EngineHost, EngineIdentity, check_engine, network_name
from yoloproof.files.new import write_over
from yoloproof.names import Runtime
from yoloproof.records import SessionFacts
from yoloproof.runtime.base import Outputs, Session, SessionSpec, TensorSpec
from yoloproof.runtime.cuda import CudaDevice
from yoloproof.runtime.tensors import cast_images, check_images, companion_inputs, image_first, with_filled_inputs

_LIBRARIES = {Runtime.TENSORRT: "tensorrt", Runtime.TENSORRT_RTX: "tensorrt_rtx"}


class TensorRtSession(Session):
    """An engine built by this project, opened on the GPU. Of the options it knows `cuda_graph` and `inputs`.

    TensorRT-RTX keeps the kernels that it compiles in a file beside the engine.
    """

    def __init__(self, spec: SessionSpec) -> None:
        if spec.path is None:
            raise YoloproofError(f"{spec.runtime} opens an engine: give a path to an .engine")
        self._path = Path(spec.path)
        self._trt = import_module(_LIBRARIES[spec.runtime])
        self._device = CudaDevice(spec.device)
        self._captures = spec.options.cuda_graph
        version = str(self._trt.__version__)
        host = EngineHost(spec.runtime, version, self._device.compute_capability, self._device.name)
        self._identity = check_engine(self._path, host)
        if spec.precision is not None and spec.precision.dtype != self._identity.precision:
            raise YoloproofError(
                f"{self._path} is a {self._identity.precision} engine, not {spec.precision.dtype}; build one"
            )
        self._log = _log(self._trt)
        started = time.perf_counter()
        self._runtime, self._engine = _deserialize(self._trt, self._log, self._path, self._identity)
        deserialize_s = time.perf_counter() - started
        self._cache: Any = None
        self._cache_path = self._path.with_name(
            f"{self._path.name}.{self._identity.engine_sha256[:12]}-sm{self._device.compute_capability}.rtxcache"
        )
        self._context, cache_state = self._create_context(spec.runtime)
        self._given = spec.options.inputs
        self.inputs, self.outputs = _tensor_specs(self._trt, self._engine, self._path)
        self._buffers: dict[str, Any] = {}  # PyTorch's tensors
        self._run: Callable[[], None] = self._enqueue
        self.facts = SessionFacts(
            name=spec.runtime,
            version=version,
            device=str(self._device.device),
            provider=self._device.name,
            compute_capability=self._device.compute_capability,
            precision=self._identity.precision,
            attention=self._identity.attention,
            engine_sha256=self._identity.engine_sha256,
            target=self._identity.target,
            cuda_graph=self._captures,
            runtime_cache=cache_state,
            deserialize_s=deserialize_s,
        )

    def _create_context(self, runtime: Runtime) -> tuple[Any, str]:
        """The execution context, and what became of the runtime cache: none, empty, loaded or rejected."""
        if runtime is Runtime.TENSORRT:
            return self._checked_context(self._engine.create_execution_context()), "none"
        config = self._engine.create_runtime_config()
        # Kernels for a new shape are compiled when it is first run, not in the background of timed runs.
        config.dynamic_shapes_kernel_specialization_strategy = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self._cache = config.create_runtime_cache()
        state = "empty"
        if self._cache_path.is_file():
            state = "loaded" if self._cache.deserialize(self._cache_path.read_bytes()) else "rejected"
        config.set_runtime_cache(self._cache)
        return self._checked_context(self._engine.create_execution_context(config)), state

    def _checked_context(self, context: Any) -> Any:
        if context is None:
            raise YoloproofError(f"{self._path}: no execution context: {_errors(self._log)}; is the GPU's memory full?")
        return context

    def load(self, images: NDArray[np.float32]) -> None:
        """As Session.load; a shape not seen before also takes its buffers, its first run and its capture here."""
        check_images(images, self.inputs[0])
        arrays = {self.inputs[0].name: cast_images(images, self.inputs[0].dtype)}
        arrays |= companion_inputs(self.inputs[1:], images.shape, self._given)
        self.facts = with_filled_inputs(self.facts, {spec.name: arrays[spec.name] for spec in self.inputs[1:]})
        held = {name: tuple(buffer.shape) for name, buffer in self._buffers.items()}
        fresh = any(held.get(name) != array.shape for name, array in arrays.items())
        if fresh:
            self._allocate(arrays)
        for name, array in arrays.items():
            self._device.upload(array, self._buffers[name])
        if fresh:
            self._first_run()

    def _allocate(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Set the input shapes, make a buffer for every tensor and give the context its address."""
        for name, array in arrays.items():
            if not self._context.set_input_shape(name, array.shape):
                smallest, _, largest = self._engine.get_tensor_profile_shape(name, 0)
                raise YoloproofError(
                    f"{self._path}: input {name} takes {list(smallest)} to {list(largest)}, not {list(array.shape)}; "
                    "build it with other shapes"
                )
        self._buffers = {}
        for spec in (*self.inputs, *self.outputs):
            shape = tuple(self._context.get_tensor_shape(spec.name))
            if any(size < 0 for size in shape):
                raise YoloproofError(
                    f"{self._path}: {spec.name} {list(shape)} depends on the data; `yoloproof export --nms` writes fixed shapes"
                )
            self._buffers[spec.name] = self._device.empty(shape, spec.dtype)
            self._context.set_tensor_address(spec.name, self._buffers[spec.name].data_ptr())

    def _first_run(self) -> None:
        """Run once, keep what was compiled, capture the graph; each timed by itself."""
        self._run = self._enqueue
        started = time.perf_counter()
        self._device.run(self._enqueue)
        self.facts = replace(self.facts, first_run_s=time.perf_counter() - started)
        if self._cache is not None:
            write_over(bytes(self._cache.serialize()), self._cache_path)
        if self._captures:
            self._refuse_capture()
            started = time.perf_counter()
            self._run = self._device.captured(self._enqueue)
            self.facts = replace(self.facts, capture_s=time.perf_counter() - started)

    def _refuse_capture(self) -> None:
        """Raise where the library says that a CUDA graph cannot hold these inputs (TensorRT-RTX 1.2 and later)."""
        asked = getattr(self._context, "is_stream_capturable", None)
        if asked is not None and not asked(self._device.stream.cuda_stream):
            raise YoloproofError(
                f"{self._path}: {self._trt.__name__} cannot be captured in a CUDA graph with these inputs; build the "
                "engine again, or run it without one (SessionOptions(cuda_graph=False)), which goes on record"
            )

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._device.stream.cuda_stream):
            raise YoloproofError(f"{self._path}: the engine did not run: {_errors(self._log)}")

    def execute(self) -> float:
        return self._device.timed(self._run)

    def fetch(self) -> Outputs:
        return tuple(self._device.download(self._buffers[spec.name]) for spec in self.outputs)

    def close(self) -> None:
        self._run = self._enqueue
        self._buffers = {}
        self._context = self._cache = self._engine = self._runtime = None


def _log(trt: Any) -> Any:
    """A logger that keeps warnings and errors and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[tuple[str, str]] = []

        def log(self, severity: Any, text: str) -> None:
            if severity.name in ("WARNING", "ERROR", "INTERNAL_ERROR"):
                self.messages.append((str(severity.name), text))

    return Log()


def _errors(log: Any) -> str:
    return " ".join("; ".join(text for _, text in log.messages[-2:]).split())[:400] or "no reason given"


def _deserialize(trt: Any, log: Any, path: Path, identity: EngineIdentity) -> tuple[Any, Any]:
    """Runtime and engine; the library's own check of the file comes first, where it has one."""
    runtime = trt.Runtime(log)
    if identity.version_compatible:
        # Such an engine carries its own runtime as host code; it is ours, by its hash.
        runtime.engine_host_code_allowed = True
    plan = path.read_bytes()
    if hasattr(runtime, "get_engine_validity"):
        validity, diagnostics = runtime.get_engine_validity(plan)
        if validity == trt.EngineValidity.INVALID:
            members = trt.EngineInvalidityDiagnostics.__members__.items()
            reasons = [name for name, member in members if int(diagnostics) & int(member)]
            raise YoloproofError(
                f"{path}: {trt.__name__} refuses it here: {', '.join(reasons) or _errors(log)}; "
                "build it again for this GPU, driver and version"
            )
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise YoloproofError(f"{path}: {trt.__name__} cannot load it: {_errors(log)}; build it again on this machine")
    if engine.name != network_name(identity.onnx_sha256):
        raise YoloproofError(f"{path} holds another network ({engine.name}) than its sidecar says; {REBUILD}")
    return runtime, engine


def _tensor_specs(trt: Any, engine: Any, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(
            size if size >= 0 else f"{name}_{axis}" for axis, size in enumerate(engine.get_tensor_shape(name))
        )
        try:
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
        except TypeError:
            kind = engine.get_tensor_dtype(name)
            raise YoloproofError(
                f"{path}: {name} is {kind}, which NumPy cannot hold; export float32 or float16"
            ) from None
        side = inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs
        side.append(TensorSpec(name, shape, dtype))
    return image_first(inputs, str(path)), tuple(outputs)
