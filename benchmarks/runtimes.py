"""OpenVINO against ONNX Runtime on this CPU, interleaved in one run.

    python benchmarks/runtimes.py yolov13n-coco128.pt --image coco128/images/000000000009.jpg

Every round runs every runtime a few times, in an order drawn anew, so that what else the machine does meets all of
them. A ratio is taken within a round; its spread over the rounds is the 5th and 95th percentile. A trained checkpoint
and a real image matter: subnormal numbers, which only these make, slow ONNX Runtime down (--random shows how much). The
last two columns hold each row to the first one's outputs on that image.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from yoloproof.artifact.onnx import export_onnx
from yoloproof.errors import YoloproofError
from yoloproof.network import load_network
from yoloproof.runtime import Session, SessionSpec, available_runtimes, open_session
from yoloproof.simplify.rewrites import simplify

RUNS_PER_ROUND = 3


def image_from_file(path: Path, size: int) -> np.ndarray:
    """[1, 3, size, size], RGB in 0…1, the picture stretched."""
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    resized = cv2.resize(picture, (size, size)).astype(np.float32) / 255
    return np.ascontiguousarray(resized.transpose(2, 0, 1)[None])


def sessions(stack: contextlib.ExitStack, files: dict[str, Path], threads: int) -> dict[str, Session]:
    """Every row that this machine can run; the first is the one the others are held to."""
    opened: dict[str, Session] = {}
    for graph, path in files.items():
        for runtime, precision, flush in (
            ("onnxruntime", "float32", False),
            ("onnxruntime", "float32", True),
            ("openvino", "float32", False),
            ("openvino", "float32", True),
            ("openvino", "bfloat16", True),
        ):
            if runtime not in available_runtimes():
                continue
            spec = SessionSpec(runtime, path, threads=threads, precision=precision, flush_to_zero=flush)
            label = f"{runtime} | {graph} | {precision} | {'yes' if flush else 'no'}"
            try:
                opened[label] = stack.enter_context(open_session(spec))
            except YoloproofError as error:
                print(f"left out: {error}")
    return opened


def interleaved(opened: dict[str, Session], rounds: int, seed: int) -> dict[str, list[float]]:
    """Label → the median seconds of each round; the first round warms up and is dropped."""
    order, generator = list(opened), random.Random(seed)
    taken: dict[str, list[float]] = {label: [] for label in opened}
    for _ in range(rounds + 1):
        generator.shuffle(order)
        for label in order:
            samples = []
            for _ in range(RUNS_PER_ROUND):
                started = time.perf_counter()
                opened[label].execute()
                samples.append(time.perf_counter() - started)
            taken[label].append(statistics.median(samples))
    return {label: medians[1:] for label, medians in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint, or a variant's name with --random")
    parser.add_argument("--image", type=Path, help="a picture; without it random pixels")
    parser.add_argument("--random", action="store_true", help="seeded random weights")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    network = load_network(arguments.model, random_weights=arguments.random).eval()
    published = load_network(arguments.model, "published", random_weights=arguments.random).eval()
    size = arguments.imgsz
    pixels = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    images = image_from_file(arguments.image, size) if arguments.image else pixels
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        files = {"published": Path(folder, "published.onnx"), "simplified": Path(folder, "simplified.onnx")}
        export_onnx(published, files["published"], imgsz=(size, size))
        export_onnx(simplify(network), files["simplified"], imgsz=(size, size))
        opened = sessions(stack, files, arguments.threads)
        outputs = {label: session.infer(images)[0].astype(np.float32) for label, session in opened.items()}
        taken = interleaved(opened, arguments.rounds, seed=0)
    print_table(taken, outputs)


def print_table(taken: dict[str, list[float]], outputs: dict[str, np.ndarray]) -> None:
    first = next(iter(taken))
    print("| runtime | graph | precision | flush to zero | median ms | speed-up (5 … 95 %) | box off, px | score off |")
    print("|---|---|---|---|---:|---|---:|---:|")
    for label, medians in taken.items():
        ratios = [reference / own for reference, own in zip(taken[first], medians, strict=True)]
        low, middle, high = np.percentile(ratios, [5, 50, 95])
        off = np.abs(outputs[label] - outputs[first])
        cells = f"{statistics.median(medians) * 1e3:.1f} | {middle:.2f} ({low:.2f} … {high:.2f})"
        print(f"| {label} | {cells} | {off[:, :4].max():.3f} | {off[:, 4:].max():.4f} |")


if __name__ == "__main__":
    main()
