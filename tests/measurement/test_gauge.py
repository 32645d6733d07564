"""A host that others slow: what was sampled then is repeated, or set aside, or warned of. On a fake host and clock."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
from fake_bench import FakeBench, FakeClock, steady, unwatched, zeros

from made_results import made_entry, made_result, made_run
from reselect import reselected
from yoloproof.intervals import LEAST_FOR_INTERVAL, median_interval
from yoloproof.measurement import PROTOCOLS, Measurement, benchmark, in_seconds, worker
from yoloproof.measurement.cpu import usable_cores
from yoloproof.measurement.gauge import END_READINGS, LOOK_EVERY_S, HostWatch, gauge_size, matrix_gauge
from yoloproof.measurement.machine import machine_facts
from yoloproof.names import TurnReason
from yoloproof.records import CpuTime, Protocol

LATENCY = PROTOCOLS["latency"]


@pytest.fixture(autouse=True)
def _nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake host's programs, not those of the machine that runs the tests."""
    monkeypatch.setattr(worker, "cpu_meter", lambda: lambda: CpuTime(own_s=1.0, wall_s=1.0))


READING_S = 0.001


@dataclass
class FakeHost:
    """Slowed during `spells` (seconds since its start): networks by 1.6, the gauge by 1.45, as was seen."""

    clock: FakeClock
    spells: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        self.start = self.clock.time_s

    def slowed(self) -> bool:
        return any(low <= self.clock.time_s - self.start < high for low, high in self.spells)

    def gauge(self) -> float:
        self.clock.time_s += 0.005
        return READING_S * (1.45 if self.slowed() else 1.0)

    def latency(self, seconds: float) -> Any:
        return lambda number: seconds * (1.6 if self.slowed() else 1.0)


def taken(*spells: tuple[float, float], names: str = "a", protocol: Protocol = LATENCY) -> list[Measurement]:
    bench = FakeBench({})
    host = FakeHost(bench.clock, spells)
    bench.latencies = {name: host.latency(0.1 + 0.1 * i) for i, name in enumerate(names)}
    bench.gauge = host.gauge
    subjects = [bench.subject(name) for name in names]
    found = benchmark(subjects, protocol, zeros(), executor=bench.executor, watch=unwatched)  # type: ignore[arg-type]
    assert found.gauge_best_s is not None
    return list(found.measurements)


def warned(measurement: Measurement) -> list[float | None]:
    return [warning.level_factor for warning in measurement.warnings if warning.code == "host_slowed"]


def figure(measurement: Measurement) -> float:
    assert measurement.summary is not None
    return measurement.summary.median_s


def test_on_a_host_of_one_speed_nothing_is_waited_for_or_set_aside() -> None:
    (a,) = taken()
    assert figure(a) == pytest.approx(0.1, abs=1e-5)
    assert [len(p.gauge_s) for p in a.processes] == [len(p.turns) for p in a.processes]
    assert not a.set_aside
    assert not any(p.set_aside.samples_s for p in a.processes)
    assert warned(a) == []


def test_turns_in_a_slowed_spell_are_taken_again_and_kept_aside() -> None:
    (a,) = taken((9.3, 16.0))
    assert max(s for p in a.processes for s in p.samples_s) < 0.11
    aside = [s for p in a.processes for s in p.set_aside.samples_s]
    assert aside
    assert max(aside) > 0.15
    for process in a.processes:
        counts = {
            len(column) for column in (process.samples_s, process.load_s, process.fetch_s, process.device_s or ())
        }
        kept = [turn for turn in process.turns if turn.kept]
        assert counts == {sum(turn.count for turn in kept)}
        assert len(process.gauge_s) == len(kept)
        repeated = [turn for turn in process.turns if not turn.kept]
        columns = process.set_aside.samples_s, process.set_aside.load_s, process.set_aside.fetch_s
        assert {len(column) for column in columns} == {sum(turn.count for turn in repeated)}
        starts = [turn.start_s for turn in process.turns if turn.start_s is not None]
        assert len(starts) == len(process.turns)
        assert starts == sorted(starts)
        assert {turn.reason for turn in kept} == {TurnReason.UNDISTURBED}
        assert {turn.reason for turn in repeated} <= {TurnReason.SLOWED}
        assert process.complete
        assert sum(process.samples_s) >= LATENCY.seconds * 0.9
    assert warned(a) == [1.0]
    assert not a.set_aside
    assert not a.partial


