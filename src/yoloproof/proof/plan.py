"""Is a launch plan the network? Executed with NumPy, in the plan's own arena, and held to what a plan must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.files.plan import (
    ALIGNMENT,
    BufferPointer,
    Choice,
    Kernel,
    Launch,
    Plan,
    WeightPointer,
    all_launches,
    check_plan,
    chosen_launches,
    dependencies,
    variants,
)
from yoloproof.proof.parity import Tolerance
from yoloproof.proof.plan_reference import REFERENCES, Memory

TYPES = {"*fp16": np.float16, "*fp32": np.float32}
ATTENTION = "attention_kernel"
# What rounding to float16 does to a small picture's outputs (0.007 px and 1e-4 for the n scales), four times over.
PLAN_TOLERANCE = Tolerance(0.03, 4e-4, 0.0, 0.02, 0.95, 0.02, 0.0, 1e-3)
Weights = Mapping[str, NDArray[np.float16]]


def execute_plan(
    plan: Plan, weights: Weights, images: NDArray[np.float32], choice: Choice | None = None, late: bool = False
) -> NDArray[np.float32]:
    """The plan's outputs on images [B, 3, H, W] in 0…1.

    late -- in another order that the dependencies allow: always the last launch that may start. Every buffer first holds
    NaN, so that what is read before it is written shows. Raises IndexError for a launch that leaves its buffers.
    """
    arena = np.full(plan.arena_bytes + ALIGNMENT, 0xFF, np.uint8)
    first, last = plan.buffers[plan.input], plan.buffers[plan.output]
    pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1), np.float16)
    arena[first.offset : first.offset + first.bytes] = pixels.reshape(-1).view(np.uint8)
    launches = chosen_launches(plan.operations, choice or {})
    for index in _late_order(launches) if late else range(len(launches)):
        run_launch(plan, launches[index], arena, weights)
    outputs: NDArray[np.float32] = arena[last.offset : last.offset + last.bytes].view(np.float32).reshape(plan.outputs)
    return outputs.copy()


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
        REFERENCES[kernel.name](*arguments, grid=launch.grid, **dict(kernel.constants))


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


def check_covers(plan: Plan, weights: Weights, attentions: int) -> None:
    """Raise YoloproofError unless the plan holds together and computes all there is, whatever tactics are chosen.

    attentions -- the network's attention blocks, of which each is one attention launch. Every weight of the file is read,
    and every result is read by another launch or is the plan's output.
    """
    check_plan(plan)
    all_read = {buffer for launch in all_launches(plan.operations) for buffer in launch.reads}
    weights_read: set[str] = set()
    found = 0
    for operation in plan.operations:
        for launches in variants(operation):
            for buffer in launches[-1].writes:
                if buffer != plan.output and buffer not in all_read:
                    raise YoloproofError(f"plan: nothing reads the result of {operation.name}")
        tactics = [all_launches(tactic) for tactic in operation.tactics]
        kinds = [[plan.kernels[launch.kernel] for launch in tactic] for tactic in tactics]
        found += _attentions(kinds, operation.name)
        read = [
            {a.weight for launch in all_launches(tactic) for a in launch.arguments if isinstance(a, WeightPointer)}
            for tactic in operation.tactics
        ]
        weights_read |= set.union(*read)
    if found != attentions:
        raise YoloproofError(f"plan: {found} attention launches for the network's {attentions} attention blocks")
    if unread := set(weights) - weights_read:
        raise YoloproofError(f"plan: no launch reads {', '.join(sorted(unread)[:3])}")


def _attentions(tactics: Sequence[Sequence[Kernel]], name: str) -> int:
    counts = {sum(kernel.name == ATTENTION for kernel in tactic) for tactic in tactics}
    if len(counts) != 1:
        raise YoloproofError(f"plan: some tactics of {name} leave out the attention")
    return counts.pop()
