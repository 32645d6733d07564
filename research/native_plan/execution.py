"""A launch plan executed with NumPy, in the plan's own arena: is it the network? Needs no GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from native_plan.frame_kernels import FRAME_REFERENCES
from native_plan.network_kernels import REFERENCES, Memory
from yoloproof.files.frames import Detections, detections_from_memory, frame_parameters
from yoloproof.files.plan import (
    ALIGNMENT,
    BufferPointer,
    Choice,
    Launch,
    Plan,
    WeightPointer,
    chosen_launches,
    dependencies,
)
from yoloproof.proof.parity import Tolerance
from yoloproof.proof.plan import Weights

TYPES = {"*fp16": np.float16, "*fp32": np.float32, "*u8": np.uint8, "*i32": np.int32}
KERNELS = {**REFERENCES, **FRAME_REFERENCES}
# What rounding to float16 does to a small picture's outputs (0.007 px and 1e-4 for the n scales), four times over.
PLAN_TOLERANCE = Tolerance(0.03, 4e-4, 0.0, 0.02, 0.95, 0.02, 0.0, 1e-3)


def execute_plan(
    plan: Plan, weights: Weights, images: NDArray[np.float32], choice: Choice | None = None, late: bool = False
) -> NDArray[np.float32]:
    """The raw outputs of the plan's network on images [B, 3, H, W] in 0…1.

    late -- in another order that the dependencies allow: always the last launch that may start. Every buffer first holds
    NaN, so that what is read before it is written shows. Raises IndexError for a launch that leaves its buffers.
    """
    pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1), np.float16)
    launches = chosen_launches(plan.network, choice or {})
    arena = _executed(plan, weights, launches, {plan.input: pixels}, late)
    return _held(plan, arena, plan.output).view(np.float32).reshape(plan.outputs).copy()


def execute_frame(
    plan: Plan, weights: Weights, frame: NDArray[np.uint8], choice: Choice | None = None, late: bool = False
) -> tuple[Detections, NDArray[np.float32]]:
    """An end-to-end plan's detections of a frame [H, W, 3], and the network's raw output on the way; see `execute_plan`."""
    assert plan.frames is not None
    parameters = frame_parameters(frame.shape[0], frame.shape[1], (plan.images[2], plan.images[3]))
    given: dict[int, NDArray[Any]] = {plan.frames.frame: frame, plan.frames.parameters: parameters}
    arena = _executed(plan, weights, chosen_launches(plan.operations, choice or {}), given, late)
    raw = _held(plan, arena, plan.output).view(np.float32).reshape(plan.outputs)
    memory = _held(plan, arena, plan.frames.detections).view(np.float32)
    return detections_from_memory(memory.copy(), plan.frames.most), raw.copy()


def _executed(
    plan: Plan, weights: Weights, launches: Sequence[Launch], given: Mapping[int, NDArray[Any]], late: bool
) -> NDArray[np.uint8]:
    """The arena after the launches. given -- what buffers hold before"""
    arena = np.full(plan.arena_bytes + ALIGNMENT, 0xFF, np.uint8)
    for buffer, values in given.items():
        content = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        _held(plan, arena, buffer)[: len(content)] = content
    for index in _late_order(launches) if late else range(len(launches)):
        run_launch(plan, launches[index], arena, weights)
    return arena


def _held(plan: Plan, arena: NDArray[np.uint8], buffer: int) -> NDArray[np.uint8]:
    place = plan.buffers[buffer]
    return arena[place.offset : place.offset + place.bytes]


def run_launch(plan: Plan, launch: Launch, arena: NDArray[np.uint8], weights: Weights) -> None:
    """One launch, by its reference."""
    kernel = plan.kernels[launch.kernel]
    arguments: list[int | Memory] = []
    for argument, kind in zip(launch.arguments, kernel.arguments, strict=True):
        if isinstance(argument, int):
            arguments.append(argument)
        elif isinstance(argument, WeightPointer):
            arguments.append(weights[argument.weight].reshape(-1))
        else:
            arguments.append(_memory(plan, argument, kind, arena))
    with np.errstate(invalid="ignore"):
        KERNELS[kernel.name](*arguments, grid=launch.grid, **dict(kernel.constants))


def _memory(plan: Plan, pointer: BufferPointer, kind: str, arena: NDArray[np.uint8]) -> Memory:
    buffer = plan.buffers[pointer.buffer]
    values: Memory = arena[buffer.offset + pointer.offset : buffer.offset + buffer.bytes].view(
        TYPES[kind.split(":")[0]]
    )
    return values


def _late_order(launches: Sequence[Launch]) -> list[int]:
    needed = dependencies(launches)
    order: list[int] = []
    done: set[int] = set()
    while len(order) < len(launches):
        ready = [i for i in range(len(launches)) if i not in done and done.issuperset(needed[i])]
        order.append(ready[-1])
        done.add(ready[-1])
    return order
