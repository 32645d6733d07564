"""In what two runs or rows differ that bears on their times: machines, gauges, protocols, libraries, settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from yoloproof.records import Entry, Gpu, Machine, Protocol, Run
from yoloproof.results.labels import plain_text, row_label

# From what share on the best readings of two runs' gauges speak of two hosts, or of one that was never left alone.
GAUGE_APART = 0.10


def machine_differences(a: Machine | None, b: Machine | None) -> list[str]:
    """In what two machines, or the settings of one, differ so that their times do not compare."""
    if a is None or b is None:
        return ["a machine that was not reached"]
    mine, theirs = _traits(a), _traits(b)
    # A file of schema 1 tells none of the newer traits, which is no difference in what both machines are.
    older = any(all(traits[label] is None for label in SINCE_SCHEMA_2) for traits in (mine, theirs))
    return [
        f"{label} {_said(one)} against {_said(theirs[label])}"
        for label, one in mine.items()
        if one != theirs[label] and not (older and label in SINCE_SCHEMA_2)
    ]


SINCE_SCHEMA_2 = (
    "CPU family", "CPU model number", "CPU stepping", "microcode", "caches", "CPU features", "SMT", "PCI bus",
)  # fmt: skip


def _traits(machine: Machine) -> dict[str, object]:
    cpu, gpu = machine.cpu, machine.gpu or Gpu()
    return {
        "CPU": cpu.model, "CPU family": cpu.family, "CPU model number": cpu.model_number, "CPU stepping": cpu.stepping,
        "microcode": cpu.microcode, "caches": None if cpu.caches_bytes is None else sorted(cpu.caches_bytes.items()),
        "CPU features": None if cpu.flags_sha256 is None else cpu.flags_sha256[:12], "SMT": cpu.smt, "system": machine.os,
        "cores": cpu.logical_cores, "core quota": cpu.quota_cores, "governor": cpu.governor, "boost": cpu.boost,
        "affinity": cpu.affinity, "niceness": cpu.niceness,
        "GPU": gpu.name, "card": gpu.uuid, "PCI bus": gpu.pci_bus_id, "driver": gpu.driver, "power limit": gpu.power_limit_w,
    }  # fmt: skip


def gauge_bests(runs: Sequence[Run]) -> tuple[float, float]:
    """The quickest and the slowest of the runs' best gauge readings, s, of those furthest apart where the gauges are of
    several sizes; two equal numbers where no two runs can be held together."""
    sizes: dict[int | None, list[float]] = {}
    for run in runs:
        if run.gauge_best_s is not None and run.gauge_best_s > 0:
            sizes.setdefault(run.gauge_size, []).append(run.gauge_best_s)
    ends = [(min(bests), max(bests)) for bests in sizes.values()]
    return max(ends, key=lambda pair: pair[1] / pair[0], default=(1.0, 1.0))


def gauge_differences(runs: Sequence[Run]) -> list[str]:
    """Hosts that, at their best, were not equally fast."""
    quickest, slowest = gauge_bests(runs)
    if slowest / quickest - 1 <= GAUGE_APART:
        return []
    return [f"the same matrix products took {quickest * 1e3:.2f} ms at best against {slowest * 1e3:.2f} ms"]


def gauge_notes(runs: Sequence[Run]) -> list[str]:
    """That gauges of several sizes are never held against each other."""
    sizes = {run.gauge_size for run in runs if run.gauge_best_s is not None}
    return ["gauges of different sizes: hosts not told apart by speed"] if len(sizes) > 1 else []


def protocol_differences(a: Protocol, b: Protocol) -> list[str]:
    """The settings in which two protocols differ. The order's seed, the describing line and when a run stops waiting are none:
    what was not waited for is on record, and warned of."""
    pairs = {one.name: (getattr(a, one.name), getattr(b, one.name)) for one in fields(Protocol)}
    return [
        f"protocol's {key} {_said(mine)} against {_said(theirs)}"
        for key, (mine, theirs) in pairs.items()
        if key not in ("seed", "summary", "row_max_s") and mine != theirs
    ]


def library_differences(a: Machine | None, b: Machine | None) -> list[str]:
    """Libraries whose version is not the same on both sides: often the very thing compared, so said, not refused."""
    one, other = (machine.libraries if machine is not None else {} for machine in (a, b))
    names = sorted(name for name in {**one, **other} if one.get(name) != other.get(name))
    return [f"{name} {one.get(name, 'absent')} against {other.get(name, 'absent')}" for name in names]


def setting_differences(left: Entry, right: Entry) -> list[str]:
    """How two rows are run or built where that is not in their names: often the very thing compared, so said, not refused."""
    one, other = left.runtime, right.runtime
    pairs: list[tuple[str, object, object]] = [
        ("threads", one.threads, other.threads),
        ("batches at once", one.requests or 1, other.requests or 1),
        ("provider", one.provider, other.provider),
        ("flush_to_zero", one.flush_to_zero or False, other.flush_to_zero or False),
        ("cuda_graph", one.cuda_graph, other.cuda_graph),
        ("channels_last", one.channels_last, other.channels_last),
        ("tf32", one.tf32, other.tf32),
    ]
    found = [
        f"settings differ: {key} {_said(mine)} against {_said(theirs)}" for key, mine, theirs in pairs if mine != theirs
    ]
    mine, theirs = left.artifact.sha256, right.artifact.sha256
    if mine and theirs and mine != theirs and row_label(left) == row_label(right):  # two networks are two files
        found.append(
            f"the artifacts' SHA-256 differ ({plain_text(mine[:12])} against {plain_text(theirs[:12])}): another build, maybe of "
            "the same graph"
        )
    return found


def _said(value: object) -> str:
    return "unknown" if value is None else plain_text(list(value) if isinstance(value, tuple) else value)
