"""How busy this process, and everything else on the machine, keeps the CPU."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil

from yoloproof.records import CpuTime


def _cpu_seconds() -> tuple[float, float, float]:
    """Wall, own and whole-machine busy seconds. Guest time is in user time already; waiting for a disk is not work."""
    own = os.times()
    machine = psutil.cpu_times()
    busy = machine.user + machine.system + getattr(machine, "nice", 0.0)
    busy += getattr(machine, "irq", 0.0) + getattr(machine, "softirq", 0.0) + getattr(machine, "steal", 0.0)
    return time.perf_counter(), own.user + own.system, busy


def cpu_meter() -> Callable[[], CpuTime]:
    """Start counting; the returned function says the CPU time since."""
    wall, own, busy = _cpu_seconds()

    def read() -> CpuTime:
        wall_now, own_now, busy_now = _cpu_seconds()
        spent = own_now - own
        return CpuTime(own_s=spent, others_s=max(0.0, busy_now - busy - spent), wall_s=wall_now - wall)

    return read
