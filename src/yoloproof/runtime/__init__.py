"""Open an artifact and run it: `open_session(SessionSpec(Runtime.ONNXRUNTIME, path))`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module

from yoloproof.engine_libraries import MODULES, is_installed, line_here, missing_library
from yoloproof.errors import YoloproofError
from yoloproof.names import ArtifactFormat, Precision, Runtime
from yoloproof.runtime.base import (
    NativeOptions,
    NonFiniteOutput,
    Outputs,
    Session,
    SessionOptions,
    SessionSpec,
    TensorSpec,
    check_finite,
)

__all__ = [
    "AUTO_ORDER",
    "RUNTIMES",
    "NativeOptions",
    "NonFiniteOutput",
    "Outputs",
    "RuntimeRow",
    "Session",
    "SessionOptions",
    "SessionSpec",
    "TensorSpec",
    "available_runtimes",
    "check_finite",
    "missing_part",
    "open_session",
]


@dataclass(frozen=True)
class RuntimeRow:
    """What a runtime opens, where its session lives, the library it needs and its pip line ("" where `engine_libraries` knows
    it), whether it needs a GPU, of ONNX Runtime the provider it stands for (None: the device's own), and what it can
    compute in."""

    opens: ArtifactFormat
    module: str
    session: str
    library: str
    install: str = ""
    needs_gpu: bool = False
    provider: str | None = None
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16)


def _onnxruntime(provider: str, install: str) -> RuntimeRow:
    return RuntimeRow(
        ArtifactFormat.ONNX,
        "onnxruntime",
        "OnnxRuntimeSession",
        "onnxruntime",
        install,
        needs_gpu=True,
        provider=provider,
    )


def _tensorrt(library: str) -> RuntimeRow:
    return RuntimeRow(ArtifactFormat.ENGINE, "tensorrt", "TensorRtSession", library, needs_gpu=True)


RUNTIMES = {
    Runtime.PYTORCH: RuntimeRow(
        ArtifactFormat.PYTORCH, "pytorch", "PyTorchSession", "torch", "pip install torch", precisions=tuple(Precision)
    ),
    Runtime.ONNXRUNTIME: RuntimeRow(
        ArtifactFormat.ONNX, "onnxruntime", "OnnxRuntimeSession", "onnxruntime", "pip install onnxruntime"
    ),
    Runtime.OPENVINO: RuntimeRow(
        ArtifactFormat.ONNX,
        "openvino",
        "OpenVinoSession",
        "openvino",
        "pip install 'yoloproof[openvino]'",
        precisions=tuple(Precision),
    ),
    Runtime.ONNXRUNTIME_CUDA: _onnxruntime(
        "CUDAExecutionProvider", "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
    ),
    Runtime.ONNXRUNTIME_TENSORRT: _onnxruntime(
        "TensorrtExecutionProvider", "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
    ),
    Runtime.ONNXRUNTIME_TENSORRT_RTX: _onnxruntime(
        "NvTensorRTRTXExecutionProvider", "pip install onnxruntime-ep-nv-tensorrt-rtx-cu12"
    ),
    Runtime.TENSORRT: _tensorrt("tensorrt"),
    Runtime.TENSORRT_RTX: _tensorrt("tensorrt_rtx"),
    Runtime.NATIVE: RuntimeRow(
        ArtifactFormat.NATIVE,
        "native",
        "native_session",
        "cuda.bindings",
        "pip install 'yoloproof[native]'",
        needs_gpu=True,
        precisions=(Precision.FP16,),
    ),
}

# The order in which `--runtime auto` tries what is installed; the first that is verified is taken. On a CPU it is the
# order of speed in the committed table (docs/measurement.md).
AUTO_ORDER = {
    "cpu": (Runtime.ONNXRUNTIME, Runtime.OPENVINO, Runtime.PYTORCH),
    "cuda": (Runtime.TENSORRT, Runtime.TENSORRT_RTX, Runtime.ONNXRUNTIME, Runtime.PYTORCH),
}


def missing_part(name: Runtime) -> str | None:
    """What this machine lacks to open a session of runtime `name`, with its remedy, or None."""
    if name == Runtime.AUTO:
        raise YoloproofError(f"auto is a choice among runtimes, not one that opens; name one of {', '.join(RUNTIMES)}")
    if name not in RUNTIMES:
        raise YoloproofError(f"no runtime is called {name}; choose from {', '.join(RUNTIMES)}")
    row = RUNTIMES[name]
    if name in MODULES and (missing := missing_library(name)) is not None:
        return missing
    if not is_installed(row.library):
        return f"{row.library} is not installed; {row.install}"
    if name == Runtime.NATIVE:
        from yoloproof.runtime.cuda_driver import driver_missing

        return driver_missing()
    if row.needs_gpu:
        import torch

        if not torch.cuda.is_available():
            return "PyTorch finds no CUDA device; engines can be built here, but run on a GPU machine only"
    if row.provider is not None:
        from yoloproof.runtime.onnxruntime import has_provider

        if not has_provider(row.provider):
            also = f", {line_here(Runtime.TENSORRT)}" if name is Runtime.ONNXRUNTIME_TENSORRT else ""
            return f"this onnxruntime has no {row.provider}; {row.install}{also}"
    return None


def available_runtimes() -> tuple[Runtime, ...]:
    """The runtimes that this machine can open."""
    return tuple(name for name in RUNTIMES if missing_part(name) is None)


def open_session(spec: SessionSpec) -> Session:
    """Open what `spec` names; close it, or use it as a context manager. YoloproofError where a part is missing."""
    missing = missing_part(spec.runtime)
    if missing is not None:
        raise YoloproofError(f"runtime {spec.runtime}: {missing}")
    if spec.threads is not None and spec.threads < 1:
        raise YoloproofError(f"{spec.threads} threads; give at least 1")
    row = RUNTIMES[spec.runtime]
    if row.needs_gpu and spec.device == "cpu":
        spec = replace(spec, device="cuda")
    if row.provider is not None and spec.options.provider is None:
        spec = replace(spec, options=replace(spec.options, provider=row.provider))
    session: Session = getattr(import_module(f"yoloproof.runtime.{row.module}"), row.session)(spec)
    return session
