"""Each warning where it belongs, and none on a quiet run."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from yoloproof.measurement import PROTOCOLS
from yoloproof.measurement.stability import bimodal, drift, machine_warnings, slow_start, subject_warnings
from yoloproof.measurement.statistics import summarize
from yoloproof.names import Runtime
from yoloproof.records import (
    Battery,
    Cpu,
    CpuTime,
    Gpu,
    Machine,
    MachineAfter,
    Process,
    Protocol,
    Reading,
    RunWarning,
    Timer,
)

LATENCY = PROTOCOLS["latency"]


def noise(seed: int, n: int = 40, spread: float = 0.005) -> np.ndarray[Any, Any]:
    """Latencies around 0.1 s with a tail of slow ones, as real ones have."""
    random = np.random.default_rng(seed)
    return 0.1 * np.exp(spread * random.standard_normal(n)) + 0.0002 * random.pareto(2, n)


def codes(columns: list[np.ndarray[Any, Any]], protocol: Protocol = LATENCY, **settings: Any) -> set[str]:
    processes = [Process(process=i, samples_s=tuple(c), complete=True, **settings) for i, c in enumerate(columns)]
    return {w.code for w in warnings_of(processes, protocol)}


def warnings_of(processes: list[Process], protocol: Protocol = LATENCY, **settings: Any) -> list[RunWarning]:
    return subject_warnings(
        processes,
        summarize(processes, protocol, 1, Runtime.ONNXRUNTIME),
        protocol,
        None,
        timed=protocol.timed,
        **settings,
    )


def test_a_quiet_run_has_no_warnings() -> None:
    clean = [codes([noise(10 * run + p) for p in range(6)]) for run in range(60)]
    assert sum(bool(found) for found in clean) <= 1


@pytest.mark.parametrize("check", [slow_start, drift, bimodal])
def test_noise_alone_rarely_shows_a_pattern(check: Any) -> None:
    wide = sum(check(noise(seed, n=60, spread=0.03)) is not None for seed in range(300))
    assert wide / 300 <= 0.06


def test_slow_start_drift_and_two_speeds_are_seen() -> None:
    slow = [noise(p) * np.where(np.arange(40) < 4, 1.2, 1) for p in range(6)]
    warming = [noise(p) * np.linspace(1, 1.15, 40) for p in range(6)]
    two = [noise(p) * np.where(np.random.default_rng(p).random(40) < 0.4, 1.3, 1) for p in range(6)]
    assert codes(slow) == {"slow_start"}
    assert "drift" in codes(warming)
    assert codes(two) == {"bimodal"}


def test_one_process_of_six_with_a_pattern_is_chance() -> None:
    assert codes([noise(0) * np.linspace(1, 1.15, 40), *[noise(p) for p in range(1, 6)]]) <= {"processes_differ"}


def test_processes_that_move_both_ways_are_no_drift() -> None:
    """Seen on an H200 and said to be "one direction, in 5 of 6 processes"."""

    def moving(*shares: float) -> list[RunWarning]:
        columns = [noise(p, spread=0.002) * np.linspace(1, 1 + 1.3 * share, 40) for p, share in enumerate(shares)]
        processes = [Process(process=p, samples_s=tuple(column), complete=True) for p, column in enumerate(columns)]
        return [warning for warning in warnings_of(processes) if warning.code == "drift"]

    assert not moving(0.031, 0.043, 0.032, -0.044, -0.005, -0.033)
    assert not moving(0.05, 0.05, 0.05, 0.05, 0.05, -0.05)
    (up,), (down,) = moving(0.05, 0.05, 0.05, 0.05, 0.0, 0.0), moving(-0.05, -0.05, -0.05, -0.05, 0.0, -0.005)
    assert re.search(r"latency rises by [45]\.\d% in 4 of 6 processes, the other way in none", up.evidence)
    assert re.search(r"latency falls by [45]\.\d% in 4 of 6 processes", down.evidence)


def test_processes_that_differ_more_than_their_samples() -> None:
    assert codes([noise(p) * (1 + 0.05 * (3 * p % 7)) for p in range(6)]) == {"processes_differ"}


def test_a_neighbour_a_coarse_timer_and_restlessness_are_told() -> None:
    columns = [noise(p) for p in range(6)]
    assert codes(columns, cpu=CpuTime(wall_s=4.0, own_s=8.0, others_s=3.0)) == {"noisy_neighbour"}
    assert codes(columns, cpu=CpuTime(wall_s=4.0, own_s=8.0, others_s=0.1)) == set()
    assert codes(columns, timer=Timer(step_s=0.0156, cost_s=1e-7)) == {"timer_too_coarse"}
    assert codes(columns, settled=False) == {"not_settled"}


def test_a_neighbour_is_held_against_the_cores_of_the_host_not_ours() -> None:
    """20 of 64 cores busy, of which we may use two, is no impossible "20.0 of 2 cores"."""
    cpu = CpuTime(wall_s=4.0, own_s=8.0, others_s=80.0)
    processes = [Process(process=p, samples_s=tuple(noise(p)), complete=True, cpu=cpu) for p in range(6)]
    (warning,) = warnings_of(processes, cores=64.0)
    assert warning.evidence == "other programs kept 20.0 of 64 cores busy while this was timed"
    assert warning.level_factor == pytest.approx(64 / 44)


@pytest.mark.parametrize(
    ("usable", "others_s", "warned"), [(2, 0.9, True), (2, 0.7, False), (16, 1.2, False), (16, 7.0, True)]
)
def test_a_neighbour_counts_from_a_tenth_of_the_cores_that_we_may_use(
    usable: float, others_s: float, warned: bool
) -> None:
    """0.3 of 16 cores is nobody's concern, 0.22 of two is."""
    cpu = CpuTime(wall_s=4.0, own_s=8.0, others_s=others_s)
    processes = [Process(process=p, samples_s=tuple(noise(p)), complete=True, cpu=cpu) for p in range(6)]
    codes = [warning.code for warning in warnings_of(processes, cores=usable, usable_cores=usable)]
    assert codes == (["noisy_neighbour"] if warned else [])


