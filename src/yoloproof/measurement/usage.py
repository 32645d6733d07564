"""What a row takes besides time: memory of the host and of the device, and the device's energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from yoloproof.measurement.nvml import energy_j, handle_of, memory_used_bytes, nvml

# Linux resets a process's peak of resident memory where "5" is written here (proc(5)).
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Memory:
    """By how much memory grew, bytes; None where nobody can tell. host -- at its peak; device -- of the whole card."""

    host_bytes: int | None = None
    device_bytes: int | None = None


@dataclass(frozen=True)
class Meters:
    """memory -- starts counting, and the function that it returns says what was taken since; energy_j -- the device's energy
    since some moment, joules. A test brings its own, or these, which know nothing."""

    memory: Callable[[], Callable[[], Memory]] = lambda: Memory
    energy_j: Callable[[], float | None] = lambda: None


def meters_of(device: str) -> Meters:
    """The meters of "cpu" or "cuda:N"."""
    library = nvml() if device.startswith("cuda") else None
    handle = handle_of(library, device) if library else None

    def card_bytes() -> int | None:
        return None if handle is None else memory_used_bytes(library, handle)

    def start() -> Callable[[], Memory]:
        host, card = _peak_bytes(reset=True), card_bytes()

        def taken() -> Memory:
            peak, now = _peak_bytes(), card_bytes()
            return Memory(
                None if host is None or peak is None else max(0, peak - host),
                None if card is None or now is None else max(0, now - card),
            )

        return taken

    return Meters(start, lambda: None if handle is None else energy_j(library, handle))


def _peak_bytes(reset: bool = False) -> int | None:
    """The peak of this process's resident memory since the last reset; with `reset`, what is resident now. None where the
    system (not Linux) has no such peak to reset."""
    try:
        if reset:
            _CLEAR_REFS.write_text("5")
            return int(psutil.Process().memory_info().rss)
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return None if line is None else int(line.split()[1]) * 1024
