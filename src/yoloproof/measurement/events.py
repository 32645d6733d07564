"""What a worker process reports, one line of JSON each. `subject` is the subject's index in the whole run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from yoloproof.records import CpuTime, SessionFacts, Timer


@dataclass(frozen=True)
class Started:
    """The process runs and has looked at its clock."""

    timer: Timer


@dataclass(frozen=True)
class TurnBegan:
    """What is done next, "open", "warm-up" or "sample": should the process die now, this subject is to blame."""

    subject: int
    step: str


@dataclass(frozen=True)
class Opened:
    """opened_after -- how many other subjects this process had opened before."""

    subject: int
    open_s: float
    first_inference_s: float
    opened_after: int
    facts: SessionFacts


@dataclass(frozen=True)
class WarmedUp:
    """Untimed inferences; settled -- whether the machine stood still, None where nobody waited for it."""

    subject: int
    wall_s: tuple[float, ...]
    settled: bool | None = None


@dataclass(frozen=True)
class Sampled:
    """Timed inferences in a row. share -- how much of the subject's work in this process is done, 0…1; goes_on -- they
    belong to the same turn as those of the event before."""

    subject: int
    share: float
    goes_on: bool
    wall_s: tuple[float, ...]
    load_s: tuple[float, ...]
    fetch_s: tuple[float, ...]
    device_s: tuple[float, ...] | None
    cpu: CpuTime


@dataclass(frozen=True)
class Watched:
    """The host's speed around the turn before. best_s -- the quickest reading; waited_s -- time spent on waiting for the
    host; again -- it was slowed, and the turn is repeated."""

    subject: int
    gauge_s: float
    best_s: float
    waited_s: float
    again: bool


@dataclass(frozen=True)
class Completed:
    """The subject has all its samples of this process."""

    subject: int


@dataclass(frozen=True)
class Failed:
    """The subject raised while it was opened ("open") or run ("inference"), and takes no further part."""

    subject: int
    step: str
    error: str


@dataclass(frozen=True)
class Ended:
    """The process has come to its end."""


Event = Started | TurnBegan | Opened | WarmedUp | Sampled | Watched | Completed | Failed | Ended


def line_from_event(event: Event) -> str:
    """One line, without its end."""
    return json.dumps({"event": type(event).__name__, **vars(event)}, default=_plain)


def _plain(record: Any) -> dict[str, object]:
    """A record inside an event, for `json.dumps`."""
    return asdict(record)
