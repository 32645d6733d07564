"""From the workers' events to samples per subject and process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yoloproof.measurement.gauge import SLOWED
from yoloproof.measurement.processes import WorkerDied
from yoloproof.measurement.protocol import Protocol
from yoloproof.measurement.records import ProcessSamples, Progress, Subject
from yoloproof.measurement.worker import Job


class Collector:
    """Takes events in their order.

    samples -- per subject, one record per process it took part in
    facts -- per subject, its session's account
    failed -- subject index → what went wrong; such a subject joins no further process
    best_s, waited_s -- the quickest reading of the host's speed, and how long the workers waited for it
    """

    def __init__(self, subjects: Sequence[Subject], protocol: Protocol, progress: Progress | None = None) -> None:
        self.subjects = subjects
        self.samples: list[list[ProcessSamples]] = [[] for _ in subjects]
        self.facts: list[dict[str, Any]] = [{} for _ in subjects]
        self.failed: dict[int, str] = {}
        self.best_s: float | None = None
        self.waited_s = 0.0
        self._protocol = protocol
        self._progress = progress
        self._process = 0
        self._on_turn: int | None = None
        self._shares: dict[int, float] = {}
        self._timer: dict[str, float] = {}

    def begin(self, job: Job) -> None:
        """A worker is about to start."""
        if job.process != self._process:
            self._shares = dict.fromkeys(self.failed, 1.0)
        self._process = job.process
        self._on_turn = None
        for index in job.subjects:
            self._shares[index] = 0.0
            self.samples[index].append(ProcessSamples(job.process))

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

    def take(self, event: dict[str, Any]) -> None:
        """One event of the worker that runs now."""
        kind = event["event"]
        if kind == "start":
            self._timer = event["timer"]
            return
        index = event["subject"]
        record = self.samples[index][-1]
        if kind == "turn":
            self._on_turn = index
            self._report(f"{self.subjects[index].name}: {event['step']}")
        elif kind == "opened":
            record.open_s, record.first_inference_s = event["open_s"], event["first_inference_s"]
            record.cold_start_s = record.open_s + record.first_inference_s
            record.opened_after = event["opened_after"]
            record.timer = self._timer
            self.facts[index] = self.facts[index] or event["facts"]
        elif kind == "warmup":
            record.warmup_s += event["wall_s"]
            record.settled = event.get("settled", record.settled)
        elif kind == "samples":
            self._add_samples(record, event)
            self._shares[index] = event["share"]
        elif kind == "watched":
            self._watched(record, event)
        elif kind == "complete":
            record.complete = True
        elif kind == "failed":
            self.failed[index] = f"{event['step']} failed: {event['error']}"
            self._shares[index] = 1.0

    def died(self, death: WorkerDied) -> None:
        """The worker is gone. The subject whose turn it was goes out; without one, every subject of the run does."""
        blamed = range(len(self.subjects)) if self._on_turn is None else [self._on_turn]
        for index in blamed:
            self.failed.setdefault(index, str(death))

    def _add_samples(self, record: ProcessSamples, event: dict[str, Any]) -> None:
        first = not record.samples_s
        record.samples_s += event["wall_s"]
        record.load_s += event["load_s"]
        record.fetch_s += event["fetch_s"]
        if event["goes_on"]:
            record.turns[-1] += len(event["wall_s"])
        else:
            record.turns.append(len(event["wall_s"]))
        if event["device_s"] is None or (record.device_s is None and not first):
            record.device_s = None
        else:
            record.device_s = (record.device_s or []) + event["device_s"]
        for key, value in event["cpu"].items():
            record.cpu[key] = record.cpu.get(key, 0.0) + value

    def _watched(self, record: ProcessSamples, event: dict[str, Any]) -> None:
        """What the host did during the turn before; its samples go aside where the worker takes the turn again."""
        self.best_s = min(event["best_s"], self.best_s or event["best_s"])
        self.waited_s += event["waited_s"]
        if not event["again"]:
            record.gauge_s.append(event["gauge_s"])
            return
        kept = len(record.samples_s) - record.turns.pop()
        record.set_aside_s += record.samples_s[kept:]
        for column in (record.samples_s, record.load_s, record.fetch_s, record.device_s or []):
            del column[kept:]

    def _report(self, what: str) -> None:
        if self._progress is None:
            return
        share = sum(self._shares.values()) / len(self.subjects)
        planned = max(self._protocol.processes, self._process + 1)  # more where the host was slowed
        self._progress(f"process {self._process + 1}/{planned}, {what}", min((self._process + share) / planned, 1.0))
