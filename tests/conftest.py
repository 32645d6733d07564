"""Shared by all tests: where the reference data lies, and what a machine must have for it."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from yoloproof.network import Network, load_network


def shared_folder() -> Path | None:
    """The `shared/` folder beside the checkout (or beside a folder above it)."""
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "reference").is_dir():
            return parent / "shared"
    return None


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if folder is None:
        pytest.skip("no shared/reference beside the checkout")
    return folder


@pytest.fixture(scope="session")
def reference(shared: Path) -> Path:
    sys.path.insert(0, str(shared / "reference"))
    return shared / "reference"


@pytest.fixture(scope="session")
def trained_path(reference: Path) -> Path:
    return reference / "yolov13n-coco128.pt"


@pytest.fixture
def trained(trained_path: Path) -> Network:
    return load_network(trained_path)


@cache
def _images(height: int, width: int) -> NDArray[np.float32]:
    from yoloproof.demo import demo_images
    from yoloproof.detection.letterbox import letterboxed

    return letterboxed(demo_images(), (height, width))


@pytest.fixture
def images() -> NDArray[np.float32]:
    """The four demo images, letterboxed to 320 px: [4, 3, 320, 320]."""
    return _images(320, 320)
