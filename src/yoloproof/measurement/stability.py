"""What makes a number less than it looks: typed warnings, each with what was seen and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.signal import find_peaks
from scipy.stats import gaussian_kde, kendalltau

from yoloproof.measurement.nvml import THROTTLING
from yoloproof.records import Machine, Process, Protocol, Reading, RunWarning, Summary

# Changes of latency below this share of the median are nobody's concern.
NOTABLE = 0.03
# Other programs' work, on average while our samples ran, as a share of the cores that we may use.
NEIGHBOUR_SHARE = 0.1
CLOCK_SHARE = 0.05
# A CPU's boost clock wanders more than a GPU's.
CPU_CLOCK_SHARE = 0.1
# From which share of work on a clock counts as one under load. A CPU's is a mean over its cores, which says something
# only where most of them work.
GPU_BUSY, CPU_BUSY = 0.2, 0.5
TIMER_SHARE = 0.01
# Under this many samples a process says nothing of modes or trends.
ENOUGH = 20

Samples = np.ndarray[Any, Any]


def subject_warnings(
    processes: Sequence[Process],
    summary: Summary | None,
    protocol: Protocol,
    error: str | None,
    *,
    timed: str = "execute",
    zero_input: bool = False,
    cores: float = 1.0,
    usable_cores: float = 1.0,
    cuda_graph: bool = False,
    set_aside: Sequence[Process] = (),
    best_s: float | None = None,
    crowded_out: bool = False,
) -> list[RunWarning]:
    """What one subject's samples say against its figure.

    timed -- what the samples are of; cores -- of the host, whoever may use them; usable_cores -- those that this process may
    cuda_graph -- a sample is one launch of a captured graph
    set_aside, best_s -- processes that the figure does not stand on, and the quickest reading of the host's speed
    crowded_out -- processes were left out because other programs hold the host
    """
    found = [
        *_cut_short([*processes, *set_aside], protocol, error, crowded_out),
        *_about_the_host(processes, set_aside, protocol, best_s, cores, usable_cores),
    ]
    if summary is not None:
        measured = [p for p in processes if p.samples_s]
        found += [*_about_the_protocol(summary, protocol, zero_input), *_about_the_timer(measured, summary)]
        found += [*_about_the_clocks(measured, summary, timed, cuda_graph), *_about_the_samples(measured)]
        found += [*_about_the_processes(measured), *_about_settling(measured)]
    return found


def _cut_short(
    processes: Sequence[Process], protocol: Protocol, error: str | None, crowded_out: bool
) -> Iterator[RunWarning]:
    complete = sum(p.complete for p in processes)
    if error is not None:
        yield RunWarning(
            "failed",
            f"{complete} of {protocol.processes} processes finished: {error}",
            "fix it and measure again",
        )
    elif complete < protocol.processes and crowded_out:
        yield RunWarning(
            "partial",
            f"{complete} of {protocol.processes} processes fit in {protocol.row_max_s:g} s a row beside other programs",
            "stop them and measure again",
        )
    elif complete < protocol.processes:
        yield RunWarning(
            "partial",
            f"{complete} of {protocol.processes} processes finished",
            "measure again without stopping it",
        )


def _about_the_protocol(summary: Summary, protocol: Protocol, zero_input: bool) -> Iterator[RunWarning]:
    if protocol.quick:
        yield RunWarning("quick", "a quick run: few inferences, short warm-up", "leave out --quick for a result")
    if summary.interval_s is None:
        yield RunWarning(
            "too_few_processes",
            f"{summary.processes} processes are too few for a 95 % interval",
            "at least five are needed; `latency` runs six",
        )
    if zero_input:
        yield RunWarning(
            "zero_input",
            "every input was an all-zero image, on which a GPU draws less power and clocks higher",
            "time real images (`--protocol latency`)",
        )
    if protocol.statistic == "clipped_mean":
        clipped = (summary.clipped_runs or 0) / summary.samples
        yield RunWarning(
            "published_protocol",
            f"one process, and {clipped:.0%} of the runs clipped away as outliers: the spread does not say how well "
            "the figure repeats",
            "use it to meet a published figure on its own terms; quote `--protocol latency`",
        )


def _about_the_timer(processes: Sequence[Process], summary: Summary) -> Iterator[RunWarning]:
    coarse = _coarsest(processes)
    if coarse > TIMER_SHARE * summary.median_s:
        yield RunWarning(
            "timer_too_coarse",
            f"the timer's step or cost is {coarse * 1e6:.1f} µs, {coarse / summary.median_s:.0%} of the median",
            "time a larger batch",
        )


def _coarsest(processes: Sequence[Process]) -> float:
    """The largest step or cost of the processes' timers."""
    return max((max(p.timer.step_s, p.timer.cost_s) for p in processes if p.timer is not None), default=0.0)


