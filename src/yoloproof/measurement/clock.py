"""The clock that everything is timed by: an interface, so that a test can bring its own."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median
from typing import Protocol


class Clock(Protocol):
    """Seconds that only go forward, and a way to wait."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class WallClock:
    """`time.perf_counter`: the highest resolution the system has, not set back by time servers."""

    def now(self) -> float:
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def timer_facts(clock: Clock, readings: int = 2000) -> dict[str, float]:
    """{"cost_s": a reading's median cost, contained once in each sample; "step_s": the smallest step seen}."""
    times = [clock.now() for _ in range(readings)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    steps = [gap for gap in gaps if gap > 0]
    return {"cost_s": median(gaps), "step_s": min(steps, default=0.0)}
