"""Machine facts here, and a GPU's through a stand-in of NVML."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yoloproof.measurement import machine as module
from yoloproof.measurement.cpu import usable_cores
from yoloproof.measurement.machine import Watcher, changing_facts, machine_facts
from yoloproof.measurement.nvml import _others, gpu_facts, gpu_reading, handle_of
from yoloproof.records import Cpu, GpuReading


class NVMLError(Exception):
    pass


class StandIn:
    """A T4 under its power cap, with a driver that lacks the newer name of the throttle reasons."""

    NVMLError = NVMLError

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index > 1:
            raise NVMLError("no such device")
        return f"gpu{index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return f"by {uuid}"

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        return b"Tesla T4"

    def nvmlDeviceGetPciInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(busId=b"00000000:00:04.0")

    def nvmlDeviceGetCudaComputeCapability(self, handle: str) -> tuple[int, int]:
        return 7, 5

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return 70000

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.82.07"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13010

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return {1: 1005, 2: 5000}[kind]

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 71

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return 0x4 | 0x20

    def nvmlDeviceGetEccMode(self, handle: str) -> list[int]:
        raise NVMLError("not supported")

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=-1)]


def test_this_machine_is_told_without_its_name() -> None:
    facts = machine_facts("cpu")
    assert facts.cpu.architecture == platform.machine()
    assert (facts.cpu.logical_cores or 0) >= 1
    assert (facts.memory_bytes or 0) > 2**28
    assert "numpy" in facts.libraries
    assert "psutil" not in facts.libraries
    assert facts.gpu is None
    assert platform.node() not in json.dumps(asdict(facts)) or len(platform.node()) < 4
    assert (changing_facts("cpu").memory_available_bytes or 0) > 0


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo")
def test_two_hosts_of_one_model_name_can_be_told_apart() -> None:
    cpu = machine_facts().cpu
    lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    stated = {key.strip(): value.strip() for key, value in lines.items()}
    assert cpu.family == stated.get("cpu family", stated.get("CPU implementer"))
    assert cpu.model_number == stated.get("model", stated.get("CPU part"))
    assert cpu.stepping == stated.get("stepping", stated.get("CPU revision"))
    assert cpu.microcode == stated.get("microcode")
    assert len(cpu.flags_sha256 or "") == 64
    assert all(size >= 1024 for size in (cpu.caches_bytes or {}).values())


def test_a_card_is_described_and_what_it_does_not_say_is_none() -> None:
    facts = gpu_facts(StandIn(), "gpu0")
    assert facts.name == "Tesla T4"
    assert facts.pci_bus_id == "00000000:00:04.0"
    assert facts.compute_capability == "7.5"
    assert facts.power_limit_w == 70
    assert facts.cuda_driver == "13.1"
    assert facts.other_processes == 1
    assert facts.ecc is facts.memory_bytes is None
    assert facts.now == gpu_reading(StandIn(), "gpu0")


def test_a_reading_names_its_throttle_reasons_also_under_an_older_driver() -> None:
    assert gpu_reading(StandIn(), "gpu0") == GpuReading(
        temperature_c=71, sm_clock_hz=1005e6, memory_clock_hz=5e9, throttle_reasons=("sw_power_cap", "sw_thermal")
    )


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cpu", "", None),
        ("cuda", "", "gpu0"),
        ("cuda:1", "", "gpu1"),
        ("cuda:0", "1", "gpu1"),
        ("cuda:1", "GPU-a,GPU-b", "by GPU-b"),
        ("cuda:7", "", None),
    ],
)
def test_a_device_is_found_as_cuda_counts(device: str, visible: str, expected: str | None) -> None:
    assert handle_of(StandIn(), device, {"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_whose_processes_hold_the_card(tmp_path: Path) -> None:
    """In a container NVML knows us by a number that we do not: one unknown is ours where we have CUDA open."""
    assert _others([os.getpid(), 7], tmp_path) == 1
    assert _others([7, 8], tmp_path) == 2
    (tmp_path / "3").symlink_to("/dev/nvidia-uvm")
    assert _others([7, 8], tmp_path) == 1
    assert _others([os.getpid(), 7], tmp_path) == 1
    assert _others([], tmp_path) == 0


def test_usable_cores_are_the_fewest_of_what_is_known() -> None:
    assert usable_cores(Cpu(affinity=(0, 1, 2), quota_cores=1.5, logical_cores=8)) == 1.5
    assert usable_cores(Cpu(logical_cores=8)) == 8
    assert usable_cores(Cpu()) == 1


def test_the_watcher_reads_while_it_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "nvml", StandIn)
    with Watcher("cuda", period_s=0.01) as watcher:
        while len(watcher.readings()) < 3:
            watcher._over.wait(0.01)
    readings = watcher.readings()
    assert all(reading.throttle_reasons == ("sw_power_cap", "sw_thermal") for reading in readings)
    assert [r.at_s for r in readings] == sorted(r.at_s for r in readings)
    assert not watcher._thread.is_alive()
