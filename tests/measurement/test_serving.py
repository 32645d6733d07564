"""Poisson arrivals at sessions behind one queue: against queueing theory on a fake clock, then with threads and real sessions."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from fake_bench import FETCH_S, LOAD_S, FakeBench, FakeClock, steady, unwatched, zeros

from tiny_onnx import images, tiny_detector
from yoloproof.errors import YoloproofError
from yoloproof.measurement import PROTOCOLS, Subject, benchmark, in_seconds
from yoloproof.measurement.clock import WallClock
from yoloproof.measurement.protocol import with_server
from yoloproof.measurement.serving import Server, arrivals, bracket, percentile, swept
from yoloproof.names import Runtime
from yoloproof.records import Load, ServerPlan, ServerSummary, Serving, SessionFacts, Summary
from yoloproof.runtime import SessionSpec
from yoloproof.runtime.base import Session

SPEC = SessionSpec(Runtime.ONNXRUNTIME)
SERVER = PROTOCOLS["server"]


@dataclass
class StandIn(Session):
    """Answers a query in a known time; keeps which threads opened and ran it."""

    sleep: Callable[[float], None]
    service: Callable[[], float]
    threads: set[int] = field(default_factory=lambda: {threading.get_ident()})
    closed: bool = False

    def __post_init__(self) -> None:
        self.inputs, self.outputs = (), ()
        self.facts = SessionFacts(name=Runtime.ONNXRUNTIME)

    def load(self, images: np.ndarray[Any, Any]) -> None:
        self.threads.add(threading.get_ident())

    def execute(self) -> None:
        self.sleep(self.service())

    def fetch(self) -> tuple[np.ndarray[Any, Any], ...]:
        return ()

    def close(self) -> None:
        self.closed = True


def one_server(service: Callable[[], float]) -> Server:
    """One session on a fake clock."""
    clock = FakeClock()
    return Server(
        StandIn(clock.sleep, service), SPEC, 1, lambda spec: pytest.fail("one session is enough"), zeros, clock
    )


def waits_longer(t_s: float, rate_hz: float, service_s: float) -> float:
    """Of an M/D/1 queue: the chance that a query waits longer than t (Erlang, 1909)."""
    terms = (
        (rate_hz * (k * service_s - t_s)) ** k / math.factorial(k) * math.exp(-rate_hz * (k * service_s - t_s))
        for k in range(int(t_s / service_s) + 1)
    )
    return 1 - (1 - rate_hz * service_s) * sum(terms)


def test_arrivals_are_a_poisson_process_that_the_seed_repeats() -> None:
    times = arrivals(20.0, 20_000, "7")
    gaps = [later - earlier for earlier, later in pairwise((0.0, *times))]
    assert fmean(gaps) == pytest.approx(1 / 20, rel=0.02)
    assert stdev(gaps) == pytest.approx(fmean(gaps), rel=0.02)  # of an exponential distribution both are the same
    counts = np.bincount(np.array(times, int))[:900]  # per second: mean and variance are the rate
    assert counts.mean() == pytest.approx(20, rel=0.03)
    assert counts.var() == pytest.approx(20, rel=0.15)
    assert arrivals(20.0, 50, "7") == times[:50] != arrivals(20.0, 50, "8")


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7])
def test_mean_and_tail_of_the_wait_are_those_of_an_m_d_1_queue(load: float) -> None:
    """Pollaczek and Khinchine: the mean wait is load / (2 (1 - load)) service times."""
    service_s = 0.01
    taken = one_server(lambda: service_s).load(load / service_s, 40_000, "1")
    assert fmean(taken.wait_s) == pytest.approx(load / (2 * (1 - load)) * service_s, rel=0.06)
    late = [wait > 3 * service_s for wait in taken.wait_s]
    assert fmean(late) == pytest.approx(waits_longer(3 * service_s, load / service_s, service_s), rel=0.15, abs=1e-3)
    assert [round(a - b, 4) for a, b in zip(taken.latency_s, taken.wait_s, strict=True)] == [service_s] * 40_000


def test_a_stall_is_on_the_record_of_every_query_that_arrived_meanwhile() -> None:
    """What a loop that sends the next query after the answer would show once."""
    services = iter([*[0.002] * 200, 1.0, *[0.002] * 1000])
    taken = one_server(lambda: next(services)).load(200.0, 1000, "1")
    late = [seconds for seconds in taken.latency_s if seconds > 0.1]
    assert 180 <= len(late) <= 400  # 200 arrive in that second, and some before the queue is empty again
    assert max(late) == pytest.approx(1.0, abs=0.05)


def test_the_capacity_of_sessions_in_threads_and_that_each_stays_in_its_own() -> None:
    opened: list[StandIn] = []

    def session(_: SessionSpec = SPEC) -> StandIn:
        opened.append(StandIn(time.sleep, lambda: 0.03))
        return opened[-1]

    with Server(session(), SPEC, 3, session, zeros, WallClock()) as server:
        capacity_hz = server.capacity_hz(60)
        taken = server.load(50.0, 40, "1")
    assert 0.6 * 100 < capacity_hz <= 100
    assert [len(one.threads) for one in opened] == [1, 1, 1]
    assert len(set.union(*(one.threads for one in opened))) == 3
    assert [one.closed for one in opened] == [False, True, True], "the first is its caller's"
    assert min(taken.wait_s) >= 0
    assert min(taken.latency_s) >= 0.03


@pytest.mark.parametrize("where", ["first", "second"])
def test_what_a_session_raises_comes_through_and_stops_the_others(where: str) -> None:
    answered = {"first": 0, "second": 0}

    def session(name: str) -> StandIn:
        def service() -> float:
            answered[name] += 1
            if name == where and answered[name] == 3:
                raise YoloproofError("the device is lost")
            return 0.005

        return StandIn(time.sleep, service)

    with (
        Server(session("first"), SPEC, 2, lambda spec: session("second"), zeros, WallClock()) as server,
        pytest.raises(YoloproofError, match="the device is lost"),
    ):
        server.capacity_hz(100)
    assert answered[where] == 3
    assert sum(answered.values()) < 20


def test_a_session_that_does_not_open_closes_those_before_it() -> None:
    opened: list[StandIn] = []

    def session(_: SessionSpec) -> StandIn:
        if opened:
            raise YoloproofError("no memory is left")
        opened.append(StandIn(time.sleep, lambda: 0.0))
        return opened[0]

    with pytest.raises(YoloproofError, match="no memory"):
        Server(StandIn(time.sleep, lambda: 0.0), SPEC, 3, session, zeros, WallClock())
    assert opened[0].closed


def load_of(rate_hz: float, p99_s: float) -> Load:
    return Load(rate_hz=rate_hz, seed="", latency_s=(p99_s,) * 100, wait_s=(0.0,) * 100)


@pytest.mark.parametrize(
    ("p99s", "expected"),
    [((0.1, 0.2, 0.4), (2.0, 3.0)), ((0.1, 0.4, 0.2), (1.0, 2.0)), ((0.4, 0.4, 0.4), (0.0, 1.0)), ((0.1, 0.1, 0.3), (3.0, None))],
)  # fmt: skip
def test_the_highest_rate_keeps_the_bound_as_all_lower_ones_do(
    p99s: tuple[float, ...], expected: tuple[float, float | None]
) -> None:
    loads = [load_of(rate, p99) for rate, p99 in zip((1.0, 2.0, 3.0), p99s, strict=True)]
    assert bracket(loads[::-1], 0.3) == expected


def test_the_sweep_is_shuffled_and_then_halves_towards_the_bound() -> None:
    plan = ServerPlan(sessions=1, loads=(0.2, 0.4, 0.6, 0.8, 1.0), steps=3, queries=3000)
    found = Serving(capacity_hz=100.0, p99_bound_s=0.05)
    taken: list[tuple[Load, float]] = []
    swept(one_server(lambda: 0.01), plan, found, "5", lambda load, share: taken.append((load, share)))
    rates = [load.rate_hz for load, _ in taken]
    assert sorted(rates[:5]) == [20, 40, 60, 80, 100] != rates[:5]
    kept, broken = bracket([load for load, _ in taken], 0.05)
    assert broken is not None
    assert broken - kept == pytest.approx(20 / 2**3)
    assert [share for _, share in taken] == pytest.approx([i / 8 for i in range(1, 9)])
    # where theory has it: P(wait > bound - service) = 1 %
    exact = next(rate for rate in np.arange(40, 90, 0.1) if waits_longer(0.04, rate, 0.01) > 0.01)
    assert kept == pytest.approx(exact, rel=0.12)


def test_nothing_is_halved_where_every_rate_keeps_the_bound() -> None:
    plan = ServerPlan(sessions=1, loads=(0.2, 0.4), queries=100)
    taken: list[Load] = []
    swept(
        one_server(lambda: 0.01),
        plan,
        Serving(capacity_hz=100.0, p99_bound_s=9.0),
        "5",
        lambda one, _: taken.append(one),
    )
    assert len(taken) == 2


def served(service_s: float, plan: ServerPlan, processes: int = 5) -> tuple[Summary, FakeBench]:
    bench = FakeBench({"a": steady(service_s)})
    protocol = replace(SERVER, server=plan, processes=processes)
    found = benchmark([bench.subject("a")], protocol, zeros(), executor=bench.executor, watch=unwatched, seed=3)  # type: ignore[arg-type]
    (a,) = found.measurements
    assert a.summary is not None
    assert not a.partial
    return a.summary, bench


def server_of(summary: Summary) -> ServerSummary:
    assert summary.server is not None
    return summary.server


def test_all_processes_are_asked_for_the_rates_and_the_bound_of_the_first() -> None:
    query_s = 0.1 + LOAD_S + FETCH_S
    summary, bench = served(0.1, ServerPlan(sessions=1, loads=(0.2, 0.5, 0.9)))
    found = server_of(summary)
    assert summary.median_s == pytest.approx(query_s, rel=1e-4)
    assert found.capacity_hz == pytest.approx(1 / query_s, rel=1e-3)
    assert found.p99_bound_s == pytest.approx(5 * query_s, rel=1e-3)
    assert [point.rate_hz for point in found.points] == pytest.approx(
        [share / query_s for share in (0.2, 0.5, 0.9)], rel=1e-3
    )
    assert [point.queries for point in found.points] == [500] * 3
    assert [point.p99_s for point in found.points] == sorted(point.p99_s for point in found.points)
    assert [len(job.rated) for job in bench.jobs] == [0, 1, 1, 1, 1]
    assert len(found.process_highest_hz) == 5
    assert found.interval_hz is not None
    assert found.highest_hz is not None
    assert found.interval_hz[0] <= found.highest_hz <= found.interval_hz[1]
    assert found.at_highest is not None
    assert found.at_highest.p50_s < found.at_highest.p90_s < found.at_highest.p99_s <= found.p99_bound_s


def test_a_bound_that_is_never_kept_and_one_that_always_is() -> None:
    never = server_of(served(0.1, ServerPlan(sessions=1, loads=(0.5,), p99_s=0.05))[0])
    assert (never.highest_hz, never.at_highest) == (None, None)
    assert never.process_highest_hz == (0.0,) * 5
    always = server_of(served(0.1, ServerPlan(sessions=1, loads=(0.5, 1.1), p99_s=1e3))[0])
    assert always.highest_hz == always.capacity_hz, "what arrives faster than it is served waits ever longer"
    assert always.at_highest is not None


def test_a_query_cut_short_keeps_the_loads_before_it() -> None:
    bench = FakeBench({"a": lambda number: 1 / 0 if number == 400 else 0.1})  # type: ignore[return-value]
    protocol = replace(SERVER, server=ServerPlan(sessions=1, loads=(0.5, 0.8)))
    found = benchmark([bench.subject("a")], protocol, zeros(), executor=bench.executor, watch=unwatched)  # type: ignore[arg-type]
    (a,) = found.measurements
    assert a.error == "inference failed: ZeroDivisionError: division by zero"
    assert a.partial
    assert a.summary is not None
    assert len(server_of(a.summary).points) == 2


def test_settings_of_a_server_are_of_that_protocol_alone() -> None:
    changed = with_server(SERVER, 4, 0.1).server
    assert changed is not None
    assert (changed.sessions, changed.p99_s) == (4, 0.1)
    assert with_server(PROTOCOLS["latency"], None, None) is PROTOCOLS["latency"]
    with pytest.raises(YoloproofError, match="--protocol server"):
        with_server(PROTOCOLS["latency"], 2, None)
    quick = in_seconds(SERVER).server
    assert quick is not None
    assert quick.queries < 30


def test_nearest_rank() -> None:
    assert percentile(range(1, 101), 99) == 99
    assert percentile([1.0, 2.0], 99) == 2.0


def test_two_real_sessions_of_onnx_runtime_are_served(tmp_path: Path) -> None:
    tiny = tiny_detector(tmp_path / "tiny.onnx")
    plan = ServerPlan(sessions=2, loads=(0.3, 0.6), steps=1, queries=40, seconds=0.1)
    protocol = replace(in_seconds(SERVER), server=plan, processes=2)
    subject = Subject("tiny", SessionSpec(Runtime.ONNXRUNTIME, tiny, threads=1), (32, 32))
    (a,) = benchmark([subject], protocol, images(4), watch=unwatched).measurements
    assert a.error is None
    assert [process.complete for process in a.processes] == [True, True]
    assert a.summary is not None
    found = server_of(a.summary)
    assert found.sessions == 2
    assert found.capacity_hz > 50
    rates = [[load.rate_hz for load in process.serving.loads[:2]] for process in a.processes if process.serving]
    assert sorted(rates[0]) == sorted(rates[1]) == pytest.approx([0.3 * found.capacity_hz, 0.6 * found.capacity_hz])
    for process in a.processes:
        assert process.serving is not None
        for load in process.serving.loads:
            assert len(load.latency_s) == len(load.wait_s) >= 40
            assert all(0 <= wait < latency for wait, latency in zip(load.wait_s, load.latency_s, strict=True))
