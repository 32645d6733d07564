"""What a worker process reports, one line of JSON each. `subject` is the subject's index in the whole run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from yoloproof.names import TurnReason
from yoloproof.records import CpuTime, Load, Serving, SessionFacts, Timer


@dataclass(frozen=True)
class Started:
    """The process runs and has looked at its clock, which said `at_s`."""

    timer: Timer
    at_s: float


@dataclass(frozen=True)
class TurnBegan:
    """What is done next, "open", "warm-up" or "sample": should the process die now, this subject is to blame."""

    subject: int
    step: str


@dataclass(frozen=True)
class Waiting:
    """Others slow the host; waited_s -- how long this process has waited so far."""

    subject: int
    waited_s: float


@dataclass(frozen=True)
class Opened:
    """opened_after -- how many other subjects this process had opened, or had failed to, before; host_bytes, device_bytes --
    memory that opening and the first inference added."""

    subject: int
    open_s: float
    first_inference_s: float
    opened_after: int
    facts: SessionFacts
    host_bytes: int | None = None
    device_bytes: int | None = None


@dataclass(frozen=True)
class WarmedUp:
    """Untimed inferences; settled -- whether the machine stood still, None where nobody waited for it."""

    subject: int
    wall_s: tuple[float, ...]
    settled: bool | None = None


@dataclass(frozen=True)
class Sampled:
    """Timed inferences in a row. start_s -- since the process's start; share -- how much of the subject's work in this
    process is done, 0…1; goes_on -- they belong to the same turn as those of the event before; energy_j -- of the device."""

    subject: int
    start_s: float
    share: float
    goes_on: bool
    wall_s: tuple[float, ...]
    load_s: tuple[float, ...]
    fetch_s: tuple[float, ...]
    device_s: tuple[float, ...] | None
    cpu: CpuTime
    energy_j: float | None = None


@dataclass(frozen=True)
class Watched:
    """The host's speed before and after the last turn. best_s -- the quickest reading; waited_s -- how long the turn waited for the
    host; taken_s -- how long it took; reason -- why it is kept, or repeated (`SLOWED`)."""

    subject: int
    gauge_before_s: float
    gauge_after_s: float
    best_s: float
    waited_s: float
    taken_s: float
    reason: TurnReason


@dataclass(frozen=True)
class Gauged:
    """A reading of the host's speed at the beginning or the end of the process."""

    reading_s: float


@dataclass(frozen=True)
class Rated:
    """Under the protocol `server`: capacity and bound, without loads yet."""

    subject: int
    found: Serving


@dataclass(frozen=True)
class Offered:
    """One arrival rate, its queries answered; share -- of the subject's work in this process that is done."""

    subject: int
    load: Load
    share: float


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


Event = (
    Started
    | TurnBegan
    | Waiting
    | Opened
    | WarmedUp
    | Sampled
    | Watched
    | Gauged
    | Rated
    | Offered
    | Completed
    | Failed
    | Ended
)


def line_from_event(event: Event) -> str:
    """One line, without its end."""
    return json.dumps({"event": type(event).__name__, **vars(event)}, default=_plain)


def _plain(record: Any) -> dict[str, object]:
    """A record inside an event, for `json.dumps`."""
    return asdict(record)
