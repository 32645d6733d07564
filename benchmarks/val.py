"""Is the evaluation a bottleneck? Rate of `val` against the bare runtime's on the same session, turn by turn.

`python benchmarks/val.py --data ../shared/coco128 --runtime openvino` runs `rounds` of both, interleaved, on the same
images, and prints the ratio of each round and their median and range. 1.0: the evaluation costs nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

from yoloproof.demo import demo_checkpoint
from yoloproof.detection.accuracy import accuracy_of
from yoloproof.detection.coco import set_of_folder
from yoloproof.detection.letterbox import letterboxed
from yoloproof.names import Runtime
from yoloproof.opening import opened
from yoloproof.records import Case


def main() -> None:
    """Print each round's rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default=str(demo_checkpoint()))
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    case = Case(given.model, Runtime(given.runtime), threads=given.threads)
    with opened(case) as model:
        data = set_of_folder(given.data, list(model.names.values()))
        data = replace(data, files=data.files[: given.images], ids=data.ids[: given.images])
        ready = letterboxed(data.files[:8], model.imgsz)
        model.session.infer(ready[:1])
        ratios = []
        for number in range(given.rounds):
            started = time.perf_counter()
            for i in range(len(data.files)):
                model.session.infer(ready[i % len(ready)][None])
            bare = len(data.files) / (time.perf_counter() - started)
            started = time.perf_counter()
            accuracy = accuracy_of(model.session, model.names, data, imgsz=model.imgsz)
            whole = len(data.files) / (time.perf_counter() - started)
            ratios.append(whole / bare)
            print(f"round {number + 1}: bare {bare:.2f} images/s, val {whole:.2f} images/s, ratio {ratios[-1]:.3f}")
        print(
            f"{given.runtime}, {len(data.files)} images, AP {accuracy.AP or 0.0:.3f}: val at {statistics.median(ratios):.2f}"
            f" of the bare rate ({min(ratios):.2f}–{max(ratios):.2f}, {len(ratios)} rounds)"
        )


if __name__ == "__main__":
    main()
