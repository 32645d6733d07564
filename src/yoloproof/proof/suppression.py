"""Suppression inside an artifact: cut off, so that the detector before it is verified, and then verified by itself."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from yoloproof.artifact.nms import NmsOptions, detections_from_nms
from yoloproof.detection.nms import detections_from_output
from yoloproof.detection.pipeline import IN_GRAPH, batch_of
from yoloproof.errors import first_line
from yoloproof.names import Precision
from yoloproof.network.wiring import Network
from yoloproof.proof.crowds import CROWDS, crowded
from yoloproof.proof.parity import TOLERANCES, Tolerance, detection_parity
from yoloproof.proof.running import EXAMINED, REAL
from yoloproof.proof.stated import Stated
from yoloproof.records import Check
from yoloproof.runtime import Session, SessionSpec, open_session

Array = NDArray[np.float32]
NAME = "suppression"


@dataclass(frozen=True)
class Cut:
    """raw -- the artifact up to its [B, 4 + classes, A]; session -- that, opened in the artifact's own runtime;
    part -- what comes after, from that tensor of `shape` and `dtype` to the detections."""

    raw: onnx.ModelProto
    session: Session
    part: onnx.ModelProto
    shape: tuple[int, int, int]
    dtype: str


def is_suppressed(session: Session) -> bool:
    """Whether a session answers with detections instead of anchors."""
    shape = session.outputs[0].shape
    one_tensor = len(session.outputs) == 1 and len(shape) == 3 and shape[2] == 6
    return one_tensor or all(name in {spec.name for spec in session.outputs} for name in IN_GRAPH)


def options_of(stated: Stated) -> NmsOptions:
    """The thresholds an artifact says its suppression has."""
    return stated.nms or NmsOptions()


def without_suppression(
    model: onnx.ModelProto, network: Network, session: Session, stated: Stated, stack: ExitStack
) -> Cut | Check:
    """Cut the model at the one tensor that its nodes `nms/…` read, and open both parts as long as `stack` lives.

    A Check that failed where they read more than one: what else they know of the image is not the detector's output.
    """
    inside = [node for node in model.graph.node if node.name.startswith("nms/")]
    outside = [node for node in model.graph.node if not node.name.startswith("nms/")]
    made = {name for node in outside for name in node.output} | {value.name for value in model.graph.input}
    read = sorted({name for node in inside for name in node.input} & made)
    answers = {value.name for value in model.graph.output} <= {name for node in inside for name in node.output}
    if len(read) != 1 or not answers:
        return Check(
            NAME, False, {"reads": read}, f"the suppression reads {', '.join(read) or 'nothing'}, not one tensor"
        )
    height, width = (int(side) for side in session.inputs[0].shape[2:])
    anchors = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    shape = (int(session.inputs[0].shape[0]), 4 + network.classes, anchors)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(stated.raw_type))
    tensor = onnx.helper.make_tensor_value_info(read[0], kind, shape)
    raw, part = onnx.ModelProto(), onnx.ModelProto()
    for model_part, nodes in ((raw, outside), (part, inside)):
        model_part.CopyFrom(model)
        del model_part.graph.node[:], model_part.graph.initializer[:], model_part.graph.value_info[:]
        model_part.graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        model_part.graph.initializer.extend(t for t in model.graph.initializer if t.name in used)
    del raw.graph.output[:], part.graph.input[:]
    raw.graph.output.append(tensor)
    part.graph.input.append(tensor)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="yoloproof-"))
    file = Path(folder) / "raw.onnx"
    onnx.save(raw, file)
    facts = session.facts
    spec = SessionSpec(facts.name, file, facts.device or "cpu", facts.threads, Precision.of_dtype(facts.precision))
    return Cut(raw, stack.enter_context(open_session(spec)), part, shape, stated.raw_type)


def suppression_check(cut: Cut, whole: Session, stated: Stated, images: Array) -> Check:
    """Synthetic boxes all over the image through the suppression alone, then the artifact's answers on the images: as
    outside the artifact, by the thresholds that it states and the verdict prints."""
    options = options_of(stated)
    rule = (options.score, options.iou, options.max_detections)
    size = (int(whole.inputs[0].shape[2]), int(whole.inputs[0].shape[3]))
    pairs: list[tuple[Array, Array]] = []
    try:
        for draw in range(CROWDS):
            raw = crowded(cut.shape, size, stated.seed + draw, options.score).astype(cut.dtype)
            inside = detections_from_nms(_part_outputs(cut.part, raw))
            pairs += zip(_outside(raw.astype(np.float32), rule), inside, strict=True)
        synthetic = len(pairs)
        for start in range(0, len(images), cut.shape[0]):
            batch = np.resize(images[start : start + cut.shape[0]], (cut.shape[0], *images.shape[1:]))
            pairs += zip(_outside(np.asarray(cut.session.infer(batch)[0], np.float32), rule),
                         detections_from_nms(whole.infer(batch)), strict=True)  # fmt: skip
    except Exception as error:  # the runtimes' own errors have no class in common
        detail = f"the suppression does not run: {first_line(error)}; export it again with --nms"
        return Check(NAME, False, {}, detail)
    check = detection_parity(pairs, TOLERANCES[Precision.FP32], options.score, options.iou)
    figures = {**check.figures, "synthetic": synthetic, "score": rule[0], "iou": rule[1], "max_detections": rule[2]}
    detail = f"{check.detail}, inside the artifact and outside; score above {rule[0]:g}, overlap {rule[1]:g}, at most {rule[2]}"
    return Check(NAME, check.passed, figures, detail)


def engine_checks(
    session: Session, network: Network, images: Array, tolerance: Tolerance, stated: Stated
) -> list[Check]:
    """What can be said of an engine with suppression inside: its detections. Its raw output nobody can see."""
    options = options_of(stated)
    batch, pairs = batch_of(session), []
    for image in images:
        with torch.inference_mode():
            reference = network(torch.from_numpy(image[None])).numpy()
        given = detections_from_nms(session.infer(np.repeat(image[None], batch, 0)))[0]
        pairs.append((detections_from_output(reference[0], options.score, options.iou, options.max_detections), given))
    unseen = "suppression is inside the engine; verify one exported without --nms"
    return [
        Check(EXAMINED, True, {REAL: len(images)}, f"{len(images)} {REAL}, detections alone"),
        Check("outputs", None, {}, f"raw outputs cannot be seen: {unseen}"),
        detection_parity(pairs, tolerance, options.score, options.iou),
        Check("sensitivity", None, {}, f"attention cannot be judged by detections alone: {unseen}"),
    ]


def _outside(raw: Array, rule: tuple[float, float, int]) -> list[Array]:
    return [detections_from_output(image, *rule) for image in raw]


def _part_outputs(part: onnx.ModelProto, raw: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: raw}))
