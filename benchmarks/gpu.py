"""The forms of a network side by side on one GPU, proved and interleaved: the tables of docs/performance.md.

    python benchmarks/gpu.py --models demo yolov13s --json gpu.json

`demo` is the trained checkpoint that ships with the package; other names take seeded random weights. Every form runs
in float16, channels-last, replayed from a CUDA graph; `compiled` forms went through torch.compile first. Rounds visit
the forms in an order drawn anew; a ratio is taken within a round, its spread is the 5th and 95th percentile.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import yoloproof
from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.errors import YoloproofError
from yoloproof.measurement.machine import machine_facts
from yoloproof.network import Network, load_network
from yoloproof.network.flops import flops
from yoloproof.network.gpu import gpu_network
from yoloproof.network.simplify import simplify
from yoloproof.proof.parity import TOLERANCES
from yoloproof.proof.verdict import Verdict
from yoloproof.proof.verify import running_checks
from yoloproof.results.file import write_result
from yoloproof.runtime import SessionSpec, open_session
from yoloproof.runtime.base import Session

RUNS_PER_ROUND = 10
FORMS: dict[str, tuple[str, bool]] = {  # form → attention, compiled
    "published": ("published", False),
    "stripped": ("stripped", False),
    "simplified": ("fused", False),
    "gpu": ("fused", False),
    "published compiled": ("published", True),
    "stripped compiled": ("stripped", True),
    "simplified compiled": ("fused", True),
    "gpu compiled": ("fused", True),
}


def loaded(model: str, attention: str) -> Network:
    if model == "demo":
        return load_network(demo_checkpoint(), attention)
    return load_network(model, attention, random_weights=True)


def network_of_form(model: str, form: str) -> Network:
    attention, _ = FORMS[form]
    network = loaded(model, attention)
    if form.startswith(("published", "stripped")):
        return simplify(network, ("norms",))
    return gpu_network(simplify(network)) if form.startswith("gpu") else simplify(network)


def opened(model: str, form: str, images: NDArray[np.float32]) -> Session:
    """The form in a session with `images` loaded: compiled and captured, outside of any timing."""
    _, compiled = FORMS[form]
    options = {"compile": compiled}

    def network() -> Network:
        made = network_of_form(model, form)
        if compiled and form.startswith("gpu"):  # its convolutions choose before the compiler sees them
            made = made.to(device="cuda", dtype=torch.float16).to(memory_format=torch.channels_last)
            sample = torch.from_numpy(images).to("cuda", torch.float16).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                made(sample)
        return made

    torch.compiler.reset()
    session = open_session(SessionSpec("pytorch", device="cuda", precision="float16", network=network, options=options))
    session.load(images)
    session.facts["form"] = form
    return session


def interleaved(sessions: dict[str, Session], rounds: int, seed: int) -> dict[str, list[float]]:
    """Form → the median device seconds of each round; two rounds warm up and are dropped."""
    order, generator = list(sessions), random.Random(seed)
    taken: dict[str, list[float]] = {form: [] for form in sessions}
    for _ in range(rounds + 2):
        generator.shuffle(order)
        for form in order:
            samples = [sessions[form].execute() for _ in range(RUNS_PER_ROUND)]
            taken[form].append(statistics.median(s for s in samples if s is not None))
    return {form: medians[2:] for form, medians in taken.items()}


def kernels_of(session: Session) -> list[dict[str, Any]]:
    """Kernels of one replay by name: calls and device seconds, longest first."""
    from torch.profiler import ProfilerActivity, profile

    session.execute()
    with profile(activities=[ProfilerActivity.CUDA]) as taken:
        session.execute()
        torch.cuda.synchronize()
    rows = [
        {"kernel": event.key[:90], "calls": event.count, "seconds": event.self_device_time_total / 1e6}
        for event in taken.key_averages()
        if event.self_device_time_total > 0
    ]
    return sorted(rows, key=lambda row: -row["seconds"])


def ceilings() -> dict[str, float]:
    """Bytes per second of a large device copy (read and written) and float16 operations per second of a matrix product."""
    a = torch.randn(1 << 28, device="cuda", dtype=torch.float16)
    b = torch.empty_like(a)
    copied = 2 * a.numel() * 2 / _seconds(lambda: b.copy_(a))
    n = 8192
    x, y = (torch.randn(n, n, device="cuda", dtype=torch.float16) for _ in range(2))
    return {"copy_bytes_per_s": copied, "float16_flops_per_s": 2 * n**3 / _seconds(lambda: x @ y)}


def _seconds(call: Callable[[], Any], repeats: int = 20) -> float:
    taken = []
    for _ in range(repeats + 3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1e3)
    return statistics.median(taken[3:])


def proved(session: Session, reference: Network, images: NDArray[np.float32]) -> Verdict:
    """As everywhere: against the network in float32 on the CPU."""
    checks = running_checks(session, reference, images, TOLERANCES["fp16"], lambda step: None)
    return Verdict(tuple(checks))


def entry(
    model: str, form: str, batch: int, session: Session, medians: list[float], base: list[float], verdict: Any,
    network: Network, kernels: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    ratios = [own / other for own, other in zip(medians, base, strict=True)]
    median = statistics.median(medians)
    spread = statistics.median(abs(m - median) for m in medians)
    name = network.variant.name
    summary = {
        "median_s": median, "mad_s": spread, "p90_s": float(np.percentile(medians, 90)), "interval_s": None,
        "fps": batch / median, "min_s": min(medians),
        "ratio_to_published": dict(zip(("p5", "p50", "p95"), np.percentile(ratios, [5, 50, 95]), strict=True)),
    }  # fmt: skip
    return {
        "model": {
            "name": name, "family": network.variant.family, "scale": network.variant.scale,
            "classes": network.classes, "parameters": sum(p.numel() for p in network.parameters()),
            "flops": flops(network, (640, 640)), "weights": "trained" if network.sha256 else "random",
            "source": "demo" if model == "demo" else network.source, "sha256": network.sha256,
        },
        "artifact": {
            "path": None, "format": "pytorch", "sha256": network.sha256, "precision": "fp16",
            "attention": FORMS[form][0], "form": form, "imgsz": [640, 640], "batch": batch,
        },
        "runtime": dict(session.facts),
        "proof": verdict.as_dict() if verdict else {"passed": None, "checks": []},
        "processes": [{"round_medians_s": medians}],
        "summary": summary,
        "kernels": {
            "launches": sum(k["calls"] for k in kernels), "busy_s": sum(k["seconds"] for k in kernels),
            "by_name": kernels[:40],
        },
        "warnings": [],
    }  # fmt: skip


def measured(
    model: str, batch: int, forms: list[str], images: NDArray[np.float32], rounds: int
) -> Iterator[dict[str, Any]]:
    """The entries of one model at one batch size; a form that cannot be opened says why and is left out."""
    batch_images = np.concatenate([images] * -(-batch // len(images)))[:batch]
    sessions: dict[str, Session] = {}
    with contextlib.ExitStack() as stack:
        for form in forms:
            started = time.perf_counter()
            try:
                sessions[form] = stack.enter_context(opened(model, form, batch_images))
            except YoloproofError as error:
                print(f"left out: {model} {form}: {error}", flush=True)
                continue
            print(f"opened {model} x{batch} {form} in {time.perf_counter() - started:.0f} s", flush=True)
        taken = interleaved(sessions, rounds, seed=0)
        for form, medians in taken.items():
            print(f"{model} x{batch} {form}: {statistics.median(medians) * 1e3:.3f} ms, not yet proved", flush=True)
        listed = {form: kernels_of(session) for form, session in sessions.items()}
        reference = loaded(model, "fused")
        for form, session in sessions.items():
            base = "published compiled" if FORMS[form][1] and "published compiled" in taken else "published"
            verdict = None
            if batch == 1:  # a second batch size runs the same kernels' other shapes: see `agreement`
                verdict = proved(session, reference, images)
            else:
                verdict = proved_batch(session, reference, batch_images)
            yield entry(
                model, form, batch, session, taken[form], taken.get(base, taken[form]), verdict, reference, listed[form]
            )


def proved_batch(session: Session, reference: Network, images: NDArray[np.float32]) -> Verdict:
    """Outputs of a whole batch against the reference, image by image (equal images compared once)."""
    from yoloproof.proof.parity import output_parity

    given = np.asarray(session.infer(images)[0], np.float32)
    with torch.inference_mode():
        wanted = reference(torch.from_numpy(images[:4])).numpy()
    checks = [
        output_parity(wanted, given[i : i + 4], TOLERANCES["fp16"], f"images {i} to {i + 3}")
        for i in range(0, len(images), 4)
    ]
    return Verdict(tuple(checks))


def table(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "| model | form | median ms | of published (5 … 95 %) | launches | busy ms | images/s | proof |"
    yield "|---|---|---:|---|---:|---:|---:|---|"
    for e in entries:
        s, r = e["summary"], e["summary"]["ratio_to_published"]
        batch = e["artifact"]["batch"]
        name = e["model"]["name"] + (f" ×{batch}" if batch > 1 else "")
        proof = {True: "✓", False: "✗", None: "?"}[e["proof"]["passed"]]
        yield (
            f"| {name} | {e['artifact']['form']} | {s['median_s'] * 1e3:.3f} | {r['p50']:.3f} ({r['p5']:.3f} … {r['p95']:.3f})"
            f" | {e['kernels']['launches']} | {e['kernels']['busy_s'] * 1e3:.3f} | {s['fps']:.0f} | {proof} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["demo"], help="demo, or variants, with @B for a batch of B")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=540.0, help="no further model is begun after this")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py: no CUDA device is visible")
    if arguments.json.exists():
        raise SystemExit(f"benchmarks/gpu.py: {arguments.json} exists; nothing is overwritten")
    started, images = time.perf_counter(), letterboxed(demo_images(), (640, 640))
    result: dict[str, Any] = {
        "schema": 1, "tool": {"name": "yoloproof", "version": yoloproof.__version__},
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "command": sys.argv,
        "quick": False, "partial": False, "machine": machine_facts("cuda"), "ceilings": ceilings(), "warnings": [],
        "protocol": {"name": "interleaved", "rounds": arguments.rounds, "runs_per_round": RUNS_PER_ROUND},
        "entries": [],
    }  # fmt: skip
    print(result["ceilings"], flush=True)
    for wanted in arguments.models:
        if time.perf_counter() - started > arguments.seconds:
            result["partial"] = True
            print(f"not begun for want of time: {wanted}")
            continue
        model, _, batch = wanted.partition("@")
        before = len(result["entries"])
        result["entries"] += measured(model, int(batch or 1), arguments.forms, images, arguments.rounds)
        print("\n".join(table(result["entries"][before:])), flush=True)
    write_result(result, arguments.json)
    for e in result["entries"]:
        for check in e["proof"]["checks"]:
            if not check["passed"]:
                print(e["model"]["name"], e["artifact"]["form"], check["name"], check["detail"])


if __name__ == "__main__":
    main()
