"""How long a sweep will take: from its own finished cells where there are any, else from the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yoloproof.measurement.protocol import PROTOCOLS, in_seconds
from yoloproof.sweep.cluster import Node
from yoloproof.sweep.plan import Cell, Plan
from yoloproof.sweep.store import Store

# Seconds to open an artifact in a fresh process, and to load and prove one: what a yolov13n takes on two CPU cores.
# They stand in for the first cell only; then the cells themselves tell.
OPEN_S = 3.0
PROOF_S = 15.0


def cell_seconds(cell: Cell, plan: Plan, store: Store) -> float:
    """Wall seconds of a cell: this plan's finished cells' mean per measurement, else what the protocol asks for."""
    known = [(len(one.measurements), wall) for one in plan.cells if (wall := store.wall_s(one)) is not None]
    if known:
        return len(cell.measurements) * sum(wall for _, wall in known) / sum(count for count, _ in known)
    protocol = PROTOCOLS[cell.protocol]
    if plan.options.get("quick"):
        protocol = in_seconds(protocol)
    one_process_s = OPEN_S + protocol.warmup_s + protocol.settle_max_s + protocol.seconds
    return len(cell.measurements) * (PROOF_S + protocol.processes * one_process_s)


def wall_seconds(cells: Sequence[Cell], seconds: Mapping[str, float], nodes: Sequence[Node] | None) -> float:
    """Wall seconds of all cells: the busiest accelerator's share per node that has it; one node each where unknown.

    Without a cluster (None) everything runs here, one after the other.
    """
    if nodes is None:
        return sum(seconds[cell.key] for cell in cells)
    totals: dict[str, float] = {}
    for cell in cells:
        totals[cell.accelerator] = totals.get(cell.accelerator, 0.0) + seconds[cell.key]
    counts = {accelerator: sum(node.takes(accelerator) for node in nodes) for accelerator in totals}
    return max((total / max(counts[accelerator], 1) for accelerator, total in totals.items()), default=0.0)
