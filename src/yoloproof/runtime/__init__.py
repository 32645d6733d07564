"""Open an artifact and run it: `open_session(SessionSpec("onnxruntime", path))`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec

from yoloproof.errors import YoloproofError
from yoloproof.runtime.base import NonFiniteOutput, Outputs, Session, SessionSpec, TensorSpec, check_finite

__all__ = [
    "AUTO_ORDER",
    "RUNTIMES",
    "NonFiniteOutput",
    "Outputs",
    "Runtime",
    "Session",
    "SessionSpec",
    "TensorSpec",
    "available_runtimes",
    "check_finite",
    "missing_part",
    "open_session",
]


@dataclass(frozen=True)
class Runtime:
    """Where a runtime's session lives, the library it needs, its pip line, whether it needs a GPU, and, of ONNX
    Runtime, the provider it stands for (None: the device's own)."""

    module: str
    session: str
    library: str
    install: str
    needs_gpu: bool
    provider: str | None = None


def _provider(name: str, install: str) -> Runtime:
    return Runtime("onnxruntime", "OnnxRuntimeSession", "onnxruntime", install, True, name)


RUNTIMES = {
    "pytorch": Runtime("pytorch", "PyTorchSession", "torch", "pip install torch", False),
    "onnxruntime": Runtime("onnxruntime", "OnnxRuntimeSession", "onnxruntime", "pip install onnxruntime", False),
    "openvino": Runtime("openvino", "OpenVinoSession", "openvino", "pip install 'yoloproof[openvino]'", False),
    "onnxruntime-cuda": _provider(
        "CUDAExecutionProvider", "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
    ),
    "onnxruntime-tensorrt": _provider(
        "TensorrtExecutionProvider", "pip uninstall onnxruntime, then pip install onnxruntime-gpu tensorrt"
    ),
    "onnxruntime-tensorrt-rtx": _provider(
        "NvTensorRTRTXExecutionProvider", "pip install onnxruntime-ep-nv-tensorrt-rtx-cu12"
    ),
    "tensorrt": Runtime("tensorrt", "TensorRtSession", "tensorrt", "pip install tensorrt", True),
    "tensorrt-rtx": Runtime("tensorrt", "TensorRtSession", "tensorrt_rtx", "pip install 'yoloproof[gpu]'", True),
}

# The command line's short names of precisions; sessions and their facts use NumPy's.
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}

# The order in which `--runtime auto` tries what is installed; the first that is proved is taken.
AUTO_ORDER = {
    "cpu": ("openvino", "onnxruntime", "pytorch"),
    "cuda": ("tensorrt", "tensorrt-rtx", "onnxruntime", "pytorch"),
}


def missing_part(name: str) -> str | None:
    """What this machine lacks to open a session of runtime `name`, with its remedy, or None."""
    if name not in RUNTIMES:
        raise YoloproofError(f"no runtime {name}; there are {', '.join(RUNTIMES)}")
    runtime = RUNTIMES[name]
    found = find_spec(runtime.library)
    # Stubs alone (tensorrt-stubs) leave a folder of that name without a module in it.
    if found is None or found.origin is None:
        return f"{runtime.library} is not installed; {runtime.install}"
    if runtime.needs_gpu:
        import torch

        if not torch.cuda.is_available():
            return "no CUDA device that PyTorch can use; an engine can be built here, but runs on a GPU machine"
    if runtime.provider is not None:
        from yoloproof.runtime.onnxruntime import has_provider

        if not has_provider(runtime.provider):
            return f"this onnxruntime has no {runtime.provider}; {runtime.install}"
    return None


def available_runtimes() -> tuple[str, ...]:
    """The runtimes that this machine can open, by name."""
    return tuple(name for name in RUNTIMES if missing_part(name) is None)


def open_session(spec: SessionSpec) -> Session:
    """Open what `spec` names; close it, or use it as a context manager. YoloproofError where a part is missing."""
    missing = missing_part(spec.runtime)
    if missing is not None:
        raise YoloproofError(f"runtime {spec.runtime}: {missing}")
    if spec.threads is not None and spec.threads < 1:
        raise YoloproofError(f"{spec.threads} threads; give at least 1")
    runtime = RUNTIMES[spec.runtime]
    spec = replace(spec, precision=PRECISIONS.get(spec.precision or "", spec.precision))
    if runtime.needs_gpu and spec.device == "cpu":
        spec = replace(spec, device="cuda")
    if runtime.provider is not None:
        spec = replace(spec, options={"provider": runtime.provider, **spec.options})
    session: Session = getattr(import_module(f"yoloproof.runtime.{runtime.module}"), runtime.session)(spec)
    return session
