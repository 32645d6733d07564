"""Every call that building an engine makes to TensorRT or TensorRT-RTX; their Python APIs are nearly the same.

Where they differ stands here, with its reason:

- TensorRT-RTX builds for named compute capabilities, also on a machine without a GPU; TensorRT for the GPU present.
- TensorRT times kernels and keeps the times in a cache; TensorRT-RTX has nothing to time, and its cache would make
  the build ask for a GPU (release notes 1.1).
- Networks are strongly typed by a creation flag in 10.x and TensorRT-RTX, always in 11.x; float16 is in the ONNX file.
- TensorRT-RTX engines can be captured in a CUDA graph only if built to leave all memory to the caller (1.2 and later).

Source: docs.nvidia.com/deeplearning/tensorrt and /tensorrt-rtx, Python API.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from yoloproof.artifact.engine_targets import COMPUTE_CAPABILITIES, PORTABLE, Target
from yoloproof.engine_libraries import MODULES, line_here, missing_library
from yoloproof.errors import YoloproofError
from yoloproof.files.new import write_over
from yoloproof.names import Runtime

# Called with the share of the build that is done (0…1) and its phase's name.
BuildProgress = Callable[[float, str], None]
# Name of a dynamic input → its smallest, usual and largest shape.
Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class EngineOptions:
    """How to build; `target` as `target_from_name` takes it.

    require_fused -- an attention that no fused kernel computes is an error; otherwise it may fall apart, on record
    shapes -- for a dynamic input: name → (smallest, usual, largest) shape
    hardware_compatible -- TensorRT alone: "ampere+" or "same" (every GPU of this compute capability); None: this GPU
    timing_cache -- TensorRT alone: file of kernel times, read where it exists and written after the build
    device -- the CUDA device that `current` means, as PyTorch names it
    """

    runtime: Runtime = Runtime.TENSORRT_RTX
    target: str = "current"
    require_fused: bool = True
    shapes: Shapes = field(default_factory=dict)
    version_compatible: bool = False
    hardware_compatible: str | None = None
    timing_cache: Path | None = None
    device: str = "cuda"


def shapes_up_to(imgsz: tuple[int, int], batch: int) -> Shapes:
    """Shapes of a dynamic `images` input: any batch up to `batch`, any size from 320 (or less) up to imgsz, 1 × imgsz
    the usual one, which kernels are chosen for."""
    height, width = imgsz
    return {"images": ((1, 3, min(height, 320), min(width, 320)), (1, 3, height, width), (batch, 3, height, width))}


def library(runtime: Runtime) -> Any:
    """The imported library of runtime `tensorrt` or `tensorrt-rtx`; raises YoloproofError with its pip line."""
    if runtime not in MODULES:
        raise YoloproofError(f"{' and '.join(MODULES)} build engines, {runtime} does not")
    module = MODULES[runtime]
    try:
        trt = import_module(module)
    except ImportError as error:
        broken = f"{module} cannot be imported ({error}); {line_here(runtime)}"
        raise YoloproofError(missing_library(runtime) or broken) from None
    if not hasattr(trt, "Builder"):  # stubs alone, or a folder of that name
        broken = f"{module} is installed without its libraries; {line_here(runtime)}"
        raise YoloproofError(missing_library(runtime) or broken)
    return trt


def build_log(trt: Any) -> Any:
    """A logger that keeps every message in `messages` as (severity, text), in order, and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[tuple[str, str]] = []

        def log(self, severity: Any, text: str) -> None:
            self.messages.append((str(severity.name), text))

        def errors(self) -> str:
            texts = [text for severity, text in self.messages if severity in ("ERROR", "INTERNAL_ERROR")]
            return "; ".join(texts[-2:]) or "no reason given"

    return Log()