def _about_the_clocks(
    processes: Sequence[Process], summary: Summary, timed: str, cuda_graph: bool
) -> Iterator[RunWarning]:
    """Wall clock against the device's own, over `execute` alone."""
    device = summary.device_median_s
    if device is None:
        return
    wall = summary.median_s
    if timed == "infer":
        wall -= (summary.load_median_s or 0.0) + (summary.fetch_median_s or 0.0)
    coarse = _coarsest(processes)
    if wall - device > max(0.1 * device, 2 * coarse):
        yield RunWarning(
            "host_bound",
            f"the wall clock says {wall / device:.2f} times the device's own clock: the rest is "
            "the host launching work and waiting for it",
            f"use {'' if cuda_graph else 'a CUDA graph or '}a faster CPU; compare device times with device times only",
        )
    elif device - wall > max(NOTABLE * device, 2 * coarse):
        yield RunWarning(
            "clocks_disagree",
            f"the device's own clock says {device / wall:.2f} times the wall clock, which was read before the device "
            "was done",
            "do not use this figure; report it with the result file",
        )


def _about_the_samples(processes: Sequence[Process]) -> Iterator[RunWarning]:
    columns = [np.array(p.samples_s) for p in processes if len(p.samples_s) >= ENOUGH]
    if started := _in_most(columns, slow_start):
        yield RunWarning("slow_start", f"the first tenth of the samples is slower by {started[1]}", "warm up longer")
    if moved := _in_most(columns, drift):
        direction = "rises" if moved[0] > 0 else "falls"
        yield RunWarning(
            "drift",
            f"from the first quarter to the last latency {direction} by {moved[1]}, the other way in none",
            "use `--protocol sustained`, or cool the machine",
            1 + abs(moved[0]),
        )
    if apart := _in_most(columns, bimodal):
        yield RunWarning(
            "bimodal",
            f"two separate speeds, apart by {apart[1]}",
            "look for a clock that switches or a neighbour that comes and goes; the median may sit on either",
        )


def _about_the_processes(processes: Sequence[Process]) -> Iterator[RunWarning]:
    """What the processes' medians say of one another: one trend over the whole run, or no one level."""
    medians = np.array([np.median(p.samples_s) for p in processes if p.complete])
    if len(medians) < 2:
        return
    trend = float(medians[-1] / medians[0]) - 1
    if abs(trend) >= NOTABLE and len(medians) >= 5 and kendalltau(np.arange(len(medians)), medians).pvalue < 0.02:
        yield RunWarning(
            "drift",
            f"from process to process the median moves in one direction, by {abs(trend):.1%} in all",
            "use `--protocol sustained`, or cool the machine",
            1 + abs(trend),
        )
    columns = [np.array(p.samples_s) for p in processes if len(p.samples_s) >= ENOUGH]
    within = np.median([np.median(np.abs(c - np.median(c))) for c in columns]) if columns else 0.0
    spread = float(np.ptp(medians) / np.median(medians))
    if spread > 2 * NOTABLE and spread * float(np.median(medians)) > 3 * within:
        yield RunWarning(
            "processes_differ",
            f"the processes' medians lie {spread:.1%} apart, more than the samples inside one",
            "stop other programs, pin the threads to cores, and measure again",
        )


def _in_most(columns: Sequence[Samples], change: Callable[[Samples], float | None]) -> tuple[float, str] | None:
    """The median share, and in words how much and in how many, where more than half of the processes show the same and none
    the opposite; a single one is chance."""
    shown = [share for share in map(change, columns) if share is not None]
    if len(shown) <= len(columns) / 2 or min(shown) < 0 < max(shown):
        return None
    size = float(np.median(shown))
    return size, f"{abs(size):.1%} in {len(shown)} of {len(columns)} processes"


