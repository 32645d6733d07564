"""From the workers' events to samples per subject and process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from yoloproof.measurement.events import (
    Completed,
    Ended,
    Event,
    Failed,
    Opened,
    Sampled,
    Started,
    TurnBegan,
    WarmedUp,
    Watched,
)
from yoloproof.measurement.gauge import SLOWED
from yoloproof.measurement.processes import WorkerDied
from yoloproof.measurement.subject import Progress, Subject
from yoloproof.measurement.worker import WorkerJob
from yoloproof.records import CpuTime, Process, Protocol, SessionFacts, Timer


class Collector:
    """Takes events in their order.

    samples -- per subject, one record per process it took part in
    facts -- per subject, its session's account; None before it was opened
    failed -- subject index → what went wrong; such a subject joins no further process
    best_s, waited_s -- the quickest reading of the host's speed, and how long the workers waited for it
    """

    def __init__(self, subjects: Sequence[Subject], protocol: Protocol, progress: Progress | None = None) -> None:
        self.subjects = subjects
        self.samples: list[list[Process]] = [[] for _ in subjects]
        self.facts: list[SessionFacts | None] = [None for _ in subjects]
        self.failed: dict[int, str] = {}
        self.best_s: float | None = None
        self.waited_s = 0.0
        self._protocol = protocol
        self._progress = progress
        self._process = 0
        self._on_turn: int | None = None
        self._shares: dict[int, float] = {}
        self._timer: Timer | None = None

    def begin(self, job: WorkerJob) -> None:
        """A worker is about to start."""
        if job.process != self._process:
            self._shares = dict.fromkeys(self.failed, 1.0)
        self._process = job.process
        self._on_turn = None
        for index in job.subjects:
            self._shares[index] = 0.0
            self.samples[index].append(Process(process=job.process))

    def slowed(self) -> set[int]:
        """Numbers of the processes in which the host was slowed for more than a quarter of some subject's turns."""
        if self.best_s is None:
            return set()
        limit = SLOWED * self.best_s
        return {
            record.process
            for records in self.samples
            for record in records
            if sum(reading > limit for reading in record.gauge_s) > len(record.gauge_s) / 4
        }

    def any_samples(self) -> bool:
        return any(record.samples_s for records in self.samples for record in records)

    def take(self, event: Event) -> None:
        """One event of the worker that runs now."""
        if isinstance(event, Started):
            self._timer = event.timer
            return
        if isinstance(event, Ended):
            return
        index = event.subject
        record = self.samples[index][-1]
        if isinstance(event, TurnBegan):
            self._on_turn = index
            self._report(f"{self.subjects[index].name}: {event.step}")
        elif isinstance(event, Opened):
            record = _opened(record, event, self._timer)
            self.facts[index] = self.facts[index] or event.facts
        elif isinstance(event, WarmedUp):
            settled = record.settled if event.settled is None else event.settled
            record = replace(record, warmup_s=record.warmup_s + event.wall_s, settled=settled)
        elif isinstance(event, Sampled):
            record = _with_samples(record, event)
            self._shares[index] = event.share
        elif isinstance(event, Watched):
            self.best_s = min(event.best_s, self.best_s or event.best_s)
            self.waited_s += event.waited_s
            record = _without_last_turn(record) if event.again else _with_gauge(record, event.gauge_s)
        elif isinstance(event, Completed):
            record = replace(record, complete=True)
        elif isinstance(event, Failed):
            self.failed[index] = f"{event.step} failed: {event.error}"
            self._shares[index] = 1.0
        self.samples[index][-1] = record

    def died(self, death: WorkerDied) -> None:
        """The worker is gone. The subject whose turn it was goes out; without one, every subject of the run does."""
        blamed = range(len(self.subjects)) if self._on_turn is None else [self._on_turn]
        for index in blamed:
            self.failed.setdefault(index, str(death))

    def _report(self, what: str) -> None:
        if self._progress is None:
            return
        share = sum(self._shares.values()) / len(self.subjects)
        planned = max(self._protocol.processes, self._process + 1)  # more where the host was slowed
        self._progress(f"process {self._process + 1}/{planned}, {what}", min((self._process + share) / planned, 1.0))


def _opened(record: Process, event: Opened, timer: Timer | None) -> Process:
    return replace(
        record,
        cold_start_s=event.open_s + event.first_inference_s,
        open_s=event.open_s,
        first_inference_s=event.first_inference_s,
        opened_after=event.opened_after,
        timer=timer,
    )


def _with_samples(record: Process, event: Sampled) -> Process:
    if event.goes_on:
        turns = (*record.turns[:-1], record.turns[-1] + len(event.wall_s))
    else:
        turns = (*record.turns, len(event.wall_s))
    # one inference without a device time, and the column would not fit the others
    timed = event.device_s is not None and (record.device_s is not None or not record.samples_s)
    cpu = record.cpu
    return replace(
        record,
        samples_s=record.samples_s + event.wall_s,
        load_s=record.load_s + event.load_s,
        fetch_s=record.fetch_s + event.fetch_s,
        device_s=(record.device_s or ()) + (event.device_s or ()) if timed else None,
        turns=turns,
        cpu=CpuTime(cpu.own_s + event.cpu.own_s, cpu.others_s + event.cpu.others_s, cpu.wall_s + event.cpu.wall_s),
    )


def _with_gauge(record: Process, reading_s: float) -> Process:
    return replace(record, gauge_s=(*record.gauge_s, reading_s))


def _without_last_turn(record: Process) -> Process:
    """The worker repeats the turn: its samples are set aside."""
    kept = len(record.samples_s) - record.turns[-1]
    return replace(
        record,
        samples_s=record.samples_s[:kept],
        load_s=record.load_s[:kept],
        fetch_s=record.fetch_s[:kept],
        device_s=None if record.device_s is None else record.device_s[:kept],
        turns=record.turns[:-1],
        set_aside_s=record.set_aside_s + record.samples_s[kept:],
    )