def test_processes_from_before_the_host_was_itself_are_set_aside_and_replaced() -> None:
    """Slow from the start, so that nothing faster is known: seen only when the spell ends."""
    a, b = taken((0.0, 25.0), names="ab")
    assert figure(a) == pytest.approx(0.1, abs=1e-5)
    assert figure(b) == pytest.approx(0.2, abs=1e-5)
    assert len(a.processes) == LATENCY.processes
    aside = [p.process for p in a.set_aside]
    assert aside == [p.process for p in b.set_aside] == list(range(len(aside)))
    assert aside
    assert min(s for p in a.set_aside for s in p.samples_s) > 0.15
    assert [p.process for p in a.processes] == [p.process for p in b.processes]
    assert all(p.samples_s for p in a.set_aside)
    assert {t.reason for p in a.set_aside for t in p.turns} == {TurnReason.PROCESS_SET_ASIDE}
    assert {t.reason for p in a.processes for t in p.turns} == {TurnReason.UNDISTURBED}
    assert warned(a) == warned(b) == [1.0]
    assert not a.partial


def on_a_host(
    *spells: tuple[float, float], before_s: float = 0.0, **changes: Any
) -> tuple[Measurement, FakeBench, float]:
    """A run of one row that began `before_s` ago, on the host's clock; and how long it took in all."""
    bench = FakeBench({})
    host = FakeHost(bench.clock, spells)
    bench.latencies, bench.gauge = {"a": host.latency(0.1)}, host.gauge
    began_s = bench.clock.time_s
    bench.clock.time_s += before_s
    found = benchmark(
        [bench.subject("a")], replace(LATENCY, **changes), zeros(), executor=bench.executor, watch=unwatched,  # type: ignore[arg-type]
        clock=bench.clock, began_s=began_s,
    )  # fmt: skip
    return found.measurements[0], bench, bench.clock.time_s - began_s


def test_a_host_that_stays_slowed_ends_the_waiting_and_the_figure_says_so() -> None:
    a, _, _ = on_a_host((20.0, 1e9), row_max_s=0.0)
    assert len(a.processes) == 2 * LATENCY.processes  # twice as many were tried, and all count
    assert not a.set_aside
    (factor,) = warned(a)
    assert factor == pytest.approx(1.45, abs=0.01)
    assert not a.partial
    turns = [turn for process in a.processes for turn in process.turns]
    limit_s = LATENCY.gauge_limit * READING_S
    assert {TurnReason.TIME_UP} == {t.reason for t in turns if t.kept and t.gauge_s is not None and t.gauge_s > limit_s}
    waited_s = sum(turn.waited_s or 0.0 for turn in turns)
    assert LATENCY.wait_max_s - 2 * LATENCY.turn_s < waited_s < LATENCY.wait_max_s + 2 * LOOK_EVERY_S
    assert [turn.waited_s for turn in a.processes[0].turns] == [0.0] * len(a.processes[0].turns)


NEVER_QUIET = {
    "slowed after the first process": ((8.0, 1e9),),
    "slowed after the fifth": ((42.0, 1e9),),
    "slowed every other second": tuple((float(at), at + 1.0) for at in range(1, 600, 2)),
    "slowed nine seconds of ten": tuple((float(at), at + 9.0) for at in range(1, 600, 10)),
}


@pytest.mark.parametrize("before_s", [0.0, 40.0])
@pytest.mark.parametrize("spells", NEVER_QUIET.values(), ids=NEVER_QUIET)
def test_one_row_ends_in_two_minutes_on_a_host_that_is_never_quiet(
    spells: tuple[tuple[float, float], ...], before_s: float
) -> None:
    a, _, took_s = on_a_host(*((low + before_s, high + before_s) for low, high in spells), before_s=before_s)
    assert LATENCY.row_max_s < 120
    assert took_s <= LATENCY.row_max_s
    assert sum(p.complete for p in (*a.processes, *a.set_aside)) >= LATENCY.processes
    assert not a.partial
    assert warned(a)


