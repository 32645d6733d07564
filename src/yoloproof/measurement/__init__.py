"""Machine facts, clocks, protocols, samples, statistics, stability: `benchmark(subjects, protocol, images)`.

The names load when they are first used, so that a protocol can be looked up before anything heavy is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yoloproof.measurement.benchmarking import Benchmark, Measurement, benchmark
    from yoloproof.measurement.protocol import PROTOCOLS, in_seconds
    from yoloproof.measurement.subject import Subject

__all__ = [
    "PROTOCOLS",
    "Benchmark",
    "Measurement",
    "Subject",
    "benchmark",
    "in_seconds",
]
_MODULES = {
    "PROTOCOLS": "protocol", "in_seconds": "protocol", "Subject": "subject", "Benchmark": "benchmarking",
    "Measurement": "benchmarking", "benchmark": "benchmarking",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'yoloproof.measurement' has no attribute '{name}'")
    return getattr(import_module(f"yoloproof.measurement.{_MODULES[name]}"), name)
