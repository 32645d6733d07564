"""The processor on record: what tells two hosts apart, how it is set, and how fast it runs now."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from pathlib import Path

import psutil

from yoloproof.records import Cpu

_SYSTEM = Path("/sys/devices/system/cpu")


def cpu_facts() -> Cpu:
    """The processor at this moment; what the system does not tell is None.

    On ARM `family`, `model_number` and `stepping` are the implementer's, the part's and the revision's numbers.
    """
    frequency = psutil.cpu_freq()
    flags = sorted((_cpuinfo("flags", "Features") or "").split())
    return Cpu(
        model=_model(),
        architecture=platform.machine(),
        family=_cpuinfo("cpu family", "CPU implementer"),
        model_number=_cpuinfo("model", "CPU part"),
        stepping=_cpuinfo("stepping", "CPU revision"),
        microcode=_cpuinfo("microcode"),
        caches_bytes=_caches(),
        flags_sha256=hashlib.sha256(" ".join(flags).encode()).hexdigest() if flags else None,
        smt={"1": True, "0": False}.get(text_of(_SYSTEM / "smt" / "active") or ""),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(),
        affinity=tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None,
        quota_cores=_quota_cores(),
        governor=text_of(_SYSTEM / "cpu0" / "cpufreq" / "scaling_governor"),
        boost=text_of(_SYSTEM / "cpufreq" / "boost"),
        clock_hz=clock_hz(),
        max_clock_hz=frequency.max * 1e6 if frequency and frequency.max else None,
        throttle_count=_throttle_count(),
        virtual="hypervisor" in flags if _cpuinfo("flags") else None,
        niceness=os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None,
    )


def usable_cores(cpu: Cpu) -> float:
    """Cores that this process may use, by affinity and quota; 1 where nothing is known."""
    cores = [len(cpu.affinity or ()), cpu.quota_cores, cpu.logical_cores]
    return min((float(count) for count in cores if count), default=1.0)


def clock_hz() -> float | None:
    """The clock now, a mean over the cores."""
    frequency = psutil.cpu_freq()
    return frequency.current * 1e6 if frequency and frequency.current else None


def text_of(path: Path) -> str | None:
    """What stands in a small file, None where it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _model() -> str:
    if sys.platform == "darwin":
        return platform.processor() or platform.machine()
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(*keys: str) -> str | None:
    """The first core's value under the first of `keys` that Linux knows."""
    text = text_of(Path("/proc/cpuinfo")) or ""
    found = (re.search(rf"^{key}[ \t]*:[ \t]*(.*)$", text, re.MULTILINE) for key in keys)
    return next((match.group(1).strip() or None for match in found if match), None)


def _caches() -> dict[str, int] | None:
    """Bytes of the first core's caches: L1d, L1i, L2, L3."""
    found = {}
    for folder in sorted((_SYSTEM / "cpu0" / "cache").glob("index*")):
        level, kind, size = (text_of(folder / name) for name in ("level", "type", "size"))
        match = re.fullmatch(r"(\d+)([KMG]?)", size or "")
        if level and match:
            letter = {"Data": "d", "Instruction": "i"}.get(kind or "", "")
            found[f"L{level}{letter}"] = int(match[1]) * 1024 ** ("KMG".find(match[2] or "-") + 1)
    return found or None


def _throttle_count() -> int | None:
    """How often any core was slowed for its heat since the start (Intel's counters), None where nobody counts."""
    files = _SYSTEM.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [int(text) for file in files if (text := text_of(file)) and text.isdigit()]
    return sum(counts) if counts else None


def _quota_cores() -> float | None:
    """Cores that the control group allows (cgroup v2, then v1), None for all."""
    text = text_of(Path("/sys/fs/cgroup/cpu.max"))
    if text and not text.startswith("max"):
        quota, period = text.split()
        return int(quota) / int(period)
    quota_us = text_of(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
    period_us = text_of(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
    if quota_us and period_us and int(quota_us) > 0:
        return int(quota_us) / int(period_us)
    return None
