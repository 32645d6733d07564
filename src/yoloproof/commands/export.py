"""`yoloproof export`: an ONNX file, an engine, a native engine or a Triton model repository."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from yoloproof.commands.shared import (
    ARTIFACTS,
    MODEL_GROUP,
    PROOF_GROUP,
    RUN_GROUP,
    SIZE_HELP,
    STDOUT,
    JsonFile,
    RandomWeights,
    check_new,
    check_paths,
    image_files,
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


ENGINE_GROUP, NMS_GROUP, ONNX_GROUP = "Engines", "Suppression inside the file", "The graph"


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="yolov13n … yolo12x, or a .pt or .safetensors file")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PATH", help="the new file (default: named after MODEL)")
    ] = None,
    format_name: Annotated[
        Written | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="onnx, engine, native, or triton (a model repository); default: onnx, or native with --runtime native",
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            metavar="NAME",
            help="fp32 or fp16 (default: fp32 for onnx, fp16 for the rest)",
            rich_help_panel=MODEL_GROUP,
        ),
    ] = None,
    attention: Annotated[
        Attention,
        typer.Option(metavar="NAME", help="fused, explicit, published or stripped", rich_help_panel=MODEL_GROUP),
    ] = Attention.FUSED,
    imgsz: Annotated[str, typer.Option(metavar="SIZE", help=SIZE_HELP, rich_help_panel=MODEL_GROUP)] = "640",
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, help="images per inference", rich_help_panel=MODEL_GROUP)
    ] = 1,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="any batch and image size", rich_help_panel=ONNX_GROUP)
    ] = False,
    input_type: Annotated[
        InputType,
        typer.Option(
            "--input",
            metavar="TYPE",
            help="float32, float16, or uint8 (pixels as they are, 1/255 in the weights)",
            rich_help_panel=ONNX_GROUP,
        ),
    ] = InputType.FLOAT32,
    not_simplified: Annotated[
        bool, typer.Option("--no-simplify", help="leave the graph as published", rich_help_panel=ONNX_GROUP)
    ] = False,
    opset: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=17,
            max=25,
            help="17 to 25; fused attention needs 23 or newer; from 24 on SiLU is one operator",
            rich_help_panel=ONNX_GROUP,
        ),
    ] = 23,
    runtime: Annotated[
        Runtime | None,
        typer.Option(
            metavar="NAME",
            help="onnxruntime or openvino: lay the graph out for a CPU; tensorrt, tensorrt-rtx or native: build engines",
            rich_help_panel=RUN_GROUP,
        ),
    ] = None,
    target: Annotated[
        list[str],
        typer.Option(
            metavar="GPU", help="repeatable: t4, sm75, sm86, …, current, portable", rich_help_panel=ENGINE_GROUP
        ),
    ] = [],  # noqa: B006
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible", help="TensorRT: later versions load the engine, too", rich_help_panel=ENGINE_GROUP
        ),
    ] = False,
    hardware_compatible: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="TensorRT: ampere+ (every GPU from 8.0 on) or same (every GPU of this capability)",
            rich_help_panel=ENGINE_GROUP,
        ),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TensorRT: kernel timings to reuse and add to", rich_help_panel=ENGINE_GROUP),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="native: print the launch plan", rich_help_panel=ENGINE_GROUP)
    ] = False,
    end_to_end: Annotated[
        bool,
        typer.Option(
            "--end-to-end",
            help="native: takes a uint8 frame of any size, gives its boxes; the options below apply",
            rich_help_panel=NMS_GROUP,
        ),
    ] = False,
    nms: Annotated[
        bool, typer.Option("--nms", help="the file itself suppresses overlapping boxes", rich_help_panel=NMS_GROUP)
    ] = False,
    nms_confidence: Annotated[
        float, typer.Option(metavar="SCORE", help="keep what scores above this", rich_help_panel=NMS_GROUP)
    ] = 0.25,
    nms_iou: Annotated[
        float,
        typer.Option(
            metavar="IOU",
            help="of two boxes of a class that overlap by more, drop the lower-scoring one",
            rich_help_panel=NMS_GROUP,
        ),
    ] = 0.7,
    nms_max: Annotated[
        int, typer.Option(metavar="N", help="keep at most this many per image", rich_help_panel=NMS_GROUP)
    ] = 300,
    nms_format: Annotated[
        NmsFormat,
        typer.Option(
            metavar="NAME",
            help="ours (count, boxes, scores, classes) or ultralytics (one tensor [B, n, 6])",
            rich_help_panel=NMS_GROUP,
        ),
    ] = NmsFormat.OURS,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="real images for the proof (default: the bundled ones); a native engine keeps two",
            rich_help_panel=PROOF_GROUP,
        ),
    ] = None,
    random_weights: RandomWeights = False,
    json_file: JsonFile = None,
) -> None:
    """Write MODEL as an artifact and say what it is.

    Example: `yoloproof export yolov13n.pt --precision fp16 -o yolov13n.onnx`
    """
    check_new(json_file)
    (model,) = models_from_arguments([model])
    if Path(model).suffix in ARTIFACTS:
        raise YoloproofError(
            f"{model}: built already; export takes weights (.pt, .safetensors, or a name like yolov13n)"
        )
    check_paths(images)
    size = imgsz_from_text(imgsz)
    written = format_name or (Written.NATIVE if runtime is Runtime.NATIVE else Written.ONNX)
    if output is not None and output.exists():
        raise YoloproofError(f"{output} exists; nothing was overwritten. Name another file with -o or remove it")
    from yoloproof.artifact.nms import NmsOptions
    from yoloproof.artifact.options import OnnxOptions
    from yoloproof.export_options import Export, check_export
    from yoloproof.records import Case

    if written is Written.NATIVE and runtime is None:
        runtime = Runtime.NATIVE
    chosen = precision or (Precision.FP32 if written is Written.ONNX else Precision.FP16)
    case = Case(
        model, runtime or Runtime.ONNXRUNTIME, chosen, attention, size, batch,
        random_weights=random_weights,
    )  # fmt: skip
    inside = NmsOptions(
        score=nms_confidence, iou=nms_iou, max_detections=nms_max, candidates=max(512, nms_max), layout=nms_format.value
    )
    if not (nms or end_to_end) and inside != NmsOptions():
        raise YoloproofError("the --nms-… options belong to --nms and --end-to-end; give one of them, too")
    wanted = Export(
        ArtifactFormat(written.value), output, runtime, not not_simplified, OnnxOptions(input_type.value, dynamic, opset),
        inside if nms or end_to_end else None, tuple(target), version_compatible, hardware_compatible, timing_cache, explain,
        image_files(images) if images else (), end_to_end,
    )  # fmt: skip
    check_export(case, wanted)
    from yoloproof.exporting import export as exported

    with progress_bar() as progress:
        report = exported(case, wanted, progress)
    if json_file:  # first, so that nothing that is printed can cost it
        write_json(report.identity, json_file)
    for line in report.lines:
        say(line, err=json_file == STDOUT)
