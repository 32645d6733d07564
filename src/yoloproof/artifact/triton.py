"""A model repository for NVIDIA Triton Inference Server, which is how one serves beyond one process.

    REPOSITORY/NAME/config.pbtxt    inputs and outputs, batching, instances, warm-up
    REPOSITORY/NAME/1/model.onnx    (or model.plan: a TensorRT engine)
    REPOSITORY/NAME/yoloproof.json  which artifact this is and its verification; Triton ignores it

Only a verified artifact is put there. Source: "Model Repository" and "Model Configuration" of the Triton documentation;
the fields are those of its `model_config.proto`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import read_identity
from yoloproof.files.onnx import load_onnx
from yoloproof.names import Precision, Runtime
from yoloproof.records import Verdict

TYPES = {
    Precision.FP32.dtype: "TYPE_FP32",
    Precision.FP16.dtype: "TYPE_FP16",
    Precision.BF16.dtype: "TYPE_BF16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
    "bool": "TYPE_BOOL",
}


MOST_BATCH = 8  # of a dynamic batch
QUEUE_DELAY_US = 500  # how long a request may wait for others to share its batch


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]  # -1 where dynamic


def triton_repository(
    artifact: Path,
    repository: Path,
    proof: Verdict,
    *,
    name: str | None = None,
    device: str = "gpu",
) -> Path:
    """Put `artifact` (.onnx, or a .engine of TensorRT) into a model repository; returns the model's folder.

    proof -- the verdict on this artifact; one that has not passed is refused; device -- "gpu" or "cpu"
    An artifact with a dynamic batch gets dynamic batching up to MOST_BATCH, one with a fixed batch is served at that
    batch alone. Raises YoloproofError for an artifact that is not verified, an engine that Triton cannot load, or a name
    that is taken or unusable.
    """
    name = name or re.sub(r"[^\w.-]", "_", artifact.stem)
    _check(artifact, name, proof, device)
    folder = repository / name
    if folder.exists():
        raise YoloproofError(f"{folder} exists; give the model another name, or delete the folder")
    if artifact.suffix == ".onnx":
        backend, filename = "onnxruntime", "model.onnx"
        inputs, outputs = _onnx_tensors(artifact)
        largest = None
    else:
        backend, filename = "tensorrt", "model.plan"
        inputs, outputs, largest = _engine_tensors(artifact)
    config = _config(name, backend, filename, inputs, outputs, device, largest)
    verdict = {"passed": proof.passed, **asdict(proof)}
    record = {"artifact": artifact.name, "sha256": sha256_of(artifact), "proof": verdict}
    scratch = repository / f".{uuid4().hex[:8]}-{name}"
    try:
        (scratch / "1").mkdir(parents=True)
        shutil.copyfile(artifact, scratch / "1" / filename)
        (scratch / "config.pbtxt").write_text(config, encoding="utf-8")
        (scratch / "yoloproof.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        scratch.rename(folder)
    except OSError as error:
        raise YoloproofError(
            f"{folder} was not written: {error.strerror or error}; make room, or name another"
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _check(artifact: Path, name: str, proof: Verdict, device: str) -> None:
    if not artifact.is_file():
        raise YoloproofError(f"{artifact}: no such file; export one first")
    if proof.passed is not True:
        raise YoloproofError(
            f"{artifact} is not verified; only a verified artifact is served: run `yoloproof verify` on it"
        )
    if not re.fullmatch(r"[\w.-]+", name):
        raise YoloproofError(f"{name!r} cannot name a Triton model; use letters, digits, '.', '_' and '-'")
    if device not in ("gpu", "cpu"):
        raise YoloproofError(f"Triton serves on gpu or cpu, not on {device!r}")
    if artifact.suffix not in (".onnx", ".engine"):
        raise YoloproofError(f"{artifact}: Triton takes an .onnx or a TensorRT .engine; export one of these")
    if artifact.suffix == ".engine" and device == "cpu":
        raise YoloproofError(f"{artifact} needs a GPU; serve the ONNX file on the CPU")


def _onnx_tensors(artifact: Path) -> tuple[list[_Tensor], list[_Tensor]]:
    import onnx

    graph = load_onnx(artifact, external_data=False).graph
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise YoloproofError(f"{artifact} keeps its weights in another file; save it as one for serving")
    weights = {tensor.name for tensor in graph.initializer}

    def tensor(value: Any) -> _Tensor:
        kind = value.type.tensor_type
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        return _Tensor(value.name, dtype, tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim))

    return [tensor(v) for v in graph.input if v.name not in weights], [tensor(v) for v in graph.output]


def _engine_tensors(artifact: Path) -> tuple[list[_Tensor], list[_Tensor], int | None]:
    """Inputs, outputs, and the largest batch of the engine's profile (None where the batch is fixed)."""
    identity = read_identity(artifact)
    if identity.runtime != Runtime.TENSORRT:
        raise YoloproofError(
            f"{artifact}: Triton loads TensorRT engines, not those of {identity.runtime}; serve the ONNX file"
        )
    inputs = [_Tensor(name, dtype, tuple(shape)) for name, shape, dtype in identity.inputs]
    outputs = [_Tensor(name, dtype, tuple(shape)) for name, shape, dtype in identity.outputs]
    return inputs, outputs, identity.largest_batch


