"""Proof of an artifact with suppression inside (`--nms`): it is the network, then suppression, each proved by itself.

The nodes called `nms/…` are cut off an ONNX file. What is left is proved as any artifact is; what was cut is run alone
and must answer as the suppression outside does. What both make together is compared once more, in the runtime that was
asked for, with the network's own detections. Of an engine only this last can be seen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloproof.artifact.nms import METADATA_KEY, detections_from_nms
from yoloproof.detection.nms import detections_from_output
from yoloproof.errors import YoloproofError
from yoloproof.network.wiring import Network
from yoloproof.proof.parity import Tolerance, detection_parity
from yoloproof.proof.verdict import Check
from yoloproof.runtime import Session

Array = NDArray[np.float32]
PREFIX = "nms/"


def network_part(model: onnx.ModelProto, record: Mapping[str, Any]) -> onnx.ModelProto:
    """The model without its suppression, its one output as it was before `add_nms` (`record` is what that wrote)."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:]
    part.graph.node.extend(node for node in model.graph.node if not node.name.startswith(PREFIX))
    constants = [tensor for tensor in model.graph.initializer if not tensor.name.startswith(PREFIX)]
    del part.graph.initializer[:]
    part.graph.initializer.extend(constants)
    properties = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del part.metadata_props[:]
    part.metadata_props.extend(properties)
    _set_tensors(part.graph.output, *_raw(model, record))
    return part


def suppression_part(model: onnx.ModelProto, record: Mapping[str, Any]) -> onnx.ModelProto:
    """The suppression alone, with the network's raw output as its input."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:]
    part.graph.node.extend(node for node in model.graph.node if node.name.startswith(PREFIX))
    constants = [tensor for tensor in model.graph.initializer if tensor.name.startswith(PREFIX)]
    del part.graph.initializer[:]
    part.graph.initializer.extend(constants)
    _set_tensors(part.graph.input, *_raw(model, record))
    return part


def _raw(model: onnx.ModelProto, record: Mapping[str, Any]) -> tuple[str, int, list[int]]:
    """Name, element type and shape of the tensor where the network ends: the suppression reads no other."""
    made = {name for node in model.graph.node if node.name.startswith(PREFIX) for name in node.output}
    held = {tensor.name for tensor in model.graph.initializer if tensor.name.startswith(PREFIX)}
    read = [
        name
        for node in model.graph.node
        if node.name.startswith(PREFIX)
        for name in node.input
        if name not in made and name not in held
    ]
    if len(set(read)) != 1:
        raise YoloproofError(
            f"the suppression in the file reads {len(set(read))} tensors of the network, not one; export it again"
        )
    kind = onnx.TensorProto.FLOAT16 if record["raw_type"] == "float16" else onnx.TensorProto.FLOAT
    return read[0], kind, [int(size) for size in record["raw_shape"]]


def _set_tensors(values: Any, name: str, kind: int, shape: list[int]) -> None:
    del values[:]
    values.append(onnx.helper.make_tensor_value_info(name, kind, shape))


def suppression_check(model: onnx.ModelProto, record: Mapping[str, Any]) -> Check:
    """The suppression alone answers as the one outside does, on crowded boxes of every class (ONNX Runtime, CPU)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suppression.onnx"
        onnx.save(suppression_part(model, record), path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
        raw = crowded_boxes(tuple(given.shape)).astype(record["raw_type"])
        answers = detections_from_nms(session.run(None, {given.name: raw}))
    found, worst = 0, 0.0
    for image, answer in zip(raw.astype(np.float32), answers, strict=True):
        wanted = suppressed_outside(image, record)
        if wanted.shape != answer.shape:
            detail = f"it keeps {len(answer)} boxes where suppression outside keeps {len(wanted)}"
            return Check("suppression", False, {"kept": len(answer), "wanted": len(wanted)}, detail)
        found += len(wanted)
        worst = max(worst, float(np.abs(wanted - answer).max(initial=0.0)))
    passed = found > 0 and worst < 1e-3
    figures = {"boxes": found, "largest_difference": worst}
    return Check("suppression", passed, figures, f"{found} crowded boxes kept as outside, within {worst:.2g}")


def crowded_boxes(shape: Sequence[int]) -> Array:
    """Raw output [B, 4 + classes, A], seeded: a third of the candidates above the threshold crowd around few centres."""
    batch, rows, anchors = shape
    rng = np.random.default_rng(0)
    crowd = min(anchors, 200)  # fewer than the candidates, so that both sides suppress among the same
    centres = rng.uniform(100, 500, (12, 2))[rng.integers(0, 12, (batch, anchors))]
    boxes = np.concatenate([centres + rng.normal(0, 8, centres.shape), rng.uniform(40, 90, centres.shape)], 2)
    scores = np.zeros((batch, anchors, rows - 4))
    which = rng.integers(0, rows - 4, (batch, crowd))
    for image in range(batch):
        # scores that differ by more than float16 rounds, so that the order is the same on both sides
        scores[image, rng.permutation(anchors)[:crowd], which[image]] = rng.permutation(np.linspace(0.05, 0.95, crowd))
    return np.concatenate([boxes, scores], 2).transpose(0, 2, 1).astype(np.float32)


def suppressed_outside(raw: Array, record: Mapping[str, Any]) -> Array:
    """Detections [n, 6] of one raw output [4 + classes, A] under an artifact's own options."""
    if record["form"] == "topk" and raw.shape[1] > record["candidates"]:
        best = np.argsort(-raw[4:].max(0), kind="stable")[: record["candidates"]]
        raw = raw[:, np.sort(best)]
    return detections_from_output(raw, record["score"], record["iou"], record["max_detections"])


def answers_check(
    session: Session, network: Network, images: Array, reference: Array, record: Mapping[str, Any], tolerance: Tolerance
) -> Check:
    """What the artifact answers in its own runtime is what suppression makes of the network's output `reference`."""
    batch = session.inputs[0].shape[0]
    batch = batch if isinstance(batch, int) else 1
    given: list[Array] = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        filled = np.concatenate([part, np.repeat(part[:1], batch - len(part), 0)])
        given += detections_from_nms(session.infer(filled))[: len(part)]
    if network.sha256 is None:
        # Random weights score every anchor alike; what comes first of equals is chance, and proves nothing.
        sound = all(np.isfinite(answer).all() for answer in given)
        return Check("detections", sound, {"images": len(given)}, "random weights: answers are finite, order is chance")
    wanted = [suppressed_outside(raw, record) for raw in reference]
    return detection_parity(list(zip(wanted, given, strict=True)), tolerance, record["score"])
