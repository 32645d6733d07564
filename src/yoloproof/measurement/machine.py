"""The machine on record: what it is, how it is set, how busy it is, and how it changed while it was measured."""

from __future__ import annotations

import os
import platform
import re
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from yoloproof.measurement.nvml import gpu_facts, gpu_reading, handle_of, nvml
from yoloproof.measurement.settling import Thermometer

# Distributions whose version can change a latency or an output.
LIBRARIES = re.compile(
    r"^(yoloproof|numpy|torch|triton|onnx|onnxscript|onnxruntime|onnxruntime[-_].*|openvino|tensorrt.*|flash[-_]attn"
    r"|nvidia[-_].*|opencv[-_].*|faster[-_]coco[-_]eval)$",
    re.IGNORECASE,
)


def machine_facts(device: str = "cpu") -> dict[str, Any]:
    """The machine at this moment, for the result file: seconds, bytes, hertz, watts, degrees Celsius.

    `gpu` is None for a CPU; for a CUDA device it holds `nvml.gpu_facts` and, under "now", `nvml.gpu_reading`. A value
    the machine does not tell is None. The host's name, users and paths are left out: results get published.
    """
    memory = psutil.virtual_memory()
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return {
        "cpu": _cpu_facts(),
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "battery": None if battery is None else {"plugged": battery.power_plugged, "share": battery.percent / 100},
        "os": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "container": _container(),
        "libraries": dict(_library_versions()),
        "gpu": _gpu(device),
    }


def changing_facts(device: str = "cpu") -> dict[str, Any]:
    """The part of `machine_facts` that a run may have changed."""
    facts = machine_facts(device)
    gpu = facts["gpu"]
    return {
        "memory_available_bytes": facts["memory_available_bytes"],
        "load_average": facts["load_average"],
        "battery": facts["battery"],
        "cpu_clock_hz": facts["cpu"]["clock_hz"],
        "cpu_throttle_count": facts["cpu"]["throttle_count"],
        "gpu": None if gpu is None else {key: gpu.get(key) for key in ("now", "other_processes", "memory_used_bytes")},
    }


def _cpu_facts() -> dict[str, Any]:
    frequency = psutil.cpu_freq()
    return {
        "model": _cpu_model(),
        "architecture": platform.machine(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "quota_cores": _cpu_quota(),
        "governor": _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "boost": _read(Path("/sys/devices/system/cpu/cpufreq/boost")),
        "clock_hz": frequency.current * 1e6 if frequency and frequency.current else None,
        "throttle_count": _throttle_count(),
        "max_clock_hz": frequency.max * 1e6 if frequency and frequency.max else None,
        "virtual": "hypervisor" in (_cpuinfo("flags") or "").split(),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None,
    }


def usable_cores(cpu: Mapping[str, Any]) -> float:
    """Cores that this process may use, of `machine_facts`' "cpu": by affinity and quota; 1 where nothing is known."""
    cores = [len(cpu.get("affinity") or ()), cpu.get("quota_cores"), cpu.get("logical_cores")]
    return min((float(count) for count in cores if count), default=1.0)


def _throttle_count() -> int | None:
    """How often any core was slowed for its heat since the start (Intel's counters), None where nobody counts."""
    files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [int(text) for file in files if (text := _read(file)) and text.isdigit()]
    return sum(counts) if counts else None


def _cpu_model() -> str:
    if sys.platform == "darwin":
        return platform.processor() or platform.machine()
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key: str) -> str | None:
    text = _read(Path("/proc/cpuinfo")) or ""
    found = re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else None


def _cpu_quota() -> float | None:
    """Cores that the control group allows (cgroup v2, then v1), None for all."""
    text = _read(Path("/sys/fs/cgroup/cpu.max"))
    if text and not text.startswith("max"):
        quota, period = text.split()
        return int(quota) / int(period)
    quota_us = _read(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
    period_us = _read(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
    if quota_us and period_us and int(quota_us) > 0:
        return int(quota_us) / int(period_us)
    return None


def _container() -> str | None:
    for name, mark in {"docker": "/.dockerenv", "podman": "/run/.containerenv"}.items():
        if Path(mark).exists():
            return name
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    groups = _read(Path("/proc/1/cgroup")) or ""
    return "container" if re.search(r"docker|containerd|kubepods|lxc", groups) else None


@cache
def _library_versions() -> dict[str, str]:
    versions = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name and LIBRARIES.match(name):
            versions[name.lower()] = distribution.version
    return dict(sorted(versions.items()))


def _gpu(device: str) -> dict[str, Any] | None:
    library = nvml() if device.startswith("cuda") else None
    handle = handle_of(library, device) if library else None
    if handle is None:
        return None
    return {**gpu_facts(library, handle), "now": gpu_reading(library, handle)}


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def thermometer_of(device: str) -> Thermometer:
    """Temperature and clock of `device`, for the protocols that wait until they stand still; {} where unreadable."""
    library = nvml() if device.startswith("cuda") else None
    handle = handle_of(library, device) if library else None

    def read() -> dict[str, float]:
        if handle is None:
            frequency = psutil.cpu_freq()
            return {"clock_hz": frequency.current * 1e6} if frequency and frequency.current else {}
        reading = gpu_reading(library, handle)
        names = {"temperature_c": "temperature_c", "sm_clock_hz": "clock_hz"}
        return {ours: reading[theirs] for theirs, ours in names.items() if theirs in reading}

    return read


class Watcher:
    """Reads a GPU's clocks, heat and throttle reasons, and the CPU's clock and load, once per `period_s` in a thread
    of the parent process, so that the worker's timed region has no thread beside it. A context manager."""

    def __init__(self, device: str, period_s: float = 1.0) -> None:
        self._library = nvml() if device.startswith("cuda") else None
        self._handle = handle_of(self._library, device) if self._library else None
        self._period_s = period_s
        self._readings: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="yoloproof-watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._start = time.perf_counter()
        psutil.cpu_percent()  # the first call only sets the mark that the next one counts from
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def readings(self) -> list[dict[str, Any]]:
        """What was seen so far, each with its `at_s` since the start."""
        return list(self._readings)

    def _watch(self) -> None:
        while not self._over.wait(self._period_s):
            frequency = psutil.cpu_freq()
            reading: dict[str, Any] = {
                "at_s": time.perf_counter() - self._start,
                "cpu_busy_share": psutil.cpu_percent() / 100,
                "cpu_clock_hz": frequency.current * 1e6 if frequency and frequency.current else None,
            }
            if self._handle is not None:
                reading |= gpu_reading(self._library, self._handle)
            self._readings.append(reading)
