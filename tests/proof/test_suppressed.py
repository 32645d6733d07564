"""An artifact with suppression inside is proved like the rest; one whose suppression was changed is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from yoloproof.artifact.nms import FORMS, METADATA_KEY, NmsOptions, add_nms
from yoloproof.artifact.onnx import export_onnx
from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.errors import YoloproofError
from yoloproof.network import load_network
from yoloproof.proof import verify
from yoloproof.proof.suppressed import network_part, suppression_check

SIZE = (320, 320)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suppressed") / "plain.onnx"
    export_onnx(load_network(str(demo_checkpoint())), path, imgsz=SIZE)
    return path


def record_of(model: onnx.ModelProto) -> dict[str, object]:
    return json.loads(next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY))


def test_the_whole_artifact_is_proved(tmp_path: Path, plain: Path) -> None:
    add_nms(plain, tmp_path / "nms.onnx", NmsOptions(score=0.1))
    verdict = verify(tmp_path / "nms.onnx", load_network(str(demo_checkpoint())), letterboxed(demo_images(), SIZE))
    checks = {check.name: check for check in verdict.checks}
    assert verdict.passed, verdict.failures
    assert {"weights", "attention", "sensitivity", "blocks"} <= checks.keys()
    assert checks["suppression"].figures["boxes"] > 50
    assert checks["detections after suppression"].figures["matched"] > 0


def test_the_network_part_is_the_plain_file_again(tmp_path: Path, plain: Path) -> None:
    add_nms(plain, tmp_path / "nms.onnx")
    model, before = onnx.load(str(tmp_path / "nms.onnx")), onnx.load(str(plain))
    part = network_part(model, record_of(model))
    assert part.graph.node == before.graph.node
    assert part.graph.output[0].type == before.graph.output[0].type
    assert [tensor.name for tensor in part.graph.initializer] == [tensor.name for tensor in before.graph.initializer]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("held", [0.7, 0.25], ids=["iou", "score"])
def test_a_changed_suppression_is_found(tmp_path: Path, plain: Path, form: str, held: float) -> None:
    add_nms(plain, tmp_path / "nms.onnx", NmsOptions(form=form))
    model = onnx.load(str(tmp_path / "nms.onnx"))
    assert suppression_check(model, record_of(model)).passed
    changed = 0
    for tensor in model.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if (
            tensor.name.startswith("nms/")
            and value.dtype == np.float32
            and value.size == 1
            and np.isclose(value, held).all()
        ):
            tensor.CopyFrom(onnx.numpy_helper.from_array(value / np.float32(2), tensor.name))
            changed += 1
    assert changed == 1
    assert suppression_check(model, record_of(model)).passed is False


def test_suppression_that_reads_more_than_the_output_is_refused(tmp_path: Path, plain: Path) -> None:
    add_nms(plain, tmp_path / "nms.onnx")
    model = onnx.load(str(tmp_path / "nms.onnx"))
    node = next(node for node in model.graph.node if node.op_type == "Greater" and node.name.startswith("nms/"))
    node.input[1] = model.graph.node[0].output[0]
    with pytest.raises(YoloproofError, match="reads 2 tensors"):
        network_part(model, record_of(model))
