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