def build_monitor(trt: Any, progress: BuildProgress) -> Any:
    """An IProgressMonitor that turns nested phases into one fraction in 0…1, which never falls.

    What `progress` raises (Ctrl-C above all) cancels the build and is kept in `failure`; the library would swallow it.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases: dict[str, list[float]] = {}  # name → [start, width, steps]
            self._reached = 0.0
            self.failure: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            start, width = 0.0, 1.0
            if parent_phase in self._phases:
                outer_start, outer_width, outer_steps = self._phases[parent_phase]
                width = outer_width / max(outer_steps, 1)
                start = max(self._reached, outer_start)
            self._phases[phase_name] = [start, width, num_steps]

        def step_complete(self, phase_name: str, step: int) -> bool:
            start, width, steps = self._phases.get(phase_name, [0.0, 0.0, 1])
            self._report(start + width * (step + 1) / max(steps, 1), phase_name)
            return self.failure is None

        def phase_finish(self, phase_name: str) -> None:
            start, width, _ = self._phases.pop(phase_name, [0.0, 0.0, 1])
            self._report(start + width, phase_name)

        def _report(self, fraction: float, phase: str) -> None:
            self._reached = max(self._reached, min(fraction, 1.0))
            try:
                progress(self._reached, phase)
            except BaseException as failure:
                self.failure = failure

    return Monitor()


def parse(trt: Any, log: Any, path: Path, name: str) -> tuple[Any, Any, Any]:
    """Builder, strongly typed network called `name`, and the parser that must outlive it."""
    builder = trt.Builder(log)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(1 << int(flag) if flag is not None else 0)
    network.name = name
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        first = (
            f"node {errors[0].node_name()} ({errors[0].node_operator()}): {errors[0].desc()}"
            if errors
            else log.errors()
        )
        raise YoloproofError(
            f"{path}: {trt.__name__} {trt.__version__} cannot parse it: {first}; export it with another --opset"
        )
    return builder, network, parser


def unfusable_attentions(trt: Any, network: Any) -> list[str]:
    """The attentions of a parsed network that the documented rules leave without a fused kernel, and why.

    float16 or bfloat16, head size 16 … 256 in steps of 8 (TensorRT documentation, "Multi-Head Attention Fusion"). Asked
    before the build, where the library would write its refusal to stderr.
    """
    faults = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == getattr(trt.LayerType, "ATTENTION_INPUT", None):
            query = layer.get_input(0)
            head = tuple(query.shape)[-1]
            if query.dtype.name not in ("HALF", "BF16"):
                faults.append(f"{layer.name.removesuffix('_AttentionInput')} is {query.dtype.name}")
            elif not (16 <= head <= 256 and head % 8 == 0):
                faults.append(f"{layer.name.removesuffix('_AttentionInput')} has heads of {head}")
    return faults


def allow_decomposition(trt: Any, network: Any) -> None:
    """Let attentions that no fused kernel fits be computed by several kernels."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == getattr(trt.LayerType, "ATTENTION_INPUT", None):
            # The documented way to a layer's own interface in the Python API.
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True


def configure(trt: Any, builder: Any, network: Any, options: EngineOptions, target: Target) -> Any:
    """The configuration for `options`; raises YoloproofError for what the library or the network cannot do."""
    config = builder.create_builder_config()
    # The list of the engine's layers, which the audit reads, is written only in detailed builds.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if hasattr(trt.BuilderFlag, "TF32"):
        # On by default: float32 would be computed with 10 bits of mantissa, which nobody exported.
        config.clear_flag(trt.BuilderFlag.TF32)
    _add_profile(builder, network, config, options)
    if options.runtime == Runtime.TENSORRT_RTX:
        _aim(trt, config, target)
    else:
        _make_compatible(trt, config, options)
        _load_timing_cache(config, options.timing_cache)
    return config


def check_options(options: EngineOptions) -> None:
    """Raise YoloproofError for options that the runtime does not have: they would be ignored in silence."""
    if options.runtime != Runtime.TENSORRT_RTX:
        return
    for name in ("version_compatible", "hardware_compatible", "timing_cache"):
        if getattr(options, name):
            raise YoloproofError(
                f"{name.replace('_', '-')} is an option of TensorRT alone; for TensorRT-RTX name several --target instead"
            )


def _aim(trt: Any, config: Any, target: Target) -> None:
    """Set the compute capabilities of a TensorRT-RTX build; none set is the library's portable default."""
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        # "Required when using CUDA stream capture" (release notes 1.2).
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if target.compute_capabilities == PORTABLE:
        return
    members = [COMPUTE_CAPABILITIES[capability] for capability in target.compute_capabilities] or ["CURRENT"]
    config.num_compute_capabilities = len(members)
    for index, member in enumerate(members):
        known = getattr(trt.ComputeCapability, member, None)
        if known is None or not config.set_compute_capability(known, index):
            raise YoloproofError(f"{trt.__name__} {trt.__version__} does not build for {member}; update it")


