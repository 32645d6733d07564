"""The machine on record: what it is, how it is set, how busy it is, and how it changed while it was measured."""

from __future__ import annotations

import os
import platform
import re
import threading
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType, TracebackType

import psutil

from yoloproof.measurement.cpu import clock_hz, cpu_facts, text_of
from yoloproof.measurement.nvml import gpu_facts, gpu_reading, handle_of, nvml
from yoloproof.measurement.settling import Heat, Thermometer
from yoloproof.records import Battery, Gpu, Machine, MachineAfter, Reading

# Distributions whose version can change a latency or an output.
LIBRARIES = re.compile(
    r"^(yoloproof|numpy|torch|triton|onnx|onnxscript|onnxruntime|onnxruntime[-_].*|openvino|tensorrt.*|flash[-_]attn"
    r"|nvidia[-_].*|opencv[-_].*|faster[-_]coco[-_]eval)$",
    re.IGNORECASE,
)


def machine_facts(device: str = "cpu") -> Machine:
    """The machine at this moment; `gpu` is None for a CPU, and any value that the machine does not tell."""
    memory = psutil.virtual_memory()
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return Machine(
        cpu=cpu_facts(),
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        load_average=os.getloadavg() if hasattr(os, "getloadavg") else None,
        battery=None if battery is None else Battery(battery.power_plugged, battery.percent / 100),
        os=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        container=_container(),
        libraries=dict(_library_versions()),
        gpu=_gpu(device),
        device=device,
    )


def changing_facts(device: str = "cpu") -> MachineAfter:
    """The part of `machine_facts` that a run may have changed."""
    now = machine_facts(device)
    return MachineAfter(
        memory_available_bytes=now.memory_available_bytes,
        load_average=now.load_average,
        battery=now.battery,
        cpu_clock_hz=now.cpu.clock_hz,
        cpu_throttle_count=now.cpu.throttle_count,
        gpu=now.gpu,
    )


def _container() -> str | None:
    for name, mark in {"docker": "/.dockerenv", "podman": "/run/.containerenv"}.items():
        if Path(mark).exists():
            return name
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    groups = text_of(Path("/proc/1/cgroup")) or ""
    return "container" if re.search(r"docker|containerd|kubepods|lxc", groups) else None


@cache
def _library_versions() -> MappingProxyType[str, str]:
    versions = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name and LIBRARIES.match(name):
            versions[name.lower()] = distribution.version
    return MappingProxyType(dict(sorted(versions.items())))


def _gpu(device: str) -> Gpu | None:
    library = nvml() if device.startswith("cuda") else None
    handle = handle_of(library, device) if library else None
    return None if handle is None else gpu_facts(library, handle)


def thermometer_of(device: str) -> Thermometer:
    """Temperature and clock of `device`, for the protocols that wait until they stand still."""
    library = nvml() if device.startswith("cuda") else None
    handle = handle_of(library, device) if library else None

    def read() -> Heat:
        if handle is None:
            return Heat(clock_hz=clock_hz())
        reading = gpu_reading(library, handle)
        return Heat(reading.temperature_c, reading.sm_clock_hz)

    return read


class Watcher:
    """Reads a GPU's clocks, heat and throttle reasons, and the CPU's clock and load, once per `period_s` in a thread
    of the parent process, so that the worker's timed region has no thread beside it. A context manager."""

    def __init__(self, device: str, period_s: float = 1.0) -> None:
        self._library = nvml() if device.startswith("cuda") else None
        self._handle = handle_of(self._library, device) if self._library else None
        self._period_s = period_s
        self._readings: list[Reading] = []
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

    def readings(self) -> tuple[Reading, ...]:
        """What was seen so far."""
        return tuple(self._readings)

    def _watch(self) -> None:
        while not self._over.wait(self._period_s):
            gpu = {} if self._handle is None else vars(gpu_reading(self._library, self._handle))
            self._readings.append(
                Reading(
                    at_s=time.perf_counter() - self._start,
                    cpu_busy_share=psutil.cpu_percent() / 100,
                    cpu_clock_hz=clock_hz(),
                    **gpu,
                )
            )