def _config(
    name: str,
    backend: str,
    filename: str,
    inputs: Sequence[_Tensor],
    outputs: Sequence[_Tensor],
    device: str,
    largest: int | None,
) -> str:
    """The text of config.pbtxt. With batching, Triton leaves the first dimension out of every `dims`."""
    batched = all(tensor.shape[:1] == (-1,) for tensor in (*inputs, *outputs))
    max_batch = min(MOST_BATCH, largest or MOST_BATCH) if batched else 0
    lines = [
        f'name: "{name}"',
        f'backend: "{backend}"',
        f'default_model_filename: "{filename}"',
        f"max_batch_size: {max_batch}",
        *(line for tensor in inputs for line in _tensor_lines("input", tensor, batched)),
        *(line for tensor in outputs for line in _tensor_lines("output", tensor, batched)),
        f"instance_group {{ count: 1 kind: KIND_{device.upper()} }}",
    ]
    if batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}")
    return "\n".join([*lines, *_warmup_lines(inputs, batched, max_batch)]) + "\n"


def _tensor_lines(side: str, tensor: _Tensor, batched: bool) -> list[str]:
    dims = ", ".join(map(str, tensor.shape[1:] if batched else tensor.shape))
    return [f"{side} {{", f'  name: "{tensor.name}"', f"  data_type: {_type(tensor)}", f"  dims: [{dims}]", "}"]


def _type(tensor: _Tensor) -> str:
    if tensor.dtype not in TYPES:
        raise YoloproofError(f"Triton has no type for {tensor.name}'s {tensor.dtype}; export in float32 or float16")
    return TYPES[tensor.dtype]


def _warmup_lines(inputs: Sequence[_Tensor], batched: bool, max_batch: int) -> list[str]:
    """One warm-up request per batch size that requests meet first: one image, and the largest batch.

    Random data, because zeros run faster on a GPU than images do. A dynamic image size has no warm-up.
    """
    if any(-1 in (tensor.shape[1:] if batched else tensor.shape) for tensor in inputs):
        return []
    lines = []
    for batch in sorted({1, max_batch}) if batched else [0]:
        lines += ["model_warmup {", f'  name: "batch {batch}"' if batched else '  name: "fixed batch"']
        lines += [f"  batch_size: {batch}"]
        for tensor in inputs:
            dims = ", ".join(map(str, tensor.shape[1:] if batched else tensor.shape))
            value = f"data_type: {_type(tensor)} dims: [{dims}] random_data: true"
            lines.append(f'  inputs {{ key: "{tensor.name}" value {{ {value} }} }}')
        lines.append("}")
    return lines
