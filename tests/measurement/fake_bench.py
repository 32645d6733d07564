"""A fake clock, fake sessions that move it, and an executor that runs a job in this process: no clock, no subprocess."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from yoloproof.measurement import Subject
from yoloproof.measurement.events import Event
from yoloproof.measurement.gauge import Gauge
from yoloproof.measurement.processes import WorkerDied
from yoloproof.measurement.usage import Meters
from yoloproof.measurement.worker import WorkerJob, timed_process
from yoloproof.names import Runtime
from yoloproof.records import Reading, SessionFacts
from yoloproof.runtime.base import Session, SessionSpec

# Fake seconds of each step; reading the fake clock takes READ_S.
READ_S = 1e-7
OPEN_S, LOAD_S, FETCH_S = 0.5, 0.002, 0.001


@dataclass
class FakeClock:
    """Goes forward only when read, slept on, or told to."""

    time_s: float = 100.0
    sleeps: list[float] = field(default_factory=list)

    def now(self) -> float:
        self.time_s += READ_S
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time_s += seconds


Latency = Callable[[int], float]


class FakeSession(Session):
    """Takes `latency(i)` fake seconds at its i-th execute and writes what it does into `log`."""

    def __init__(self, bench: FakeBench, name: str, latency: Latency) -> None:
        self._bench, self._name, self._latency, self._count = bench, name, latency, count()
        self.inputs, self.outputs = (), ()
        self.facts = SessionFacts(name=Runtime.ONNXRUNTIME, device=name)

    def _step(self, what: str, seconds: float) -> None:
        self._bench.log.append((self._name, what))
        self._bench.clock.time_s += seconds

    def load(self, images: np.ndarray[Any, Any]) -> None:
        self._bench.seen.setdefault(self._name, []).append(images.copy())
        self._step("load", LOAD_S)

    def execute(self) -> float:
        seconds = self._latency(next(self._count))
        self._step("execute", seconds)
        return 0.9 * seconds

    def fetch(self) -> tuple[np.ndarray[Any, Any], ...]:
        self._step("fetch", FETCH_S)
        return ()

    def close(self) -> None:
        self._bench.log.append((self._name, "close"))


@dataclass
class FakeBench:
    """Latencies by the device's name, which stands for the subject; a log of all that was done; jobs that came."""

    latencies: dict[str, Latency]
    clock: FakeClock = field(default_factory=FakeClock)
    log: list[tuple[str, str]] = field(default_factory=list)
    seen: dict[str, list[np.ndarray[Any, Any]]] = field(default_factory=dict)
    jobs: list[WorkerJob] = field(default_factory=list)
    dies_in: dict[int, int] = field(default_factory=dict)
    interrupted_in: dict[int, int] = field(default_factory=dict)
    gauge: Gauge | None = None
    meters: Meters = field(default_factory=Meters)

    def subject(self, name: str, **settings: Any) -> Subject:
        flush = settings.pop("flush_to_zero", False)
        return Subject(name, SessionSpec(Runtime.ONNXRUNTIME, device=name, flush_to_zero=flush), (8, 8), **settings)

    def open(self, spec: SessionSpec) -> Session:
        self.log.append((spec.device, "open"))
        self.clock.time_s += OPEN_S
        return FakeSession(self, spec.device, self.latencies[spec.device])

    def events(self, job: WorkerJob, **settings: Any) -> list[Event]:
        """What a process with this job reports."""
        found: list[Event] = []
        gc.freeze()  # a process's own collection would go through all that pytest holds, 0.1 s each time
        timed_process(job, found.append, clock=self.clock, open_session=self.open, **settings)
        gc.unfreeze()
        return found

    def executor(self, job: WorkerJob, take: Callable[[Event], None]) -> None:
        """Like `run_worker`; after so many events of a process it dies, or the user presses Ctrl-C."""
        self.jobs.append(job)
        for number, event in enumerate(self.events(job, gauge=self.gauge, meters=self.meters)):
            if number == self.dies_in.get(job.process):
                raise WorkerDied("the worker process was killed by SIGKILL")
            if number == self.interrupted_in.get(job.process):
                raise KeyboardInterrupt
            take(event)


class NoWatcher:
    """In the place of the watching thread."""

    def readings(self) -> tuple[Reading, ...]:
        return ()


@contextmanager
def unwatched(device: str) -> Iterator[NoWatcher]:
    yield NoWatcher()


def steady(seconds: float) -> Latency:
    return lambda number: seconds


def zeros(n: int = 3) -> np.ndarray[Any, Any]:
    """n images [n, 3, 8, 8], the i-th filled with i / 10."""
    return np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None] / 10, (n, 3, 8, 8)).copy()