def _make_compatible(trt: Any, config: Any, options: EngineOptions) -> None:
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible is not None:
        levels = {"ampere+": "AMPERE_PLUS", "same": "SAME_COMPUTE_CAPABILITY"}
        level = getattr(trt.HardwareCompatibilityLevel, levels.get(options.hardware_compatible, ""), None)
        if level is None:
            known = [name for name, member in levels.items() if hasattr(trt.HardwareCompatibilityLevel, member)]
            raise YoloproofError(
                f"hardware compatibility {options.hardware_compatible!r}: {trt.__name__} {trt.__version__} knows "
                f"{' and '.join(known)}"
            )
        config.hardware_compatibility_level = level


def _load_timing_cache(config: Any, path: Path | None) -> None:
    if path is not None:
        held = path.read_bytes() if path.is_file() else b""
        # False: times of another GPU model are not reused.
        if not config.set_timing_cache(config.create_timing_cache(held), False):
            raise YoloproofError(
                f"timing cache {path} comes from another GPU or TensorRT version; delete it or name another"
            )


def _add_profile(builder: Any, network: Any, config: Any, options: EngineOptions) -> None:
    """One optimisation profile where inputs are dynamic; every dynamic input must have been given its shapes."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    unknown = set(options.shapes) - {tensor.name for tensor in dynamic}
    if unknown:
        raise YoloproofError(
            f"shapes were given for {', '.join(sorted(unknown))}, which is not a dynamic input of this model"
        )
    if not dynamic:
        return
    profile = builder.create_optimization_profile()
    for tensor in dynamic:
        if tensor.name not in options.shapes:
            raise YoloproofError(
                f"input {tensor.name} {list(tensor.shape)} is dynamic; give the smallest, usual and largest shape, "
                "or export with a fixed size"
            )
        smallest, usual, largest = options.shapes[tensor.name]
        profile.set_shape(tensor.name, smallest, usual, largest)
    if config.add_optimization_profile(profile) < 0:
        raise YoloproofError(f"shapes {dict(options.shapes)} do not fit the model; check their order and sizes")


def no_fused_kernel(path: Path, reason: str) -> str:
    """The one line for an attention that would fall apart."""
    return (
        f"{path}: no fused attention kernel fits ({reason}); it needs float16, heads of 16 to 256 in steps of 8 and "
        "compute capability 7.5 or newer: export with --precision fp16, or with --attention explicit"
    )


def serialize(trt: Any, log: Any, builder: Any, network: Any, config: Any, path: Path, monitor: Any = None) -> bytes:
    """The built engine; raises YoloproofError with the builder's own reason, and the remedy where it is known."""
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.failure is not None:
        raise monitor.failure
    if plan is not None:
        return bytes(plan)
    reason = " ".join(log.errors().split())
    if "not supported by a dedicated kernel" in reason:
        raise YoloproofError(no_fused_kernel(path, "the builder found none"))
    if "CUDA driver" in reason or "cudaError" in reason:
        raise YoloproofError(
            f"{path}: this build needs a GPU that {trt.__name__} can use and there is none; "
            "name a --target such as t4 with --runtime tensorrt-rtx"
        )
    if "NonMaxSuppression" in reason:
        raise YoloproofError(
            f"{path}: {trt.__name__} has no NonMaxSuppression here; `yoloproof export --nms` does without it"
        )
    if "FP32 GEMM is not supported" in reason:
        node = re.search(r"operation '([^']+)'", reason)
        raise YoloproofError(
            f"{path}: {trt.__name__} has no float32 matrix product for Turing, "
            f"as {node.group(1) if node else 'one node'} is; export with --precision fp16"
        )
    raise YoloproofError(f"{path}: {trt.__name__} {trt.__version__} built no engine: {reason[:400]}")


def save_timing_cache(config: Any, path: Path | None) -> None:
    """Write what this build timed, for the next one."""
    if path is not None:
        write_over(bytes(config.get_timing_cache().serialize()), path)
