"""`yoloproof export`: an ONNX file, an engine or a Triton model repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yoloproof.commands.shared import check_new, imgsz_from_text, steps, write_json
from yoloproof.errors import YoloproofError


def export(
    model: Annotated[str, typer.Argument(help="yolov13n … yolov12x, or a .pt or .safetensors file")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="the new file (default: MODEL's name beside here)")
    ] = None,
    format_name: Annotated[str, typer.Option("--format", help="onnx, engine, triton")] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32, or fp16 in the graph itself")] = "",
    attention: Annotated[str, typer.Option(help="fused, explicit, published, stripped")] = "fused",
    imgsz: Annotated[str, typer.Option(help="640, or HEIGHTxWIDTH")] = "640",
    batch: Annotated[int, typer.Option(min=1, help="images per inference")] = 1,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="any batch and image size")] = False,
    input_type: Annotated[
        str, typer.Option("--input", help="float32, float16, or uint8 pixels with 1/255 in the weights")
    ] = "float32",
    simplified: Annotated[
        bool, typer.Option("--simplify/--no-simplify", help="exact simplification (default: on)")
    ] = True,
    opset: Annotated[int, typer.Option(min=23, max=25, help="ONNX opset; 24 spells SiLU as one Swish operator")] = 23,
    runtime: Annotated[
        str,
        typer.Option(help="onnxruntime or openvino lay the graph out for a CPU; tensorrt, tensorrt-rtx build engines"),
    ] = "",
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
    nms: Annotated[bool, typer.Option("--nms", help="boxes, scores and classes straight from the artifact")] = False,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="seeded random weights instead of official ones")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write the artifact's identity to a new file")
    ] = None,
) -> None:
    """Write MODEL as an artifact and say what it is.

    Example: `yoloproof export yolov13n.pt --precision fp16 -o yolov13n.onnx`
    """
    from yoloproof.exporting import Order, artifact_from_order

    check_new(json_file)
    if format_name not in ("onnx", "engine", "triton"):
        raise YoloproofError(f"--format {format_name}: there are onnx, engine, triton")
    order = Order(
        model, format_name, output, precision or ("fp32" if format_name == "onnx" else "fp16"), attention,
        imgsz_from_text(imgsz), batch, dynamic, input_type, simplified, opset, runtime, tuple(target), nms, random_weights,
        version_compatible, hardware_compatible, timing_cache,
    )  # fmt: skip
    with steps() as (say, bar):
        report = artifact_from_order(order, say, bar)
    for line in report.lines:
        typer.echo(line)
    if json_file:
        write_json(report.identity, json_file)
