"""ONNX → engine: parse, audit, build, audit again, write with an identity."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yoloproof.artifact import tensorrt
from yoloproof.artifact.engine_audit import Audit, EngineKernel, audit, kernels_from_inspector, kernels_from_log
from yoloproof.artifact.engine_targets import Target, target_from_name
from yoloproof.artifact.tensorrt import BuildProgress, EngineOptions
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import EngineHost, EngineIdentity, check_engine, host_platform, network_name, write_identity
from yoloproof.files.new import write_new
from yoloproof.files.onnx import load_onnx
from yoloproof.names import Precision, Runtime

_DTYPES = {"HALF": Precision.FP16.dtype, "FLOAT": Precision.FP32.dtype, "BF16": Precision.BF16.dtype}


@dataclass(frozen=True)
class Engine:
    """A built engine: where it lies, what it is, and what became of its attention."""

    path: Path
    identity: EngineIdentity
    audit: Audit


def engine_from_onnx(
    onnx: Path, path: Path, options: EngineOptions | None = None, progress: BuildProgress | None = None
) -> Engine:
    """Build `onnx` into the engine file `path`, with its sidecar `path`.json, and say what became of the attention.

    `progress` gets a fraction in 0…1 and the phase's name. Nothing is written where this raises.
    Raises YoloproofError for an existing `path`, an unreadable model, a target the library does not build for, a
    missing GPU, a build that fails, and, unless `options.require_fused` is off, an attention that falls apart.
    """
    options = options or EngineOptions()
    if path.exists():
        raise YoloproofError(f"{path} exists; an engine is never overwritten, name another file with -o or delete it")
    trt, target, gpu = buildable(options)
    model = load_onnx(onnx)
    onnx_sha256 = sha256_of(onnx)
    started = time.perf_counter()
    log = tensorrt.build_log(trt)
    builder, network, parser = tensorrt.parse(trt, log, onnx, network_name(onnx_sha256))
    unfusable = tensorrt.unfusable_attentions(trt, network)
    if unfusable and options.require_fused:
        raise YoloproofError(tensorrt.no_fused_kernel(onnx, unfusable[0]))
    if not options.require_fused:
        tensorrt.allow_decomposition(trt, network)
    config = tensorrt.configure(trt, builder, network, options, target)
    monitor = None if progress is None else tensorrt.build_monitor(trt, progress)
    plan = tensorrt.serialize(trt, log, builder, network, config, onnx, monitor)
    build_s = time.perf_counter() - started
    found = audit(trt, network, model, _kernels(trt, log, plan), log.messages)
    del parser
    if options.require_fused and found.faults():
        raise YoloproofError(
            f"{onnx}: the engine for {options.target} is not what was exported: {'; '.join(found.faults())}"
        )
    if options.runtime == Runtime.TENSORRT:
        tensorrt.save_timing_cache(config, options.timing_cache)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    identity = EngineIdentity(
        engine_sha256="",
        engine_bytes=len(plan),
        onnx_sha256=onnx_sha256,
        checkpoint_sha256=_said(metadata, "checkpoint_sha256"),
        runtime=options.runtime,
        version=str(trt.__version__),
        target=target.name,
        compute_capabilities=target.compute_capabilities,
        gpu=gpu,
        platform=host_platform(),
        precision=_precision(found),
        attention=_said(metadata, "attention") or found.form,
        options=_options_record(options),
        audit=found.record(),
        onnx_metadata=metadata,
        inputs=tuple(_tensor(network.get_input(index)) for index in range(network.num_inputs)),
        outputs=tuple(_tensor(network.get_output(index)) for index in range(network.num_outputs)),
        build_s=build_s,
    )
    return Engine(path, _write(path, plan, identity), found)


def engine_for_machine(
    onnx: Path, path: Path, options: EngineOptions | None = None, progress: BuildProgress | None = None
) -> EngineIdentity:
    """The engine of `onnx` at `path`, for the GPU present: built, or, where the file exists, held to its identity.

    An engine that exists is used again only if it was made from this very ONNX file, by this version, for this GPU;
    raises YoloproofError with the reason where it was not, and as `engine_from_onnx`.
    """
    options = options or EngineOptions()
    if not path.exists():
        return engine_from_onnx(onnx, path, options, progress).identity
    trt, target, gpu = buildable(options)
    host = EngineHost(options.runtime, str(trt.__version__), target.compute_capabilities[0], gpu or "")
    return check_engine(path, host, onnx_sha256=sha256_of(onnx))


def buildable(options: EngineOptions) -> tuple[Any, Target, str | None]:
    """The library, the resolved target and the GPU's name (None where the build is for no GPU that is present).

    Raises YoloproofError, before any work is done, where `options` cannot be built here.
    """
    tensorrt.check_options(options)
    target = target_from_name(options.target)
    trt = tensorrt.library(options.runtime)
    return trt, *_resolve(target, options)


def _resolve(target: Target, options: EngineOptions) -> tuple[Target, str | None]:
    """The target with its compute capabilities, and the GPU's name where the build is for the one present."""
    if options.runtime != Runtime.TENSORRT_RTX and target.name != "current":
        present = gpu_present(options.device)
        if present is None or target.compute_capabilities != (present[1],):
            raise YoloproofError(
                f"{options.runtime} builds only for the GPU in the machine, so not for {target.name} here; "
                "build on such a GPU, or with --runtime tensorrt-rtx"
            )
        return target, present[0]
    if target.name != "current":
        return target, None
    present = gpu_present(options.device)
    if present is None:
        raise YoloproofError(
            "target current: there is no CUDA device here; name a GPU, such as --target t4 with --runtime tensorrt-rtx"
        )
    return Target("current", (present[1],)), present[0]


