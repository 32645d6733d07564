"""The comparison of toolchains (benchmarks/toolchains.py): its CUDA C++ kernel on a CPU, and what it takes from a plan."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from yoloproof.artifact.native.recording import plan_from_network
from yoloproof.files.plan import chosen_launches
from yoloproof.network import load_network
from yoloproof.simplify.rewrites import simplify

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def convolutions() -> ModuleType:
    return benchmark("convolutions")


@pytest.fixture(scope="module")
def toolchains() -> ModuleType:
    return benchmark("toolchains")


def benchmark(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


# kernel, stride, SiLU, adds, inputs with their pixel strides, result with its, summand's stride, size; and a tile:
# padding in every direction, several inputs, both sums, warps along the depth, loads that not all threads take part in
CASES = (
    ((3, 2, 1, 0, ((24, 24),), (40, 40), 40, (11, 13)), (16, 32, 64, (1, 2, 2))),
    ((3, 1, 1, 1, ((16, 32),), (24, 24), 40, (6, 7)), (32, 32, 32, (2, 2, 1))),
    ((1, 1, 0, 2, ((40, 40), (8, 16)), (48, 48), 48, (6, 8)), (32, 32, 64, (1, 1, 4))),
    ((1, 1, 1, 0, ((64, 64), (32, 64), (96, 96)), (72, 80), 80, (5, 9)), (16, 64, 64, (1, 4, 1))),
    ((1, 1, 1, 1, ((136, 136),), (8, 8), 8, (3, 7)), (32, 16, 32, (2, 1, 1))),
    ((3, 1, 0, 0, ((16, 16),), (136, 136), 136, (5, 7)), (128, 128, 32, (4, 2, 1))),
)


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is missing")
@pytest.mark.parametrize(("shape", "tile"), CASES, ids=[str(i) for i in range(len(CASES))])
def test_the_cuda_kernel_computes_the_convolution(
    convolutions: ModuleType, toolchains: ModuleType, tmp_path: Path, shape: Any, tile: Any
) -> None:
    k, s, act, adds, sources, out, add_p, size = shape
    out_size = tuple((side - 1) // s + 1 for side in size)
    problem = toolchains.Problem(convolutions.Convolution(k, s, act, adds, sources, out, add_p, size, out_size), "cpu")
    tile = convolutions.Tile(*tile)
    assert tile.shared_bytes <= convolutions.SHARED_BYTES
    run = emulated(convolutions, problem.convolution, tile, tmp_path)
    problem.result.fill_(float("nan"))
    values = problem.values()
    names = convolutions.parameter_names()
    grid = (-(-problem.convolution.pixels // tile.pixels), -(-out[0] // tile.channels))
    run(*grid, np.array([values[name] for name in names], np.uint64).ctypes.data_as(ctypes.c_void_p))
    assert problem.apart(problem.result) < toolchains.MOST_ERROR


def emulated(convolutions: ModuleType, convolution: Any, tile: Any, folder: Path) -> Any:
    """The kernel as a function of grid and arguments, each of its threads a thread of this machine."""
    constants = [f"-D{name}={value}" for name, value in convolutions.defines(convolution, tile)]
    library = folder / "conv.so"
    subprocess.run(
        ["g++", "-std=c++20", "-O1", "-fPIC", "-shared", "-pthread", *constants, f'-DKERNEL="{convolutions.SOURCE}"',
         str(HERE / "emulated_conv.cpp"), "-o", str(library)], check=True,
    )  # fmt: skip
    return ctypes.CDLL(str(library)).run


def test_the_plans_convolutions_are_all_there(convolutions: ModuleType) -> None:
    """As many as the engine launches, with the plan's floating-point operations."""
    plan = plan_from_network(simplify(load_network("yolov13n", random_weights=True)), 1, (640, 640)).plan
    operations = list(convolutions.dense_operations(plan.operations, plan.kernels))
    launches = chosen_launches(
        plan.operations, {one.name: 0 for one in operations}
    )  # 0: of this kernel wherever there is one
    launched = [one for one in launches if plan.kernels[one.kernel].name == "conv_kernel"]
    assert len(operations) == len(launched) > 60
    found = [convolutions.convolution_of(o.tactics[0][0], plan.kernels[o.tactics[0][0].kernel]) for o in operations]
    assert [one.flops for one in found] == [operation.flops for operation in operations]
    assert all(convolutions.tiles_for(one) for one in found)


def test_a_shape_of_odd_channels_has_no_tile(convolutions: ModuleType) -> None:
    shape = convolutions.Convolution(1, 1, 1, 0, ((32, 32),), (32, 32), 32, (8, 8), (8, 8))
    assert convolutions.tiles_for(shape)
    assert not convolutions.tiles_for(replace(shape, out=(20, 20)))


def test_totals_weigh_shapes_by_how_often_they_occur(toolchains: ModuleType) -> None:
    times = {"triton": 4.0, "cuda": 3.0, "cudnn": 7.0, "cudnn bare": 5.0}
    rows = [
        {"occurs": {"a": 2, "b": 1}, "toolchains": {name: {"median_us": us} for name, us in times.items()}},
        {"occurs": {"a": 1}, "toolchains": {name: {"median_us": 1.0 + (name == "cuda")} for name in times}},
    ]
    found = toolchains.totals(rows)
    assert found["a"] == {
        "convolutions": 3, "shapes": 2, "triton": 9.0, "cuda": 8.0, "cudnn": 15.0, "cudnn bare": 11.0,
        "better of triton and cuda": 7.0,
    }  # fmt: skip
    assert found["b"]["cuda"] == 3.0
