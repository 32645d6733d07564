"""Non-maximum suppression inside the ONNX graph, so that an artifact answers with boxes and not with 8,400 anchors.

Per anchor its best class, of these the `candidates` best; then the greedy suppression of everything that overlaps a
better box of its class by more than `iou`, and the best `max_detections` of what is left, best first. The candidates'
overlaps are one matrix M (strictly lower triangular: only a better box suppresses), and the greedy answer is the fixed
point of keep = 1 − max(M·keep), iterated `rounds` times. Every shape is fixed, as a CUDA graph needs it: ONNX's
NonMaxSuppression gives as many boxes as the data have. A fixed point of a triangular system is unique, so the answer is
the greedy one as soon as a round changes nothing, which the output `settled` says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.files.new import write_new
from yoloproof.files.onnx import load_onnx

LAYOUTS = ("ours", "ultralytics")
METADATA_KEY = "yoloproof.nms"


@dataclass(frozen=True)
class NmsOptions:
    """score -- boxes below it are dropped; iou -- overlap above which the worse box goes; both in 0…1
    layout -- of the outputs: "ours", or "ultralytics" for one tensor [B, n, 6]; see `add_nms`"""

    score: float = 0.25
    iou: float = 0.7
    max_detections: int = 300
    candidates: int = 512
    rounds: int = 16
    layout: str = "ours"


def add_nms(source: Path, path: Path, options: NmsOptions | None = None) -> None:
    """Write `source`, whose output is [B, 4 + classes, A], to `path` with suppression behind it.

    Outputs, all of fixed shape: `count` int32 [B]; `boxes` float32 [B, n, 4], x1, y1, x2, y2 in input pixels; `scores`
    float32 [B, n]; `classes` int32 [B, n]; n = max_detections. Rows from `count` on are zero, their class −1. `settled`
    int32 [B]: 1 where the answer is the greedy one. In the layout "ultralytics" the one output is
    `detections` float32 [B, n, 6]: x1, y1, x2, y2, score, class; rows of zeros fill it up.
    Raises YoloproofError for another kind of output, a dynamic shape, options out of range or an existing `path`.
    """
    from onnx import TensorProto, checker, helper

    options = options or NmsOptions()
    _check(options)
    model = load_onnx(source)
    graph = model.graph
    batch, rows, anchors = _output_shape(graph, source)
    kind = graph.output[0].type.tensor_type.elem_type
    draw = _Draw()
    raw = draw.op("Cast", graph.output[0].name, to=TensorProto.FLOAT)
    ends = [_one_image(draw, raw, image, anchors, options) for image in range(batch)]
    names = ["count", "boxes", "scores", "classes", "settled"]
    if options.layout == "ultralytics":
        ends, names = [(_one_tensor(draw, *end[1:4]),) for end in ends], ["detections"]
    for name, parts in zip(names, zip(*ends, strict=True), strict=True):
        draw.op("Concat", *parts, output=name, axis=0)
    _replace_outputs(graph, draw, names, batch, options.max_detections)
    raw_type = "float16" if kind == TensorProto.FLOAT16 else "float32"
    record = {**asdict(options), "classes": rows - 4, "raw_type": raw_type, "raw_shape": [batch, rows, anchors]}
    properties = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, {**properties, METADATA_KEY: json.dumps(record)})
    checker.check_model(model)
    write_new(model.SerializeToString(), path)


def _one_tensor(draw: _Draw, boxes: str, scores: str, classes: str) -> Any:
    """[1, n, 6] of one image's boxes [1, n, 4], scores [1, n] and classes [1, n], which are −1 where there is no box."""
    last = draw.const([2], "int64")
    filled = draw.op("Max", draw.cast(classes, "FLOAT"), draw.const(0.0, "float32"))
    return draw.op("Concat", boxes, draw.op("Unsqueeze", scores, last), draw.op("Unsqueeze", filled, last), axis=2)


def _check(options: NmsOptions) -> None:
    if options.layout not in LAYOUTS:
        raise YoloproofError(f"NMS layout {options.layout!r} is not one of {', '.join(LAYOUTS)}")
    check_thresholds(options)
    if options.max_detections > options.candidates:
        raise YoloproofError(f"NMS keeps {options.max_detections} of {options.candidates} candidates; raise candidates")


