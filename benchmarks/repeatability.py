"""Does somebody else get the number again? Runs of `latency` against the naive loop, and a file against itself.

    yoloproof export src/yoloproof/demo/yolov13n-coco128.safetensors -o /tmp/yolov13n.onnx
    python benchmarks/repeatability.py /tmp/yolov13n.onnx --json results/repeatability-MACHINE.json
    python benchmarks/repeatability.py --into results/README.md --json results/repeatability-MACHINE.json [--json ...]

The same ONNX file is timed again and again, naive and ours in turns: naive is what most scripts do, one process, ten
warm-ups, the mean of a hundred runs. Eleven runs make ten comparisons of a run with the one before. Then, `--pairs`
times, the file beside itself in one run. No timing starts that would end after `--minutes`; what was measured till then
is in the file. Every timing holds /tmp/bench.lock. The last command fills the table of a document from the files, a
column each and one of all their runs together.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations, pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.demo import demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.files.new import write_new
from yoloproof.intervals import process_medians, side_by_side, unpaired_ratio
from yoloproof.names import Runtime
from yoloproof.records import RunWarning
from yoloproof.results.compare import CPU_RUN_TO_RUN, level_doubts
from yoloproof.results.schema import plain
from yoloproof.runtime import SessionSpec

if TYPE_CHECKING:
    from yoloproof.measurement import Benchmark

BLOCK = re.compile(r"<!-- repeatability (?P<files>[^>]+) -->\n.*?(<!-- /repeatability -->)", re.DOTALL)
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


def ours(model: Path, images: NDArray[np.float32], arguments: argparse.Namespace, copies: int) -> Benchmark:
    """`copies` of the file side by side in one run."""
    from yoloproof.measurement import PROTOCOLS, Subject, benchmark, in_seconds

    spec = SessionSpec(Runtime.ONNXRUNTIME, model, threads=arguments.threads)
    size = (images.shape[2], images.shape[3])
    subjects = [Subject(f"{model.stem} {copy}", spec, imgsz=size) for copy in range(copies)]
    protocol = in_seconds(PROTOCOLS["latency"]) if arguments.quick else PROTOCOLS["latency"]
    with bench_lock():
        return benchmark(subjects, protocol, images)


def verdict(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What `compare` says of two runs of one file."""
    warnings = [RunWarning(**warning) for run in (before, after) for warning in run["warnings"]]
    ratio = unpaired_ratio(after["process_medians_s"], before["process_medians_s"])
    return ratio.widened(max([CPU_RUN_TO_RUN, *level_doubts(warnings).values()])).verdict


