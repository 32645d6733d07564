"""The clock that everything is timed by: an interface, so that a test can bring its own."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Protocol

from yoloproof.records import Timer


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


def timer_of(clock: Clock, readings: int = 2000) -> Timer:
    """The clock's smallest step that was seen, and a reading's median cost, which is contained once in each sample."""
    times = [clock.now() for _ in range(readings)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return Timer(step_s=min((gap for gap in gaps if gap > 0), default=0.0), cost_s=median(gaps))


def nanoseconds(times_s: Iterable[float]) -> tuple[float, ...]:
    """Seconds to the nanosecond, the system's unit. What a float shows beyond comes of subtracting, and would fill half of
    a result file."""
    return tuple(round(time_s, 9) for time_s in times_s)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """None between two timed inferences; once before."""
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
