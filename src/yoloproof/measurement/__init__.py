"""Machine facts, clocks, protocols, samples, statistics, stability: `measure(subjects, protocol, images)`."""

from __future__ import annotations

from yoloproof.measurement.measure import measure
from yoloproof.measurement.protocol import PROTOCOLS, Protocol, quick
from yoloproof.measurement.records import Measurement, ProcessSamples, Run, StabilityWarning, Subject

__all__ = [
    "PROTOCOLS",
    "Measurement",
    "ProcessSamples",
    "Protocol",
    "Run",
    "StabilityWarning",
    "Subject",
    "measure",
    "quick",
]
