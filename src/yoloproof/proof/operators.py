"""Operators and constants that a right file has no use for: chance, choices by value, recorded results, masks."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloproof.artifact.graph import Graph, every_node
from yoloproof.network.head import BINS, STRIDES
from yoloproof.records import Check

Array = NDArray[np.generic]
CONTROL = ("If", "Loop", "Scan", "SequenceMap")
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
# What any exporter spells these networks with. Whatever else touches the image may treat some images otherwise.
_SPELLINGS = """
    Add Attention AveragePool BatchNormalization Cast CastLike Concat Constant ConstantOfShape Conv DepthToSpace
    DequantizeLinear Div Dropout Einsum Erf Exp Expand Flatten Gather Gelu Gemm GlobalAveragePool GlobalMaxPool
    Identity LogSoftmax MatMul MaxPool Mean Mul Neg Pad Pow QuantizeLinear Range Reciprocal ReduceMax ReduceMean
    ReduceSum Reshape Resize Shape Sigmoid Size Slice Softmax SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tile
    Transpose Unsqueeze Upsample
"""
KNOWN = frozenset(_SPELLINGS.split())


def operators_check(model: onnx.ModelProto, graph: Graph) -> Check:
    """Only standard operators that mean the same everywhere, none of chance, and none that chooses by what the image shows."""
    nodes = list(every_node([*model.graph.node, *(node for function in model.functions for node in function.node)]))
    foreign = sorted(
        {f"{n.domain}::{n.op_type}" for n in nodes if n.domain not in ("", "ai.onnx")}
        | {f"{f.domain}::{f.name} (a function of the file's own)" for f in model.functions}
    )
    choosing = [n for n in nodes if n.op_type in CONTROL]
    random = [n for n in nodes if n.op_type in RANDOM or _drops(n, graph)]
    reaching = graph.behind([graph.output])
    strange = [
        n for n in graph.nodes if not reaching.isdisjoint(n.output) and graph.live(n) and not _is_known(n, graph)
    ]
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    figures = {"opset": opset, "nodes": len(nodes), "foreign": foreign, "control": len(choosing), "random": len(random),
               "unknown": sorted({n.op_type for n in strange})}  # fmt: skip
    if foreign:
        return Check("operators", False, figures, f"operators of a foreign domain: {', '.join(foreign)}")
    for found, what in (
        (choosing, "decides at run time what to compute: other images may take a path that was not examined"),
        (random, "draws random numbers: no two answers need be alike"),
        (strange, "does not occur in this network and may treat some images differently"),
    ):
        if found:
            first = found[0]
            return Check("operators", False, figures, f"{first.name or first.output[0]} ({first.op_type}) {what}")
    return Check("operators", True, figures, f"opset {opset}, standard operators only")


def _drops(node: onnx.NodeProto, graph: Graph) -> bool:
    """Whether a Dropout may be training: its third input is there and is not False."""
    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return False
    mode = graph.constants.get(node.input[2])
    return mode is None or bool(np.any(mode))


def _is_known(node: onnx.NodeProto, graph: Graph) -> bool:
    """Whether the network may hold this operator; a maximum only in front of a softmax, which keeps its exponentials normal."""
    if node.op_type == "Max":
        return all(reader.op_type == "Softmax" for reader in graph.readers.get(node.output[0], ()))
    return node.op_type in KNOWN


def unexplained(graph: Graph, known: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Constants behind the output that are neither learned (`known`) nor what every such detector holds: name → shape.

    Whole numbers and single values are arguments of operators; the rest are the anchors' grid as it can be computed, the
    bins of the boxes' distribution and the scales of an upsampling.
    """
    reaching = graph.behind([graph.output])
    return {
        name: array.shape
        for name, array in graph.constants.items()
        if name in reaching and name not in known and not _is_explained(graph, name, array)
    }


def _is_explained(graph: Graph, name: str, array: Array) -> bool:
    if array.size < 2 or (array.dtype.kind in "iub" and array.size < 64):
        return True
    if array.size < 256 and all(node.op_type in ("Resize", "Upsample") for node in graph.readers.get(name, ())):
        return True
    values = array.astype(np.float64).ravel()
    uniform = array.ndim < 2 and array.size < 64 and bool((values == values[0]).all())
    return uniform or np.array_equal(values, np.arange(BINS)) or is_grid(graph, array)


def is_grid(graph: Graph, array: Array) -> bool:
    """Whether these are the anchors' centres, in cells or pixels, or their strides, of all levels or of one, as computed from
    the input's size; or the centres along one side."""
    image = next(value for value in graph.model.graph.input if value.name in graph.inputs)
    sides = [d.dim_value for d in image.type.tensor_type.shape.dim][2:]
    if len(sides) != 2 or 0 in sides:
        return False
    height, width = sides
    values = array.astype(np.float64)
    lines = [np.arange(side // stride) for side in (height, width) for stride in STRIDES]
    if any(np.array_equal(values.ravel(), line + half) for line in lines for half in (0, 0.5)):
        return True
    levels = [_level(height, width, stride) for stride in STRIDES]
    for parts in (levels, *([level] for level in levels)):
        x, y, strides = np.concatenate(parts, 1)
        rows = [x, y, strides, x * strides, y * strides]
        for count in (1, 2, 4):
            if values.size == count * len(x) and any(
                _are_rows(one, rows) for one in (values.reshape(count, -1), values.reshape(-1, count).T)
            ):
                return True
    return False


def _are_rows(values: NDArray[np.float64], rows: list[NDArray[np.float64]]) -> bool:
    """Each row is one of the grid's; of four, two may be zero (boxes' sizes have no centre)."""
    empty = [not row.any() for row in values]
    if sum(empty) > len(values) // 2 or (any(empty) and len(values) < 4):
        return False
    return all(none or any(np.array_equal(row, one) for one in rows) for row, none in zip(values, empty, strict=True))


def _level(height: int, width: int, stride: int) -> NDArray[np.float64]:
    """x and y of the cells' centres, in cells, and the stride: [3, cells]."""
    y, x = np.meshgrid(np.arange(height // stride) + 0.5, np.arange(width // stride) + 0.5, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, float(stride))])
