"""The two numbers of a native engine's estimate (`PRIORS` "launch" and "work" in estimate/native.py) from two figures of one GPU.

    python research/native_cycles.py FILE.native --gpu h200 --clock-ghz 1.98 --all MS --few MS [--multiprocessors 40]

FILE holds the code that was timed (7.5), MS are medians of device time on all of the GPU's multiprocessors and on few of them
(benchmarks/native.py). Two equations, two unknowns: nothing is left to check them by.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from yoloproof.estimate.gpus import GpuRates, gpu_from_name
from yoloproof.estimate.native import PRIORS, estimate_native
from yoloproof.files.native import NativeEngine, read_native


def cycles(
    engine: NativeEngine, gpu: GpuRates, clock_hz: float, all_s: float, few: int, few_s: float
) -> tuple[float, float]:
    """Cycles a launch, and FLOP a cycle and multiprocessor, with which the model gives both figures."""
    rows, wanted = [], []
    for one, seconds in ((gpu, all_s), (replace(gpu, name="part", multiprocessors=few), few_s)):
        parts = estimate_native(engine, one, clock_hz).parts_s
        rows.append([parts["launches"] / PRIORS["launch"].median, parts["arithmetic"] * PRIORS["work"].median])
        wanted.append(seconds - parts["bytes"])
    launch, per_flop = np.linalg.solve(np.array(rows), np.array(wanted))
    return float(launch), float(1 / per_flop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--gpu", default="h200")
    parser.add_argument("--clock-ghz", type=float, default=1.98)
    parser.add_argument("--all", type=float, required=True, help="ms on all multiprocessors")
    parser.add_argument("--few", type=float, required=True, help="ms on a few")
    parser.add_argument("--multiprocessors", type=int, default=40, help="how many those are")
    given = parser.parse_args()
    launch, work = cycles(
        read_native(given.file), gpu_from_name(given.gpu), given.clock_ghz * 1e9, given.all / 1e3,
        given.multiprocessors, given.few / 1e3,
    )  # fmt: skip
    print(f"{launch:.0f} cycles a launch, {work:.0f} FLOP a cycle and multiprocessor")


if __name__ == "__main__":
    main()
