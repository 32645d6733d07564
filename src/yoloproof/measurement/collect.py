"""From the workers' events to samples per subject and process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from yoloproof.measurement.events import (
    Completed,
    Ended,
    Event,
    Failed,
    Gauged,
    Offered,
    Opened,
    Rated,
    Sampled,
    Started,
    TurnBegan,
    Waiting,
    WarmedUp,
    Watched,
)
from yoloproof.measurement.processes import WorkerDied
from yoloproof.measurement.selection import processes_to_set_aside, slowed_processes
from yoloproof.measurement.statistics import opened_first
from yoloproof.measurement.subject import Progress, Subject
from yoloproof.measurement.worker import WorkerJob
from yoloproof.names import TurnReason
from yoloproof.records import CpuTime, Process, Protocol, Serving, SessionFacts, SetAside, Turn


class Collector:
    """Takes events in their order.

    samples -- per subject, one record per process it took part in
    facts -- per subject, its session's account; None before it was opened
    failed -- subject index → what went wrong; such a subject joins no further process
    rated -- subject index → capacity and bound under the protocol `server`, as its first process found them
    crowded_out -- processes were left out because other programs hold the host and the time was over
    process -- number of the last that was begun
    best_s, waited_s -- the quickest reading of the host's speed, and how long the workers waited for it and repeated turns
    origin_s -- what the workers' clock, which all processes of a machine share, said when the run began
    """

    def __init__(
        self, subjects: Sequence[Subject], protocol: Protocol, progress: Progress | None = None, origin_s: float = 0.0
    ) -> None:
        self.subjects = subjects
        self.samples: list[list[Process]] = [[] for _ in subjects]
        self.facts: list[SessionFacts | None] = [None for _ in subjects]
        self.failed: dict[int, str] = {}
        self.rated: dict[int, Serving] = {}
        self.best_s: float | None = None
        self.waited_s = 0.0
        self.crowded_out = False
        self._protocol = protocol
        self._progress = progress
        self.process = 0
        self._wait_most_s = 0.0
        self._open_only = False
        self._on_turn: int | None = None
        self._shares: dict[int, float] = {}
        self._origin_s = origin_s
        self._started: Started | None = None

    def begin(self, job: WorkerJob) -> None:
        """A worker is about to start."""
        if job.process != self.process:
            self._shares = dict.fromkeys(self.failed, 1.0)
        self.process = job.process
        self._wait_most_s = self.waited_s + job.wait_s
        self._on_turn = None
        self._open_only = job.open_only
        for index in job.subjects:
            self._shares[index] = 0.0
            self.samples[index].append(Process(process=job.process, open_only=job.open_only))

    def slowed(self) -> set[int]:
        """Numbers of the processes that the host slowed."""
        return slowed_processes(self.samples, self._protocol, self.best_s)

    def never_first(self) -> list[int]:
        """Subjects that no process of those that count opened before any other, so that their cold start is unknown."""
        aside = processes_to_set_aside(self.samples, self._protocol, self.best_s)
        return [
            index
            for index, records in enumerate(self.samples)
            if index not in self.failed
            and all(record.cold_start_s is None or record.process in aside for record in opened_first(records))
        ]

    def others_cores(self) -> float:
        """How many cores other programs kept busy, on average, while samples were taken."""
        cpu = [record.cpu for records in self.samples for record in records]
        wall_s = sum(one.wall_s for one in cpu)
        return sum(one.others_s for one in cpu) / wall_s if wall_s else 0.0

    def any_samples(self) -> bool:
        return any(record.samples_s for records in self.samples for record in records)

    def take(self, event: Event) -> None:
        """One event of the worker that runs now."""
        if isinstance(event, Started):
            self._started = event
            return
        if isinstance(event, Gauged):
            self.best_s = min(event.reading_s, self.best_s or event.reading_s)
            return
        if isinstance(event, Ended):
            return
        index = event.subject
        record = self.samples[index][-1]
        if isinstance(event, TurnBegan):
            self._on_turn = index
            self._report(f"{self.subjects[index].name}: {event.step}")
        elif isinstance(event, Waiting):
            waited_s = self.waited_s + event.waited_s
            self._report(f"waiting for the host ({waited_s:.0f} of {self._wait_most_s:.0f} s)")
        elif isinstance(event, Opened):
            record = self._opened(record, event)
            self.facts[index] = self.facts[index] or event.facts
        elif isinstance(event, WarmedUp):
            settled = record.settled if event.settled is None else event.settled
            record = replace(record, warmup_s=record.warmup_s + event.wall_s, settled=settled)
        elif isinstance(event, Sampled):
            record = _with_samples(record, event, self._since_start(event.start_s))
            self._shares[index] = event.share
        elif isinstance(event, Watched):
            self.best_s = min(event.best_s, self.best_s or event.best_s)
            self.waited_s += event.waited_s + (event.taken_s if event.reason is TurnReason.SLOWED else 0.0)
            record = _watched(record, event)
        elif isinstance(event, Rated):
            self.rated.setdefault(index, event.found)
            record = replace(record, serving=event.found)
        elif isinstance(event, Offered) and record.serving is not None:
            record = replace(record, serving=replace(record.serving, loads=(*record.serving.loads, event.load)))
            self._shares[index] = event.share
            self._report(f"{self.subjects[index].name}: {event.load.rate_hz:.3g} queries/s")
        elif isinstance(event, Completed):
            record = replace(record, complete=True)
        elif isinstance(event, Failed):
            self._failed(index, f"{event.step} failed: {event.error}")
            self._shares[index] = 1.0
        self.samples[index][-1] = record

    def died(self, death: WorkerDied) -> None:
        """The worker is gone. The subject whose turn it was goes out; without one, every subject of the run does."""
        blamed = range(len(self.subjects)) if self._on_turn is None else [self._on_turn]
        for index in blamed:
            self._failed(index, str(death))

    def _failed(self, index: int, error: str) -> None:
        if not self._open_only:  # where only the cold start was still missing, what was timed stands
            self.failed.setdefault(index, error)

    def _since_start(self, at_s: float) -> float:
        return at_s - (self._started.at_s if self._started else self._origin_s)

    def _opened(self, record: Process, event: Opened) -> Process:
        started = self._started
        return replace(
            record,
            start_s=None if started is None else started.at_s - self._origin_s,
            timer=None if started is None else started.timer,
            cold_start_s=event.open_s + event.first_inference_s,
            open_s=event.open_s,
            first_inference_s=event.first_inference_s,
            host_bytes=event.host_bytes,
            device_bytes=event.device_bytes,
            opened_after=event.opened_after,
        )

    def _report(self, what: str) -> None:
        if self._progress is None:
            return
        if self._open_only:
            self._progress(f"{what}, in a process of its own", 1.0)
            return
        share = sum(self._shares.values()) / len(self.subjects)
        planned = max(self._protocol.processes, self.process + 1)  # more where the host was slowed
        repeated = planned - self._protocol.processes
        number = f"process {self.process + 1}/{planned}" + (f" ({repeated} repeated)" if repeated else "")
        self._progress(f"{number}, {what}", min((self.process + share) / planned, 1.0))


def _with_samples(record: Process, event: Sampled, start_s: float) -> Process:
    count, energy_j = len(event.wall_s), event.energy_j
    if event.goes_on:
        *turns, last = record.turns
        energy_j = None if last.energy_j is None or energy_j is None else last.energy_j + energy_j
        turns.append(replace(last, count=last.count + count, energy_j=energy_j))
    else:
        turns = [*record.turns, Turn(start_s=start_s, first=len(record.samples_s), count=count, energy_j=energy_j)]
    # one inference without a device time, and the column would not fit the others
    timed = event.device_s is not None and (record.device_s is not None or not record.samples_s)
    cpu = record.cpu
    return replace(
        record,
        samples_s=record.samples_s + event.wall_s,
        load_s=record.load_s + event.load_s,
        fetch_s=record.fetch_s + event.fetch_s,
        device_s=(record.device_s or ()) + (event.device_s or ()) if timed else None,
        turns=tuple(turns),
        cpu=CpuTime(cpu.own_s + event.cpu.own_s, cpu.others_s + event.cpu.others_s, cpu.wall_s + event.cpu.wall_s),
    )


def _watched(record: Process, event: Watched) -> Process:
    """The readings around the last turn. Where the worker repeats it, its samples go to those set aside."""
    *before, turn = record.turns
    turn = replace(
        turn,
        gauge_before_s=event.gauge_before_s,
        gauge_after_s=event.gauge_after_s,
        waited_s=event.waited_s,
        reason=event.reason,
    )
    if event.reason is not TurnReason.SLOWED:
        return replace(record, turns=(*before, turn))
    first, aside = turn.first, record.set_aside
    device = None if record.device_s is None else record.device_s[first:]
    return replace(
        record,
        samples_s=record.samples_s[:first],
        load_s=record.load_s[:first],
        fetch_s=record.fetch_s[:first],
        device_s=None if record.device_s is None else record.device_s[:first],
        turns=(*before, replace(turn, first=len(aside.samples_s), kept=False)),
        set_aside=SetAside(
            samples_s=aside.samples_s + record.samples_s[first:],
            load_s=aside.load_s + record.load_s[first:],
            fetch_s=aside.fetch_s + record.fetch_s[first:],
            device_s=None if device is None else (aside.device_s or ()) + device,
        ),
    )
