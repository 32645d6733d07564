"""Suppression inside the graph gives what the textbook loop gives, on ONNX Runtime and OpenVINO."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from yoloproof.artifact.nms import METADATA_KEY, NmsOptions, add_nms, detections_from_nms
from yoloproof.errors import YoloproofError
from yoloproof.files.onnx import read_onnx_file
from yoloproof.runtime import SessionSpec, available_runtimes, open_session

ANCHORS = 32 * 32


def passthrough(path: Path, batch: int | str = 1, classes: int = 5, dtype: int = TensorProto.FLOAT) -> Path:
    """A "detector" that answers with its image, reshaped to [B, 4 + classes, A]."""
    rows = 4 + classes
    height = rows * ANCHORS // (3 * 32)
    reshape = helper.make_node("Reshape", ["images", "to"], ["output0"])
    to = helper.make_tensor("to", TensorProto.INT64, [3], [0, rows, ANCHORS])
    graph = helper.make_graph(
        [reshape],
        "passthrough",
        [helper.make_tensor_value_info("images", dtype, [batch, 3, height, 32])],
        [helper.make_tensor_value_info("output0", dtype, [batch, rows, ANCHORS])],
        [to],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11), str(path))
    return path


def raw_output(seed: int, batch: int = 1, classes: int = 5) -> np.ndarray:
    """Crowded boxes around a few centres, so that suppression chains are long; [B, 4 + classes, A] in 0…1."""
    rng = np.random.default_rng(seed)
    centres = rng.random((12, 2))
    which = rng.integers(0, 12, (batch, ANCHORS))
    xy = centres[which] + rng.normal(0, 0.02, (batch, ANCHORS, 2))
    wh = 0.1 + rng.random((batch, ANCHORS, 2)) * 0.1
    scores = rng.random((batch, ANCHORS, classes)) ** 3
    return np.concatenate((xy, wh, scores), 2).transpose(0, 2, 1).astype(np.float32).clip(0, 1)


def greedy(raw: np.ndarray, options: NmsOptions) -> np.ndarray:
    """The textbook loop over one image [4 + classes, A]: [n, 6]."""
    x, y, w, h = raw[:4]
    boxes = np.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 1)
    classes, scores = raw[4:].argmax(0), raw[4:].max(0)
    order = np.argsort(-scores, kind="stable")[: options.candidates]
    kept: list[int] = []
    for i in order:
        if scores[i] <= options.score:
            break
        if all(classes[i] != classes[j] or overlap(boxes[i], boxes[j]) <= options.iou for j in kept):
            kept.append(int(i))
    kept = kept[: options.max_detections]
    return np.column_stack((boxes[kept], scores[kept], classes[kept])).astype(np.float32)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    inter = float(sides[0] * sides[1])
    return inter / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter)


def run(path: Path, raw: np.ndarray, runtime: str = "onnxruntime") -> tuple[np.ndarray, ...]:
    if runtime not in available_runtimes():
        pytest.skip(f"{runtime} is not installed")
    with open_session(SessionSpec(runtime, path, threads=1)) as session:
        return session.infer(raw.reshape(raw.shape[0], 3, -1, 32))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_graph_suppresses_as_the_loop_does(tmp_path: Path, runtime: str) -> None:
    options = NmsOptions(score=0.6, iou=0.45, max_detections=200)
    add_nms(passthrough(tmp_path / "in.onnx", batch=2), tmp_path / "out.onnx", options)
    raw = raw_output(seed=3, batch=2)
    outputs = run(tmp_path / "out.onnx", raw, runtime)
    assert outputs[1].shape == (2, 200, 4)
    for found, image in zip(detections_from_nms(outputs), raw, strict=True):
        expected = greedy(image, options)
        assert 20 < len(expected) < 200
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_only_the_best_are_kept(tmp_path: Path) -> None:
    options = NmsOptions(score=0.05, iou=0.9, max_detections=7)
    add_nms(passthrough(tmp_path / "in.onnx"), tmp_path / "out.onnx", options)
    raw = raw_output(seed=4)
    (found,) = detections_from_nms(run(tmp_path / "out.onnx", raw))
    np.testing.assert_allclose(found, greedy(raw[0], options), atol=1e-6)
    assert len(found) == 7


def test_an_empty_answer_is_zeros_of_class_minus_one(tmp_path: Path) -> None:
    add_nms(passthrough(tmp_path / "in.onnx"), tmp_path / "out.onnx", NmsOptions(score=1.0))
    count, boxes, scores, classes, *_ = run(tmp_path / "out.onnx", raw_output(seed=5))
    assert count.tolist() == [0]
    assert not boxes.any()
    assert not scores.any()
    assert (classes == -1).all()
    assert detections_from_nms((count, boxes, scores, classes))[0].shape == (0, 6)


def test_a_chain_longer_than_the_rounds_says_so(tmp_path: Path) -> None:
    """Boxes in a row, each overlapping the next alone: one keeps, the next goes, and so on; every round settles one."""
    raw = np.zeros((1, 9, ANCHORS), np.float32)
    length = 20
    raw[0, 0, :length] = 0.1 + np.arange(length) * 0.02
    raw[0, 1] = 0.5
    raw[0, 2:4] = 0.05
    raw[0, 4, :length] = np.linspace(0.9, 0.5, length)
    options = NmsOptions(iou=0.4, rounds=4)
    few, many = tmp_path / "few.onnx", tmp_path / "many.onnx"
    add_nms(passthrough(tmp_path / "in.onnx"), few, options)
    add_nms(tmp_path / "in.onnx", many, replace(options, rounds=length))
    with pytest.raises(YoloproofError, match="did not settle"):
        detections_from_nms(run(few, raw))
    (found,) = detections_from_nms(run(many, raw))
    expected = greedy(raw[0], options)
    assert len(expected) == length // 2
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_float16_graph_suppresses_in_float32(tmp_path: Path) -> None:
    options = NmsOptions(score=0.3, iou=0.45)
    add_nms(passthrough(tmp_path / "in.onnx", dtype=TensorProto.FLOAT16), tmp_path / "out.onnx", options)
    raw = raw_output(seed=6)
    (found,) = detections_from_nms(run(tmp_path / "out.onnx", raw))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, greedy(raw[0].astype(np.float16).astype(np.float32), options), atol=1e-6)


def test_the_file_says_how_it_suppresses(tmp_path: Path) -> None:
    add_nms(passthrough(tmp_path / "in.onnx"), tmp_path / "out.onnx", NmsOptions(score=0.3))
    record = json.loads(read_onnx_file(tmp_path / "out.onnx").metadata[METADATA_KEY])
    assert record["score"] == 0.3
    assert record["classes"] == 5


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    source = passthrough(tmp_path / "in.onnx")
    for options, words in (
        (NmsOptions(score=1.5), "between 0 and 1"),
        (NmsOptions(candidates=100), "raise candidates"),
        (NmsOptions(candidates=5000), "from 1 to 3840"),
    ):
        with pytest.raises(YoloproofError, match=words):
            add_nms(source, tmp_path / "out.onnx", options)
    with pytest.raises(YoloproofError, match="exists"):
        add_nms(source, source)
    dynamic = passthrough(tmp_path / "dynamic.onnx", batch="batch")
    with pytest.raises(YoloproofError, match="dynamic"):
        add_nms(dynamic, tmp_path / "out.onnx")
    add_nms(source, tmp_path / "done.onnx")
    with pytest.raises(YoloproofError, match="without NMS first"):
        add_nms(tmp_path / "done.onnx", tmp_path / "twice.onnx")


@pytest.mark.parametrize("runtime", [name for name in ("onnxruntime", "openvino") if name in available_runtimes()])
def test_one_tensor_as_ultralytics_reads_it(runtime: str, tmp_path: Path) -> None:
    path = passthrough(tmp_path / "raw.onnx", batch=2)
    options = NmsOptions(score=0.5, max_detections=20, layout="ultralytics")
    add_nms(path, tmp_path / "nms.onnx", options)
    raw = raw_output(3, batch=2)
    with open_session(SessionSpec(runtime, tmp_path / "nms.onnx", precision="fp32")) as session:
        assert [(spec.name, spec.shape) for spec in session.outputs] == [("detections", (2, 20, 6))]
        outputs = session.infer(raw.reshape(2, 3, -1, 32))
    for found, one in zip(detections_from_nms(outputs), raw, strict=True):
        np.testing.assert_allclose(found, greedy(one, options), atol=1e-5)
    assert (outputs[0][outputs[0][..., 4] == 0] == 0).all()
    with pytest.raises(YoloproofError, match="NMS layout 'theirs' is not one of ours, ultralytics"):
        add_nms(path, tmp_path / "x.onnx", NmsOptions(layout="theirs"))
