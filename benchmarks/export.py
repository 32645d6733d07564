"""Our export against the published graph and against the broken one, interleaved in one run.

    python benchmarks/export.py [--rounds 30] [--runtime onnxruntime openvino] [--json FILE] [--operators]

For the trained yolov13n (bundled) and a seeded yolov13s, float32, batch 1, 640 px: ratios of medians to `published`
(unsimplified) with the spread of the rounds' ratios, with and without flush-to-zero on every side, and node counts.
ONNX Runtime sets flush-to-zero for a process, so each setting is a process of its own.

--operators: instead, where the time of yolov13n goes in each runtime's own profile of its operators, one thread, and
how many of the softmaxes' results are subnormal numbers (on the four bundled images, as ONNX Runtime computes them).
--forms fused-sums explicit+bounds fused@24: more rows to compare, a form of attention with rewrites put in (+) or
left out (-), in another opset (@).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloproof.artifact.onnx import OPSET, export_onnx
from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.files.onnx import load_onnx
from yoloproof.network import load_network
from yoloproof.runtime import SessionSpec, open_session
from yoloproof.simplify.choice import rewrites_for
from yoloproof.simplify.rewrites import simplify

Images = NDArray[np.float32]
FORMS = ("published", "stripped", "fused", "explicit")


def meaning(form: str, runtime: str) -> tuple[str, tuple[str, ...], int]:
    """Attention, rewrites and opset of a form such as "fused" or "fused-sums+entries@24" on a runtime."""
    form, _, opset = form.partition("@")
    attention, *changes = re.split("(?=[+-])", form)
    chosen = set(rewrites_for(runtime, "cpu", attention))
    for change in changes:
        (chosen.add if change[0] == "+" else chosen.discard)(change[1:])
    return attention, tuple(chosen), int(opset or OPSET)


def artifacts(folder: Path, runtime: str, forms: list[str], models: list[str]) -> dict[str, dict[str, Path]]:
    """Model → form → ONNX file as `runtime` gets it."""
    made: dict[str, dict[str, Path]] = {}
    for model in models:
        for form in forms:
            attention, rewrites, opset = meaning(form, runtime)
            trained = model == "yolov13n"
            network = load_network(str(demo_checkpoint()) if trained else model, attention, random_weights=not trained)
            path = folder / f"{model}-{runtime}-{form}.onnx"
            export_onnx(simplify(network, rewrites), path, opset=opset)
            made.setdefault(model, {})[form] = path
    return made


def medians(files: list[str], runtime: str, flush: bool, rounds: int) -> list[list[float]]:
    """For each round the median of five inferences of every file, seconds; turns in rotating order."""
    images = letterboxed(demo_images(), (640, 640))
    sessions = [
        open_session(SessionSpec(runtime, Path(f), threads=2, precision="float32", flush_to_zero=flush)) for f in files
    ]
    table = []
    for turn in range(rounds + 2):  # two rounds to warm up
        row = [0.0] * len(sessions)
        for k in range(len(sessions)):
            index = (k + turn) % len(sessions)
            taken = []
            for image in range(5):
                sessions[index].load(images[image % len(images)][None])
                started = time.perf_counter()
                sessions[index].execute()
                taken.append(time.perf_counter() - started)
            row[index] = float(np.median(taken))
        table.append(row)
    return table[2:]


def operators(path: Path, runtime: str, runs: int = 25) -> dict[str, list[float]]:
    """Operator → [how many, seconds of all of them in one inference], each operator's shortest of `runs`; one thread."""
    image = letterboxed(demo_images(), (640, 640))[:1]
    taken = (onnxruntime_times if runtime == "onnxruntime" else openvino_times)(path, image, runs)
    table: dict[str, list[float]] = {}
    for kind, seconds in taken:
        row = table.setdefault(kind, [0, 0.0])
        row[0] += 1
        row[1] += seconds
    return dict(sorted(table.items(), key=lambda item: -item[1][1]))


