"""Does a launch plan compute all there is of the network?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.files.plan import Kernel, Operation, Plan, WeightPointer, all_launches, variants

ATTENTION = "attention_kernel"
Weights = Mapping[str, NDArray[np.float16]]


def attentions_of(plan: Plan) -> list[Operation]:
    """The operations that launch an attention: one for each of the network's attention blocks."""
    return [
        operation
        for operation in plan.operations
        if any(plan.kernels[launch.kernel].name == ATTENTION for launch in all_launches([operation]))
    ]


def check_covers(plan: Plan, weights: Weights, attentions: int) -> None:
    """Raise YoloproofError unless a plan that holds together (`files.plan.check_plan`) computes all there is, whatever tactics
    are chosen.

    attentions -- the network's attention blocks, of which each is one attention launch. Every weight of the file is read,
    and every result is read by another launch or is what the plan gives.
    """
    all_read = {buffer for launch in all_launches(plan.operations) for buffer in launch.reads}
    weights_read: set[str] = set()
    found = 0
    for operation in plan.operations:
        for launches in variants(operation):
            for buffer in launches[-1].writes:
                if buffer != plan.result and buffer not in all_read:
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
