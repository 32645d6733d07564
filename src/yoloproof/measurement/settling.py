"""Has a machine under load come to rest? What the `sustained` protocol waits for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

# A device's {"temperature_c": …, "clock_hz": …}; keys it cannot read are missing.
Thermometer = Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Reading:
    """One warm-up inference: when, how long, and what the thermometer last said."""

    at_s: float
    latency_s: float
    device: dict[str, float] = field(default_factory=dict)


def settled(
    readings: Sequence[Reading], window_s: float = 20.0, latency_share: float = 0.01, degrees: float = 1.0
) -> bool:
    """Whether the last `window_s` stood still: between its halves median latency and median clock moved by no more
    than `latency_share`, and the temperature stayed within `degrees`. False before there is a window."""
    if not readings or readings[-1].at_s - readings[0].at_s < window_s:
        return False
    end = readings[-1].at_s
    late = [r for r in readings if r.at_s > end - window_s / 2]
    early = [r for r in readings if end - window_s <= r.at_s <= end - window_s / 2]
    if not early or _moved([r.latency_s for r in early], [r.latency_s for r in late]) > latency_share:
        return False
    clocks = [[r.device["clock_hz"] for r in half if "clock_hz" in r.device] for half in (early, late)]
    if all(clocks) and _moved(clocks[0], clocks[1]) > latency_share:
        return False
    temperatures = [r.device["temperature_c"] for r in early + late if "temperature_c" in r.device]
    return not temperatures or max(temperatures) - min(temperatures) <= degrees


def _moved(before: Sequence[float], after: Sequence[float]) -> float:
    return abs(median(after) / median(before) - 1)