def test_programs_that_are_seen_and_slow_the_products_too_are_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = machine_facts().cpu.logical_cores or 1
    cpu = CpuTime(own_s=1.0, others_s=0.2 * cores, wall_s=1.0)
    monkeypatch.setattr(worker, "cpu_meter", lambda: lambda: cpu)
    a, _, _ = on_a_host((20.0, 1e9))
    (warning,) = [one for one in a.warnings if one.code in ("host_slowed", "noisy_neighbour", "partial")]
    assert warning.code == "noisy_neighbour"
    assert re.search(
        r"cores busy while this was timed, and fixed matrix products took up to 1\.45 times", warning.evidence
    )
    assert warning.level_factor == pytest.approx(1.45, abs=0.01)  # more than the 1 / 0.8 of the cores alone


@pytest.mark.parametrize(("others_s", "expected"), [(0.4, 6), (0.6, 1)])
def test_a_late_run_on_a_host_that_others_hold_leaves_processes_out_and_says_so(
    monkeypatch: pytest.MonkeyPatch, others_s: float, expected: int
) -> None:
    cores = machine_facts().cpu.logical_cores or 1
    cpu = CpuTime(own_s=1.0, others_s=others_s * cores, wall_s=1.0)
    monkeypatch.setattr(worker, "cpu_meter", lambda: lambda: cpu)
    a, _, took_s = on_a_host(before_s=105.0)
    assert sum(p.complete for p in a.processes) == expected
    assert a.partial is (expected < LATENCY.processes)
    evidence = [warning.evidence for warning in a.warnings if warning.code == "partial"]
    if a.partial:
        assert took_s < 120
        assert evidence == ["1 of 6 processes fit in 110 s a row beside other programs"]
    else:
        assert not evidence


def test_late_means_no_waiting_and_no_repeating_but_all_that_was_planned() -> None:
    a, bench, _ = on_a_host((205.0, 1e9), before_s=200.0)
    assert [job.wait_s for job in bench.jobs] == [0.0] * LATENCY.processes
    assert len(a.processes) == LATENCY.processes
    assert not any(p.set_aside.samples_s for p in a.processes)


def test_more_rows_have_more_time() -> None:
    bench = FakeBench({name: steady(0.1) for name in "ab"})
    bench.gauge = lambda: READING_S
    subjects = [bench.subject(name) for name in "ab"]
    benchmark(
        subjects, LATENCY, zeros(), executor=bench.executor, watch=unwatched, clock=bench.clock,  # type: ignore[arg-type]
        began_s=bench.clock.time_s - 100,
    )  # fmt: skip
    assert bench.jobs[0].wait_s > 0


def test_waiting_and_repeating_are_said_while_they_last() -> None:
    bench = FakeBench({})
    host = FakeHost(bench.clock, ((20.0, 60.0),))
    bench.latencies, bench.gauge = {"a": host.latency(0.1)}, host.gauge
    said: list[str] = []
    benchmark(
        [bench.subject("a")], LATENCY, zeros(), executor=bench.executor, watch=unwatched,  # type: ignore[arg-type]
        progress=lambda what, _: said.append(what),
    )  # fmt: skip
    waits = [
        float(found[1]) for what in said if (found := re.search(r"waiting for the host \((\d+) of (\d+) s\)", what))
    ]
    assert waits == sorted(waits)
    assert waits[-1] > 10
    assert max(waits) <= LATENCY.row_max_s - LATENCY.processes * LATENCY.seconds


@pytest.mark.parametrize("spells", [*NEVER_QUIET.values(), ((0.0, 25.0),)], ids=[*NEVER_QUIET, "slowed at first"])
def test_the_file_alone_gives_the_figure_again(spells: tuple[tuple[float, float], ...]) -> None:
    a, _, _ = on_a_host(*spells)
    row = replace(made_entry(processes=0), processes=a.processes, processes_set_aside=a.set_aside)
    run = replace(made_run(), protocol=LATENCY, gauge_best_s=READING_S)
    (found,) = reselected(made_result([row], run))
    assert found is not None
    assert a.summary is not None
    assert found.process_medians_s == a.summary.process_medians_s
    assert (found.samples, found.p90_s, found.p90_as_it_came_s) == (
        a.summary.samples, a.summary.p90_s, a.summary.p90_as_it_came_s
    )  # fmt: skip


