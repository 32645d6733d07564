"""Native engines that tests are made on: a small picture, code that the CUDA stand-in runs."""

from __future__ import annotations

from functools import cache

import numpy as np

from cuda_stand_in import code
from yoloproof.artifact.native.build import evidence
from yoloproof.artifact.native.recording import RecordedNetwork, plan_from_network
from yoloproof.artifact.onnx import onnx_metadata
from yoloproof.files.native import CompiledKernel, KernelFacts, NativeEngine
from yoloproof.network import Network, load_network
from yoloproof.simplify.rewrites import simplify

SIZE = (64, 96)


@cache
def network(name: str) -> Network:
    return load_network(name, random_weights=True)


@cache
def recorded(name: str, batch: int = 1) -> RecordedNetwork:
    return plan_from_network(simplify(network(name)), batch, SIZE)


def images(count: int = 1) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, *SIZE))
    return pixels.astype(np.float32) / np.float32(255)


@cache
def engine(name: str = "yolov13n", capability: tuple[int, int] = (7, 5), shared_bytes: int = 1024) -> NativeEngine:
    """An engine whose machine code only names its kernel; every kernel takes `shared_bytes`."""
    found = recorded(name)
    kernels = []
    for index, kernel in enumerate(found.plan.kernels):
        passed = sum(not kind.endswith("=1") for kind in kernel.arguments)
        facts = KernelFacts(kernel.name, 128, shared_bytes, passed, 32, 0, 8, "3.2.0")
        kernels.append(CompiledKernel(facts, code(index), code(index)))
    stated = onnx_metadata(simplify(network(name)), SIZE, 1, "fp16", "float32", False, 0)
    properties = {key: value for key, value in stated.items() if isinstance(value, str)}
    return NativeEngine(
        properties, {"yoloproof": "test"}, found.plan, found.weights, {capability: tuple(kernels)},
        evidence(network(name), images()),
    )  # fmt: skip
