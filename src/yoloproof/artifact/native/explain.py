"""A launch plan as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from yoloproof.files.plan import BufferPointer, Launch, Plan, WeightPointer, chosen_launches


def plan_lines(plan: Plan, weights: Mapping[str, NDArray[np.float16]]) -> list[str]:
    """Each operation in its default tactic: its launches, what it computes, its result's shape, bytes and FLOPs.

    Bytes are those of the buffers and weights that it touches, each once.
    """
    rows = [("launch", "operation", "computes", "result", "KB", "MFLOP")]
    total_bytes = total_flops = count = 0
    for operation in plan.operations:
        launches = chosen_launches([operation], {})
        touched = _touched_bytes(plan, weights, launches)
        first, count = count, count + len(launches)
        rows.append(
            (
                f"{first}" if len(launches) == 1 else f"{first}-{count - 1}", operation.name, operation.kind,
                "x".join(map(str, operation.shape)), f"{touched / 1e3:.0f}", f"{operation.flops / 1e6:.1f}",
            )
        )  # fmt: skip
        total_bytes, total_flops = total_bytes + touched, total_flops + operation.flops
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    held = sum(buffer.bytes for buffer in plan.buffers)
    return [
        *lines,
        f"{count} launches of {len(plan.operations)} operations, {total_flops / 1e9:.2f} GFLOP, {total_bytes / 1e6:.1f} MB"
        f" touched; {len(plan.buffers)} buffers of {held / 1e6:.1f} MB in an arena of {plan.arena_bytes / 1e6:.1f} MB",
    ]


def _touched_bytes(plan: Plan, weights: Mapping[str, NDArray[np.float16]], launches: Sequence[Launch]) -> int:
    arguments = {argument for launch in launches for argument in launch.arguments}
    buffers = {argument.buffer for argument in arguments if isinstance(argument, BufferPointer)}
    read = {argument.weight for argument in arguments if isinstance(argument, WeightPointer)}
    return sum(plan.buffers[one].bytes for one in buffers) + sum(weights[name].nbytes for name in read)
