"""How many threads a CPU runtime is given when the user names no number, and how those wait that nobody times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_POLICY = "OMP_WAIT_POLICY"


def physical_cores() -> int:
    """Physical cores this process may run on (at least 1): a second thread on one core shares its vector units."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


@contextmanager
def sleeping_threads() -> Iterator[None]:
    """OpenMP, where it is loaded meanwhile (by PyTorch), lets its threads sleep at a barrier instead of spin.

    On two cores with eight busy threads a proof took 137 s spinning and 32 s sleeping. OpenMP reads its policy when it is loaded
    (OpenMP 5.2, section 21.1.10), so processes that are started afterwards, and timed, have its default. A policy of the
    user's stays.
    """
    if WAIT_POLICY in os.environ:
        yield
        return
    os.environ[WAIT_POLICY] = "PASSIVE"
    try:
        yield
    finally:
        del os.environ[WAIT_POLICY]
