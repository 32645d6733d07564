"""Results made up for the tests, as records; their figures are random and seeded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from yoloproof.names import ArtifactFormat, Attention, Precision, Runtime, Weights
from yoloproof.records import (
    Accuracy,
    AccuracyProtocol,
    Artifact,
    Case,
    Check,
    Cpu,
    Entry,
    Gpu,
    LoadPoint,
    Machine,
    ModelFacts,
    Process,
    Protocol,
    PublishedFigure,
    Result,
    Run,
    RunWarning,
    ServerSummary,
    SessionFacts,
    Summary,
    Tool,
    Verdict,
)

ATTENTIONS = ("fused", "explicit", "published", "stripped")
SCALES = {
    "n": (2_500_000, 6_400_000_000, 0.416),
    "s": (9_000_000, 20_800_000_000, 0.480),
    "l": (27_600_000, 88_400_000_000, 0.534),
    "x": (64_000_000, 199_200_000_000, 0.548),
}
HOSTILE = (
    "</td></script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\" ' `|$x$ {{7*7}} \u202e\x07&amp;"
)
TOOL = Tool("yoloproof", "0.1.0")
CREATED = "2026-11-23T17:00:00Z"
REPORTED = PublishedFigure(
    model="yolov13n", latency_s=0.00197, gpu="Tesla T4", source="iMoonLab/yolov13 README", runtime="TensorRT",
    precision="fp16", imgsz=640, batch=1, ap=0.416, protocol="unstated",
)  # fmt: skip


def made_process(number: int, samples_s: Sequence[float], complete: bool = True) -> Process:
    """A process with these samples."""
    return Process(
        process=number, cold_start_s=0.4, open_s=0.3, first_inference_s=0.1, warmup_s=(0.1,) * 3,
        samples_s=tuple(samples_s), load_s=(0.001,) * 3, fetch_s=(0.001,) * 3, settled=True, complete=complete,
    )  # fmt: skip


def made_verdict(proved: bool | None) -> Verdict:
    """Checks that come to `proved`."""
    checks = [
        Check("graph", proved, {"attentions": 8}, "all reach the output"),
        Check("numeric parity", True, {"boxes_px": 0.0021}, "within 0.02 px"),
    ]
    if proved is not True:
        checks.append(Check("sensitivity", None, {}, "no weights to perturb"))
    return Verdict(tuple(checks))


def made_accuracy(ap: float, images: int = 5000) -> Accuracy:
    """COCO's figures on so many images; 5000 are COCO's own validation set."""
    protocol = AccuracyProtocol(
        evaluation="COCO bbox", resize="letterbox", imgsz=(640, 640), confidence=0.001, iou=0.7, max_detections=300,
        labels="best class of an anchor", nms="class-aware",
    )  # fmt: skip
    return Accuracy(
        AP=ap, AP50=ap + 0.15, AP75=ap, APsmall=ap, APmedium=ap, APlarge=ap, per_class={"person": ap}, images=images,
        detections=100 * images, protocol=protocol,
    )  # fmt: skip


def made_summary(median_s: float, batch: int = 1) -> Summary:
    """A summary around a median."""
    return Summary(
        median_s=median_s, interval_s=(median_s * 0.98, median_s * 1.03), confidence=0.95, p90_s=median_s * 1.1,
        p99_s=median_s * 1.3, mad_s=median_s * 0.01, mean_s=median_s, min_s=median_s * 0.97, fps=batch / median_s,
        samples=1000, processes=5, process_medians_s=(median_s,) * 5,
    )  # fmt: skip


def served_entry(highest_hz: float | None = 12.5, **changes: Any) -> Entry:
    """An entry of the protocol `server`: capacity 20 queries a second, 0.25 s allowed."""
    points = tuple(
        LoadPoint(rate_hz=20 * share, queries=500, p50_s=0.05 / (1.2 - share), p90_s=0.08 / (1.2 - share), p99_s=0.1 / (1.2 - share))
        for share in (0.1, 0.5, 0.9, 1.1)
    )  # fmt: skip
    at = (
        None if highest_hz is None else LoadPoint(rate_hz=highest_hz, queries=600, p50_s=0.06, p90_s=0.131, p99_s=0.246)
    )
    server = ServerSummary(
        sessions=2, capacity_hz=20.0, p99_bound_s=0.25, highest_hz=highest_hz,
        interval_hz=None if highest_hz is None else (11.2, 13.8), confidence=None if highest_hz is None else 0.9375,
        process_highest_hz=() if highest_hz is None else (11.2, 12.0, 12.5, 13.0, 13.8), at_highest=at, points=points,
    )  # fmt: skip
    entry = made_entry(accuracy=None, **changes)
    return replace(entry, summary=replace(made_summary(0.05), server=server))


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
) -> Entry:
    """One entry; `changes` replace whole fields."""
    chance = random.Random(f"{name}{attention}{runtime}{batch}")
    parameters, flops, ap = SCALES.get(name[-1], SCALES["n"])

    def column(index: int) -> list[float]:
        slow = (0.6 if chance.random() < 0.01 else 0 for _ in range(samples))
        return [median_s * (1 + 0.01 * index + 0.02 * abs(chance.gauss(0, 1)) + one) for one in slow]

    checkpoint = sha256(name.encode()).hexdigest()
    entry = Entry(
        case=Case(f"{name}.pt", Runtime(runtime), Precision.FP32, Attention(attention), batch=batch, threads=2),
        model=ModelFacts(
            name=name, family=name[:-1], scale=name[-1], classes=80, parameters=parameters, flops=flops,
            weights=Weights.TRAINED, source=f"{name}.pt", sha256=checkpoint,
        ),
        artifact=Artifact(
            format=ArtifactFormat.ONNX, sha256="ab" * 32, bytes=10_000_000, opset=23, precision=Precision.FP32,
            attention=Attention(attention), simplified=() if attention == "published" else ("norms", "groups"),
            imgsz=(640, 640), batch=batch, checkpoint_sha256=checkpoint, metadata={"by": "yoloproof 0.1.0"},
        ),
        runtime=SessionFacts(
            name=Runtime(runtime), version="1.32.0", device="cpu", provider="CPUExecutionProvider", threads=2,
            precision="float32", flush_to_zero=False,
        ),
        proof=made_verdict(proved),
        accuracy=made_accuracy(ap if proved else ap - 0.1),
        processes=tuple(made_process(index, column(index)) for index in range(processes)),
        summary=made_summary(median_s, batch),
        published=replace(REPORTED, model=name, ap=ap),
    )  # fmt: skip
    return replace(entry, **changes)


def made_run(cpu: str = "AMD EPYC 9B14", gpu: str | None = None, **changes: Any) -> Run:
    """A run on a machine; `changes` replace whole fields."""
    machine = Machine(
        cpu=Cpu(model=cpu, logical_cores=2, affinity=(0, 1)), gpu=None if gpu is None else Gpu(name=gpu),
        libraries={"numpy": "2.3", "onnxruntime": "1.32.0"},
    )  # fmt: skip
    run = Run(
        tool=TOOL, created=CREATED, command=("yoloproof", "profile", "yolov13n.pt", "--json", "out dir/x.json"),
        protocol=Protocol(name="latency", processes=5), machine=machine,
    )  # fmt: skip
    return replace(run, **changes)


def end_to_end_entry(**changes: Any) -> Entry:
    """A native engine that takes frames and gives detections."""
    entry = made_entry(runtime="native", **changes)
    return replace(entry, artifact=replace(entry.artifact, metadata={"frames": {"order": "rgb"}}))


def made_result(entries: Sequence[Entry], *runs: Run, **changes: Any) -> Result:
    """A result of the entries, of one run unless several are given; `changes` replace fields of that one run."""
    whole = runs or (made_run(**changes),)
    return Result(tool=TOOL, created=CREATED, command=whole[0].command, runs=whole, entries=tuple(entries))


def lab_result() -> Result:
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
    drift = RunWarning(
        "drift", "medians rose by 4.1 % from the first to the last process", "let the machine cool down", 1.041
    )
    entries[3] = replace(entries[3], warnings=(drift,))
    entries[8] = replace(entries[8], proof=made_verdict(None))
    failed = made_entry("yolov12x", "fused", "tensorrt", processes=0)
    failed = replace(failed, summary=None, accuracy=None, proof=Verdict(), error="timed out after 900 s, twice")
    governor = RunWarning("governor", "powersave on 2 of 2 cores", "cpupower frequency-set -g performance")
    return made_result([*entries, failed], warnings=(governor,))