def test_the_waiting_of_a_whole_run_is_bounded() -> None:
    bench = FakeBench({})
    host = FakeHost(bench.clock, ((20.0, 1e9),))
    bench.latencies, bench.gauge = {"a": host.latency(0.1)}, host.gauge
    started = bench.clock.time_s
    protocol = replace(LATENCY, wait_max_s=30.0)
    benchmark([bench.subject("a")], protocol, zeros(), executor=bench.executor, watch=unwatched)  # type: ignore[arg-type]
    working = 2 * LATENCY.processes * (LATENCY.seconds + LATENCY.warmup_s + 4)
    assert bench.clock.time_s - started < 30 + working


@pytest.mark.parametrize("name", ["sustained", "paced", "published", "single-stream-style"])
def test_a_protocol_that_does_not_wait_reads_the_gauge_at_the_ends_of_each_process(name: str) -> None:
    """Several at either end: one that a busy host leaves alone is enough. The slow ones judge and repeat nothing."""
    bench = FakeBench({"a": steady(0.1)})
    readings = iter([1.5] * (12 * END_READINGS - 1) + [1.0])
    bench.gauge = lambda: next(readings)
    protocol = replace(PROTOCOLS[name], settle_max_s=0.0, processes=6, seconds=1.0)
    found = benchmark([bench.subject("a")], protocol, zeros(), executor=bench.executor, watch=unwatched)  # type: ignore[arg-type]
    assert found.gauge_best_s == 1.0, "the last reading of the last process"
    assert not list(readings), "at the beginning and the end of each of six processes"
    (a,) = found.measurements
    assert len(a.processes) == 6
    assert warned(a) == []
    assert not a.set_aside
    assert {(turn.gauge_s, turn.waited_s, turn.reason) for p in a.processes for turn in p.turns} == {(None, None, None)}


def test_latency_alone_waits_and_quick_does_not() -> None:
    assert in_seconds(LATENCY).wait_max_s == 0
    assert {name for name, protocol in PROTOCOLS.items() if protocol.wait_max_s} == {"latency"}


def test_a_watch_waits_only_while_it_may() -> None:
    clock = FakeClock()
    readings = iter([1.0, 2.0, 2.0, 1.0, *[2.0] * 99])
    watch = HostWatch(lambda: next(readings), clock, None, 2.0, limit=1.2, rest_s=0.03)
    assert watch.wait() == 1.0  # the first reading is the best there is
    assert watch.wait_s == 2.0
    assert watch.wait() == 1.0  # after two slow ones
    assert clock.sleeps.count(LOOK_EVERY_S) == 2
    assert 0 < watch.wait_s < 2.0
    assert watch.wait() == 2.0
    assert watch.wait_s <= 0
    assert watch.slowed(1.21)
    assert not watch.slowed(1.19)


def test_an_interval_needs_as_many_processes_as_are_left_at_least() -> None:
    assert median_interval(list(range(1, LEAST_FOR_INTERVAL + 1))) is not None
    assert median_interval(list(range(1, LEAST_FOR_INTERVAL))) is None


def test_the_gauge_reads_a_fixed_work_in_milliseconds() -> None:
    gauge = matrix_gauge(usable_cores(machine_facts().cpu))
    readings = [gauge() for _ in range(5)]
    assert 0 < min(readings) < 0.5


def test_a_reading_ends_early_where_other_programs_hold_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    now, products = [0.0], [0]

    def slow(*_: object, **__: object) -> None:
        products[0] += 1
        now[0] += 0.02

    monkeypatch.setattr("yoloproof.measurement.gauge.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("yoloproof.measurement.gauge.np.matmul", slow)
    gauge = matrix_gauge(2)
    products[0] = 0
    assert gauge() == pytest.approx(0.02)
    assert products[0] == 6, "three of each size, not 34"


def test_the_gauges_work_grows_with_the_cores_that_may_be_used() -> None:
    assert gauge_size(1) < gauge_size(2) == 512 < gauge_size(64)
    assert gauge_size(64) ** 3 / 64 == pytest.approx(512**3 / 2, rel=0.1)  # as much for each core


def test_a_job_without_a_gauge_is_taken_as_it_comes() -> None:
    bench = FakeBench({"a": steady(0.1)})
    found = benchmark([bench.subject("a")], LATENCY, zeros(), executor=bench.executor, watch=unwatched)  # type: ignore[arg-type]
    (a,) = found.measurements
    assert found.gauge_best_s is None
    assert not any(p.gauge_s for p in a.processes)
    assert warned(a) == []
