"""What `export` may be asked for, and what of it goes together: nothing heavy is imported to say so."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from yoloproof.artifact.native.compiling import toolchain_for
from yoloproof.artifact.native.targets import capabilities_from_targets
from yoloproof.artifact.nms import NmsOptions, check_thresholds
from yoloproof.artifact.options import OPSET, TORCH_OPSET, OnnxOptions
from yoloproof.artifact.tensorrt import EngineOptions, check_options, library, shapes_up_to
from yoloproof.errors import YoloproofError
from yoloproof.names import ArtifactFormat, Attention, Precision, Runtime
from yoloproof.records import Case

ENDINGS = {ArtifactFormat.ONNX: ".onnx", ArtifactFormat.ENGINE: ".engine", ArtifactFormat.NATIVE: ".native"}
DYNAMIC_BATCH = 8  # a dynamic engine without a --batch of its own is built for up to so many images


@dataclass(frozen=True)
class Export:
    """What to write besides the case: the fields are the command's options.

    nms -- a suppression inside; runtime -- what the graph is laid out for, or builds the engine; None: no runtime in particular
    targets -- GPUs of an engine: names such as "t4" or "sm86"; () for the one here
    explain -- a native engine's launch plan as a table; images -- real images for the proof; (): the bundled ones
    end_to_end -- a native engine with letterbox before and suppression (`nms`) behind the network
    """

    format: ArtifactFormat = ArtifactFormat.ONNX
    output: Path | None = None
    runtime: Runtime | None = None
    simplified: bool = True
    onnx: OnnxOptions = field(default_factory=OnnxOptions)
    nms: NmsOptions | None = None
    targets: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatible: str | None = None
    timing_cache: Path | None = None
    explain: bool = False
    images: tuple[Path, ...] = ()
    end_to_end: bool = False


def builds_engine(wanted: Export) -> bool:
    """Whether TensorRT or TensorRT-RTX has something to build."""
    return wanted.format is ArtifactFormat.ENGINE or (
        wanted.format is ArtifactFormat.TRITON and wanted.runtime is Runtime.TENSORRT
    )


def engine_options(case: Case, wanted: Export) -> EngineOptions:
    """The options of the engine that is asked for."""
    shapes = shapes_up_to(case.imgsz, case.batch if case.batch > 1 else DYNAMIC_BATCH) if wanted.onnx.dynamic else {}
    return EngineOptions(
        wanted.runtime or Runtime.TENSORRT_RTX, ",".join(wanted.targets) or "current", case.attention is Attention.FUSED,
        shapes, version_compatible=wanted.version_compatible, hardware_compatible=wanted.hardware_compatible,
        timing_cache=wanted.timing_cache,
    )  # fmt: skip


def _check_native(case: Case, wanted: Export) -> None:
    if wanted.nms and not wanted.end_to_end:
        raise YoloproofError("--nms: a native engine has suppression together with the letterbox; use --end-to-end")
    others = wanted.onnx != OnnxOptions() or not wanted.simplified or wanted.timing_cache
    if others or wanted.version_compatible or wanted.hardware_compatible:
        raise YoloproofError(
            "--format native takes --imgsz, --batch, --target, --images, --random-weights, --explain, --end-to-end and,"
            " with it, --nms-confidence, --nms-iou and --nms-max; leave the other options out"
        )
    if wanted.end_to_end and case.batch != 1:
        raise YoloproofError("--end-to-end takes one frame at a time; leave --batch out")
    if wanted.nms and wanted.nms.layout != "ours":
        raise YoloproofError("--end-to-end gives count, boxes, scores and classes; leave --nms-format out")
    if wanted.nms:
        check_thresholds(wanted.nms)
    if case.precision is not Precision.FP16 or case.attention is not Attention.FUSED:
        raise YoloproofError(
            f"native engines compute fused attention in fp16, not {case.attention} in {case.precision}"
        )
    for capability in capabilities_from_targets(wanted.targets):
        toolchain_for(capability)


def check_export(case: Case, wanted: Export) -> None:
    """Raise YoloproofError for options that do not go together and for what builds the engine and is not here."""
    if wanted.onnx.opset < OPSET and case.attention is Attention.FUSED:
        raise YoloproofError(
            f"--opset {wanted.onnx.opset}: fused attention needs the operator Attention of opset {OPSET}; add --attention"
            " explicit"
        )
    if wanted.nms and wanted.onnx.opset < TORCH_OPSET:
        raise YoloproofError(f"--nms needs opset {TORCH_OPSET} or newer")
    if wanted.nms and wanted.onnx.dynamic:
        raise YoloproofError("--nms needs a fixed batch and size; leave out --dynamic")
    native = wanted.format is ArtifactFormat.NATIVE
    if native != (wanted.runtime is Runtime.NATIVE):
        raise YoloproofError("--format native goes with --runtime native only; leave one of the two options out")
    if wanted.end_to_end and not native:
        raise YoloproofError(
            "--end-to-end is for native engines; add --format native, or use --nms for suppression alone"
        )
    if wanted.explain and not native:
        raise YoloproofError("--explain prints a native engine's launch plan; add --format native")
    ending = ENDINGS.get(wanted.format)
    if wanted.output and ending and wanted.output.suffix != ending:
        raise YoloproofError(f"-o {wanted.output}: a file of --format {wanted.format} ends in {ending}")
    if native:
        _check_native(case, wanted)
        return
    engine, triton = wanted.format is ArtifactFormat.ENGINE, wanted.format is ArtifactFormat.TRITON
    builds = builds_engine(wanted)
    if engine and not (wanted.runtime or Runtime.TENSORRT_RTX).builds_engines:
        raise YoloproofError(f"--runtime {wanted.runtime} does not build engines; name tensorrt or tensorrt-rtx")
    if triton and wanted.runtime is Runtime.TENSORRT_RTX:
        raise YoloproofError("Triton cannot serve tensorrt-rtx engines; leave --runtime out (ONNX), or name tensorrt")
    if wanted.format is ArtifactFormat.ONNX and wanted.runtime is not None and wanted.runtime.builds_engines:
        raise YoloproofError(f"--runtime {wanted.runtime} is for --format engine; leave it out for an ONNX file")
    layouts = (None, Runtime.ONNXRUNTIME, Runtime.OPENVINO, Runtime.TENSORRT, Runtime.TENSORRT_RTX)
    if wanted.runtime not in layouts:
        raise YoloproofError(
            f"--runtime {wanted.runtime}: export lays graphs out for onnxruntime or openvino, and builds engines for"
            " tensorrt, tensorrt-rtx or native"
        )
    engine_only = wanted.targets or wanted.version_compatible or wanted.hardware_compatible or wanted.timing_cache
    if not builds and engine_only:
        raise YoloproofError(
            "--target, --version-compatible, --hardware-compatible and --timing-cache are for --format engine"
        )
    if case.precision is Precision.BF16:
        raise YoloproofError(
            "--precision bf16: files are exported in fp32 or fp16; for bfloat16 use `yoloproof profile --runtime pytorch"
            " --precision bf16`"
        )
    if builds:
        options = engine_options(case, wanted)
        check_options(options)
        library(options.runtime)
