"""Does somebody else get the number again? Runs of `latency` against the naive loop, and a file against itself.

    yoloproof export src/yoloproof/demo/yolov13n-coco128.safetensors -o /tmp/yolov13n.onnx
    python benchmarks/repeatability.py /tmp/yolov13n.onnx --json results/repeatability-MACHINE.json
    python benchmarks/repeatability.py --into docs/measurement.md --json results/repeatability-MACHINE.json

The same ONNX file is timed again and again, naive and ours in turns: naive is what most scripts do, one process, ten
warm-ups, the mean of a hundred runs. Eleven runs make ten comparisons of a run with the one before. Then, `--pairs`
times, the file beside itself in one run. No timing starts that would end after `--minutes`; what was measured till then
is in the file. Every timing holds /tmp/bench.lock. The last command fills the table of a document from the file.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations, pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.demo import demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.measurement import PROTOCOLS, Measurement, Subject, measure, quick
from yoloproof.measurement.statistics import ratio_of
from yoloproof.results.compare import compare_results, compare_rows
from yoloproof.results.file import write_new
from yoloproof.runtime import SessionSpec

BLOCK = re.compile(r"(<!-- repeatability (?P<file>\S+) -->\n).*?(<!-- /repeatability -->)", re.DOTALL)
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


def as_result(taken: Sequence[Measurement]) -> dict[str, Any]:
    """As much of a result file as `compare` looks at. A file is itself: nothing is left to prove."""
    run = taken[0].run
    same = {"model": {"name": "itself"}, "artifact": {}, "proof": {"passed": True}}
    entries = [{**same, **measurement.as_entry()} for measurement in taken]
    warnings = [warning.as_dict() for warning in run.warnings]
    return {"machine": run.machine, "protocol": run.protocol, "warnings": warnings, "entries": entries}


def one_run(model: Path, images: Path, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The naive loop, then ours: what goes into the file, and the result for `compare`."""
    naive = naive_s(model, images, arguments.threads)
    (taken,) = ours(model, np.load(images), arguments, 1)
    assert taken.summary is not None, taken.error
    cpu = [process.cpu for process in taken.processes]
    kept = {
        "naive_s": naive,
        **{key: taken.summary[key] for key in ("median_s", "interval_s", "process_medians_s")},
        "others_cores": sum(part["others_s"] for part in cpu) / sum(part["wall_s"] for part in cpu),
        "warnings": [warning.as_dict() for warning in (*taken.warnings, *taken.run.warnings)],
    }
    return kept, as_result([taken])


