"""Detectors of other families, made by the ultralytics package itself, through the commands; their checkpoints by name."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner, Result

from guest_models import guest_models
from yoloproof.cli import app
from yoloproof.demo import demo_images
from yoloproof.errors import YoloproofError
from yoloproof.network import load_network

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("guests")]


@pytest.fixture(scope="session")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guests")
    try:
        guest_models(folder)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"the ultralytics package cannot be installed or run here: {str(error)[:100]}")
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_a_guest_goes_through_the_commands(name: str, guests: Path, tmp_path: Path) -> None:
    file = guests / f"{name}-fp32.onnx"
    twin, lost = tmp_path / "twin.onnx", tmp_path / "lost.onnx"
    model = onnx.load(file)
    model.graph.doc_string = "another file"
    onnx.save(model, twin)
    softmax = next(node for node in model.graph.node if node.name == "/model.10/m/m.0/attn/Softmax")
    softmax.op_type = "Identity"
    del softmax.attribute[:]
    onnx.save(model, lost)

    done = run("predict", file, demo_images()[0], "--confidence", "0.3", "--json", tmp_path / "found.json")
    assert done.exit_code == 0, done.output
    (record,) = json.loads((tmp_path / "found.json").read_text())["images"]
    assert 0 < len(record["detections"]) <= 300
    boxes = [found["box"] for found in record["detections"]]
    assert max(max(box) for box in boxes) > 50  # pixels, not shares

    done = run("verify", twin, "--against", file)
    assert done.exit_code == 0, done.output
    assert "verified: the same detector" in done.output
    done = run("verify", lost, "--against", file)
    assert done.exit_code == 1, done.output
    assert "NOT the same detector" in done.output
    assert "model.10.m.0.attn" in done.output


def test_a_guest_is_timed_and_proved_in_one_row(guests: Path, tmp_path: Path) -> None:
    file = guests / "yolo26n-fp32.onnx"
    done = run("profile", file, "--quick", "--threads", "1", "--runtime", "openvino", "--against", file,
               "--json", tmp_path / "r.json")  # fmt: skip
    assert done.exit_code == 0, done.output
    (entry,) = json.loads((tmp_path / "r.json").read_text())["entries"]
    assert {check["name"] for check in entry["proof"]["checks"]} >= {"attention", "outputs, real images", "sensitivity"}
    assert entry["summary"]["median_s"] > 0
    assert entry["published"]["model"] == "yolo26n"  # as the file's exporter says, with 80 classes


def test_a_guest_is_inspected(guests: Path) -> None:
    done = run("inspect", guests / "yolo26n-fp32.onnx")
    assert "Ultralytics 8.4.190" in done.output
    assert "[B, n, 6]: x1, y1, x2, y2 in input pixels, score, class; end to end" in done.output
    assert "2 whole, 0 lost" in done.output


NEIGHBOURS = {
    "yolov10n": "YOLOv10, and only", "yolo11n": "YOLO11, and only", "yolo26n": "YOLO26, and only",
    "yolo12n-seg": "YOLO12 for segmentation", "yolo12n-pose": "YOLO12 for pose",
    "yolo12n-obb": "YOLO12 for oriented boxes", "yolo12n-cls": "YOLO12 for classification",
}  # fmt: skip


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_checkpoints_of_the_package_are_named_and_told_what_works(name: str, guests: Path) -> None:
    with pytest.raises(YoloproofError) as raised:
        load_network(guests / f"{name}.pt")
    assert NEIGHBOURS[name] in str(raised.value)
    assert "`profile`" in str(raised.value)


@pytest.mark.parametrize("name", ["yolo12n", "yolo12n-fused"])
def test_checkpoints_of_the_family_load(name: str, guests: Path) -> None:
    network = load_network(guests / f"{name}.pt")
    assert (network.variant.name, network.classes) == ("yolo12n", 80)
