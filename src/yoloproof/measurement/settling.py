"""Has a machine under load come to rest? What the `sustained` protocol waits for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Heat:
    """Of a device; None where it cannot be read."""

    temperature_c: float | None = None
    clock_hz: float | None = None


Thermometer = Callable[[], Heat]


@dataclass(frozen=True)
class WarmUpRun:
    """One warm-up inference: when, how long, and what the thermometer last said."""

    at_s: float
    latency_s: float
    heat: Heat = field(default_factory=Heat)


def settled(
    runs: Sequence[WarmUpRun], window_s: float = 20.0, latency_share: float = 0.01, degrees: float = 1.0
) -> bool:
    """Whether the last `window_s` stood still: between its halves median latency and median clock moved by no more
    than `latency_share`, and the temperature stayed within `degrees`. False before there is a window."""
    if not runs or runs[-1].at_s - runs[0].at_s < window_s:
        return False
    end = runs[-1].at_s
    late = [run for run in runs if run.at_s > end - window_s / 2]
    early = [run for run in runs if end - window_s <= run.at_s <= end - window_s / 2]
    if not early or _moved([run.latency_s for run in early], [run.latency_s for run in late]) > latency_share:
        return False
    clocks = [[run.heat.clock_hz for run in half if run.heat.clock_hz is not None] for half in (early, late)]
    if all(clocks) and _moved(clocks[0], clocks[1]) > latency_share:
        return False
    temperatures = [run.heat.temperature_c for run in early + late if run.heat.temperature_c is not None]
    return not temperatures or max(temperatures) - min(temperatures) <= degrees


def _moved(before: Sequence[float], after: Sequence[float]) -> float:
    return abs(median(after) / median(before) - 1)