def one_run(model: Path, images: Path, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The naive loop, then ours: what goes into the file, and the machine."""
    naive = naive_s(model, images, arguments.threads)
    run = ours(model, np.load(images), arguments, 1)
    (taken,) = run.measurements
    assert taken.summary is not None, taken.error
    cpu = [process.cpu for process in taken.processes]
    kept = {
        "naive_s": naive,
        "median_s": taken.summary.median_s,
        "interval_s": plain(taken.summary.interval_s),
        "process_medians_s": list(taken.summary.process_medians_s),
        "others_cores": sum(part.others_s for part in cpu) / sum(part.wall_s for part in cpu),
        "warnings": plain((*taken.warnings, *run.warnings)),
    }
    machine = plain(run.machine)
    return kept, {key: machine[key] for key in ("cpu", "os", "libraries")}


def one_pair(model: Path, images: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The file beside itself in one run, as `compare` holds the two against each other."""
    taken = ours(model, np.load(images), arguments, 2).measurements
    ratio = side_by_side(*(process_medians(one.processes) for one in taken))
    assert ratio is not None, [one.error for one in taken]
    interval = None if ratio.interval is None else [ratio.interval.low, ratio.interval.high]
    return {"ratio": ratio.value, "interval": interval, "verdict": ratio.verdict}


def measured(arguments: argparse.Namespace, images: Path, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Runs and pairs until all are there or the time is over; `keep` gets the document after each."""
    start = time.monotonic()
    document: dict[str, Any] = {"command": sys.argv, "machine": None, "runs": [], "pairs": []}
    longest = 0.0

    def time_is_left() -> bool:
        return time.monotonic() - start + longest < arguments.minutes * 60

    while len(document["runs"]) <= arguments.repetitions and time_is_left():
        began = time.monotonic()
        kept, document["machine"] = one_run(arguments.model, images, arguments)
        document["runs"].append(kept)
        longest = max(longest, time.monotonic() - began)
        keep(document)
    longest *= 2
    while len(document["pairs"]) < arguments.pairs and time_is_left():
        document["pairs"].append(one_pair(arguments.model, images, arguments))
        keep(document)
    return document


def overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    a, b = one["interval_s"], other["interval_s"]
    return a is not None and b is not None and a[0] <= b[1] and b[0] <= a[1]


def figures(sessions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What one file's runs come to, or those of several together; neighbours are of one file."""
    runs, pairs = ([row for session in sessions for row in session[key]] for key in ("runs", "pairs"))
    neighbours = [pair for session in sessions for pair in pairwise(session["runs"])]
    every = list(combinations(runs, 2))
    naive, medians = [run["naive_s"] for run in runs], [run["median_s"] for run in runs]
    spreads = [stdev(values) / mean(values) for values in (naive, medians)]
    ranges = [max(values) / min(values) - 1 for values in (naive, medians)]
    codes = sorted({warning["code"] for run in runs for warning in run["warnings"]})
    return {
        "runs of each, in turns": f"{len(runs)}",
        "ours: mean of the medians": f"{mean(medians) * 1e3:.2f} ms",
        "naive loop: mean": f"{mean(naive) * 1e3:.2f} ms",
        "spread of ours between runs (standard deviation / mean; largest over smallest)":
            f"{spreads[1]:.2%}; {ranges[1]:.1%}",
        "spread of the naive loop": f"{spreads[0]:.2%}; {ranges[0]:.1%}",
        "naive spread / ours": f"{spreads[0] / spreads[1]:.2f}",
        "intervals overlap, a run and the one before": _count([overlap(*pair) for pair in neighbours]),
        "intervals overlap, any two runs": _count([overlap(*pair) for pair in every]),
        '`compare` of a run and the one before says "cannot tell"': _cannot_tell(verdict(*pair) for pair in neighbours),
        '`compare` of any two runs says "cannot tell"': _cannot_tell(verdict(*pair) for pair in every),
        '`compare` of the file beside itself in one run says "cannot tell"': _cannot_tell(
            pair["verdict"] for pair in pairs
        ),
        "… and its ratio is off 1 by at most":
            f"{max(abs(pair['ratio'] - 1) for pair in pairs):.2%}" if pairs else "not measured",
        "cores that other programs kept busy": f"{mean(run['others_cores'] for run in runs):.2f}",
        "warnings": ", ".join(f"`{code}`" for code in codes) or "none",
    }  # fmt: skip


def markdown(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """The table that stands in results/README.md, from the files alone: file name → its content."""
    columns = {f"`{Path(name).stem}`": figures([document]) for name, document in documents.items()}
    if len(columns) > 1:
        columns["together"] = figures(list(documents.values()))
    machine = next(iter(documents.values()))["machine"]
    cpu, libraries = machine["cpu"], machine["libraries"]
    title = f"{cpu['model']}, {cpu['logical_cores']} cores, onnxruntime {libraries.get('onnxruntime')}"
    labels = list(next(iter(columns.values())))
    rows = [[title, *columns], ["---"] * (len(columns) + 1)]
    rows += [[label, *(column[label] for column in columns.values())] for label in labels]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _count(truths: Sequence[bool]) -> str:
    return f"{sum(truths)} of {len(truths)}"


def _cannot_tell(verdicts: Iterable[str]) -> str:
    return _count([verdict == "cannot tell" for verdict in verdicts])


def filled(text: str, documents: Mapping[str, Mapping[str, Any]]) -> str:
    """A document's text with its block (`<!-- repeatability FILES -->` … `<!-- /repeatability -->`) made from the files."""
    if not BLOCK.search(text):
        raise SystemExit("the document has no block <!-- repeatability FILES --> … <!-- /repeatability -->")
    top = f"<!-- repeatability {' '.join(documents)} -->\n"
    return BLOCK.sub(lambda found: f"{top}{markdown(documents)}{found.group(2)}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="an ONNX file; left out with --into")
    parser.add_argument("--images", type=Path, help=".npy of [n, 3, H, W] float32 in 0…1 (default: the demo's, 640 px)")
    parser.add_argument("--repetitions", type=int, default=10, help="comparisons of a run with the one before")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--into", type=Path, help="measure nothing: fill this document's block from the files")
    parser.add_argument("--json", type=Path, required=True, action="append", help="several with --into")
    arguments = parser.parse_args()
    if arguments.into is not None:
        documents = {file.as_posix(): json.loads(file.read_text()) for file in arguments.json}
        arguments.into.write_text(filled(arguments.into.read_text(), documents))
        return
    if arguments.model is None or len(arguments.json) != 1:
        parser.error("name the ONNX file to time, and one file to write")
    (file,) = arguments.json
    write_new("", file)  # never over another
    images = arguments.images or Path(f"/tmp/{file.stem}.npy")
    if arguments.images is None:
        np.save(images, letterboxed(tuple(demo_images()), (640, 640)))

    def keep(document: dict[str, Any]) -> None:
        file.write_text(json.dumps(document, indent=1) + "\n")
        print(f"{len(document['runs'])} runs, {len(document['pairs'])} pairs", file=sys.stderr, flush=True)

    document = measured(arguments, images, keep)
    print(
        markdown({file.as_posix(): document})
        if len(document["runs"]) > 1
        else "one run has no spread: give more --minutes"
    )


if __name__ == "__main__":
    main()
