"""The forms of a network side by side on one GPU, proved and interleaved: the tables of docs/performance.md.

    python benchmarks/gpu.py --models demo yolov13s yolov13n@32 --json gpu.json

`demo` is the trained checkpoint that ships with the package; other names take seeded random weights; `@B` is a batch.
Every form runs in float16, channels-last, replayed from a CUDA graph; `compiled` forms went through torch.compile first.
Rounds visit the forms in an order drawn anew; a ratio is taken within a round, its spread is the 5th and 95th percentile.
Kernels are compiled by all CPUs before anything is timed, proofs run on the CPU beside the next model's timing (all
forms of the first model; the published one and ours of the others), and the file is written anew after every model, so
that a run cut short leaves what it has. Of the GPU form's ways to launch, only the quickest on the first model goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_blocks import attention_ways, ceilings, layer_costs, layer_seconds
from numpy.typing import NDArray

import yoloproof
from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.errors import YoloproofError
from yoloproof.kernels import gpu_network
from yoloproof.kernels.compiling import compile_ahead
from yoloproof.kernels.launch import Compilation, compilations
from yoloproof.measurement.machine import machine_facts
from yoloproof.names import Precision
from yoloproof.network import Network, load_network
from yoloproof.network.flops import flops
from yoloproof.proof.parity import TOLERANCES
from yoloproof.proof.reference import Reference
from yoloproof.proof.running import as_taken, running_checks
from yoloproof.records import Verdict
from yoloproof.results.schema import json_from_verdict
from yoloproof.runtime import SessionSpec, open_session
from yoloproof.runtime.base import Outputs, Session, TensorSpec
from yoloproof.simplify.rewrites import simplify

Array = NDArray[np.float32]
RUNS_PER_ROUND = 10
FORMS: dict[str, tuple[str, bool]] = {  # form → attention, compiled
    "published": ("published", False),
    "explicit": ("explicit", False),
    "stripped": ("stripped", False),
    "simplified": ("fused", False),
    "gpu serial": ("fused", False),  # the GPU form without branches side by side
    "gpu": ("fused", False),
    "gpu early": ("fused", False),  # and with programmatic dependent launch
    "published compiled": ("published", True),
    "stripped compiled": ("stripped", True),
    "simplified compiled": ("fused", True),
}
GPU_FORMS = ("gpu serial", "gpu", "gpu early")
UNCOMPILED = tuple(form for form, (_, compiled) in FORMS.items() if not compiled)


def loaded(model: str, attention: str) -> Network:
    if model == "demo":
        return load_network(demo_checkpoint(), attention)
    return load_network(model, attention, random_weights=True)


def network_of_form(model: str, form: str) -> Network:
    network = loaded(model, FORMS[form][0])
    if form.startswith(("published", "stripped")):
        return simplify(network, ("norms",))
    if form.startswith("gpu"):
        return gpu_network(simplify(network), overlap=form != "gpu serial", early_start=form == "gpu early")
    return simplify(network)


def opened(model: str, form: str, images: Array) -> Session:
    """The form in a session with `images` loaded: compiled and captured, outside of any timing."""
    torch.compiler.reset()
    session = open_session(
        SessionSpec(
            "pytorch", device="cuda", precision="float16", network=lambda: network_of_form(model, form),
            options={"compile": FORMS[form][1]},
        )
    )  # fmt: skip
    session.load(images)
    session.facts["form"] = form
    return session


def warmed(plan: list[tuple[str, int, list[str]]]) -> None:
    """Fill Triton's and Inductor's caches on disk, all CPUs at work; nothing is timed meanwhile."""
    children = [
        subprocess.Popen([sys.executable, __file__, "--warm", model, str(batch), form], stdout=subprocess.DEVNULL)
        for model, batch, forms in plan
        for form in forms
        if FORMS[form][1]
    ]
    wanted: set[Compilation] = set()
    for model, batch, forms in plan:
        for form in forms:
            if form.startswith("gpu") and form != "gpu serial":  # whose kernels are those of "gpu"
                wanted |= compilations(network_of_form(model, form), (batch, 3, 640, 640))
    if wanted:
        started = time.perf_counter()
        count = compile_ahead(wanted, max(2, (os.cpu_count() or 2) - len(children) // 2))
        print(f"{count} kernels compiled in {time.perf_counter() - started:.0f} s", flush=True)
    for child in children:
        child.wait()


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


class Recorded(Session):
    """What a session answered, by its input: so that a proof can run elsewhere while the GPU goes on."""

    def __init__(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], facts: dict[str, Any]) -> None:
        self.inputs, self.outputs, self.facts = inputs, outputs, facts
        self.answers: dict[str, Outputs] = {}

    def load(self, images: Array) -> None:
        self.key = hashlib.sha256(np.ascontiguousarray(images)).hexdigest()

    def execute(self) -> None:
        return None

    def fetch(self) -> Outputs:
        return self.answers[self.key]


def recorded(session: Session, images: Array) -> Recorded:
    """Answers to every input that `running_checks` asks about, whatever it asks in whichever order."""
    kept = Recorded(session.inputs, session.outputs, session.facts)
    noise = np.random.default_rng(0).random((1, *images.shape[1:]), np.float32)
    for one in as_taken(np.concatenate([images, noise]), session)[:, None]:
        kept.load(one)
        kept.answers[kept.key] = session.infer(one)
    return kept


def proved(model: str, session: Recorded, images: Array, threads: int) -> dict[str, Any]:
    """As everywhere: against the network in float32 on the CPU."""
    torch.set_num_threads(threads)
    checks = running_checks(session, Reference(loaded(model, "fused")), images, TOLERANCES[Precision.FP16], lambda step: None)
    return json_from_verdict(Verdict(tuple(checks)))


def proved_batch(model: str, given: Array, images: Array, threads: int) -> dict[str, Any]:
    """Outputs of a whole batch against the network's for its first four images, which the batch repeats."""
    from yoloproof.proof.parity import output_parity

    torch.set_num_threads(threads)
    with torch.inference_mode():
        wanted = loaded(model, "fused")(torch.from_numpy(images[:4])).numpy()
    checks = [
        output_parity(wanted, given[i : i + 4], TOLERANCES[Precision.FP16], f"images {i} to {i + 3}")
        for i in range(0, len(images), 4)
    ]
    return json_from_verdict(Verdict(tuple(checks)))


