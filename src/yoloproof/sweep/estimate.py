"""How long a sweep will take: from its own finished cells where there are any, else from the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from yoloproof.sweep.cluster import Node
from yoloproof.sweep.plan import Cell, Plan
from yoloproof.sweep.store import Store

# Seconds to open an artifact in a fresh process, and to load and verify one: what a yolov13n takes on two CPU cores.
# They stand in for the first cell only; then the cells themselves tell.
OPEN_S = 3.0
VERIFY_S = 15.0


def sweep_seconds(missing: Iterable[Cell], plan: Plan, store: Store, nodes: Sequence[Node] | None) -> float:
    """Wall seconds of all missing cells: the busiest accelerator's share per node that has it; one node each where none is.

    Without a cluster (None) everything runs here, one after the other.
    """
    known = [(len(cell.cases), wall_s) for cell in plan.cells if (wall_s := store.wall_s(cell)) is not None]
    case_s = sum(wall_s for _, wall_s in known) / sum(count for count, _ in known) if known else None
    totals: dict[str, float] = {}
    for cell in missing:
        seconds = len(cell.cases) * (_protocol_seconds(cell) if case_s is None else case_s)
        totals[cell.accelerator] = totals.get(cell.accelerator, 0.0) + seconds
    if nodes is None:
        return sum(totals.values())
    counts = {accelerator: sum(node.takes(accelerator) for node in nodes) for accelerator in totals}
    return max((total / max(counts[accelerator], 1) for accelerator, total in totals.items()), default=0.0)


def _protocol_seconds(cell: Cell) -> float:
    """Of one case, as the protocol asks for."""
    protocol = cell.timing
    return VERIFY_S + protocol.processes * (OPEN_S + protocol.warmup_s + protocol.settle_max_s + protocol.seconds)
