"""An artifact that is served: queries arrive whether or not the one before is answered, at rates up to the capacity.

As in the server scenario of MLPerf Inference (Reddi et al., ISCA 2020, section IV): arrivals are a Poisson process, and what
counts is the highest rate at which the 99th percentile of latency keeps a bound. The schedule is drawn before the first query
and latency counts from the scheduled arrival: a query that waits because the one before was slow waits on record, where a
loop that sends the next query after an answer would leave it out ("coordinated omission", Tene).

    schedule → one queue → k sessions, first come, first served → latency and wait of each query
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from statistics import median
from threading import Lock
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from yoloproof.intervals import median_interval
from yoloproof.measurement.clock import Clock
from yoloproof.records import Load, LoadPoint, Process, ServerPlan, ServerSummary, Serving
from yoloproof.runtime.base import Session, SessionSpec

NextImages = Callable[[], NDArray[np.float32]]


def arrivals(rate_hz: float, queries: int, seed: str) -> tuple[float, ...]:
    """When the queries of a Poisson process arrive, seconds after its beginning: gaps are exponential, their mean 1 / rate."""
    chance = random.Random(seed)
    return tuple(accumulate(chance.expovariate(rate_hz) for _ in range(queries)))


class _Queue:
    """Queries in the order of their arrivals, each given out once. `latency_s` and `wait_s` fill as they are answered."""

    def __init__(self, schedule_s: Sequence[float], start_s: float, next_images: NextImages) -> None:
        self._due_s = [start_s + at for at in schedule_s]
        self._next_images, self._next, self._lock = next_images, 0, Lock()
        self.latency_s, self.wait_s = [0.0] * len(self._due_s), [0.0] * len(self._due_s)

    def serve(self, session: Session, clock: Clock) -> None:
        """Answer one query after the other until there is none. What the session raises ends the queue for all."""
        try:
            while (found := self._taken()) is not None:
                number, images = found
                due = self._due_s[number]
                early = due - clock.now()
                if early > 0:
                    clock.sleep(early)
                began = clock.now()
                session.load(images)
                session.execute()
                session.fetch()
                self.latency_s[number], self.wait_s[number] = clock.now() - due, began - due
        except BaseException:
            with self._lock:
                self._next = len(self._due_s)
            raise

    def _taken(self) -> tuple[int, NDArray[np.float32]] | None:
        with self._lock:
            number = self._next
            if number >= len(self._due_s):
                return None
            self._next += 1
            return number, self._next_images()


class Server:
    """Sessions of one artifact behind one queue (context manager). `first` answers in the calling thread; each other one in a
    thread of its own, in which it is opened, and run once, before the next: while a CUDA graph is captured nothing else may
    use the device."""

    def __init__(
        self, first: Session, spec: SessionSpec, sessions: int, open_session: Callable[[SessionSpec], Session],
        next_images: NextImages, clock: Clock,
    ) -> None:  # fmt: skip
        self._first, self._next_images, self._clock = first, next_images, clock
        self._others: list[tuple[ThreadPoolExecutor, Session]] = []
        try:
            for _ in range(sessions - 1):
                thread = ThreadPoolExecutor(1)
                try:
                    session = thread.submit(open_session, spec).result()
                except BaseException:
                    thread.shutdown()
                    raise
                self._others.append((thread, session))
                thread.submit(session.infer, next_images()).result()
        except BaseException:
            self.close()
            raise

    def answer(self, schedule_s: Sequence[float]) -> _Queue:
        """Answer a schedule to its end. Whatever a session raises comes through, after the others have stopped."""
        queue = _Queue(schedule_s, self._clock.now(), self._next_images)
        answering = [thread.submit(queue.serve, session, self._clock) for thread, session in self._others]
        queue.serve(self._first, self._clock)
        for one in answering:
            one.result()
        return queue

    def capacity_hz(self, queries: int) -> float:
        """Queries per second while there is always one waiting."""
        return queries / max(self.answer([0.0] * queries).latency_s)

    def load(self, rate_hz: float, queries: int, seed: str) -> Load:
        """What comes of Poisson arrivals at this rate."""
        queue = self.answer(arrivals(rate_hz, queries, seed))
        return Load(rate_hz=rate_hz, seed=seed, latency_s=tuple(queue.latency_s), wait_s=tuple(queue.wait_s))

    def close(self) -> None:
        for thread, session in self._others:
            thread.submit(session.close).result()
            thread.shutdown()
        self._others = []

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rated(server: Server, plan: ServerPlan, alone_s: Sequence[float]) -> Serving:
    """Capacity and bound, from latencies of queries alone: what the first process says for all."""
    alone = median(alone_s)
    bound_s = plan.p99_times * alone if plan.p99_s is None else plan.p99_s
    return Serving(capacity_hz=server.capacity_hz(plan.queries_at(plan.sessions / alone)), p99_bound_s=bound_s)


def swept(server: Server, plan: ServerPlan, found: Serving, seed: str, take: Callable[[Load, float], None]) -> None:
    """The sweep in a random order, then halvings between the last rate that kept the bound and the next.

    take -- gets each load as it is done, and the share of the whole that is
    """
    loads: list[Load] = []

    def offer(rate_hz: float) -> None:
        loads.append(server.load(rate_hz, plan.queries_at(rate_hz), f"{seed}/{len(loads)}"))
        take(loads[-1], len(loads) / (len(plan.loads) + plan.steps))

    for share in random.Random(seed).sample(plan.loads, len(plan.loads)):
        offer(share * found.capacity_hz)
    for _ in range(plan.steps):
        kept_hz, broken_hz = bracket(loads, found.p99_bound_s)
        if broken_hz is None:
            break
        offer((kept_hz + broken_hz) / 2)


def bracket(loads: Sequence[Load], bound_s: float) -> tuple[float, float | None]:
    """The highest rate that keeps the bound as all lower ones do, 0 where the lowest breaks it; and the next one, which
    breaks it, None where there is none."""
    kept_hz = 0.0
    for load in sorted(loads, key=lambda one: one.rate_hz):
        if percentile(load.latency_s, 99) > bound_s:
            return kept_hz, load.rate_hz
        kept_hz = load.rate_hz
    return kept_hz, None


def percentile(latency_s: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile: the least latency that so many percent do not exceed."""
    return float(np.percentile(latency_s, percent, method="inverted_cdf"))