def entry(
    network: Network, form: str, batch: int, session: Session, medians: list[float], base: list[float],
    kernels: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    ratios = [own / other for own, other in zip(medians, base, strict=True)]
    median = statistics.median(medians)
    summary = {
        "median_s": median, "mad_s": statistics.median(abs(m - median) for m in medians),
        "p90_s": float(np.percentile(medians, 90)), "interval_s": None, "fps": batch / median, "min_s": min(medians),
        "ratio_to_published": dict(zip(("p5", "p50", "p95"), np.percentile(ratios, [5, 50, 95]), strict=True)),
    }  # fmt: skip
    variant = network.variant
    return {
        "model": {
            "name": variant.name, "family": variant.family, "scale": variant.scale, "classes": network.classes,
            "parameters": sum(p.numel() for p in network.parameters()), "flops": flops(network, (640, 640)),
            "weights": "trained" if network.sha256 else "random", "source": network.source, "sha256": network.sha256,
        },
        "artifact": {
            "path": None, "format": "pytorch", "sha256": network.sha256, "bytes": None, "opset": None,
            "precision": "fp16", "attention": FORMS[form][0], "form": form, "simplified": [], "imgsz": [640, 640],
            "batch": batch, "checkpoint_sha256": network.sha256, "made": {},
        },
        "runtime": dict(session.facts),
        "proof": {"passed": None, "checks": []},
        "processes": [{"round_medians_s": medians}],
        "summary": summary,
        "kernels": {
            "launches": sum(k["calls"] for k in kernels), "busy_s": sum(k["seconds"] for k in kernels),
            "by_name": kernels[:40],
        },
        "warnings": [],
    }  # fmt: skip


def measured(
    model: str, batch: int, forms: list[str], images: Array, rounds: int,
    prove: Callable[..., Future[dict[str, Any]]], every: bool,
) -> list[tuple[dict[str, Any], Future[dict[str, Any]] | None]]:  # fmt: skip
    """The entries of one model at one batch size, each with its verdict to come (`every`: of all forms, else of the
    published one and ours); a form that cannot be opened is said and left out."""
    batch_images = np.concatenate([images] * -(-batch // len(images)))[:batch]
    sessions: dict[str, Session] = {}
    with contextlib.ExitStack() as stack:
        for form in forms:
            started = time.perf_counter()
            try:
                sessions[form] = stack.enter_context(opened(model, form, batch_images))
            except (YoloproofError, RuntimeError) as error:
                print(f"left out: {model} {form}: {str(error)[:300]}", flush=True)
                continue
            print(f"opened {model} x{batch} {form} in {time.perf_counter() - started:.1f} s", flush=True)
        taken = interleaved(sessions, rounds, seed=0)
        network, made = loaded(model, "fused"), []
        for form, session in sessions.items():
            base = "published compiled" if FORMS[form][1] and "published compiled" in taken else "published"
            row = entry(network, form, batch, session, taken[form], taken.get(base, taken[form]), kernels_of(session))
            if not every and not form.startswith(("published", "gpu")):
                made.append((row, None))
            elif batch == 1:
                made.append((row, prove(proved, model, recorded(session, images), images)))
            else:
                given = np.asarray(session.infer(batch_images)[0], np.float32)
                made.append((row, prove(proved_batch, model, given, as_taken(batch_images, session))))
        print("\n".join(table([row for row, _ in made])), flush=True)
    torch.cuda.empty_cache()
    return made


def quickest_launching(entries: list[dict[str, Any]]) -> str | None:
    """The GPU form that took the least on the first model, or None where none could be opened."""
    first = [e for e in entries if e["artifact"]["form"] in GPU_FORMS and e["model"] == entries[0]["model"]]
    best = min(first, key=lambda e: float(e["summary"]["median_s"]), default=None)
    return str(best["artifact"]["form"]) if best else None


def table(entries: list[dict[str, Any]]) -> list[str]:
    lines = ["| model | form | median ms | of published (5 … 95 %) | launches | busy ms | images/s | proof |",
             "|---|---|---:|---|---:|---:|---:|---|"]  # fmt: skip
    for e in entries:
        s, r = e["summary"], e["summary"]["ratio_to_published"]
        batch = e["artifact"]["batch"]
        name = e["model"]["name"] + (f" ×{batch}" if batch > 1 else "")
        proof = {True: "✓", False: "✗", None: "?"}[e["proof"]["passed"]]
        lines.append(
            f"| {name} | {e['artifact']['form']} | {s['median_s'] * 1e3:.3f} | {r['p50']:.3f} ({r['p5']:.3f} … {r['p95']:.3f})"
            f" | {e['kernels']['launches']} | {e['kernels']['busy_s'] * 1e3:.3f} | {s['fps']:.0f} | {proof} |"
        )
    return lines


def blocks_of(model: str, images: Array) -> dict[str, Any]:
    """Layer by layer: cost, floor and device seconds of the published network and of the GPU form; attention's ways."""
    image = torch.from_numpy(images[:1]).to("cuda", torch.float16).contiguous(memory_format=torch.channels_last)
    taken = {}
    for form in ("published", "gpu"):
        network = network_of_form(model, form).to(device="cuda", dtype=torch.float16)
        taken[form] = layer_seconds(network.to(memory_format=torch.channels_last), image)
    rows = layer_costs(simplify(loaded(model, "fused"), ("norms",)), (640, 640))
    for row in rows:
        for form, layers in taken.items():
            seconds, kernels = layers.get(row["layer"], (0.0, 0))
            row |= {f"{form}_s": seconds, f"{form}_kernels": kernels}
    return {"layers": rows, "attention": attention_ways(simplify(loaded(model, "fused")), (640, 640))}


def write(result: dict[str, Any], path: Path) -> None:
    """Replace this run's own file whole."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(path)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["demo"], help="demo, or variants; MODEL@B for a batch of B")
    parser.add_argument(
        "--compiled",
        nargs="*",
        default=[],
        metavar="MODEL:FORM",
        help="compiled forms beside the others, e.g. demo:published",
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=540.0, help="no further model is begun after this")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--warm", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py: no CUDA device is visible")
    if not arguments.warm and (arguments.json is None or arguments.json.exists()):
        raise SystemExit("benchmarks/gpu.py: --json names a new file; nothing is overwritten")
    return arguments


def planned(models: list[str], compiled: list[str]) -> list[tuple[str, int, list[str]]]:
    """Model, batch and forms of each; a batch takes the published form and ours only."""
    plan = []
    for wanted in models:
        model, _, batch = wanted.partition("@")
        forms = ["published", *GPU_FORMS] if batch else list(UNCOMPILED)
        forms += [f"{c.partition(':')[2]} compiled" for c in compiled if c.partition(":")[0] == wanted]
        plan.append((model, int(batch or 1), forms))
    return plan


def main() -> None:
    arguments, started, images = parsed(), time.perf_counter(), letterboxed(demo_images(), (640, 640))
    if arguments.warm:
        model, batch, form = arguments.warm
        opened(model, form, np.concatenate([images] * -(-int(batch) // len(images)))[: int(batch)]).close()
        return
    result: dict[str, Any] = {
        "schema": 1, "tool": {"name": "yoloproof", "version": yoloproof.__version__},
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "command": sys.argv,
        "quick": False, "partial": False, "machine": machine_facts("cuda"), "warnings": [],
        "protocol": {"name": "interleaved", "rounds": arguments.rounds, "runs_per_round": RUNS_PER_ROUND},
        "entries": [],
    }  # fmt: skip
    plan = planned(arguments.models, arguments.compiled)
    warmed(plan)
    result["ceilings"] = ceilings()
    print(f"warm after {time.perf_counter() - started:.0f} s", result["ceilings"], flush=True)
    workers, threads = 3, max(1, (os.cpu_count() or 4) // 4)
    pending: list[tuple[dict[str, Any], Future[dict[str, Any]] | None]] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for index, (model, batch, forms) in enumerate(plan):
            if time.perf_counter() - started > arguments.seconds:
                result["partial"] = True
                print(f"not begun for want of time: {model} x{batch}", flush=True)
                continue
            prove = lambda f, *a: pool.submit(f, *a, threads)  # noqa: E731
            best = quickest_launching([row for row, _ in pending]) if index else None
            forms = [f for f in forms if best is None or not f.startswith("gpu") or f == best]
            pending += measured(model, batch, forms, images, arguments.rounds, prove, every=index == 0)
            result["entries"] = [row for row, _ in pending]
            if index == 0:
                result["blocks"] = blocks_of(model, images)
            for row, verdict in pending:
                if verdict and verdict.done():
                    row["proof"] = verdict.result()
            write(result, arguments.json)
        for row, verdict in pending:
            if verdict:
                row["proof"] = verdict.result()
            write(result, arguments.json)
    print("\n".join(table(result["entries"])))
    for e in result["entries"]:
        for check in e["proof"]["checks"]:
            if not check["passed"]:
                print(e["model"]["name"], e["artifact"]["form"], check["name"], check["detail"])


if __name__ == "__main__":
    main()
