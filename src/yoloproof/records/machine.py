"""The machine that a run was measured on. Clocks in hertz, power in watts, temperature in degrees Celsius."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yoloproof.records.base import Record


@dataclass(frozen=True)
class Battery(Record):
    """plugged -- on mains power; share -- of the charge, 0…1"""

    plugged: bool | None
    share: float


@dataclass(frozen=True, kw_only=True)
class Cpu(Record):
    """caches_bytes -- size by level, such as "L2"; flags_sha256 -- of the sorted feature flags; smt -- two threads a core
    quota_cores -- what the control group allows; throttle_count -- how often a core was slowed for its heat"""

    model: str | None = None
    architecture: str | None = None
    family: str | None = None
    model_number: str | None = None
    stepping: str | None = None
    microcode: str | None = None
    caches_bytes: Mapping[str, int] | None = None
    flags_sha256: str | None = None
    smt: bool | None = None
    physical_cores: int | None = None
    logical_cores: int | None = None
    affinity: tuple[int, ...] | None = None
    quota_cores: float | None = None
    governor: str | None = None
    boost: str | None = None
    clock_hz: float | None = None
    max_clock_hz: float | None = None
    throttle_count: int | None = None
    virtual: bool | None = None
    niceness: int | None = None


@dataclass(frozen=True, kw_only=True)
class GpuReading(Record):
    """What moves on a GPU; throttle_reasons by NVML's names, utilization in 0…1."""

    temperature_c: float | None = None
    sm_clock_hz: float | None = None
    memory_clock_hz: float | None = None
    power_w: float | None = None
    utilization: float | None = None
    throttle_reasons: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Gpu(Record):
    """What a GPU is and how it is set; other_processes -- that compute on it besides us."""

    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    compute_capability: str | None = None
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    driver: str | None = None
    cuda_driver: str | None = None
    power_limit_w: float | None = None
    max_sm_clock_hz: float | None = None
    max_memory_clock_hz: float | None = None
    application_sm_clock_hz: float | None = None
    persistence: bool | None = None
    mig: bool | None = None
    ecc: bool | None = None
    other_processes: int | None = None
    now: GpuReading = field(default_factory=GpuReading)


@dataclass(frozen=True, kw_only=True)
class Reading(GpuReading):
    """One look at the machine, `at_s` seconds after the run began."""

    at_s: float
    cpu_busy_share: float | None = None
    cpu_clock_hz: float | None = None


@dataclass(frozen=True, kw_only=True)
class MachineAfter(Record):
    """The part of a machine's record that a run may have changed."""

    memory_available_bytes: int | None = None
    load_average: tuple[float, ...] | None = None
    battery: Battery | None = None
    cpu_clock_hz: float | None = None
    cpu_throttle_count: int | None = None
    gpu: Gpu | None = None


@dataclass(frozen=True, kw_only=True)
class Machine(Record):
    """What a run was measured on: before it; `during` it, once a second; and what had changed `after` it.

    libraries -- version of every distribution that can change a latency or an output; device -- "cpu", "cuda:0"
    No host name, user or path is recorded: results get published.
    """

    cpu: Cpu
    memory_bytes: int | None = None
    memory_available_bytes: int | None = None
    load_average: tuple[float, ...] | None = None
    battery: Battery | None = None
    os: str | None = None
    python: str | None = None
    container: str | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)
    gpu: Gpu | None = None
    device: str = "cpu"
    during: tuple[Reading, ...] = ()
    after: MachineAfter | None = None
