"""`yoloproof export`: an ONNX file, an engine, a native engine or a Triton model repository."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from yoloproof.commands.shared import (
    STDOUT,
    JsonFile,
    RandomWeights,
    check_new,
    imgsz_from_text,
    models_from_arguments,
    progress_bar,
    say,
    write_json,
)
from yoloproof.errors import YoloproofError
from yoloproof.names import ArtifactFormat, Attention, Precision, Runtime


class Written(str, Enum):
    """What can be written."""

    ONNX = "onnx"
    ENGINE = "engine"
    NATIVE = "native"
    TRITON = "triton"


class NmsFormat(str, Enum):
    OURS = "ours"
    ULTRALYTICS = "ultralytics"


class InputType(str, Enum):
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    UINT8 = "uint8"


def export(
    model: Annotated[str, typer.Argument(help="yolov13n … yolov12x, or a .pt or .safetensors file")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="the new file (default: MODEL's name beside here)")
    ] = None,
    format_name: Annotated[
        Written | None, typer.Option("--format", help="what to write (default: onnx; native with --runtime native)")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="fp32, or fp16 in the graph itself (default: fp32 for onnx, else fp16)")
    ] = None,
    attention: Annotated[Attention, typer.Option(help="how attention is computed")] = Attention.FUSED,
    imgsz: Annotated[str, typer.Option(help="640, or HEIGHTxWIDTH")] = "640",
    batch: Annotated[int, typer.Option(min=1, help="images per inference")] = 1,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="any batch and image size")] = False,
    input_type: Annotated[
        InputType, typer.Option("--input", help="float32, float16, or uint8 pixels with 1/255 in the weights")
    ] = InputType.FLOAT32,
    simplified: Annotated[
        bool, typer.Option("--simplify/--no-simplify", help="exact simplification (default: on)")
    ] = True,
    opset: Annotated[
        int,
        typer.Option(min=17, max=25, help="ONNX opset; below 23 not with fused attention; 24 has SiLU as one operator"),
    ] = 23,
    runtime: Annotated[
        Runtime | None,
        typer.Option(
            help="onnxruntime or openvino lay the graph out for a CPU; tensorrt, tensorrt-rtx, native build engines"
        ),
    ] = None,
    target: Annotated[
        list[str], typer.Option(help="GPU of an engine: t4, sm75, sm86, …, current, portable; repeatable")
    ] = [],  # noqa: B006
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="TensorRT: an engine that later versions load, too")
    ] = False,
    hardware_compatible: Annotated[
        str | None, typer.Option(help="TensorRT: ampere+ (every GPU from 8.0 on), same (every GPU of this capability)")
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="TensorRT: file of kernel times, used where it exists and kept up")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="native: print the launch plan as a table")] = False,
    end_to_end: Annotated[
        bool, typer.Option("--end-to-end", help="native: a uint8 frame of any size in, its boxes, scores, classes out")
    ] = False,
    nms: Annotated[bool, typer.Option("--nms", help="boxes, scores and classes straight from the artifact")] = False,
    nms_confidence: Annotated[float, typer.Option(help="--nms, --end-to-end: scores above this count")] = 0.25,
    nms_iou: Annotated[
        float, typer.Option(help="--nms, --end-to-end: overlap above which the worse box of a class goes")
    ] = 0.7,
    nms_max: Annotated[int, typer.Option(help="--nms, --end-to-end: an image's best so many")] = 300,
    nms_format: Annotated[
        NmsFormat,
        typer.Option(help="--nms: ours (count, boxes, scores, classes), or ultralytics' one tensor [B, n, 6]"),
    ] = NmsFormat.OURS,
    random_weights: RandomWeights = False,
    json_file: JsonFile = None,
) -> None:
    """Write MODEL as an artifact and say what it is.

    Example: `yoloproof export yolov13n.pt --precision fp16 -o yolov13n.onnx`
    """
    check_new(json_file)
    (model,) = models_from_arguments([model])
    from yoloproof.artifact.build import OnnxOptions
    from yoloproof.artifact.nms import NmsOptions
    from yoloproof.exporting import Export
    from yoloproof.exporting import export as exported
    from yoloproof.records import Case

    written = format_name or (Written.NATIVE if runtime is Runtime.NATIVE else Written.ONNX)
    if written is Written.NATIVE and runtime is None:
        runtime = Runtime.NATIVE
    chosen = precision or (Precision.FP32 if written is Written.ONNX else Precision.FP16)
    case = Case(
        model, runtime or Runtime.ONNXRUNTIME, chosen, attention, imgsz_from_text(imgsz), batch,
        random_weights=random_weights,
    )  # fmt: skip
    inside = NmsOptions(
        score=nms_confidence, iou=nms_iou, max_detections=nms_max, candidates=max(512, nms_max), layout=nms_format.value
    )
    if not (nms or end_to_end) and inside != NmsOptions():
        raise YoloproofError("--nms-… options are thresholds of --nms and --end-to-end; name one of them, too")
    wanted = Export(
        ArtifactFormat(written.value), output, runtime, simplified, OnnxOptions(input_type.value, dynamic, opset),
        inside if nms or end_to_end else None, tuple(target), version_compatible, hardware_compatible, timing_cache, explain,
        end_to_end,
    )  # fmt: skip
    with progress_bar() as progress:
        report = exported(case, wanted, progress)
    if json_file:  # first, so that nothing that is printed can cost it
        write_json(report.identity, json_file)
    for line in report.lines:
        say(line, err=json_file == STDOUT)
