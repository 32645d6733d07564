"""What one process does, step by step, on a fake clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fake_bench import FETCH_S, LOAD_S, OPEN_S, FakeBench, steady, zeros

from yoloproof.measurement import PROTOCOLS, Protocol, Subject
from yoloproof.measurement.worker import Job

LATENCY = PROTOCOLS["latency"]


def job_of(subjects: Sequence[Subject], protocol: Protocol, process: int = 0, images: int = 3, seed: int = 7) -> Job:
    indices = range(len(subjects))
    return Job(process, dict(zip(indices, subjects, strict=True)), {i: zeros(images) for i in indices}, protocol, seed)


def of_kind(events: list[dict[str, Any]], kind: str, subject: int = 0) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind and event["subject"] == subject]


def column(events: list[dict[str, Any]], kind: str, key: str, subject: int = 0) -> list[float]:
    return [value for event in of_kind(events, kind, subject) for value in event[key]]


def runs_of_names(log: list[tuple[str, str]]) -> list[str]:
    """The subjects in the order of their turns: "aaabb" is ["a", "b"]."""
    names = [name for name, what in log if what == "execute"]
    return [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]


def test_cold_start_is_opening_and_first_inference_apart_from_all_samples() -> None:
    bench = FakeBench({"a": lambda number: 5.0 if number == 0 else 0.1})
    events = bench.events(job_of([bench.subject("a")], LATENCY))
    opened = of_kind(events, "opened")[0]
    assert opened["open_s"] == pytest.approx(OPEN_S, abs=1e-5)
    assert opened["first_inference_s"] == pytest.approx(5.0 + LOAD_S + FETCH_S, abs=1e-5)
    assert max(column(events, "warmup", "wall_s") + column(events, "samples", "wall_s")) < 0.11


def test_the_sample_is_execute_alone_and_the_transfers_stand_beside_it() -> None:
    bench = FakeBench({"a": steady(0.1)})
    events = bench.events(job_of([bench.subject("a")], LATENCY))
    samples = column(events, "samples", "wall_s")
    assert len(samples) > 30
    assert samples == pytest.approx([0.1] * len(samples), abs=1e-5)
    assert {round(seconds, 5) for seconds in column(events, "samples", "load_s")} == {LOAD_S}
    assert {round(seconds, 5) for seconds in column(events, "samples", "fetch_s")} == {FETCH_S}
    assert column(events, "samples", "device_s") == pytest.approx([0.09] * len(samples), abs=1e-5)


def test_loadgen_times_the_whole_query() -> None:
    bench = FakeBench({"a": steady(0.1)})
    protocol = replace(PROTOCOLS["loadgen"], runs=10, seconds=0)
    events = bench.events(job_of([bench.subject("a")], protocol))
    assert column(events, "samples", "wall_s") == pytest.approx([0.1 + LOAD_S + FETCH_S] * 10, abs=1e-5)


@pytest.mark.parametrize(("runs", "seconds", "expected"), [(3, 1.0, 10), (30, 1.0, 30)])
def test_warm_up_ends_by_count_and_by_time(runs: int, seconds: float, expected: int) -> None:
    bench = FakeBench({"a": steady(0.1)})
    protocol = replace(LATENCY, warmup_runs=runs, warmup_s=seconds)
    events = bench.events(job_of([bench.subject("a")], protocol))
    assert len(column(events, "warmup", "wall_s")) == expected
    kinds = [event["event"] for event in events]
    assert kinds.index("warmup") < kinds.index("samples")


@pytest.mark.parametrize(("runs", "seconds", "expected"), [(5, 2.0, 20), (50, 2.0, 50)])
def test_sampling_ends_by_count_and_by_time(runs: int, seconds: float, expected: int) -> None:
    bench = FakeBench({"a": steady(0.1)})
    events = bench.events(job_of([bench.subject("a")], replace(LATENCY, runs=runs, seconds=seconds)))
    assert len(column(events, "samples", "wall_s")) == pytest.approx(expected, abs=1)
    assert events[-1] == {"event": "complete", "subject": 0}


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
    turns = len(of_kind(events, "samples"))
    switches = [event for event in of_kind(events, "warmup") if "settled" not in event]
    assert turns == len(switches) > 3
    assert all(len(event["wall_s"]) == 1 for event in switches)


def test_without_turns_one_subject_is_warmed_up_and_timed_before_the_next() -> None:
    bench = FakeBench({"a": steady(0.1), "b": steady(0.1)})
    protocol = replace(PROTOCOLS["published"], runs=10, seconds=1.0)
    events = bench.events(job_of([bench.subject("a"), bench.subject("b")], protocol))
    order = [event["subject"] for event in events if event["event"] in ("warmup", "samples")]
    assert order in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_images_rotate_and_a_batch_wraps_around() -> None:
    bench = FakeBench({"a": steady(0.1)})
    bench.events(job_of([bench.subject("a", batch=2)], LATENCY, images=3))
    firsts = [[round(float(image.max()) * 10) for image in images] for images in bench.seen["a"][:4]]
    assert firsts == [[0, 1], [2, 0], [1, 2], [0, 1]]


def test_the_pause_of_paced_is_before_each_inference_and_in_no_sample() -> None:
    bench = FakeBench({"a": steady(0.01)})
    events = bench.events(job_of([bench.subject("a")], PROTOCOLS["paced"]))
    timed = column(events, "warmup", "wall_s") + column(events, "samples", "wall_s")
    assert max(timed) < 0.011
    assert bench.clock.sleeps == [0.2] * len(timed)


def test_an_inference_that_raises_ends_its_subject_alone_and_keeps_what_came_before() -> None:
    def failing(number: int) -> float:
        if number == 20:
            raise RuntimeError("device\nlost")
        return 0.1

    bench = FakeBench({"a": failing, "b": steady(0.1)})
    events = bench.events(job_of([bench.subject("a"), bench.subject("b")], LATENCY))
    assert of_kind(events, "failed") == [
        {"event": "failed", "subject": 0, "step": "inference", "error": "RuntimeError: device lost"}
    ]
    # 1 cold, 10 warm-ups and the first of each turn are no samples; the rest of the 20 are.
    assert 0 < len(column(events, "samples", "wall_s")) <= 9
    assert of_kind(events, "complete", 0) == []
    assert of_kind(events, "complete", 1) != []
    assert bench.log.count(("a", "close")) == 1
    assert bench.log.count(("b", "close")) == 1


def test_a_subject_that_cannot_be_opened_leaves_the_others() -> None:
    bench = FakeBench({"b": steady(0.1)})
    events = bench.events(job_of([bench.subject("a"), bench.subject("b")], LATENCY))
    assert [event["step"] for event in of_kind(events, "failed")] == ["open"]
    assert of_kind(events, "complete", 1) != []


def test_each_process_opens_another_subject_first() -> None:
    firsts = []
    for process in range(3):
        bench = FakeBench({name: steady(0.1) for name in "abc"})
        bench.events(job_of([bench.subject(name) for name in "abc"], LATENCY, process=process))
        firsts.append(bench.log[0][0])
    assert firsts == ["a", "b", "c"]


def test_sustained_warms_up_until_temperature_and_latency_stand_still() -> None:
    bench = FakeBench({"a": lambda number: 0.1 + 0.05 * min(number, 400) / 400})
    heat = {"start": bench.clock.time_s}

    def thermometer() -> dict[str, float]:
        return {"temperature_c": min(80.0, 40 + (bench.clock.time_s - heat["start"]) / 2), "clock_hz": 1.5e9}

    protocol = replace(PROTOCOLS["sustained"], seconds=5.0)
    events = bench.events(job_of([bench.subject("a")], protocol), thermometer=thermometer)
    warmed = of_kind(events, "warmup")[0]
    assert warmed["settled"] is True
    # 80 °C after 80 s, then the window of 20 s.
    assert 95 < sum(warmed["wall_s"]) < 115
    samples = column(events, "samples", "wall_s")
    assert max(samples) / min(samples) < 1.001


def test_sustained_gives_up_waiting_after_its_limit_and_says_so() -> None:
    bench = FakeBench({"a": lambda number: 0.1 * 1.003**number})
    protocol = replace(PROTOCOLS["sustained"], settle_max_s=60.0, seconds=1.0)
    events = bench.events(job_of([bench.subject("a")], protocol))
    assert of_kind(events, "warmup")[0]["settled"] is False
