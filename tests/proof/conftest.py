"""Right artifacts of the demo checkpoint at 160 px, exported once per worker, to be broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from proof_graphs import SIZE
from yoloproof.artifact.onnx import export_onnx
from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.network import Network, load_network
from yoloproof.proof.reference import Reference
from yoloproof.simplify.rewrites import simplify


@pytest.fixture(scope="session")
def network() -> Network:
    return load_network(demo_checkpoint())


@pytest.fixture(scope="session")
def held(network: Network) -> Reference:
    """The network's answers, asked for once by all tests of a worker."""
    return Reference(network)


@pytest.fixture(scope="session")
def images() -> NDArray[np.float32]:
    """The four demo images at the artifacts' size."""
    return letterboxed(demo_images(), SIZE)


class Right(dict[str, onnx.ModelProto]):
    """Right artifacts by "attention-precision", "-b4" where the batch is 4 and "-any" where it and the size are free."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, name: str) -> onnx.ModelProto:
        attention, precision, *more = name.split("-")
        path = self.folder / f"{name}.onnx"
        if not path.exists():
            network = load_network(demo_checkpoint(), attention)
            export_onnx(
                simplify(network), path, imgsz=SIZE, precision=precision, batch=4 if "b4" in more else 1,
                dynamic="any" in more,
            )  # fmt: skip
        self[name] = onnx.load(path)
        return self[name]


@pytest.fixture(scope="session")
def right(tmp_path_factory: pytest.TempPathFactory) -> Right:
    return Right(tmp_path_factory.mktemp("right"))