def server_summary(processes: Sequence[Process], plan: ServerPlan) -> ServerSummary | None:
    """What the processes' loads come to; None where none has any. A rate above the capacity cannot be kept for long, so the
    highest is the capacity at most."""
    served = [process.serving for process in processes if process.serving is not None and process.serving.loads]
    if not served:
        return None
    capacity_hz, bound_s = served[0].capacity_hz, served[0].p99_bound_s
    kept = [bracket(one.loads, bound_s)[0] for one in served]
    highest = [min(rate, capacity_hz) for rate in kept]
    interval, middle = median_interval(highest), median(highest)
    at_kept = [load for one, rate in zip(served, kept, strict=True) for load in one.loads if load.rate_hz == rate]
    sweep: dict[float, list[Load]] = {}
    for load in (load for one in served for load in one.loads[: len(plan.loads)]):
        sweep.setdefault(load.rate_hz, []).append(load)
    return ServerSummary(
        sessions=plan.sessions,
        capacity_hz=capacity_hz,
        p99_bound_s=bound_s,
        highest_hz=middle or None,
        interval_hz=None if interval is None else (interval.low, interval.high),
        confidence=None if interval is None else interval.confidence,
        process_highest_hz=tuple(highest),
        at_highest=_point(middle, at_kept) if middle and at_kept else None,
        points=tuple(_point(rate, sweep[rate]) for rate in sorted(sweep)),
    )


def _point(rate_hz: float, loads: Sequence[Load]) -> LoadPoint:
    latency_s = [seconds for load in loads for seconds in load.latency_s]
    p50_s, p90_s, p99_s = (percentile(latency_s, percent) for percent in (50, 90, 99))
    return LoadPoint(rate_hz=rate_hz, queries=len(latency_s), p50_s=p50_s, p90_s=p90_s, p99_s=p99_s)