def check_thresholds(options: NmsOptions) -> None:
    """Raise YoloproofError for numbers that no suppression here takes."""
    for name in ("score", "iou"):
        if not 0 <= getattr(options, name) <= 1:
            raise YoloproofError(f"NMS {name} is {getattr(options, name)}; it must be between 0 and 1")
    # TensorRT's TopK takes at most 3,840 elements.
    for name, most in (("max_detections", 3840), ("candidates", 3840), ("rounds", 1000)):
        if not 1 <= getattr(options, name) <= most:
            raise YoloproofError(f"NMS {name} is {getattr(options, name)}; it must be from 1 to {most}")


def _output_shape(graph: Any, source: Path) -> tuple[int, int, int]:
    """Batch, 4 + classes, anchors."""
    shapes = [[size.dim_value for size in value.type.tensor_type.shape.dim] for value in graph.output]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][1] < 5:
        raise YoloproofError(f"{source}: outputs {shapes}, not one [B, 4 + classes, A]; export without NMS first")
    batch, rows, anchors = shapes[0]
    if batch < 1 or anchors < 1:
        raise YoloproofError(
            f"{source}: its output {shapes[0]} is dynamic; export with a fixed batch and size for --nms"
        )
    return batch, rows, anchors


def _replace_outputs(graph: Any, draw: _Draw, names: Sequence[str], batch: int, kept: int) -> None:
    from onnx import TensorProto, helper

    graph.node.extend(draw.nodes)
    graph.initializer.extend(draw.constants)
    del graph.output[:]
    rows = [batch, kept]
    shapes = {"boxes": [*rows, 4], "scores": rows, "classes": rows, "detections": [*rows, 6]}
    for name in names:
        kind = TensorProto.FLOAT if name in ("boxes", "scores", "detections") else TensorProto.INT32
        graph.output.append(helper.make_tensor_value_info(name, kind, shapes.get(name, [batch])))


class _Draw:
    """Nodes and constants under construction, all named `nms/…`."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def op(self, kind: str, *inputs: str, output: str | None = None, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; the name of its output, or a list of names where it has several."""
        from onnx import helper

        name = f"nms/{kind}_{len(self.nodes)}"
        results = [output or f"{name}:0", *(f"{name}:{index}" for index in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), results, name, **attributes))
        return results[0] if outputs == 1 else results

    def const(self, value: Any, dtype: str) -> str:
        from onnx import numpy_helper

        name = f"nms/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def cast(self, name: str, dtype: str) -> Any:
        from onnx import TensorProto

        return self.op("Cast", name, to=getattr(TensorProto, dtype))


def _one_image(draw: _Draw, raw: str, image: int, anchors: int, options: NmsOptions) -> tuple[str, ...]:
    """count [1], boxes [1, n, 4], scores [1, n], classes [1, n] and settled [1] of one image."""

    def part(first: int, last: int) -> Any:
        starts, ends = draw.const([image, first], "int64"), draw.const([image + 1, last], "int64")
        cut = draw.op("Slice", raw, starts, ends, draw.const([0, 1], "int64"))
        return draw.op("Squeeze", cut, draw.const([0], "int64"))  # [rows, A]

    xywh = draw.op("Transpose", part(0, 4), perm=[1, 0])  # [A, 4]
    centre, size = draw.op("Split", xywh, outputs=2, axis=1, num_outputs=2)
    half = draw.op("Mul", size, draw.const(0.5, "float32"))
    corners = draw.op("Concat", draw.op("Sub", centre, half), draw.op("Add", centre, half), axis=1)
    probabilities = part(4, np.iinfo(np.int64).max)  # [classes, A]
    return _suppressed(draw, corners, probabilities, anchors, options)


def _suppressed(draw: _Draw, boxes: str, probabilities: str, anchors: int, options: NmsOptions) -> tuple[str, ...]:
    best = draw.op("ReduceMax", probabilities, draw.const([0], "int64"), keepdims=0)  # [A]
    candidates = min(options.candidates, anchors)
    scores, at = draw.op("TopK", best, draw.const([candidates], "int64"), outputs=2, axis=0)
    boxes = draw.op("Gather", boxes, at, axis=0)  # [n, 4]
    classes = draw.op("ArgMax", draw.op("Gather", probabilities, at, axis=1), axis=0, keepdims=0)  # [n]
    suppresses = _suppression(draw, boxes, classes, candidates, options.iou)
    valid = draw.cast(draw.op("Greater", scores, draw.const(options.score, "float32")), "FLOAT")
    valid = draw.op("Unsqueeze", valid, draw.const([0], "int64"))  # [1, n]
    one = draw.const(1.0, "float32")
    keep = before = valid
    for _ in range(options.rounds):
        before = keep
        # Not a MatMul: TensorRT-RTX has none in float32 for Turing.
        hit = draw.op("ReduceMax", draw.op("Mul", suppresses, keep), draw.const([1], "int64"))  # [n, 1]
        keep = draw.op("Mul", valid, draw.op("Sub", one, draw.op("Transpose", hit, perm=[1, 0])))
    changed = draw.op("ReduceMax", draw.op("Abs", draw.op("Sub", keep, before)))  # scalar, keeps [1, 1]
    settled = draw.op("Sub", one, draw.op("Reshape", changed, draw.const([1], "int64")))
    kept = draw.op("Squeeze", keep, draw.const([0], "int64"))
    found = _best(draw, boxes, draw.op("Mul", scores, kept), classes, candidates, options.max_detections)
    return (*found, draw.cast(settled, "INT32"))


