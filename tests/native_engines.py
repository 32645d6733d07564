"""Native engines that tests are made on: a small picture, code that the CUDA stand-in runs."""

from __future__ import annotations

from functools import cache

import numpy as np

from cuda_stand_in import code
from yoloproof.artifact.native.build import ends_stated, evidence
from yoloproof.artifact.native.recording import RecordedNetwork, plan_from_network
from yoloproof.artifact.nms import NmsOptions
from yoloproof.artifact.onnx import onnx_metadata
from yoloproof.demo import demo_images
from yoloproof.detection.images import read_image
from yoloproof.files.native import CompiledKernel, KernelFacts, NativeEngine
from yoloproof.files.plan import Plan, check_plan
from yoloproof.kernels.suppression import Rule
from yoloproof.network import Network, load_network
from yoloproof.proof.plan import Weights, check_covers
from yoloproof.simplify.rewrites import simplify

SIZE = (64, 96)
RULE = NmsOptions(score=0.0, max_detections=200)  # low: random weights score all alike


@cache
def network(name: str) -> Network:
    return load_network(name, random_weights=True)


@cache
def recorded(name: str, batch: int = 1, end_to_end: bool = False) -> RecordedNetwork:
    rule = Rule(RULE.score, RULE.iou, RULE.max_detections) if end_to_end else None
    return plan_from_network(simplify(network(name)), batch, SIZE, rule)


def check_whole(plan: Plan, weights: Weights, attentions: int) -> None:
    """What is asked of a plan when a file is read, and when it is verified."""
    check_plan(plan)
    check_covers(plan, weights, attentions)


def frame(height: int, width: int, image: int = 0) -> np.ndarray:
    """A part of a real picture: uint8 [height, width, 3]; repeated where the picture is smaller."""
    picture = read_image(demo_images()[image])
    tiled = np.tile(picture, (-(-height // picture.shape[0]), -(-width // picture.shape[1]), 1))
    return np.ascontiguousarray(tiled[:height, :width])


def images(count: int = 1) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, *SIZE))
    return pixels.astype(np.float32) / np.float32(255)


@cache
def engine(
    name: str = "yolov13n", capability: tuple[int, int] = (7, 5), shared_bytes: int = 1024, end_to_end: bool = False
) -> NativeEngine:
    """An engine whose machine code only names its kernel; every kernel takes `shared_bytes`."""
    found = recorded(name, 1, end_to_end)
    kernels = []
    for index, kernel in enumerate(found.plan.kernels):
        passed = sum(not kind.endswith("=1") for kind in kernel.arguments)
        facts = KernelFacts(kernel.name, 128, shared_bytes, passed, 32, 0, 8, "3.2.0")
        kernels.append(CompiledKernel(facts, code(index), code(index)))
    stated = onnx_metadata(simplify(network(name)), SIZE, 1, "fp16", "float32", False, 0)
    properties = {key: value for key, value in stated.items() if isinstance(value, str)}
    properties |= ends_stated(found.plan, RULE if end_to_end else None)
    return NativeEngine(
        properties, {"yoloproof": "test"}, found.plan, found.weights, {capability: tuple(kernels)},
        evidence(network(name), images()),
    )  # fmt: skip