def measured(arguments: argparse.Namespace, images: Path, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Runs and pairs until all are there or the time is over; `keep` gets the document after each."""
    start = time.monotonic()
    document: dict[str, Any] = {"command": sys.argv, "machine": None, "runs": [], "compared": [], "pairs": []}
    allow = ["quick"] if arguments.quick else []
    before: dict[str, Any] | None = None
    longest = 0.0

    def time_is_left() -> bool:
        return time.monotonic() - start + longest < arguments.minutes * 60

    while len(document["runs"]) <= arguments.repetitions and time_is_left():
        began = time.monotonic()
        kept, result = one_run(arguments.model, images, arguments)
        document["runs"].append(kept)
        document["machine"] = document["machine"] or {key: result["machine"][key] for key in ("cpu", "os", "libraries")}
        if before is not None:
            document["compared"].append(compare_results(before, result, ratio_of, allow)[0].as_dict())
        before = result
        longest = max(longest, time.monotonic() - began)
        keep(document)
    longest *= 2
    while len(document["pairs"]) < arguments.pairs and time_is_left():
        result = as_result(ours(arguments.model, np.load(images), arguments, 2))
        document["pairs"].append(compare_rows(result, ratio_of, allow)[0].as_dict())
        keep(document)
    return document


def overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    a, b = one["interval_s"], other["interval_s"]
    return a is not None and b is not None and a[0] <= b[1] and b[0] <= a[1]


def markdown(document: Mapping[str, Any]) -> str:
    """The table that stands in docs/measurement.md, from the file alone."""
    runs, compared, pairs = document["runs"], document["compared"], document["pairs"]
    naive, medians = [run["naive_s"] for run in runs], [run["median_s"] for run in runs]
    spreads = [stdev(values) / mean(values) for values in (naive, medians)]
    ranges = [max(values) / min(values) - 1 for values in (naive, medians)]
    every = list(combinations(runs, 2))
    codes = sorted({warning["code"] for run in runs for warning in run["warnings"]})
    cpu, libraries = document["machine"]["cpu"], document["machine"]["libraries"]
    rows = [
        ("runs", f"{len(runs)} of each, in turns"),
        ("ours: mean of the medians", f"{mean(medians) * 1e3:.2f} ms"),
        ("naive loop: mean", f"{mean(naive) * 1e3:.2f} ms"),
        ("spread of ours between runs (standard deviation / mean; largest over smallest)",
         f"{spreads[1]:.2%}; {ranges[1]:.1%}"),
        ("spread of the naive loop", f"{spreads[0]:.2%}; {ranges[0]:.1%}"),
        ("naive spread / ours", f"{spreads[0] / spreads[1]:.2f}"),
        ("intervals overlap, a run and the one before", f"{sum(overlap(*p) for p in pairwise(runs))} of {len(compared)}"),
        ("intervals overlap, any two runs", f"{sum(overlap(*p) for p in every)} of {len(every)}"),
        ('`compare` of a run and the one before says "cannot tell"', _cannot_tell(compared)),
        ('`compare` of the file beside itself in one run says "cannot tell"', _cannot_tell(pairs)),
        ("… and its ratio is off 1 by at most",
         f"{max(abs(pair['ratio'] - 1) for pair in pairs):.2%}" if pairs else "not measured"),
        ("cores that other programs kept busy", f"{mean(run['others_cores'] for run in runs):.2f}"),
        ("warnings", ", ".join(f"`{code}`" for code in codes) or "none"),
    ]  # fmt: skip
    machine = f"{cpu['model']}, {cpu['logical_cores']} cores, onnxruntime {libraries.get('onnxruntime')}"
    return "\n".join([f"| {machine} | |", "|---|---|", *(f"| {label} | {figure} |" for label, figure in rows), ""])


def _cannot_tell(compared: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(row['verdict'] == 'cannot tell' for row in compared)} of {len(compared)}"


def filled(text: str, document: Mapping[str, Any], file: str) -> str:
    """A document's text with its block (`<!-- repeatability FILE -->` … `<!-- /repeatability -->`) made from `file`."""
    if not BLOCK.search(text):
        raise SystemExit("the document has no block <!-- repeatability FILE --> … <!-- /repeatability -->")
    return BLOCK.sub(lambda found: f"<!-- repeatability {file} -->\n{markdown(document)}{found.group(3)}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="an ONNX file; left out with --into")
    parser.add_argument("--images", type=Path, help=".npy of [n, 3, H, W] float32 in 0…1 (default: the demo's, 640 px)")
    parser.add_argument("--repetitions", type=int, default=10, help="comparisons of a run with the one before")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--into", type=Path, help="measure nothing: fill this document's block from the file")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.into is not None:
        document = json.loads(arguments.json.read_text())
        arguments.into.write_text(filled(arguments.into.read_text(), document, arguments.json.as_posix()))
        return
    if arguments.model is None:
        parser.error("name the ONNX file to time")
    write_new("", arguments.json)  # never over another
    images = arguments.images or Path(f"/tmp/{arguments.json.stem}.npy")
    if arguments.images is None:
        np.save(images, letterboxed(tuple(demo_images()), (640, 640)))

    def keep(document: dict[str, Any]) -> None:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
        print(f"{len(document['runs'])} runs, {len(document['pairs'])} pairs", file=sys.stderr, flush=True)

    document = measured(arguments, images, keep)
    print(markdown(document) if len(document["runs"]) > 1 else "one run has no spread: give more --minutes")


if __name__ == "__main__":
    main()
