"""Machine facts, clocks, protocols, samples, statistics, stability: `benchmark(subjects, protocol, images)`."""

from __future__ import annotations

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
