"""What one process does, step by step, on a fake clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from fake_bench import FETCH_S, LOAD_S, OPEN_S, FakeBench, steady, zeros

from yoloproof.measurement import PROTOCOLS, Subject
from yoloproof.measurement.events import (
    Completed,
    Ended,
    Event,
    Failed,
    Gauged,
    Opened,
    Sampled,
    Started,
    TurnBegan,
    Waiting,
    WarmedUp,
    Watched,
    line_from_event,
)
from yoloproof.measurement.processes import event_from_line
from yoloproof.measurement.settling import Heat
from yoloproof.measurement.worker import WorkerJob
from yoloproof.names import Runtime, TurnReason
from yoloproof.records import CpuTime, Protocol, SessionFacts, Timer

LATENCY = PROTOCOLS["latency"]


Kind = TypeVar("Kind")


def job_of(
    subjects: Sequence[Subject], protocol: Protocol, process: int = 0, images: int = 3, seed: int = 7
) -> WorkerJob:
    indices = range(len(subjects))
    return WorkerJob(
        process,
        dict(zip(indices, subjects, strict=True)),
        {i: zeros(images) for i in indices},
        replace(protocol, seed=seed),
    )


def of_kind(events: list[Event], kind: type[Kind], subject: int = 0) -> list[Kind]:
    return [
        event
        for event in events
        if isinstance(event, kind) and not isinstance(event, Started | Ended | Gauged) and event.subject == subject
    ]


def samples(events: list[Event], subject: int = 0) -> list[float]:
    return [value for event in of_kind(events, Sampled, subject) for value in event.wall_s]


def warm_ups(events: list[Event], subject: int = 0) -> list[float]:
    return [value for event in of_kind(events, WarmedUp, subject) for value in event.wall_s]


def runs_of_names(log: list[tuple[str, str]]) -> list[str]:
    """The subjects in the order of their turns: "aaabb" is ["a", "b"]."""
    names = [name for name, what in log if what == "execute"]
    return [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]


def test_times_are_kept_to_the_nanosecond() -> None:
    bench = FakeBench({"a": lambda number: 1 / 3})
    events = bench.events(job_of([bench.subject("a")], LATENCY))
    sampled = of_kind(events, Sampled)
    kept = [*warm_ups(events), *samples(events), *(t for event in sampled for t in (*event.load_s, *event.fetch_s))]
    assert samples(events)[0] == pytest.approx(1 / 3, abs=1e-5)
    assert all(len(f"{value!r}".partition(".")[2]) <= 9 for value in kept)


def test_cold_start_is_opening_and_first_inference_apart_from_all_samples() -> None:
    bench = FakeBench({"a": lambda number: 5.0 if number == 0 else 0.1})
    events = bench.events(job_of([bench.subject("a")], LATENCY))
    opened = of_kind(events, Opened)[0]
    assert opened.open_s == pytest.approx(OPEN_S, abs=1e-5)
    assert opened.first_inference_s == pytest.approx(5.0 + LOAD_S + FETCH_S, abs=1e-5)
    assert max(warm_ups(events) + samples(events)) < 0.11


@pytest.mark.parametrize(("rows", "never"), [(1, 0), (4, 0), (6, 0), (7, 1)])
def test_each_row_is_opened_first_in_one_of_six_processes_unless_there_are_more_rows(rows: int, never: int) -> None:
    bench = FakeBench({f"{i}": steady(0.1) for i in range(rows)})
    subjects = [bench.subject(name) for name in bench.latencies]
    protocol = replace(LATENCY, seconds=0, runs=1, warmup_runs=0, warmup_s=0)
    runs = [bench.events(job_of(subjects, protocol, process)) for process in range(LATENCY.processes)]
    first = [[e.subject for e in events if isinstance(e, Opened) and e.opened_after == 0] for events in runs]
    assert all(len(opened) == 1 for opened in first)
    assert rows - len({opened[0] for opened in first}) == never


def test_a_row_that_follows_one_that_could_not_be_opened_was_not_opened_first() -> None:
    """It finds the libraries loaded all the same."""

    def refused(number: int) -> float:
        raise RuntimeError("another GPU's")

    bench = FakeBench({"a": refused, "b": steady(0.1)})
    events = bench.events(job_of([bench.subject("a"), bench.subject("b")], LATENCY))
    assert [event.opened_after for event in of_kind(events, Opened, 1)] == [1]


def test_the_sample_is_execute_alone_and_the_transfers_stand_beside_it() -> None:
    bench = FakeBench({"a": steady(0.1)})
    events = bench.events(job_of([bench.subject("a")], LATENCY))
    taken = samples(events)
    assert len(taken) > 30
    assert taken == pytest.approx([0.1] * len(taken), abs=1e-5)
    stretches = of_kind(events, Sampled)
    assert {round(seconds, 5) for event in stretches for seconds in event.load_s} == {LOAD_S}
    assert {round(seconds, 5) for event in stretches for seconds in event.fetch_s} == {FETCH_S}
    device = [seconds for event in stretches for seconds in event.device_s or ()]
    assert device == pytest.approx([0.09] * len(taken), abs=1e-5)


def test_single_stream_style_times_the_whole_query() -> None:
    bench = FakeBench({"a": steady(0.1)})
    protocol = replace(PROTOCOLS["single-stream-style"], runs=10, seconds=0)
    events = bench.events(job_of([bench.subject("a")], protocol))
    assert samples(events) == pytest.approx([0.1 + LOAD_S + FETCH_S] * 10, abs=1e-5)


@pytest.mark.parametrize(("runs", "seconds", "expected"), [(3, 1.0, 10), (30, 1.0, 30)])
def test_warm_up_ends_by_count_and_by_time(runs: int, seconds: float, expected: int) -> None:
    bench = FakeBench({"a": steady(0.1)})
    protocol = replace(LATENCY, warmup_runs=runs, warmup_s=seconds)
    events = bench.events(job_of([bench.subject("a")], protocol))
    assert len(warm_ups(events)) == expected
    kinds = [type(event) for event in events]
    assert kinds.index(WarmedUp) < kinds.index(Sampled)


@pytest.mark.parametrize(("runs", "seconds", "expected"), [(5, 2.0, 20), (50, 2.0, 50)])
def test_sampling_ends_by_count_and_by_time(runs: int, seconds: float, expected: int) -> None:
    bench = FakeBench({"a": steady(0.1)})
    events = bench.events(job_of([bench.subject("a")], replace(LATENCY, runs=runs, seconds=seconds)))
    assert len(samples(events)) == pytest.approx(expected, abs=1)
    assert events[-1] == Completed(0)


def test_subjects_take_short_turns_in_an_order_that_the_seed_decides() -> None:
    def turns(seed: int) -> list[str]:
        bench = FakeBench({"a": steady(0.1), "b": steady(0.2)})
        job = job_of([bench.subject("a"), bench.subject("b")], LATENCY, seed=seed)
        bench.events(job)
        return runs_of_names(bench.log)

    assert turns(1) == turns(1)
    assert len({tuple(turns(seed)) for seed in range(8)}) > 1
    assert len(turns(1)) >= 8


def test_the_first_inference_after_a_switch_is_a_warm_up() -> None:
    bench = FakeBench({"a": steady(0.1), "b": steady(0.1)})
    events = bench.events(job_of([bench.subject("a"), bench.subject("b")], LATENCY))
    turns = len(of_kind(events, Sampled))
    _, *switches = of_kind(events, WarmedUp)
    assert turns == len(switches) > 3
    assert all(len(event.wall_s) == 1 for event in switches)


def test_without_turns_one_subject_is_warmed_up_and_timed_before_the_next() -> None:
    bench = FakeBench({"a": steady(0.1), "b": steady(0.1)})
    protocol = replace(PROTOCOLS["published"], runs=10, seconds=1.0)
    events = bench.events(job_of([bench.subject("a"), bench.subject("b")], protocol))
    order = [event.subject for event in events if isinstance(event, WarmedUp | Sampled)]
    assert order in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_images_rotate_and_a_batch_wraps_around() -> None:
    bench = FakeBench({"a": steady(0.1)})
    bench.events(job_of([bench.subject("a", batch=2)], LATENCY, images=3))
    firsts = [[round(float(image.max()) * 10) for image in images] for images in bench.seen["a"][:4]]
    assert firsts == [[0, 1], [2, 0], [1, 2], [0, 1]]


def test_the_pause_of_paced_is_before_each_inference_and_in_no_sample() -> None:
    bench = FakeBench({"a": steady(0.01)})
    events = bench.events(job_of([bench.subject("a")], PROTOCOLS["paced"]))
    timed = warm_ups(events) + samples(events)
    assert max(timed) < 0.011
    assert bench.clock.sleeps == [0.2] * len(timed)


def test_an_inference_that_raises_ends_its_subject_alone_and_keeps_what_came_before() -> None:
    def failing(number: int) -> float:
        if number == 20:
            raise RuntimeError("device\nlost")
        return 0.1

    bench = FakeBench({"a": failing, "b": steady(0.1)})
    events = bench.events(job_of([bench.subject("a"), bench.subject("b")], LATENCY))
    assert of_kind(events, Failed) == [Failed(0, "inference", "RuntimeError: device lost")]
    # 1 cold, 10 warm-ups and the first of each turn are no samples; the rest of the 20 are.
    assert 0 < len(samples(events)) <= 9
    assert of_kind(events, Completed, 0) == []
    assert of_kind(events, Completed, 1) != []
    assert bench.log.count(("a", "close")) == 1
    assert bench.log.count(("b", "close")) == 1


def test_a_subject_that_cannot_be_opened_leaves_the_others() -> None:
    bench = FakeBench({"b": steady(0.1)})
    events = bench.events(job_of([bench.subject("a"), bench.subject("b")], LATENCY))
    assert [event.step for event in of_kind(events, Failed)] == ["open"]
    assert of_kind(events, Completed, 1) != []


def test_each_process_opens_another_subject_first() -> None:
    firsts = []
    for process in range(3):
        bench = FakeBench({name: steady(0.1) for name in "abc"})
        bench.events(job_of([bench.subject(name) for name in "abc"], LATENCY, process=process))
        firsts.append(bench.log[0][0])
    assert firsts == ["a", "b", "c"]


def test_sustained_warms_up_until_temperature_and_latency_stand_still() -> None:
    bench = FakeBench({"a": lambda number: 0.1 + 0.05 * min(number, 400) / 400})
    start = bench.clock.time_s

    def thermometer() -> Heat:
        return Heat(min(80.0, 40 + (bench.clock.time_s - start) / 2), 1.5e9)

    protocol = replace(PROTOCOLS["sustained"], seconds=5.0)
    events = bench.events(job_of([bench.subject("a")], protocol), thermometer=thermometer)
    warmed = of_kind(events, WarmedUp)[0]
    assert warmed.settled is True
    # 80 °C after 80 s, then the window of 20 s.
    assert 95 < sum(warmed.wall_s) < 115
    taken = samples(events)
    assert max(taken) / min(taken) < 1.001


def test_sustained_gives_up_waiting_after_its_limit_and_says_so() -> None:
    bench = FakeBench({"a": lambda number: 0.1 * 1.003**number})
    protocol = replace(PROTOCOLS["sustained"], settle_max_s=60.0, seconds=1.0)
    events = bench.events(job_of([bench.subject("a")], protocol))
    assert of_kind(events, WarmedUp)[0].settled is False


def test_an_event_goes_through_the_pipe_as_it_is() -> None:
    facts = SessionFacts(name=Runtime.OPENVINO, version="2026.1", threads=2, filled_inputs={"size": "[[64, 32]]"})
    for event in (
        Started(Timer(1e-9, 2e-8), 100.5),
        TurnBegan(0, "open"),
        Waiting(0, 1.5),
        Opened(1, 0.5, 0.25, 2, facts, 10**8, None),
        WarmedUp(0, (0.1, 0.2)),
        WarmedUp(0, (0.1,), settled=False),
        Sampled(1, 2.5, 0.5, True, (0.1,), (0.01,), (0.02,), None, CpuTime(1.0, 0.5, 2.0)),
        Sampled(1, 3.5, 1.0, False, (0.1,), (0.01,), (0.02,), (0.09,), CpuTime(), 0.5),
        Watched(0, 0.002, 0.003, 0.001, 3.0, 0.5, TurnReason.SLOWED),
        Gauged(0.001),
        Completed(0),
        Failed(0, "open", "KeyError: 'ä'"),
        Ended(),
    ):
        assert event_from_line(line_from_event(event)) == event
    with pytest.raises(KeyError):
        event_from_line('{"event": "Exploded"}')