def test_who_runs_a_cuda_graph_already_is_not_advised_to_use_one() -> None:
    processes = [Process(process=p, samples_s=tuple(noise(p)), complete=True, device_s=(0.05,) * 40) for p in range(6)]
    (launched,), (captured,) = (warnings_of(processes, cuda_graph=graph) for graph in (False, True))
    assert launched.advice.startswith("use a CUDA graph or a faster CPU;")
    assert captured.advice.startswith("use a faster CPU;")


def test_a_wall_clock_far_above_the_devices_own_is_explained() -> None:
    columns = [noise(p) for p in range(6)]
    assert codes(columns, device_s=(0.05,) * 40) == {"host_bound"}
    assert codes(columns, device_s=(0.098,) * 40) == set()
    assert codes(columns, device_s=(0.12,) * 40) == {"clocks_disagree"}


def test_a_query_with_its_transfers_is_not_held_against_the_device_alone() -> None:
    """Under single-stream-style a sample is load + execute + fetch: 0.1 s, of which the device worked 0.06."""
    transfers = {"load_s": (0.03,) * 40, "fetch_s": (0.01,) * 40}
    assert "host_bound" not in codes([noise(0)], PROTOCOLS["single-stream-style"], device_s=(0.06,) * 40, **transfers)
    assert "host_bound" in codes([noise(0)], PROTOCOLS["single-stream-style"], device_s=(0.04,) * 40, **transfers)


def test_a_machine_that_slows_from_process_to_process_drifts() -> None:
    warming = [noise(p) * (1 + 0.008 * p) for p in range(6)]
    assert codes(warming) == {"drift"}
    false = [codes([noise(100 * run + p) * level for p, level in enumerate(levels)])
             for run, levels in enumerate(np.random.default_rng(0).normal(1, 0.015, (100, 6)))]  # fmt: skip
    assert sum("drift" in found for found in false) <= 6


