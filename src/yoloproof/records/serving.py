"""Queries offered to a server: how, what was seen, and what it comes to. Times in seconds, rates in queries per second."""

from __future__ import annotations

from dataclasses import dataclass

from yoloproof.records.base import Record


@dataclass(frozen=True, kw_only=True)
class ServerPlan(Record):
    """How queries are offered to an artifact that is served.

    sessions -- so many take queries from one queue, first come, first served, each in a thread of its own
    loads -- arrival rates of the sweep, as shares of the capacity that the first process measured
    steps -- halvings between the highest rate that kept the bound and the next, which did not
    queries, seconds, most_queries -- of each rate: as many queries as arrive in `seconds`, within these two numbers
    p99_s -- the bound of the 99th percentile; None: `p99_times` the median of a query alone in the first process
    """

    sessions: int = 2
    loads: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)
    steps: int = 2
    queries: int = 100
    seconds: float = 10.0
    most_queries: int = 2000
    p99_s: float | None = None
    p99_times: float = 5.0

    def queries_at(self, rate_hz: float) -> int:
        """How many queries arrive at this rate."""
        return min(max(self.queries, round(rate_hz * self.seconds)), self.most_queries)


@dataclass(frozen=True, kw_only=True)
class Load(Record):
    """The queries of one arrival rate, in the order of their arrivals.

    rate_hz -- of the Poisson process; seed -- of its schedule, which was drawn before the first query
    latency_s -- from the scheduled arrival until the outputs were on the host; wait_s -- of that, until a session took it
    """

    rate_hz: float
    seed: str
    latency_s: tuple[float, ...]
    wait_s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Serving(Record):
    """What one process saw. capacity_hz -- with queries always waiting; p99_bound_s -- what was asked of every rate; both of
    the first process. loads -- in the order of the clock: the sweep, shuffled, and then the halvings"""

    capacity_hz: float
    p99_bound_s: float
    loads: tuple[Load, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LoadPoint(Record):
    """Latency at one rate of the sweep, over the queries of all processes."""

    rate_hz: float
    queries: int
    p50_s: float
    p90_s: float
    p99_s: float


@dataclass(frozen=True, kw_only=True)
class ServerSummary(Record):
    """What the processes come to.

    highest_hz -- the median of the highest rates at which a process kept the bound, as at all lower ones, at most the
    capacity; None where more than half kept it at none; interval_hz, confidence -- over processes, None for too few
    process_highest_hz -- of each process, 0 where it kept the bound at none
    at_highest -- latency there: of each process's queries at its own highest rate, together; its rate_hz is highest_hz
    points -- the sweep
    """

    sessions: int
    capacity_hz: float
    p99_bound_s: float
    highest_hz: float | None = None
    interval_hz: tuple[float, float] | None = None
    confidence: float | None = None
    process_highest_hz: tuple[float, ...] = ()
    at_highest: LoadPoint | None = None
    points: tuple[LoadPoint, ...] = ()
