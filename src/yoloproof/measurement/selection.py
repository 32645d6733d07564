"""Which processes a figure stands on, on a host that others slow: for a run, and for its file afterwards (research/reselect.py).

A turn is kept or repeated at once, by the best reading until then (`HostWatch`); a process by the best of the whole run, so that
one from before the host was itself does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from yoloproof.intervals import LEAST_FOR_INTERVAL
from yoloproof.names import TurnReason
from yoloproof.records import Process, Protocol

Rows = Sequence[Sequence[Process]]


def slowed_processes(rows: Rows, protocol: Protocol, best_s: float | None) -> set[int]:
    """Numbers of the processes in which more of some row's kept turns were slowed than the protocol allows.

    rows -- the processes of each row of the run; best_s -- the quickest reading of the run; None: nobody looked
    """
    if best_s is None:
        return set()
    limit = protocol.gauge_limit * best_s
    return {
        process.process
        for processes in rows
        for process in processes
        if sum(reading > limit for reading in process.gauge_s) > protocol.gauge_share * len(process.gauge_s)
    }


def processes_to_set_aside(rows: Rows, protocol: Protocol, best_s: float | None) -> set[int]:
    """The slowed ones, where so many others are left that they carry an interval, or as many as planned; else none, and
    the warning `host_slowed` says what that means."""
    slowed = slowed_processes(rows, protocol, best_s)
    left = max((len({p.process for p in processes if p.complete} - slowed) for processes in rows), default=0)
    return slowed if left >= min(LEAST_FOR_INTERVAL, protocol.processes) else set()


def with_reason_set_aside(process: Process) -> Process:
    """The process with the reason of its kept turns: that it does not count."""
    reason = TurnReason.PROCESS_SET_ASIDE
    return replace(process, turns=tuple(replace(turn, reason=reason) if turn.kept else turn for turn in process.turns))
