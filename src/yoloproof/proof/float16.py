"""A float16 graph computed in float16: what a CPU's runtime does not do, and the GPU that the file is for does.

ONNX Runtime and OpenVINO compute a float16 graph in float32 on a CPU and drop the casts between, so that a value above
65504 passes there and is infinite on a GPU. Here each float16 tensor is really rounded, and its range is on record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from yoloproof.artifact.attention_report import module_path
from yoloproof.errors import first_line
from yoloproof.names import Precision
from yoloproof.proof.blocks import opened_as_written
from yoloproof.proof.parity import TOLERANCES, Tolerance, output_parity
from yoloproof.proof.reference import Reference
from yoloproof.records import Check

Array = NDArray[np.float32]
LARGEST, NORMAL = 65504.0, 2.0**-14
NAME = "float16"
SUFFIX = "/rounded"
# What only moves values rounds none; what lies in 0…1 is rounded and needs no measuring.
MOVES = (
    "Concat", "Constant", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
BOUNDED = ("Sigmoid", "Softmax")


@dataclass(frozen=True)
class Ranges:
    """Of one run: the output, by tensor its largest magnitude, and the share of subnormal values where blocks end."""

    output: Array
    largest: dict[str, float]
    subnormal: tuple[float, ...]


def float16_check(
    model: onnx.ModelProto, wanted: Reference | None, images: Array, tolerance: Tolerance = TOLERANCES[Precision.FP16]
) -> Check | None:
    """No float16 tensor of the graph overflows on the images [n, 3, H, W], a batch at a time, and the output is still the
    network's; None for a graph without float16 tensors.

    wanted -- None where only the ranges are asked for
    """
    rounded = with_rounding(model)
    if rounded is None:
        return None
    graph, owner = rounded
    try:
        runs = _runs(graph, images, _batch(model))
    except Exception as error:  # each of ONNX Runtime's errors is a class of its own, below Exception
        detail = f"ONNX Runtime cannot run the file with its float16 tensors rounded: {first_line(error)}"
        return Check(NAME, None, {}, detail)
    largest = {name: max(run.largest[name] for run in runs) for name in runs[0].largest}
    subnormal = float(np.mean([share for run in runs for share in run.subnormal]))
    blocks: dict[str, float] = {}
    for name, value in largest.items():
        block = _block(owner.get(name, name))
        blocks[block] = max(blocks.get(block, 0.0), value)
    top = max(blocks, key=lambda block: blocks[block])
    figures = {"tensors": len(owner), "images": len(images), "largest": blocks[top], "largest_by_block": blocks,
               "subnormal_share": subnormal}  # fmt: skip
    over = [name for name, value in largest.items() if not value <= LARGEST]  # in graph order; NaN is over, too
    if over:
        detail = f"{owner.get(over[0], over[0])} overflows in float16 ({len(over)} tensors hold infinity or NaN): a GPU computes nonsense"
        return Check(NAME, False, figures, detail)
    detail = f"{len(owner)} tensors rounded to float16: at most {blocks[top]:.3g} of 65504, in {top}; {subnormal:.1%} subnormal"
    if wanted is not None:
        output = np.concatenate([run.output for run in runs])[: len(images)]
        parity = output_parity(
            np.concatenate([wanted.output(image[None]) for image in images]), output, tolerance, NAME
        )
        figures |= parity.figures
        return Check(NAME, parity.passed, figures, f"{detail}; {parity.detail}")
    return Check(NAME, True, figures, detail)


def with_rounding(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]] | None:
    """The model with an Identity behind each float16 result, which no runtime looks through when told to optimise nothing,
    and outputs for its largest magnitude and, where a block ends, its subnormal share; and float16 tensor → its node's name.
    None without any."""
    types = _types(model)
    made = [(name, node) for node in model.graph.node if node.op_type not in MOVES for name in node.output]
    owner = {name: node.name or name for name, node in made if types.get(name) == TensorProto.FLOAT16}
    measured = {name: owner[name] for name, node in made if name in owner and node.op_type not in BOUNDED}
    if not measured:
        return None
    ends = set({_block(node): name for name, node in measured.items()}.values())
    nodes, outputs = [], []
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
        for i, name in enumerate(node.output):
            if name not in owner:
                continue
            copy.output[i] = name + SUFFIX
            nodes.append(helper.make_node("Identity", [name + SUFFIX], [name]))
            if name not in measured:
                continue
            measures = {"max": _magnitude(name), **({"small": _subnormal(name)} if name in ends else {})}
            for what, made_by in measures.items():
                nodes += made_by
                outputs.append(helper.make_tensor_value_info(f"{name}/{what}", TensorProto.FLOAT, []))
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    del rounded.graph.node[:], rounded.graph.value_info[:]
    rounded.graph.node.extend(nodes)
    rounded.graph.output.extend(outputs)
    for name, value in (("/normal", NORMAL), ("/zero", 0.0)):
        rounded.graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
    return rounded, owner


def _block(node: str) -> str:
    """The layer that a node belongs to: "model.6", or the node's own name where that names none."""
    return ".".join(module_path(node.rpartition("/")[0]).split(".")[:2]) or node


def _magnitude(name: str) -> list[onnx.NodeProto]:
    """The largest |x| of a tensor, "name/max"."""
    return [
        helper.make_node("Cast", [name], [f"{name}/wide"], to=TensorProto.FLOAT),
        helper.make_node("Abs", [f"{name}/wide"], [f"{name}/abs"]),
        helper.make_node("ReduceMax", [f"{name}/abs"], [f"{name}/max"], keepdims=0),
    ]


def _subnormal(name: str) -> list[onnx.NodeProto]:
    """The share of 0 < |x| < 2⁻¹⁴ in a tensor, "name/small"."""
    return [
        helper.make_node("Less", [f"{name}/abs", "/normal"], [f"{name}/below"]),
        helper.make_node("Greater", [f"{name}/abs", "/zero"], [f"{name}/above"]),
        helper.make_node("And", [f"{name}/below", f"{name}/above"], [f"{name}/between"]),
        helper.make_node("Cast", [f"{name}/between"], [f"{name}/share"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", [f"{name}/share"], [f"{name}/small"], keepdims=0),
    ]


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor → its element type, by inference."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception:  # the C++ checker raises its own; without types nothing is known to be float16
        inferred = model
    values = (*inferred.graph.value_info, *inferred.graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def _batch(model: onnx.ModelProto) -> int:
    weights = {tensor.name for tensor in model.graph.initializer}
    image = next(value for value in model.graph.input if value.name not in weights)
    return image.type.tensor_type.shape.dim[0].dim_value or 1


def _runs(model: onnx.ModelProto, images: Array, batch: int) -> list[Ranges]:
    with opened_as_written(model) as run:
        starts = range(0, len(images), batch)
        return [_ranges(run(np.resize(images[i : i + batch], (batch, *images.shape[1:])))) for i in starts]


def _ranges(found: Mapping[str, NDArray[Any]]) -> Ranges:
    return Ranges(
        np.asarray(next(iter(found.values())), np.float32),
        {name.removesuffix("/max"): float(value) for name, value in found.items() if name.endswith("/max")},
        tuple(float(value) for name, value in found.items() if name.endswith("/small")),
    )
