"""Does somebody else get the number again? Runs of `latency` against the naive loop, and a file against itself.

    python benchmarks/repeatability.py MODEL.onnx --repetitions 10 --json repeatability.json

Each repetition times the same ONNX file four times: naive, ours, naive, ours. Naive is what most scripts do: one
process, ten warm-ups, the mean of a hundred runs. Then, `--pairs` times, the file beside itself in one run. Shown are
how often the two intervals of a repetition overlap, what `compare` says of the two, and the spread (standard deviation
over repetitions, as a share of the mean) of ours and of the naive loop. Every timing holds /tmp/bench.lock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.measurement import PROTOCOLS, Measurement, Subject, measure, quick
from yoloproof.measurement.statistics import process_medians, ratio_of
from yoloproof.results.compare import LEVEL_CODES
from yoloproof.runtime import SessionSpec

NAIVE = """
import sys, time, numpy as np, onnxruntime as ort
options = ort.SessionOptions(); options.intra_op_num_threads = int(sys.argv[3])
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = {session.get_inputs()[0].name: np.load(sys.argv[2])[:1]}
for _ in range(10): session.run(None, feed)
start = time.time()
for _ in range(100): session.run(None, feed)
print((time.time() - start) / 100)
"""


@contextmanager
def bench_lock(path: str = "/tmp/bench.lock") -> Iterator[None]:
    """One timing at a time on this machine (POSIX)."""
    import fcntl

    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def naive_s(model: Path, images: Path, threads: int) -> float:
    command = [sys.executable, "-c", NAIVE, str(model), str(images), str(threads)]
    with bench_lock():
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def ours(model: Path, images: NDArray[np.float32], arguments: argparse.Namespace, copies: int) -> list[Measurement]:
    spec = SessionSpec("onnxruntime", model, threads=arguments.threads)
    size = (images.shape[2], images.shape[3])
    subjects = [Subject(f"{model.stem} {copy}", spec, imgsz=size) for copy in range(copies)]
    protocol = quick(PROTOCOLS["latency"]) if arguments.quick else PROTOCOLS["latency"]
    with bench_lock():
        return measure(subjects, protocol, images)


def repetition(model: Path, images: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Naive, ours, naive, ours; and how the two of ours compare."""
    naive, taken = [], []
    for _ in range(2):
        naive.append(naive_s(model, images, arguments.threads))
        taken += ours(model, np.load(images), arguments, 1)
    first, second = (m.summary or {} for m in taken)
    ends = [s["interval_s"] for s in (first, second)]
    medians = [list(process_medians(m.processes).values()) for m in taken]
    warnings = sorted({w.code for m in taken for w in (*m.warnings, *m.run.warnings)})
    *ratio, verdict = ratio_of(medians[1], medians[0], False)
    return {
        "naive_s": naive,
        "median_s": [first["median_s"], second["median_s"]],
        "interval_s": ends,
        "overlap": None if None in ends else ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1],
        # As `yoloproof compare` says it: a run whose level is in doubt is not told from another.
        "compare": [*ratio, "cannot tell" if set(warnings) & set(LEVEL_CODES) else verdict],
        "statistics_alone": verdict,
        "others_cores": [sum(p.cpu["others_s"] for p in m.processes) / sum(p.cpu["wall_s"] for p in m.processes)
                         for m in taken],
        "process_medians_s": medians,
        "warnings": warnings,
    }  # fmt: skip


def beside_itself(model: Path, images: Path, arguments: argparse.Namespace) -> Any:
    """The file as two subjects of one run: ratio, interval, confidence, verdict."""
    a, b = (process_medians(m.processes) for m in ours(model, np.load(images), arguments, 2))
    return ratio_of(list(b.values()), list(a.values()), True)


def report(document: dict[str, Any]) -> str:
    done = document["repetitions"]
    naive = [value for r in done for value in r["naive_s"]]
    medians = [value for r in done for value in r["median_s"]]
    lines = [
        f"repetitions {len(done)}; other programs kept {mean(c for r in done for c in r['others_cores']):.2f} cores busy",
        f"naive: {mean(naive) * 1e3:.2f} ms, spread {stdev(naive) / mean(naive):.2%} over {len(naive)} runs",
        f"ours:  {mean(medians) * 1e3:.2f} ms, spread {stdev(medians) / mean(medians):.2%} over {len(medians)} runs",
        f"naive spread / ours: {stdev(naive) / mean(naive) / (stdev(medians) / mean(medians)):.2f}",
        f"intervals overlap in {sum(bool(r['overlap']) for r in done)} of {len(done)}",
        f"A/A, separate runs, 'cannot tell': {sum(r['compare'][3] == 'cannot tell' for r in done)} of {len(done)} "
        f"({sum(r['statistics_alone'] == 'cannot tell' for r in done)} by the interval alone)",
    ]
    pairs = document["pairs"]
    if pairs:
        lines.append(f"A/A, side by side, 'cannot tell': {sum(p[3] == 'cannot tell' for p in pairs)} of {len(pairs)}")
        lines.append(f"      largest |ratio - 1| {max(abs(p[0] - 1) for p in pairs):.2%}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, help=".npy of [n, 3, H, W] float32 in 0…1 (default: seeded noise, 640)")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    images = arguments.images
    if images is None:
        images = arguments.json.with_suffix(".npy")
        np.save(images, np.random.default_rng(0).random((4, 3, 640, 640), np.float32))
    document: dict[str, Any] = {"command": sys.argv, "repetitions": [], "pairs": []}
    for number in range(arguments.repetitions):
        document["repetitions"].append(repetition(arguments.model, images, arguments))
        arguments.json.write_text(json.dumps(document, indent=1))
        print(number + 1, json.dumps(document["repetitions"][-1]["compare"]), flush=True)
    for _ in range(arguments.pairs):
        document["pairs"].append(beside_itself(arguments.model, images, arguments))
        arguments.json.write_text(json.dumps(document, indent=1))
    print(report(document))


if __name__ == "__main__":
    main()