def onnxruntime_times(path: Path, image: Images, runs: int) -> list[tuple[str, float]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = 1, True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(runs):
        session.run(None, {"images": image})
    shortest: dict[tuple[str, str], float] = {}
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"], event["args"]["op_name"]
            shortest[key] = min(shortest.get(key, np.inf), event["dur"] * 1e-6)
    return [(kind, seconds) for (_, kind), seconds in shortest.items()]


def openvino_times(path: Path, image: Images, runs: int) -> list[tuple[str, float]]:
    import openvino
    from openvino import properties
    from openvino.properties import hint

    core = openvino.Core()
    request = core.compile_model(
        core.read_model(path), "CPU",
        {hint.inference_precision: openvino.Type.f32, hint.performance_mode: hint.PerformanceMode.LATENCY,
         properties.inference_num_threads: 1, properties.enable_profiling: True},
    ).create_infer_request()  # fmt: skip
    shortest: dict[tuple[str, str], float] = {}
    for _ in range(runs):
        request.infer({0: image})
        for node in request.get_profiling_info():
            if node.status == openvino.ProfilingInfo.Status.EXECUTED:
                key = node.node_name, node.node_type
                shortest[key] = min(shortest.get(key, np.inf), node.real_time.total_seconds())
    return [(kind, seconds) for (_, kind), seconds in shortest.items()]


def subnormal_share(path: Path) -> tuple[int, int]:
    """How many results of the Softmax operators are subnormal numbers, of how many; (0, 0) where there is no Softmax."""
    import onnxruntime

    model = load_onnx(path)
    names = [node.output[0] for node in model.graph.node if node.op_type == "Softmax"]
    if not names:
        return 0, 0
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    count = size = 0
    for image in letterboxed(demo_images(), (640, 640)):
        for weights in session.run(names, {"images": image[None]}):
            count += int(((weights != 0) & (np.abs(weights) < np.finfo(np.float32).tiny)).sum())
            size += weights.size
    return count, size


def print_operators(runtime: str, forms: dict[str, Path]) -> None:
    tables = {form: operators(path, runtime) for form, path in forms.items()}
    kinds = list(dict.fromkeys(kind for table in tables.values() for kind in table))
    print(f"| {runtime}, ms (how many) | {' | '.join(tables)} |")
    print("|---" * (1 + len(tables)) + "|")
    for kind in kinds:
        cells = [table.get(kind, [0, 0.0]) for table in tables.values()]
        if max(seconds for _, seconds in cells) >= 1e-4:
            print(f"| {kind} | {' | '.join(f'{seconds * 1e3:.2f} ({count:.0f})' for count, seconds in cells)} |")
    print(f"| all | {' | '.join(f'{sum(s for _, s in t.values()) * 1e3:.2f}' for t in tables.values())} |")
    shares = [subnormal_share(path) for path in forms.values()]
    cells = [f"{count} of {size}" if size else "unknown" for count, size in shares]
    print(f"| subnormal results of softmaxes | {' | '.join(cells)} |", flush=True)


def measured(runtime: str, made: dict[str, dict[str, Path]], rounds: int) -> list[dict[str, object]]:
    """One row for each model, flush-to-zero setting and form."""
    report: list[dict[str, object]] = []
    for model, forms in made.items():
        nodes = {form: len(load_onnx(path).graph.node) for form, path in forms.items()}
        for flush in ("0", "1"):
            command = [sys.executable, __file__, "--rounds", str(rounds), "--worker", runtime, flush]
            done = subprocess.run([*command, *map(str, forms.values())], capture_output=True, text=True, check=True)
            table = np.array(json.loads(done.stdout))
            for k, form in enumerate(forms):
                row = {"model": model, "runtime": runtime, "flush_to_zero": flush == "1", "form": form, "nodes": nodes[form],
                       "median_s": float(np.median(table[:, k])), "rounds": table[:, k].tolist()}  # fmt: skip
                for other in ("published", "stripped"):
                    ratio = table[:, k] / table[:, list(forms).index(other)]
                    low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
                    row[f"to_{other}"] = [float(low), float(middle), float(high)]
                report.append(row)
                print_row(row)
    return report


def print_row(row: dict[str, Any]) -> None:
    a, b = row["to_published"], row["to_stripped"]
    print(
        f"| {row['model']} | {row['runtime']} | {'yes' if row['flush_to_zero'] else 'no'} | {row['form']} | {row['nodes']}"
        f" | {row['median_s'] * 1e3:.1f} | {a[1]:.3f} ({a[0]:.3f}–{a[2]:.3f}) | {b[1]:.3f} ({b[0]:.3f}–{b[2]:.3f}) |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runtime", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--forms", nargs="+", default=[], help="besides published, stripped, fused and explicit")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--operators", action="store_true")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        runtime, flush, *files = arguments.worker
        print(json.dumps(medians(files, runtime, flush == "1", arguments.rounds)))
        return
    if arguments.json and arguments.json.exists():
        parser.error(f"{arguments.json} exists; nothing was overwritten")
    models = ["yolov13n"] if arguments.operators else ["yolov13n", "yolov13s"]
    report = []
    if not arguments.operators:
        print("| model | runtime | flush | form | nodes | ms | to published (10–90 %) | to stripped (10–90 %) |")
        print("|---|---|---|---|---|---|---|---|")
    for runtime in arguments.runtime:
        with tempfile.TemporaryDirectory() as name:
            made = artifacts(Path(name), runtime, [*FORMS, *arguments.forms], models)
            if arguments.operators:
                print_operators(runtime, made["yolov13n"])
            else:
                report += measured(runtime, made, arguments.rounds)
    if arguments.json and report:
        with arguments.json.open("x") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
