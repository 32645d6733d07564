"""What other people's checkpoints are, told by their tensors' names: those of the published networks themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from yoloproof.errors import YoloproofError
from yoloproof.network import load_network
from yoloproof.network.variants import VARIANTS
from yoloproof.network.weights.neighbours import architecture_from_tensors, refusal, task_from_tensors

FAMILIES = {"yolov8": "YOLOv8", "yolo11": "YOLO11", "yolov10": "YOLOv10", "yolov12": "YOLOv12", "yolov13": "YOLOv13"}
# what each head adds to a detector's: a tensor of its own and its output's channels
HEADS = {
    "segmentation": {"model.21.proto.cv1.conv.weight": (64, 64, 3, 3), "model.21.cv4.0.2.weight": (32, 32, 1, 1)},
    "pose": {"model.21.cv4.0.2.weight": (51, 51, 1, 1)},
    "oriented boxes": {"model.21.cv4.0.2.weight": (1, 16, 1, 1)},
}
# tensors that only these hold, as their packages' checkpoints name them
OTHERS = {
    "YOLO26": ["model.10.m.0.attn.qkv.conv.weight", "model.22.m.0.1.attn.qkv.conv.weight"],
    "YOLOv9": ["model.2.cv3.conv.weight", "model.4.cv2.0.cv1.conv.weight", "model.22.dfl.conv.weight"],
    "YOLOv5 (ultralytics)": ["model.2.cv3.conv.weight", "model.24.cv2.0.0.conv.weight", "model.24.dfl.conv.weight"],
    "RT-DETR (ultralytics)": ["model.28.decoder.layers.0.self_attn.in_proj_weight", "model.28.enc_score_head.weight"],
    "YOLO-World": ["model.22.cv4.0.norm.weight", "model.22.dfl.conv.weight"],
    "RF-DETR": ["transformer.decoder.layers.0.norm1.weight", "backbone.0.encoder.encoder.layernorm.weight"],
}


def tensors(shapes: Mapping[str, object]) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}  # type: ignore[arg-type]


def test_published_detectors_are_named(reference: Path) -> None:
    models = json.loads((reference / "layer_shapes.json").read_text())["models"]
    for model, layers in models.items():
        names = [f"{row[1]}.weight" for row in layers if row[0] == "conv"]
        found = architecture_from_tensors(tensors(dict.fromkeys(names, (1, 1, 1, 1))))
        assert found is not None, model
        assert found.name == FAMILIES[model[:-1]], model


@pytest.mark.parametrize("name", VARIANTS)
def test_our_variants_are_theirs(name: str, reference: Path) -> None:
    given = tensors(json.loads((reference / f"{name}.keys.json").read_text()))
    found = architecture_from_tensors(given)
    assert found is not None
    assert found.family == VARIANTS[name].family
    assert task_from_tensors(given) == "detection"
    assert refusal(given) is None


@pytest.mark.parametrize("task", HEADS)
def test_another_head_is_refused_by_name(task: str, reference: Path, tmp_path: Path) -> None:
    given = tensors(json.loads((reference / "yolo12n.keys.json").read_text()) | HEADS[task])
    torch.save({"model": {name: torch.zeros(tensor.shape) for name, tensor in given.items()}}, tmp_path / "head.pt")
    with pytest.raises(YoloproofError, match=f"YOLO12 for {task}.*export it to ONNX: `profile` times that file"):
        load_network(tmp_path / "head.pt")


def test_a_classifier_is_refused_by_name(reference: Path) -> None:
    keys = json.loads((reference / "yolo12n.keys.json").read_text())
    backbone = {name: shape for name, shape in keys.items() if int(name.split(".")[1]) < 9}
    assert "YOLO12 for classification" in str(refusal(tensors(backbone | {"model.9.linear.weight": (1000, 1280)})))


@pytest.mark.parametrize("name", OTHERS)
def test_neighbours_are_named_and_told_what_works(name: str) -> None:
    why = str(refusal(tensors(dict.fromkeys(OTHERS[name], (1,)))))
    assert why.startswith(f"{name}, and only")
    assert "export it to ONNX" in why


def test_what_nobody_knows_is_shown_by_an_example() -> None:
    assert "its tensors are like 'fc.weight'" in str(refusal(tensors({"fc.weight": (3, 3)})))