def test_all_zero_images_are_told_under_every_protocol() -> None:
    processes = [Process(process=p, samples_s=tuple(noise(p)), complete=True) for p in range(6)]
    assert [w.code for w in warnings_of(processes, zero_input=True)] == ["zero_input"]


def test_a_warning_says_how_far_it_may_have_moved_the_level() -> None:
    """1 of 4 cores taken: another run may have the whole and be 4/3 as fast. All taken: nobody knows."""

    def factor(others_s: float, cores: float) -> float | None:
        cpu = CpuTime(wall_s=4.0, own_s=4.0, others_s=others_s)
        processes = [Process(process=p, samples_s=tuple(noise(p)), complete=True, cpu=cpu) for p in range(6)]
        (warning,) = warnings_of(processes, cores=cores)
        return warning.level_factor

    assert factor(4.0, 4) == pytest.approx(4 / 3)
    assert factor(8.0, 2) is None
    (moved,) = machine_warnings(machine(during=(reading(1.5e9), reading(1.2e9))))
    assert moved.level_factor == pytest.approx(1.25)


def test_every_warning_says_what_was_seen_and_what_to_do() -> None:
    processes = [Process(process=0, samples_s=(0.1,) * 5)]
    found = subject_warnings(
        processes, summarize(processes, LATENCY, 1, Runtime.ONNXRUNTIME), LATENCY, "inference failed: x"
    )
    assert {w.code for w in found} == {"failed", "too_few_processes"}
    assert all(w.evidence and w.advice for w in found)


def machine(**changes: Any) -> Machine:
    return Machine(**{"cpu": Cpu(), **changes})


def reading(clock_hz: float, *reasons: str, utilization: float = 0.9) -> Reading:
    return Reading(at_s=0.0, sm_clock_hz=clock_hz, throttle_reasons=reasons, utilization=utilization)


def cpu_reading(clock_hz: float, busy: float = 0.9) -> Reading:
    return Reading(at_s=0.0, cpu_clock_hz=clock_hz, cpu_busy_share=busy)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"cpu": Cpu(governor="performance")}, []),
        ({"cpu": Cpu(governor="powersave")}, ["governor"]),
        ({"battery": Battery(plugged=False, share=0.5)}, ["battery"]),
        ({"battery": Battery(plugged=True, share=0.5)}, []),
        ({"gpu": Gpu(other_processes=2)}, ["gpu_processes"]),
        ({"gpu": Gpu(other_processes=0)}, []),
        ({"during": (reading(1.5e9, "sw_power_cap"), reading(1.5e9))}, ["throttled"]),
        ({"during": (reading(1.5e9, "gpu_idle"), reading(1.5e9, "application_clocks"))}, []),
        ({"during": (reading(1.59e9), reading(1.2e9))}, ["clocks_moved"]),
        ({"during": (reading(1.59e9), reading(3e8, utilization=0.0))}, []),
        ({"gpu": Gpu(other_processes=0), "after": MachineAfter(gpu=Gpu(other_processes=1))}, ["gpu_processes"]),
        ({"during": (cpu_reading(4.5e9), cpu_reading(3.1e9))}, ["clocks_moved"]),
        ({"during": (cpu_reading(4.5e9), cpu_reading(0.8e9, busy=0.05))}, []),
        ({"cpu": Cpu(throttle_count=3), "after": MachineAfter(cpu_throttle_count=5)}, ["throttled"]),
        ({"cpu": Cpu(throttle_count=3), "after": MachineAfter(cpu_throttle_count=3)}, []),
    ],
)
def test_the_machines_record_speaks(changes: dict[str, Any], expected: list[str]) -> None:
    found = machine_warnings(machine(**changes))
    assert [w.code for w in found] == expected
    assert all(w.evidence and w.advice for w in found)
