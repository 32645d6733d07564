"""How long a sweep will take: from its own finished cells where there are any, else from the protocol's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yoloproof.sweep.cluster import Node
from yoloproof.sweep.plan import Cell, Plan
from yoloproof.sweep.store import Store

# Seconds of one measurement with its proof, before any was taken: five processes of about ten seconds and their start
# for `latency`; the others by the length their rules name (docs/measurement.md).
NOMINAL_S = {
    "latency": 90.0,
    "sustained": 120.0,
    "paced": 120.0,
    "published": 120.0,
    "loadgen": 660.0,
    "throughput": 240.0,
}
QUICK_S = 15.0


def cell_seconds(cell: Cell, plan: Plan, store: Store) -> float:
    """Wall seconds of a cell: the mean of this plan's finished cells per measurement, else the nominal."""
    known = [(len(one.measurements), wall) for one in plan.cells if (wall := store.wall_s(one)) is not None]
    if known:
        return len(cell.measurements) * sum(wall for _, wall in known) / sum(count for count, _ in known)
    nominal = QUICK_S if plan.options.get("quick") else NOMINAL_S.get(cell.protocol, NOMINAL_S["latency"])
    return len(cell.measurements) * nominal


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
