"""Our export against the published graph and against the broken one, interleaved in one run.

    python benchmarks/export.py [--rounds 30] [--runtime onnxruntime openvino] [--json FILE]

For the trained yolov13n (bundled) and a seeded yolov13s, float32, batch 1, 640 px: ratios of medians to `published`
(unsimplified) with the spread of the rounds' ratios, with and without flush-to-zero on every side, and node counts.
ONNX Runtime sets flush-to-zero for a process, so each setting is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from yoloproof.artifact.onnx import export_onnx
from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.network import load_network
from yoloproof.network.simplify import simplify
from yoloproof.onnx_file import load_onnx
from yoloproof.profiling import CPU_REWRITES, PUBLISHED_REWRITES
from yoloproof.runtime import SessionSpec, open_session

FORMS = {
    "published": ("published", PUBLISHED_REWRITES),
    "stripped": ("stripped", PUBLISHED_REWRITES),
    "fused": ("fused", CPU_REWRITES),
    "explicit": ("explicit", CPU_REWRITES),
}


def artifacts(folder: Path) -> dict[str, dict[str, Path]]:
    """Model → form → ONNX file."""
    made: dict[str, dict[str, Path]] = {}
    for model, random in ((str(demo_checkpoint()), False), ("yolov13s", True)):
        for form, (attention, rewrites) in FORMS.items():
            network = load_network(model, attention, random_weights=random)
            path = folder / f"{network.variant.name}-{form}.onnx"
            export_onnx(simplify(network, rewrites), path)
            made.setdefault(network.variant.name, {})[form] = path
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runtime", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        runtime, flush, *files = arguments.worker
        print(json.dumps(medians(files, runtime, flush == "1", arguments.rounds)))
        return
    report = []
    with tempfile.TemporaryDirectory() as name:
        made = artifacts(Path(name))
        for model, forms in made.items():
            nodes = {form: len(load_onnx(path).graph.node) for form, path in forms.items()}
            for runtime in arguments.runtime:
                for flush in ("0", "1"):
                    command = [sys.executable, __file__, "--rounds", str(arguments.rounds), "--worker", runtime, flush]
                    done = subprocess.run(
                        [*command, *map(str, forms.values())], capture_output=True, text=True, check=True
                    )
                    table = np.array(json.loads(done.stdout))
                    for k, form in enumerate(forms):
                        row = {"model": model, "runtime": runtime, "flush_to_zero": flush == "1", "form": form, "nodes": nodes[form],
                               "median_s": float(np.median(table[:, k])), "rounds": table[:, k].tolist()}  # fmt: skip
                        for other in ("published", "stripped"):
                            ratio = table[:, k] / table[:, list(forms).index(other)]
                            low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
                            row[f"to_{other}"] = [float(low), float(middle), float(high)]
                        report.append(row)
    print("| model | runtime | flush | form | nodes | ms | to published (10–90 %) | to stripped (10–90 %) |")
    print("|---|---|---|---|---|---|---|---|")
    for row in report:
        a, b = row["to_published"], row["to_stripped"]
        print(
            f"| {row['model']} | {row['runtime']} | {'yes' if row['flush_to_zero'] else 'no'} | {row['form']} | {row['nodes']}"
            f" | {row['median_s'] * 1e3:.1f} | {a[1]:.3f} ({a[0]:.3f}–{a[2]:.3f}) | {b[1]:.3f} ({b[0]:.3f}–{b[2]:.3f}) |"
        )
    if arguments.json:
        with arguments.json.open("x") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