def gpu_present(device: str = "cuda") -> tuple[str, str] | None:
    """Name and compute capability ("7.5") of a CUDA device, made the current one, which builders use; None without."""
    import torch

    index = int(device.partition(":")[2] or 0)
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        return None
    torch.cuda.set_device(index)
    major, minor = torch.cuda.get_device_capability(index)
    return torch.cuda.get_device_name(index), f"{major}.{minor}"


def _kernels(trt: Any, log: Any, plan: bytes) -> list[EngineKernel] | None:
    """The engine's layers, as the builder listed them or as the loaded engine does; None where neither is possible."""
    listed = [text for _, text in log.messages if text.startswith("Layers:")]
    if listed:
        return kernels_from_log("\n".join(listed))
    if gpu_present() is None:
        return None
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        return None
    return kernels_from_inspector(
        engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    )


def _tensor(tensor: Any) -> tuple[str, tuple[int, ...], str]:
    """Name, shape and NumPy's name of the type of a network's input or output."""
    dtype = _DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower())
    return str(tensor.name), tuple(int(size) for size in tuple(tensor.shape)), dtype


def _precision(found: Audit) -> str:
    """The floating-point type most of the parsed network's layers write."""
    counted = {_DTYPES[kind]: count for kind, count in found.layer_precisions.items() if kind in _DTYPES}
    return max(counted, key=lambda kind: counted[kind]) if counted else "unknown"


def _said(metadata: Mapping[str, str], key: str) -> str | None:
    """What an ONNX file of ours says of itself under `key` (JSON), or None for a foreign file or an empty answer."""
    value = metadata.get(f"yoloproof.{key}")
    return json.loads(value) or None if value is not None else None


def _options_record(options: EngineOptions) -> dict[str, object]:
    """For the sidecar: plain JSON."""
    record: dict[str, object] = json.loads(json.dumps(asdict(options), default=os.fspath))
    return record


def _write(path: Path, plan: bytes, identity: EngineIdentity) -> EngineIdentity:
    """Engine and sidecar; a build that breaks off here leaves no file under the engine's name."""
    held = replace(identity, engine_sha256=hashlib.sha256(plan).hexdigest())
    write_new(plan, path)
    try:
        write_identity(path, held)
    except YoloproofError:
        path.unlink()
        raise
    return held
