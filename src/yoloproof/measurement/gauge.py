"""The host's speed, read between turns: a virtual machine's neighbours slow it in ways that nothing inside it shows.

Seen on two cores of an EPYC: the same network takes 45 ms or 73 ms, for seconds or minutes at a time, with no stolen time,
no other program and an unchanged clock. In the same moments a product of two 512 x 512 matrices on both cores takes 1.35 or
1.94 ms and one of 128 x 128 matrices 29 or 54 µs, while a large one, and copies, hashes and sines on each core alone, take
what they always do: what takes longer then is the exchange between cores, which a network needs at every layer. So the gauge is
a small and a middling product on all cores.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from yoloproof.measurement.clock import Clock
from yoloproof.names import TurnReason

# A number of seconds that fixed work takes.
Gauge = Callable[[], float]
LOOK_EVERY_S = 0.25
# After so long the products of one size end early: eight times what they take on a host left alone. Where other programs hold
# the cores one of them may take 20 ms instead of 50 µs, and the readings of a run took minutes.
ENOUGH_S = 0.05
# Readings at either end of a process where turns are not watched; the quickest of the run stands for its host. Drawn from the
# readings of ten committed runs, that of six processes varies by 2 to 7 % (5th to 95th percentile) with one reading at an end
# and by 1 to 5 % with eight; `compare` takes 10 % for two hosts. With its rests a reading takes 65 ms.
END_READINGS = 8


def matrix_gauge(cores: float) -> Gauge:
    """The geometric mean of two float32 matrix products by NumPy's own threads: 30 of 128 x 128 (the median) and 4 that take
    a millisecond or two whatever the number of cores (the least).

    cores -- how many this process may use
    """
    small, middling = (np.random.default_rng(0).random((n, n), np.float32) for n in (128, gauge_size(cores)))

    def read() -> float:
        return math.sqrt(median(_products_s(small, 30)) * min(_products_s(middling, 4)))

    read()  # starts the threads
    return read


def gauge_size(cores: float) -> int:
    """Side of the larger matrix."""
    return 64 * round(8 * float((cores / 2) ** (1 / 3)))


def _products_s(matrix: NDArray[np.float32], times: int) -> list[float]:
    """Seconds of so many products, of fewer where they take longer than ENOUGH_S together."""
    product, taken = np.empty_like(matrix), list[float]()
    while len(taken) < times and sum(taken) < ENOUGH_S:
        start = time.perf_counter()
        np.matmul(matrix, matrix, out=product)
        taken.append(time.perf_counter() - start)
    return taken


class HostWatch:
    """Waits while the host is slowed, and tells whether a turn was.

    best_s -- the quickest reading so far, also of earlier processes; wait_s -- how long this process may still wait
    limit -- how many times `best_s` counts as slowed: undisturbed readings lie within 1.1, slowed ones from 1.3
    rest_s -- of rest before and after a reading: threads of a runtime, and the gauge's, spin for a while before they sleep
    """

    def __init__(
        self, gauge: Gauge, clock: Clock, best_s: float | None, wait_s: float, *, limit: float, rest_s: float
    ) -> None:
        self._gauge, self._clock, self._limit, self._rest_s = gauge, clock, limit, rest_s
        self.best_s = float("inf") if best_s is None else best_s
        self.wait_s = wait_s

    def read(self) -> float:
        self._clock.sleep(self._rest_s)
        reading = self._gauge()
        self._clock.sleep(self._rest_s)
        self.best_s = min(self.best_s, reading)
        return reading

    def slowed(self, reading: float) -> bool:
        return reading > self._limit * self.best_s

    def reason(self, before_s: float, after_s: float) -> TurnReason:
        """Why a turn between these readings is kept, or repeated."""
        if not self.slowed(max(before_s, after_s)):
            return TurnReason.UNDISTURBED
        return TurnReason.SLOWED if self.wait_s > 0 else TurnReason.TIME_UP

    def wait(self, tell: Callable[[float], None] = lambda _: None) -> float:
        """Wait while the host is slowed and time is left; the last reading. tell -- hears how long it has waited."""
        began = start = self._clock.now()
        reading = self.read()
        while self.slowed(reading) and self.wait_s > 0:
            tell(start - began)
            self._clock.sleep(LOOK_EVERY_S)
            reading = self.read()
            now = self._clock.now()
            self.wait_s -= now - start
            start = now
        return reading
