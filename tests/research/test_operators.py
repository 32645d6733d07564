"""What is counted of OpenVINO's profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators import openvino_bounds
from yoloproof.artifact.onnx import export_onnx
from yoloproof.network import load_network
from yoloproof.network.flops import flops
from yoloproof.simplify.rewrites import simplify


def test_flop_are_those_of_the_network_and_silu_takes_time(tmp_path: Path) -> None:
    """Against PyTorch's counter, which counts the same products of the same network."""
    network = load_network("yolov12n", "explicit", random_weights=True)
    export_onnx(simplify(network, ("norms",)), tmp_path / "n.onnx")
    flop, fastest, silu_s = openvino_bounds(tmp_path / "n.onnx", runs=3)
    assert flop == pytest.approx(flops(network), rel=1e-3)
    assert fastest > flop / 10  # a network in less than 10 s
    assert silu_s > 0
