"""What is measured and what comes back: frozen records, seconds inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from yoloproof.runtime.base import SessionSpec

# Called with what is being done and the share of the whole that is done (0…1).
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Subject:
    """One artifact to time: a unique name, how to open it, the input's height and width, the batch."""

    name: str
    spec: SessionSpec
    imgsz: tuple[int, int] = (640, 640)
    batch: int = 1


@dataclass(frozen=True)
class StabilityWarning:
    """What was seen that makes a number less than it looks, and what to do about it.

    level_factor -- 1 or more: by what factor this alone may have moved the level of the whole run, so that another run
    under the same settings would not get it again; None where it has no say in that, or (see `results.compare`) where
    it has and nobody can tell how much
    """

    code: str
    evidence: str
    advice: str
    level_factor: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class ProcessSamples:
    """One subject in one fresh process. All lists are in the order of the clock and nothing is thrown away.

    cold_start_s -- open_s (session made ready) + first_inference_s (load, execute, fetch)
    opened_after -- how many other subjects this process had opened before: 0 also paid for loading the runtime library
    samples_s -- the timed step; load_s, fetch_s -- the transfers around each; device_s -- the device's own clock
    gauge_s -- before and after each turn, the slower reading of the host's speed (gauge.py); set_aside_s -- samples of turns
    that the host was slowed in and that were taken again
    turns -- how many samples each turn gave; warmup_s holds the inferences after a switch of subject too
    complete -- the process ran to the protocol's end for this subject
    """

    process: int
    cold_start_s: float | None = None
    open_s: float | None = None
    first_inference_s: float | None = None
    opened_after: int = 0
    warmup_s: list[float] = field(default_factory=list)
    samples_s: list[float] = field(default_factory=list)
    device_s: list[float] | None = None
    load_s: list[float] = field(default_factory=list)
    fetch_s: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    gauge_s: list[float] = field(default_factory=list)
    set_aside_s: list[float] = field(default_factory=list)
    settled: bool | None = None
    complete: bool = False
    timer: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)


@dataclass
class Run:
    """What all subjects of one `measure` share.

    protocol -- as in the result file, with the `seed` of the order of turns
    machine -- `machine_facts` from before; `during`: the watcher's readings; `after`: what may have changed since
    """

    protocol: dict[str, Any]
    machine: dict[str, Any]
    warnings: list[StabilityWarning]
    interrupted: bool = False


@dataclass
class Measurement:
    """One subject's samples and what they come to.

    processes -- those the summary stands on; set_aside -- those that the host slowed, where enough others are left
    facts -- the session's own account of how it ran
    summary -- see `statistics.summarize`; None where there is not one sample
    partial -- not every process ran to the end; `error` says why where an inference or a process failed
    """

    subject: Subject
    processes: list[ProcessSamples]
    facts: dict[str, Any]
    summary: dict[str, Any] | None
    warnings: list[StabilityWarning]
    partial: bool
    error: str | None
    run: Run
    set_aside: list[ProcessSamples] = field(default_factory=list)

    def as_entry(self) -> dict[str, Any]:
        """The measured keys of a result file's entry."""
        return {
            "runtime": self.facts,
            "processes": [process.as_dict() for process in self.processes],
            "processes_set_aside": [process.as_dict() for process in self.set_aside],
            "summary": self.summary,
            "warnings": [warning.as_dict() for warning in self.warnings],
            "partial": self.partial,
            "error": self.error,
            "failure": self.error if self.summary is None else None,
        }


class Step(NamedTuple):
    """Seconds of one inference's three steps, and the device's own account of `execute`."""

    load: float
    execute: float
    fetch: float
    device: float | None
