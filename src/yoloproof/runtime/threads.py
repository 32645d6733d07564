"""How many threads a CPU runtime is given when the user names no number."""

from __future__ import annotations

import os


def physical_cores() -> int:
    """Physical cores this process may run on (at least 1): a second thread on one core shares its vector units."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))
