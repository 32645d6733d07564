"""benchmarks/gpu.py without a GPU: answers recorded beside the timing are proved as a session's own would be."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.network import load_network
from yoloproof.runtime.base import Outputs, Session, TensorSpec

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not BENCHMARKS.is_dir():
        pytest.skip("benchmarks/ is not beside the tests")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("gpu")
    for name in ("gpu", "gpu_blocks"):
        sys.modules.pop(name, None)


class Float16Network(Session):
    """The demo in float32 on the CPU, which says that it takes float16 as a GPU's session does."""

    def __init__(self, worse_by: float) -> None:
        self.network, self.worse_by = load_network(demo_checkpoint()), worse_by
        self.inputs = (TensorSpec("images", ("batch", 3, "height", "width"), "float16"),)
        self.outputs = (TensorSpec("output0", ("batch", "4+classes", "anchors"), "float16"),)
        self.facts = {"name": "pytorch"}

    def load(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(np.ascontiguousarray(images))

    def execute(self) -> None:
        with torch.inference_mode():
            self.output = self.network(self.images).numpy()

    def fetch(self) -> Outputs:
        return (self.output * (1 + self.worse_by),)


@pytest.mark.parametrize(("worse_by", "passed"), [(0.0, True), (0.1, False)])
def test_recorded_answers_are_proved_like_a_session(gpu: ModuleType, worse_by: float, passed: bool) -> None:
    images = letterboxed(demo_images(), (640, 640))[:1]
    kept = gpu.recorded(Float16Network(worse_by), images)
    verdict = gpu.proved("demo", kept, images, threads=2)
    assert verdict["passed"] is passed, verdict
    assert [check["name"] for check in verdict["checks"]][:2] == ["outputs, real images", "outputs, random input"]


def test_plan_of_batches_and_compiled_forms(gpu: ModuleType) -> None:
    plan = gpu.planned(["demo", "yolov13s@32"], ["demo:published", "yolov13s@32:published"])
    assert [(model, batch) for model, batch, _ in plan] == [("demo", 1), ("yolov13s", 32)]
    assert plan[0][2] == [*gpu.UNCOMPILED, "published compiled"]
    assert plan[1][2] == ["published", *gpu.GPU_FORMS, "published compiled"]
