"""Layer shapes of YOLOv8, v10, 11, 12, v12 and v13 (committed, compact) and the kernels they become."""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib.resources import files
from typing import Any

from yoloproof.errors import YoloproofError
from yoloproof.estimate.kernels import (
    Kernel,
    attention_kernels,
    convolution_kernels,
    hypergraph_kernels,
    memory_kernel,
)

ATTENTIONS = ("fused", "explicit", "published", "stripped")
SHAPES_SIZE = 640  # pixels: the image side for which the shapes were written down
ANCHORS = 8400
CLASSES = 80


@cache
def layer_shapes() -> dict[str, list[list[Any]]]:
    """Model name → its layers in execution order (batch 1, 640 × 640, batch norms folded); see the file's `columns`."""
    packed = (files("yoloproof.estimate") / "data" / "layer_shapes.json.gz").read_bytes()
    models: dict[str, list[list[Any]]] = json.loads(gzip.decompress(packed))["models"]
    return models


def family_from_model(model: str) -> str:
    """ "yolov13n" → "yolov13"; "yolo11n-cls" → "yolo11"."""
    return model.partition("-")[0][:-1]


def block_from_path(path: str) -> str:
    """The block of a module path: its first two parts ("model.6.m.0" → "model.6")."""
    return ".".join(path.split(".")[:2])


def kernels_from_shapes(model: str, attention: str = "explicit", batch: int = 1, imgsz: int = 640) -> list[Kernel]:
    """The kernels of a model of `layer_shapes` after TensorRT's fusions.

    attention -- one of ATTENTIONS; "stripped" also drops what fed it alone (the q/k convolution of YOLOv12 and v13)
    imgsz -- side of the square image, a multiple of 32
    Raises YoloproofError for an unknown model or attention, a batch below 1 or a size that is no multiple of 32.
    """
    layers = layer_shapes().get(model)
    if layers is None:
        raise YoloproofError(
            f"no layer shapes of '{model}': choose one of {', '.join(layer_shapes())}, or an .onnx file"
        )
    if attention not in ATTENTIONS:
        raise YoloproofError(f"no attention is called '{attention}': choose one of {', '.join(ATTENTIONS)}")
    if batch < 1 or imgsz < 32 or imgsz % 32:
        raise YoloproofError(f"batch {batch}, {imgsz} px: the batch must be positive and the size a multiple of 32")
    if family_from_model(model) == "yolo12" and attention == "published":
        attention = "explicit"  # the package leaves the softmax to the runtime
    kernels: list[Kernel] = []
    for layer in layers:
        kernels += _layer_kernels(layer, attention, batch, (imgsz / SHAPES_SIZE) ** 2)
    anchors = batch * ANCHORS * (imgsz / SHAPES_SIZE) ** 2
    head = block_from_path(layers[-1][1])
    kernels += [
        memory_kernel("decode.softmax", head, 2 * 64 * anchors),
        memory_kernel("decode.boxes", head, 8 * anchors),
        memory_kernel("decode.classes", head, 2 * CLASSES * anchors),
        memory_kernel("decode.join", head, 2 * (CLASSES + 4) * anchors),
    ]
    if family_from_model(model) == "yolov10":  # its graph ends in a selection instead of NMS outside
        kernels += [memory_kernel(f"select.{i}", head, CLASSES * anchors, "selection") for i in range(3)]
    return kernels


def attentions_of(model: str) -> tuple[str, ...]:
    """How a model's attention can be run: ATTENTIONS, or () where it has none. Raises YoloproofError for an unknown model."""
    kernels_from_shapes(model)
    has_any = any(layer[0] == "attention" for layer in layer_shapes()[model])
    return ATTENTIONS if has_any else ()


def _layer_kernels(layer: list[Any], attention: str, batch: int, area: float) -> list[Kernel]:
    """The kernels of one layer; `area` scales its pixels and tokens."""
    kind, path, *rest = layer
    block = block_from_path(path)
    if kind == "conv":
        kernel, _, groups, c_in, c_out, h_in, w_in, h_out, w_out, activation = rest
        if attention == "stripped" and path.endswith("attn.qk.conv"):
            return []
        if attention == "stripped" and path.endswith("attn.qkv.conv"):
            c_out //= 3  # v stays
        pixels_in, pixels_out = round(batch * h_in * w_in * area), round(batch * h_out * w_out * area)
        return convolution_kernels(
            path, block, kernel, groups, c_in, c_out, pixels_in, pixels_out, activation != "none"
        )
    if kind == "attention":
        heads, dim_qk, dim_v, tokens, runs = rest
        return attention_kernels(path, block, batch * runs * heads, round(tokens * area), dim_qk, dim_v, attention)
    if kind == "hypergraph":
        tokens, channels, edges = rest
        heads = max(channels // 16, 1)
        return hypergraph_kernels(path, block, round(batch * tokens * area), channels, edges, heads)
    elements_in, elements_out = rest
    moved = (elements_in + elements_out) * batch * area
    return [memory_kernel(path, block, moved, "concat" if kind == "concat" else "memory")]