def slow_start(samples: Samples) -> float | None:
    """By what share the first tenth's median exceeds the rest's, where that is notable and beyond the noise."""
    cut = max(3, len(samples) // 10)
    head, rest = samples[:cut], samples[cut:]
    excess = float(np.median(head) / np.median(rest)) - 1
    noise = 1.4826 * float(np.median(np.abs(rest - np.median(rest)))) / float(np.median(rest))
    return excess if excess > max(NOTABLE, 3 * 1.2533 * noise / cut**0.5) else None


def drift(samples: Samples) -> float | None:
    """By what share the median moves from the first quarter to the last, where that is notable and the ranks agree
    (Mann-Kendall's test, p < 0.001)."""
    quarter = len(samples) // 4
    moved = float(np.median(samples[-quarter:]) / np.median(samples[:quarter])) - 1
    if abs(moved) < NOTABLE or kendalltau(np.arange(len(samples)), samples).pvalue > 0.001:
        return None
    return moved


def bimodal(samples: Samples) -> float | None:
    """How far apart, as a share of the median, two clearly separate modes are; None for one mode.

    A Gaussian kernel density with Silverman's robust bandwidth (1986, eq. 3.31); two peaks count where the lower has a
    quarter of the higher's height, the valley between is under half of the lower, and each side holds a tenth."""
    low, high = np.percentile(samples, [1, 99])
    inner = samples[(samples >= low) & (samples <= high)]
    spread = min(float(inner.std()), float(np.subtract(*np.percentile(samples, [75, 25]))) / 1.34)
    if spread <= 0:
        return None
    bandwidth = 0.9 * spread * len(samples) ** -0.2
    grid = np.linspace(low - 3 * bandwidth, high + 3 * bandwidth, 256)
    density = gaussian_kde(inner, bandwidth / float(inner.std(ddof=1)))(grid)
    peaks = find_peaks(density)[0]
    if len(peaks) < 2:
        return None
    first, second = sorted(sorted(peaks, key=lambda peak: density[peak])[-2:])
    valley = first + int(np.argmin(density[first : second + 1]))
    lower, higher = sorted((density[first], density[second]))
    side = float(np.mean(samples < grid[valley]))
    apart = float(grid[second] - grid[first]) / float(np.median(samples))
    separate = lower >= higher / 4 and density[valley] < lower / 2 and min(side, 1 - side) >= 0.1
    return apart if separate and apart >= NOTABLE else None


def _about_the_host(
    processes: Sequence[Process], set_aside: Sequence[Process], protocol: Protocol, best_s: float | None, cores: float,
    usable_cores: float,
) -> Iterator[RunWarning]:  # fmt: skip
    """Others on the host in one warning: programs where they are seen, else that they slow fixed work. By what factor that may
    have moved the figure: programs with a share s of the cores leave us 1 - s of them."""
    readings = [reading / best_s for p in processes for reading in p.gauge_s] if best_s else []
    slowed = [reading for reading in readings if reading > protocol.gauge_limit]
    if len(slowed) <= protocol.gauge_share * len(readings):
        slowed = []
    products = (
        f"fixed matrix products took up to {max(slowed):.2f} times their best around {len(slowed)} of {len(readings)} turns"
        if slowed
        else ""
    )
    wall_s = sum(p.cpu.wall_s for p in processes)
    others = sum(p.cpu.others_s for p in processes) / wall_s if wall_s else 0.0
    if others > NEIGHBOUR_SHARE * usable_cores:
        left = 1 - others / cores
        yield RunWarning(
            "noisy_neighbour",
            f"other programs kept {others:.1f} of {cores:g} cores busy while this was timed{products and f', and {products}'}",
            "stop them, or compare only what was timed side by side in one run",
            max([1 / left, *slowed]) if left > 0.05 else None,
        )
    elif slowed:
        yield RunWarning(
            "host_slowed",
            f"{products}, and waiting did not help: other users slow this host",
            "use a quiet host, or a whole one of your own; compare only what was timed side by side in one run",
            max(slowed),
        )
    if not slowed and (set_aside or any(p.set_aside.samples_s for p in processes)):
        again = sum(len(p.set_aside.samples_s) for p in [*processes, *set_aside])
        yield RunWarning(
            "host_slowed",
            f"at times others slow this host: what was timed while fixed matrix products were slow ({again} samples, "
            f"{len(set_aside)} whole processes among them) was set aside and repeated",
            "the figure is that of the undisturbed host",
            1.0,
        )


def _about_settling(processes: Sequence[Process]) -> Iterator[RunWarning]:
    restless = sum(p.settled is False for p in processes)
    if restless:
        yield RunWarning(
            "not_settled",
            f"in {restless} of {len(processes)} processes temperature, clocks or latency still moved when the waiting "
            "ended",
            "cool the machine, or lower the power limit until it stands still",
        )


def machine_warnings(machine: Machine) -> list[RunWarning]:
    """What the machine's record says against every figure of the run."""
    return [*_cpu_warnings(machine), *_gpu_warnings(machine)]


def _cpu_warnings(machine: Machine) -> Iterator[RunWarning]:
    governor = machine.cpu.governor
    if governor not in (None, "performance"):
        yield RunWarning(
            "governor", f"the CPU's frequency governor is {governor}", "sudo cpupower frequency-set -g performance"
        )
    before = machine.cpu.throttle_count
    after = None if machine.after is None else machine.after.cpu_throttle_count
    if before is not None and after is not None and after > before:
        yield RunWarning(
            "throttled", f"cores throttled for heat {after - before} times during the run", "cool the machine"
        )
    if machine.gpu is None:
        clocks = [r.cpu_clock_hz for r in machine.during if r.cpu_clock_hz and (r.cpu_busy_share or 0) > CPU_BUSY]
        advice = "fix it: sudo cpupower frequency-set -g performance, and switch boost off"
        yield from _moved(clocks, "CPU", CPU_CLOCK_SHARE, advice)
    if machine.battery is not None and machine.battery.plugged is False:
        yield RunWarning("battery", "the machine runs on battery", "plug it in")


def _gpu_warnings(machine: Machine) -> Iterator[RunWarning]:
    during = machine.during
    clocks = [r.sm_clock_hz for r in during if r.sm_clock_hz and (r.utilization or 0) > GPU_BUSY]
    yield from _throttling(during, clocks)
    yield from _moved(clocks, "GPU", CLOCK_SHARE, "lock it: sudo nvidia-smi --lock-gpu-clocks=FREQ")
    cards = {"before": machine.gpu, "after": None if machine.after is None else machine.after.gpu}
    seen = [f"{card.other_processes} {when}" for when, card in cards.items() if card and card.other_processes]
    if seen:
        yield RunWarning(
            "gpu_processes",
            f"other processes held the card: {' and '.join(seen)} the run",
            "end them, or take another card with CUDA_VISIBLE_DEVICES",
        )


def _throttling(during: Sequence[Reading], clocks: Sequence[float]) -> Iterator[RunWarning]:
    """One warning for each reason that held the clock down; clocks -- those seen under load."""
    for reason in THROTTLING:
        count = sum(reason in (reading.throttle_reasons or ()) for reading in during)
        if count:
            advice = (
                "the power cap holds the clock down: use `--protocol paced`, or quote this as a sustained figure"
                if reason == "sw_power_cap"
                else "cool the card; check its power supply"
            )
            # A heat or power limit shows as a lower clock, so the clock's range under load says what it did.
            factor = max(clocks) / min(clocks) if clocks else None
            yield RunWarning("throttled", f"{reason} in {count} of {len(during)} readings", advice, factor)


def _moved(clocks: Sequence[float], device: str, share: float, advice: str) -> Iterator[RunWarning]:
    """A clock that moved by more than `share`."""
    if clocks and max(clocks) - min(clocks) > share * max(clocks):
        jumps = sum(abs(b - a) > share * max(clocks) for a, b in pairwise(clocks))
        yield RunWarning(
            "clocks_moved",
            f"the {device}'s clock moved between {min(clocks) / 1e6:.0f} and {max(clocks) / 1e6:.0f} MHz under load "
            f"({jumps} jumps)",
            advice,
            max(clocks) / min(clocks),
        )
