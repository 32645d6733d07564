"""Result files made up for the tests: they follow schema 1, their figures are random and seeded."""

from __future__ import annotations

import random
from typing import Any

ATTENTIONS = ("fused", "explicit", "published", "stripped")
SCALES = {
    "n": (2.5e6, 6.4e9, 0.416),
    "s": (9.0e6, 20.8e9, 0.480),
    "l": (27.6e6, 88.4e9, 0.534),
    "x": (64e6, 199.2e9, 0.548),
}
HOSTILE = (
    "</td></script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\" ' `|$x$ {{7*7}} \u202e\x07&amp;"
)


def made_entry(
    name: str = "yolov13n",
    attention: str = "fused",
    runtime: str = "onnxruntime",
    batch: int = 1,
    median_s: float = 0.0704,
    proved: bool | None = True,
    processes: int = 5,
    samples: int = 200,
    **changes: Any,
) -> dict[str, Any]:
    """One entry of a result file; `changes` replace whole keys."""
    chance = random.Random(f"{name}{attention}{runtime}{batch}")
    parameters, flops, ap = SCALES.get(name[-1], SCALES["n"])
    runs = [
        {
            "cold_start_s": 0.4,
            "warmup_s": [median_s * 1.5] * 3,
            "samples_s": [
                median_s * (1 + 0.01 * index + 0.02 * abs(chance.gauss(0, 1)) + (0.6 if chance.random() < 0.01 else 0))
                for _ in range(samples)
            ],
            "device_s": None,
            "load_s": [0.001] * 3,
            "fetch_s": [0.001] * 3,
        }
        for index in range(processes)
    ]
    entry = {
        "model": {
            "name": name, "family": name[:-1], "scale": name[-1], "classes": 80, "parameters": parameters,
            "flops": flops,
            "weights": "trained", "source": f"{name}.pt", "sha256": "66" * 32,
        },
        "artifact": {
            "path": f"{name}-{attention}.onnx", "format": "onnx", "sha256": "ab" * 32, "bytes": 10_000_000, "opset": 23,
            "precision": "float32", "attention": attention, "simplified": attention != "published", "imgsz": [640, 640],
            "batch": batch, "checkpoint_sha256": "66" * 32, "made": {"by": "yoloproof 0.1.0"},
        },
        "runtime": {
            "name": runtime, "version": "1.32.0", "device": "cpu", "provider": "CPUExecutionProvider", "threads": 2,
            "precision": "float32", "flush_to_zero": False,
        },
        "proof": {
            "passed": proved,
            "checks": [
                {"name": "graph", "passed": proved, "figures": {"attentions": 8}, "detail": "all reach the output"},
                {"name": "numeric parity", "passed": True, "figures": {"boxes_px": 0.0021}, "detail": "within 0.02 px"},
                {"name": "sensitivity", "passed": None, "figures": {}, "detail": "no weights to perturb"},
            ],
        },
        "accuracy": {"AP": ap if proved else ap - 0.1, "AP50": ap + 0.15, "AP75": ap, "protocol": "COCO"},
        "processes": runs,
        "summary": {
            "median_s": median_s, "interval_s": [median_s * 0.98, median_s * 1.03], "p90_s": median_s * 1.1,
            "p99_s": median_s * 1.3, "mad_s": median_s * 0.01, "fps": batch / median_s,
        },
        "end_to_end": None,
        "warnings": [],
        "published": {
            "model": name, "latency_s": 0.00197, "gpu": "Tesla T4", "runtime": "TensorRT", "precision": "fp16",
            "imgsz": 640, "batch": 1, "ap": 100 * ap, "protocol": "unstated", "source": "iMoonLab/yolov13 README",
        },
    }  # fmt: skip
    return {**entry, **changes}


def made_result(entries: list[dict[str, Any]], machine: str = "AMD EPYC 9B14", **changes: Any) -> dict[str, Any]:
    """A result file of the entries."""
    result = {
        "schema": 1, "tool": {"name": "yoloproof", "version": "0.1.0"}, "created": "2026-11-23T17:00:00Z",
        "command": ["yoloproof", "profile", "yolov13n.pt", "--json", "out dir/x.json"],
        "quick": False, "partial": False,
        "machine": {"cpu": {"name": machine, "cores": 2}, "gpu": None, "libraries": {"numpy": "2.3"}},
        "protocol": {"name": "latency", "processes": 5, "warmup": {"runs": 20, "seconds": 1.0}},
        "entries": entries, "warnings": [],
    }  # fmt: skip
    return {**result, **changes}


def lab_result() -> dict[str, Any]:
    """Two families, four scales, four attentions, two runtimes and a batch sweep; the stripped ones unproved."""
    entries = []
    base = {"n": 0.0704, "s": 0.170, "l": 0.520, "x": 1.05}
    factor = {"fused": 0.75, "explicit": 0.8, "published": 1.0, "stripped": 0.62}
    for family, speed in (("yolov13", 1.0), ("yolov12", 0.93)):
        for scale, seconds in base.items():
            for attention in ATTENTIONS:
                for runtime, pace in (("onnxruntime", 1.0), ("openvino", 0.45)):
                    median = seconds * speed * factor[attention] * pace
                    proved = attention != "stripped"
                    entries.append(made_entry(f"{family}{scale}", attention, runtime, median_s=median, proved=proved))
    for batch in (2, 4, 8):
        entries.append(made_entry("yolov13n", "fused", "openvino", batch, median_s=0.0238 * batch**0.85))
    entries[3]["warnings"] = [
        {
            "code": "drift",
            "evidence": "medians rose by 4.1 % from the first to the last process",
            "advice": "let the machine cool down and measure again",
        }
    ]
    entries[8]["proof"]["passed"] = None
    failed = made_entry("yolov12x", "fused", "tensorrt", processes=0)
    failed.update(
        summary=None, accuracy=None, proof={"passed": None, "checks": []}, failure="timed out after 900 s, twice"
    )
    entries.append(failed)
    run_warning = {
        "code": "governor",
        "evidence": "powersave on 2 of 2 cores",
        "advice": "cpupower frequency-set -g performance",
    }
    return made_result(entries, warnings=[run_warning])