def _suppression(draw: _Draw, boxes: str, classes: str, candidates: int, iou: float) -> Any:
    """M [n, n]: 1 where box j is better than i (j < i), of its class, and overlaps it by more than `iou`."""
    corners = draw.op("Split", boxes, outputs=4, axis=1, num_outputs=4)  # x1, y1, x2, y2, each [n, 1]
    rows = [draw.op("Transpose", side, perm=[1, 0]) for side in corners]  # each [1, n]
    zero = draw.const(0.0, "float32")
    shared = []
    for low, high in ((0, 2), (1, 3)):
        first = draw.op("Max", corners[low], rows[low])
        last = draw.op("Min", corners[high], rows[high])
        shared.append(draw.op("Max", draw.op("Sub", last, first), zero))
    inter = draw.op("Mul", *shared)  # [n, n]
    areas = draw.op("Mul", draw.op("Sub", corners[2], corners[0]), draw.op("Sub", corners[3], corners[1]))
    union = draw.op("Sub", draw.op("Add", areas, draw.op("Transpose", areas, perm=[1, 0])), inter)
    # inter / union > iou, without dividing by the zero area of an empty box
    over = draw.op("Greater", inter, draw.op("Mul", union, draw.const(iou, "float32")))
    column = draw.op("Unsqueeze", classes, draw.const([1], "int64"))
    same = draw.op("Equal", column, draw.op("Transpose", column, perm=[1, 0]))
    better = draw.const(np.tri(candidates, k=-1), "bool")
    return draw.cast(draw.op("And", draw.op("And", over, same), better), "FLOAT")


def _best(draw: _Draw, boxes: str, scores: str, classes: str, candidates: int, n: int) -> tuple[str, str, str, str]:
    """The n best of the boxes with a score above 0, with a leading batch dimension; the rest zero, class −1."""
    if candidates < n:
        missing = n - candidates
        scores = draw.op("Concat", scores, draw.const(np.zeros(missing), "float32"), axis=0)
        boxes = draw.op("Concat", boxes, draw.const(np.zeros((missing, 4)), "float32"), axis=0)
        classes = draw.op("Concat", classes, draw.const(np.zeros(missing), "int64"), axis=0)
    best, at = draw.op("TopK", scores, draw.const([n], "int64"), outputs=2, axis=0)
    present = draw.op("Greater", best, draw.const(0.0, "float32"))  # [n]
    lead = draw.const([0], "int64")
    column = draw.op("Unsqueeze", present, draw.const([1], "int64"))
    kept_boxes = draw.op("Where", column, draw.op("Gather", boxes, at, axis=0), draw.const(0.0, "float32"))
    ids = draw.cast(draw.op("Gather", classes, at, axis=0), "INT32")
    kept_ids = draw.op("Where", present, ids, draw.const(-1, "int32"))
    count = draw.op("ReduceSum", draw.cast(present, "INT32"), lead, keepdims=1)  # [1]
    boxes_out, scores_out, classes_out = (draw.op("Unsqueeze", name, lead) for name in (kept_boxes, best, kept_ids))
    return count, boxes_out, scores_out, classes_out


def detections_from_nms(outputs: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Outputs of an `add_nms` artifact → per image float32 [n, 6]: x1, y1, x2, y2 in input pixels, score, class.

    Raises YoloproofError where the artifact says that its answer had not settled.
    """
    if len(outputs) == 1:
        return [rows[rows[:, 4] > 0].astype(np.float32) for rows in outputs[0]]
    count, boxes, scores, classes = outputs[:4]
    if len(outputs) > 4 and not np.all(outputs[4] == 1):
        raise YoloproofError("the suppression inside the artifact did not settle; export with more rounds")
    rows = [np.column_stack((boxes[i], scores[i], classes[i])).astype(np.float32) for i in range(len(count))]
    return [row[: int(n)] for row, n in zip(rows, count, strict=True)]
