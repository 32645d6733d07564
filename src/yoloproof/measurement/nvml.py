"""What NVIDIA's management library says of a GPU: https://docs.nvidia.com/deploy/nvml-api/.

Every function takes the library as an argument, so that a test can bring a stand-in; a value that a card or a driver
does not report is None, never guessed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yoloproof.records import Gpu, GpuReading

# Bits of nvmlClocksEventReasons (formerly ThrottleReasons); those of THROTTLING hold the clock below the one asked for.
REASONS = {
    0x0001: "gpu_idle",
    0x0002: "application_clocks",
    0x0004: "sw_power_cap",
    0x0008: "hw_slowdown",
    0x0010: "sync_boost",
    0x0020: "sw_thermal",
    0x0040: "hw_thermal",
    0x0080: "hw_power_brake",
    0x0100: "display_clocks",
}
THROTTLING = ("sw_power_cap", "hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake")


def nvml() -> Any | None:
    """The initialised library, or None where there is no NVIDIA driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def handle_of(library: Any, device: str, environment: Mapping[str, str] = os.environ) -> Any | None:
    """The handle of "cuda:N", counted under CUDA_VISIBLE_DEVICES in PCI order; None for a device NVML cannot see."""
    if not device.startswith("cuda"):
        return None
    index = device.partition(":")[2] or "0"
    visible = [part.strip() for part in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    name = visible[int(index)] if int(index) < len(visible) else index
    try:
        if name.isdigit():
            return library.nvmlDeviceGetHandleByIndex(int(name))
        return library.nvmlDeviceGetHandleByUUID(name)
    except library.NVMLError:
        return None


def gpu_facts(library: Any, handle: Any) -> Gpu:
    """What stays: name, uuid, compute capability, memory, driver, limits and settings; who else is on the card; and, as
    `now`, what moves."""

    def ask(name: str, *arguments: Any) -> Any:
        return _asked(library, name, handle, *arguments)

    capability = ask("nvmlDeviceGetCudaComputeCapability")
    memory = ask("nvmlDeviceGetMemoryInfo")
    pci = ask("nvmlDeviceGetPciInfo")
    processes = ask("nvmlDeviceGetComputeRunningProcesses")
    return Gpu(
        name=_text(ask("nvmlDeviceGetName")),
        uuid=_text(ask("nvmlDeviceGetUUID")),
        pci_bus_id=None if pci is None else _text(pci.busId),
        compute_capability=None if capability is None else f"{capability[0]}.{capability[1]}",
        memory_bytes=None if memory is None else int(memory.total),
        memory_used_bytes=None if memory is None else int(memory.used),
        driver=_text(_asked(library, "nvmlSystemGetDriverVersion")),
        cuda_driver=_cuda_version(_asked(library, "nvmlSystemGetCudaDriverVersion")),
        power_limit_w=_scaled(ask("nvmlDeviceGetEnforcedPowerLimit"), 1e-3),
        max_sm_clock_hz=_scaled(ask("nvmlDeviceGetMaxClockInfo", 1), 1e6),
        max_memory_clock_hz=_scaled(ask("nvmlDeviceGetMaxClockInfo", 2), 1e6),
        application_sm_clock_hz=_scaled(ask("nvmlDeviceGetApplicationsClock", 1), 1e6),
        persistence=_flag(ask("nvmlDeviceGetPersistenceMode")),
        mig=_flag((ask("nvmlDeviceGetMigMode") or (None,))[0]),
        ecc=_flag((ask("nvmlDeviceGetEccMode") or (None,))[0]),
        other_processes=None if processes is None else _others([p.pid for p in processes]),
        now=gpu_reading(library, handle),
    )


def gpu_reading(library: Any, handle: Any) -> GpuReading:
    """What moves: temperature, clocks, power, utilisation, throttle reasons by name."""

    def ask(name: str, *arguments: Any) -> Any:
        return _asked(library, name, handle, *arguments)

    bits = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if bits is None:
        bits = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    utilization = ask("nvmlDeviceGetUtilizationRates")
    return GpuReading(
        temperature_c=_scaled(ask("nvmlDeviceGetTemperature", 0), 1.0),
        sm_clock_hz=_scaled(ask("nvmlDeviceGetClockInfo", 1), 1e6),
        memory_clock_hz=_scaled(ask("nvmlDeviceGetClockInfo", 2), 1e6),
        power_w=_scaled(ask("nvmlDeviceGetPowerUsage"), 1e-3),
        utilization=None if utilization is None else utilization.gpu / 100,
        throttle_reasons=None if bits is None else tuple(name for bit, name in REASONS.items() if bits & bit),
    )


def energy_j(library: Any, handle: Any) -> float | None:
    """The card's energy since the driver was loaded, joules; Volta and later."""
    return _scaled(_asked(library, "nvmlDeviceGetTotalEnergyConsumption", handle), 1e-3)


def memory_used_bytes(library: Any, handle: Any) -> int | None:
    """Memory of the card that is in use, by whomever."""
    memory = _asked(library, "nvmlDeviceGetMemoryInfo", handle)
    return None if memory is None else int(memory.used)


def _others(pids: Sequence[int], fds: Path = Path("/proc/self/fd")) -> int:
    """How many of `pids` are not ours. In a container NVML gives the host's numbers, in which we do not know our own:
    then one of them is ours where we hold CUDA's device file open."""
    others = [pid for pid in pids if pid != os.getpid()]
    if len(others) < len(pids) or not others:
        return len(others)
    return len(others) - any(_link(fd) == "/dev/nvidia-uvm" for fd in fds.glob("*"))


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _asked(library: Any, name: str, *arguments: Any) -> Any:
    """The library's answer; None where this driver lacks the function or this card the value."""
    function: Callable[..., Any] | None = getattr(library, name, None)
    if function is None:
        return None
    try:
        return function(*arguments)
    except library.NVMLError:
        return None


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _scaled(value: Any, factor: float) -> float | None:
    return None if value is None else float(value * factor)


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _cuda_version(value: int | None) -> str | None:
    return None if value is None else f"{value // 1000}.{value % 1000 // 10}"
