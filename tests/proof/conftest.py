"""Right artifacts of the demo checkpoint at 320 px, exported once per worker, to be broken."""

from __future__ import annotations

import onnx
import pytest

from proof_graphs import SIZE
from yoloproof.artifact.onnx import export_onnx
from yoloproof.demo import demo_checkpoint
from yoloproof.network import Network, load_network
from yoloproof.simplify.rewrites import simplify


@pytest.fixture(scope="session")
def network() -> Network:
    return load_network(demo_checkpoint())


@pytest.fixture(scope="session")
def right(network: Network, tmp_path_factory: pytest.TempPathFactory) -> dict[str, onnx.ModelProto]:
    """Right artifacts to be broken: explicit attention in float32, fused in float32 and float16."""
    folder = tmp_path_factory.mktemp("right")
    models = {}
    for attention, precision in (("explicit", "fp32"), ("fused", "fp32"), ("fused", "fp16")):
        path = folder / f"{attention}-{precision}.onnx"
        explicit = load_network(demo_checkpoint(), attention)
        export_onnx(simplify(explicit), path, imgsz=SIZE, precision=precision)
        models[f"{attention}-{precision}"] = onnx.load(path)
    return models
