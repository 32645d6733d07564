"""Which runtimes may run a MODEL, and in which precision, decided before any work is done."""

from __future__ import annotations

from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.files.engine import read_identity
from yoloproof.files.onnx import read_onnx_file
from yoloproof.names import Precision
from yoloproof.runtime import AUTO_ORDER, missing_part


def runtimes_for(model: str | Path, runtime: str, device: str) -> tuple[str, ...]:
    """The runtimes to try for MODEL, best first: of "auto" all that are installed here and take it, else `runtime`.

    An `.engine` runs on the library that built it, an `.onnx` on those that read ONNX (TensorRT builds an engine of it),
    weights on all. Raises YoloproofError where `runtime` cannot run MODEL or a part of it is missing on this machine.
    """
    path = Path(model)
    if path.suffix == ".engine":
        built_by = read_identity(path).runtime
        if runtime not in ("auto", built_by):
            raise YoloproofError(f"{path} is a {built_by} engine, which {runtime} cannot run; leave --runtime out")
        names: tuple[str, ...] = (built_by,)
    elif runtime != "auto":
        names = (runtime,)
    else:
        order = AUTO_ORDER["cuda" if device.startswith("cuda") else "cpu"]
        installed = tuple(name for name in order if missing_part(name) is None)
        names = tuple(name for name in installed if path.suffix != ".onnx" or name != "pytorch")
    if path.suffix == ".onnx" and "pytorch" in names:
        raise YoloproofError(f"{path}: PyTorch runs weights, not ONNX files; name --runtime onnxruntime")
    for name in names:
        missing = missing_part(name)
        if missing is not None:
            raise YoloproofError(f"{path}: runtime {name}: {missing}")
    if not names:
        raise YoloproofError(f"{path}: no runtime for {device} is installed; see `yoloproof doctor`")
    return names


def precision_for(model: str | Path, runtime: str, asked: str) -> str:
    """ "fp32", "fp16" or "bf16": that of an engine, and of an ONNX file where the runtime computes as it says; else `asked`."""
    path = Path(model)
    if path.suffix == ".engine":
        held = read_identity(path).precision
    elif path.suffix == ".onnx" and runtime != "openvino":
        held = read_onnx_file(path).precision
    else:
        held = asked
    return Precision.of_dtype(held) or held


def default_precision(runtime: str, device: str) -> str:
    """What a row is computed in where nothing was asked for: float16 on a GPU, float32 on a CPU."""
    on_gpu = device.startswith("cuda") or runtime.startswith(("tensorrt", "onnxruntime-"))
    return "fp16" if on_gpu else "fp32"
