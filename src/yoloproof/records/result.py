"""A result file: runs and their entries."""

from __future__ import annotations

from dataclasses import dataclass, field

from yoloproof.records.base import Record
from yoloproof.records.case import Artifact, Case, ModelFacts, SessionFacts
from yoloproof.records.machine import Machine
from yoloproof.records.measurement import Process, Protocol, RunWarning, Summary
from yoloproof.records.verdict import Accuracy, PublishedFigure, StageTimes, Verdict


@dataclass(frozen=True)
class Tool(Record):
    """What wrote the file."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Run(Record):
    """What the entries of one `profile` share.

    machine -- None, and `requested` the accelerator's name, where a sweep's cell could not be measured
    gauge_best_s -- the quickest reading of the host's speed, on a CPU, without --quick; gauge_size -- side of the larger
    matrix it was read with
    """

    tool: Tool
    created: str
    command: tuple[str, ...]
    protocol: Protocol
    machine: Machine | None = None
    requested: str | None = None
    gauge_best_s: float | None = None
    gauge_size: int | None = None
    interrupted: bool = False
    partial: bool = False
    warnings: tuple[RunWarning, ...] = ()

    @property
    def quick(self) -> bool:
        return self.protocol.quick


@dataclass(frozen=True, kw_only=True)
class Entry(Record):
    """One row: what was asked for, what was built, how it ran, whether it is the same detector, and how long it takes.

    run -- index of its run in the file; proof -- without checks where there was nothing to verify it by
    processes -- those that the summary stands on; processes_set_aside -- those that the host slowed
    partial -- not every process ran to the end; error -- what went wrong; passed_over -- runtimes that `auto` tried before
    """

    run: int = 0
    case: Case
    model: ModelFacts
    artifact: Artifact
    runtime: SessionFacts
    proof: Verdict = field(default_factory=Verdict)
    accuracy: Accuracy | None = None
    end_to_end: StageTimes | None = None
    published: PublishedFigure | None = None
    processes: tuple[Process, ...] = ()
    processes_set_aside: tuple[Process, ...] = ()
    summary: Summary | None = None
    warnings: tuple[RunWarning, ...] = ()
    partial: bool = False
    error: str | None = None
    passed_over: tuple[str, ...] = ()

    @property
    def failure(self) -> str | None:
        """Why there is no figure."""
        return self.error if self.summary is None else None


@dataclass(frozen=True, kw_only=True)
class Result(Record):
    """A result file: one run's entries, or those of a sweep's many runs."""

    tool: Tool
    created: str
    command: tuple[str, ...]
    runs: tuple[Run, ...]
    entries: tuple[Entry, ...]

    def run_of(self, entry: Entry) -> Run:
        """The run an entry was measured in."""
        return self.runs[entry.run]

    @property
    def quick(self) -> bool:
        return any(run.quick for run in self.runs)

    @property
    def interrupted(self) -> bool:
        return any(run.interrupted for run in self.runs)

    @property
    def partial(self) -> bool:
        return any(run.partial for run in self.runs)
