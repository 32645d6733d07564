"""What is counted of OpenVINO's profile."""

from __future__ import annotations

from pathlib import Path

import openvino
import pytest
from torch import nn

from operators import drop_silu, openvino_bounds
from yoloproof.artifact.onnx import export_onnx
from yoloproof.network import load_network
from yoloproof.network.flops import flops
from yoloproof.simplify.rewrites import simplify


def test_flop_are_those_of_the_network_and_every_silu_is_dropped(tmp_path: Path) -> None:
    """Against PyTorch's counter, which counts the same products of the same network. Times are not judged here."""
    network = load_network("yolov12n", "explicit", random_weights=True)
    simplified = simplify(network, ("norms",))
    export_onnx(simplified, tmp_path / "n.onnx")
    flop, fastest, _ = openvino_bounds(tmp_path / "n.onnx", runs=1)
    assert flop == pytest.approx(flops(network), rel=1e-3)
    assert fastest > 0
    model = openvino.Core().read_model(tmp_path / "n.onnx")
    assert drop_silu(model) == sum(isinstance(one, nn.SiLU) for one in simplified.modules()) > 50
    assert drop_silu(model) == 0
