"""Which runtimes may run a model, in which precision, size and batch: decided before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.files.engine import read_identity
from yoloproof.files.native import SUFFIX, read_native
from yoloproof.files.onnx import MOST_VALUES, read_onnx_file
from yoloproof.names import Precision, Runtime
from yoloproof.records import Case
from yoloproof.runtime import AUTO_ORDER, RUNTIMES, missing_part


def candidates(case: Case) -> tuple[Case, ...]:
    """The case with each runtime to try, best first: of "auto" all that are installed here and take the model.

    An `.engine` runs on the library that built it, a `.native` on the native runtime, an `.onnx` on those that read ONNX
    (TensorRT builds an engine of it), weights on all. Precision, size and batch of a file are read from it. Raises
    YoloproofError where the runtime cannot run the model, a part of it is missing on this machine, or the file has
    another fixed size or batch.
    """
    return tuple(_as_the_file_says(replace(case, runtime=name)) for name in _runtimes(case))


def check_tactics(tactics: Path | None, cases: Sequence[Case]) -> None:
    """Raise YoloproofError for a file of tactics that is not there, or that no case could take."""
    if tactics is None:
        return
    if not tactics.is_file():
        raise YoloproofError(f"--tactics {tactics}: no such file; leave --tactics out to measure them")
    if all(case.runtime is not Runtime.NATIVE for case in cases):
        raise YoloproofError(
            f"--tactics {tactics}: only native engines have tactics; name a .native or --runtime native"
        )


def default_precision(runtime: Runtime, device: str) -> Precision:
    """What a row is computed in where nothing was asked for: float16 on a GPU, float32 on a CPU."""
    on_gpu = device.startswith("cuda") or (runtime in RUNTIMES and RUNTIMES[runtime].needs_gpu)
    return Precision.FP16 if on_gpu else Precision.FP32


def _runtimes(case: Case) -> tuple[Runtime, ...]:
    path = Path(case.model)
    if path.suffix == ".engine":
        built_by = Runtime(read_identity(path).runtime)
        if case.runtime not in (Runtime.AUTO, built_by):
            raise YoloproofError(f"{path} is a {built_by} engine, which {case.runtime} cannot run; leave --runtime out")
        names: tuple[Runtime, ...] = (built_by,)
    elif path.suffix == SUFFIX:
        if case.runtime not in (Runtime.AUTO, Runtime.NATIVE):
            raise YoloproofError(f"{path} is a native engine, which {case.runtime} cannot run; leave --runtime out")
        names = (Runtime.NATIVE,)
    elif case.runtime is not Runtime.AUTO:
        names = (case.runtime,)
    else:
        order = AUTO_ORDER["cuda" if case.device.startswith("cuda") else "cpu"]
        installed = tuple(name for name in order if missing_part(name) is None)
        names = tuple(name for name in installed if path.suffix != ".onnx" or name is not Runtime.PYTORCH)
        if path.suffix != ".onnx":
            names = tuple(name for name in names if case.precision in RUNTIMES[name].precisions)
    if path.suffix == ".onnx" and Runtime.PYTORCH in names:
        raise YoloproofError(f"{path}: PyTorch runs weights, not ONNX files; name --runtime onnxruntime")
    for name in names:
        missing = missing_part(name)
        if missing is not None:
            raise YoloproofError(f"{path}: runtime {name}: {missing}")
        if path.suffix not in (".onnx", ".engine", SUFFIX) and case.precision not in RUNTIMES[name].precisions:
            able = " or --runtime ".join(row for row in RUNTIMES if case.precision in RUNTIMES[row].precisions)
            raise YoloproofError(f"{path}: {name} does not compute in {case.precision}; name --runtime {able}")
        if name is Runtime.OPENVINO is case.runtime and case.precision is not Precision.FP32:
            from yoloproof.runtime.openvino import lacks_precision

            if (incapable := lacks_precision(case.precision)) is not None:
                raise YoloproofError(f"{path}: {incapable}")
    if not names:
        raise YoloproofError(f"{path}: no runtime for {case.device} is installed; see `yoloproof doctor`")
    return names


def _as_the_file_says(case: Case) -> Case:
    """Precision of an engine, and of an ONNX file where the runtime computes as it says; a file's fixed size and batch."""
    path = Path(case.model)
    if path.suffix == ".engine":
        identity = read_identity(path)
        held, shape = Precision.of_dtype(identity.precision), identity.inputs[0][1] if identity.inputs else ()
    elif path.suffix == SUFFIX:
        held, shape = Precision.FP16, read_native(path).plan.images
    elif path.suffix == ".onnx":
        file = read_onnx_file(path)
        held, shape = Precision.of_dtype(file.precision), file.input_shape
        if case.runtime is Runtime.OPENVINO:
            held = case.precision
    else:
        return case
    if held is not None:
        case = replace(case, precision=held)
    if len(shape) != 4:
        return case
    batch, _, height, width = shape
    size = (height if height > 0 else case.imgsz[0], width if width > 0 else case.imgsz[1])
    case = replace(case, imgsz=size, batch=batch if batch > 0 else case.batch)
    if 3 * case.batch * size[0] * size[1] > MOST_VALUES:
        raise YoloproofError(
            f"{path}: {case.batch} images of {size[0]}x{size[1]} are more than any detector takes at once"
        )
    return case
