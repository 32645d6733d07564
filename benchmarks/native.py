"""The native engine on a GPU beside PyTorch: right, and how fast. One JSON file.

    python benchmarks/native.py ENGINE WEIGHTS OUT.json [--compiled] [--variants] [--budget SECONDS]

ENGINE is a `.native` file with code for 7.5 (with PTX) and for the GPU at hand, WEIGHTS the checkpoint it was built from.
Every subject is first opened in a process of its own, where its tactics are chosen and its outputs held to the float32
network's; the ones that pass are then timed side by side, round by round. `--variants` builds and verifies all nine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yoloproof.files.native import read_native
from yoloproof.files.plan import chosen_launches
from yoloproof.names import Runtime
from yoloproof.runtime.base import NativeOptions, SessionOptions, SessionSpec
from yoloproof.runtime.native import NativeSession

ROUNDS, RUNS, WARM = 25, 20, 30
SMALL = 40  # multiprocessors, as many as a T4 has


@dataclass(frozen=True)
class Subject:
    """A native session's options, or a network for PyTorch (`published`, `stripped`, `kernels`, `compiled`)."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    network: str | None = None

    @property
    def multiprocessors(self) -> int | None:
        return self.options.get("multiprocessors")


NATIVE = (
    Subject("native own code"),
    Subject("native own code, no early start", {"early_start": False}),
    Subject("native own code, one after the other", {"overlap": False}),
    Subject("native own code, one after the other, no early start", {"overlap": False, "early_start": False}),
    Subject("native 7.5 PTX", {"code": "7.5"}),
    Subject("native 7.5 PTX, one after the other", {"code": "7.5", "overlap": False}),
    Subject("native 7.5 PTX, 40 multiprocessors", {"code": "7.5", "multiprocessors": SMALL}),
    Subject("native 7.5 PTX, 40 multiprocessors, one after the other", {"code": "7.5", "multiprocessors": SMALL, "overlap": False}),
    Subject("native own code, 40 multiprocessors", {"multiprocessors": SMALL}),
)  # fmt: skip
PYTORCH = (
    Subject("published", {}, "published"),
    Subject("stripped", {}, "stripped"),
    Subject("published, 40 multiprocessors", {"multiprocessors": SMALL}, "published"),
    Subject("stripped, 40 multiprocessors", {"multiprocessors": SMALL}, "stripped"),
)
COMPILED = (
    Subject("simplified, compiled by PyTorch", {}, "compiled"),
    Subject("our kernels in PyTorch", {}, "kernels"),
)


def opened(engine: Path, subject: Subject) -> NativeSession:
    options = SessionOptions(native=NativeOptions(**subject.options))
    return NativeSession(SessionSpec(Runtime.NATIVE, engine, "cuda", options=options))


def alone(engine: Path, name: str) -> None:
    """One native subject in this process: loaded, held to its evidence, its operations timed. Prints JSON."""
    subject = next(one for one in NATIVE if one.name == name)
    started = time.perf_counter()
    before = memory_in_use()
    with opened(engine, subject) as session:
        built = read_native(engine)
        images = (built.evidence.images.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)
        outputs = session.infer(images[:1])[0]
        load_s = time.perf_counter() - started
        found = [outputs, *(session.infer(images[i : i + 1])[0] for i in range(1, len(images)))]
        differences = [np.abs(a - b[None]) for a, b in zip(found, built.evidence.outputs, strict=True)]
        session._gpu.fill(session._arena, built.plan.arena_bytes, 0xFF)  # what nothing writes is NaN
        again = session.infer(images[-1:])[0]
        result = {
            "load_to_first_result_s": load_s, "facts": asdict(session.facts),
            "box_max_px": float(max(d[:, :4].max() for d in differences)),
            "score_max": float(max(d[:, 4:].max() for d in differences)),
            "same_after_poison": bool(np.array_equal(again, found[-1])),
            "host_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "device_bytes": memory_in_use() - before,
            "launches": len(chosen_launches(built.plan.operations, session.choice)),
            "operations": operation_times(session, built.plan.operations) if not subject.options.get("overlap") else [],
        }  # fmt: skip
    print(json.dumps(result))


def memory_in_use() -> int:
    """Bytes of the GPU's memory that are taken, by anybody."""
    said = subprocess.run(
        ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], capture_output=True, text=True
    ).stdout.split()
    return int(said[0]) << 20 if said else 0


def operation_times(session: NativeSession, operations: Any) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "kind": one.kind, "shape": one.shape, "flops": one.flops, "tactic": session.choice[one.name],
         "seconds": session._seconds(chosen_launches([one], session.choice), 10)}
        for one in operations
    ]  # fmt: skip


class PyTorch:
    """A network as a CUDA graph, in float16, on all multiprocessors or a green context's."""

    def __init__(self, weights: Path, subject: Subject) -> None:
        import torch

        torch.backends.cudnn.benchmark = True
        self.stream, self.green = stream_of(subject.multiprocessors)
        with torch.cuda.stream(self.stream), torch.inference_mode():
            self.network = network_of(weights, str(subject.network))
            self.images = torch.zeros(1, 3, 640, 640, dtype=torch.float16, device="cuda").to(
                memory_format=torch.channels_last
            )
            for _ in range(4):
                self.outputs = self.network(self.images)
            self.stream.synchronize()
            gc.disable()
            self.graph = torch.cuda.CUDAGraph()
            self.graph.capture_begin()
            self.outputs = self.network(self.images)
            self.graph.capture_end()
            gc.enable()
        self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]

    def load(self, images: Any) -> None:
        import torch

        with torch.cuda.stream(self.stream):
            self.images.copy_(torch.from_numpy(images))
        self.stream.synchronize()

    def execute(self) -> float:
        import torch

        with torch.cuda.stream(self.stream):
            self.events[0].record(self.stream)
            self.graph.replay()
            self.events[1].record(self.stream)
        self.events[1].synchronize()
        return float(self.events[0].elapsed_time(self.events[1])) / 1e3

    def fetch(self) -> Any:
        return (self.outputs.float().cpu().numpy(),)


def network_of(weights: Path, kind: str) -> Any:
    import torch

    from yoloproof.artifact.gpu_network import compile_kernels, network_with_kernels
    from yoloproof.names import Attention
    from yoloproof.network import load_network
    from yoloproof.simplify.rewrites import simplify

    attention = Attention(kind) if kind in ("published", "stripped") else Attention.FUSED
    network = load_network(str(weights), attention)
    simplified = simplify(network, ("norms",)) if attention is not Attention.FUSED else simplify(network)
    if kind == "kernels":
        ours = network_with_kernels(simplified)
        compile_kernels(ours, 1, (640, 640))
        return ours.to("cuda", torch.float16).to(memory_format=torch.channels_last)
    placed = simplified.to("cuda", torch.float16).to(memory_format=torch.channels_last)
    return torch.compile(placed, dynamic=False) if kind == "compiled" else placed


def stream_of(multiprocessors: int | None) -> tuple[Any, Any]:
    import torch

    if multiprocessors is None:
        return torch.cuda.Stream(), None
    from cuda.bindings import driver

    def call(name: str, *arguments: Any) -> Any:
        status, *results = getattr(driver, name)(*arguments)
        assert int(status) == 0, f"{name}: {status}"
        return results[0]

    device = call("cuDeviceGet", torch.cuda.current_device())
    resource = call("cuDeviceGetDevResource", device, driver.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM)
    groups = call("cuDevSmResourceSplitByCount", 1, resource, 0, multiprocessors)
    described = call("cuDevResourceGenerateDesc", [groups[0]], 1)
    context = call("cuGreenCtxCreate", described, device, driver.CUgreenCtxCreate_flags.CU_GREEN_CTX_DEFAULT_STREAM)
    stream = call("cuGreenCtxStreamCreate", context, driver.CUstream_flags.CU_STREAM_NON_BLOCKING, 0)
    return torch.cuda.ExternalStream(int(stream)), context


def side_by_side(
    engine: Path, weights: Path, subjects: list[Subject], out: dict[str, Any], save: Callable[[], None]
) -> None:
    import torch
    from cuda.bindings import driver

    torch.zeros(1, device="cuda")
    primary = driver.cuCtxGetCurrent()[1]
    evidence = read_native(engine).evidence
    images = np.ascontiguousarray((evidence.images[:1].astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2))
    ready: dict[str, Any] = {}
    for subject in subjects:
        driver.cuCtxSetCurrent(primary)
        started = time.perf_counter()
        try:
            ready[subject.name] = one = PyTorch(weights, subject) if subject.network else opened(engine, subject)
            one.load(images)
            one.execute()
            difference = np.abs(one.fetch()[0] - evidence.outputs[:1])
            out["rows"].setdefault(subject.name, {}).update(
                prepare_s=time.perf_counter() - started,
                box_max_px_beside=float(difference[:, :4].max()),
                score_max_beside=float(difference[:, 4:].max()),
            )
        except Exception as error:
            ready.pop(subject.name, None)
            out["rows"].setdefault(subject.name, {})["error"] = f"{type(error).__name__}: {error}"
        print(f"{subject.name}: ready after {time.perf_counter() - started:.1f} s", flush=True)
    taken: dict[str, list[list[float]]] = {name: [] for name in ready}
    for turn in range(ROUNDS):
        for name, one in ready.items():
            driver.cuCtxSetCurrent(primary)
            for _ in range(WARM if turn == 0 else 3):
                one.execute()
            taken[name].append([one.execute() for _ in range(RUNS)])
    for name, rounds in taken.items():
        medians = [statistics.median(one) for one in rounds]
        row = out["rows"][name]
        row |= {"median_s": statistics.median(medians), "range_s": [min(medians), max(medians)], "rounds_s": medians}
        print(
            f"{name}: {1e3 * row['median_s']:.3f} ms ({1e3 * min(medians):.3f} to {1e3 * max(medians):.3f})", flush=True
        )
    save()


def all_variants(out: dict[str, Any], save: Callable[[], None], until: float) -> None:
    """Each of the nine with random weights: built for this GPU here, and held to its evidence."""
    import torch

    from yoloproof.artifact.native.build import native_from_network
    from yoloproof.demo import demo_images
    from yoloproof.detection.letterbox import letterboxed
    from yoloproof.files.native import write_native
    from yoloproof.network import VARIANTS, load_network

    images = letterboxed(demo_images(), (640, 640))
    for name in VARIANTS:
        if time.monotonic() > until:
            out["variants"][name] = {"error": "no time was left"}
            continue
        started = time.perf_counter()
        try:
            built = native_from_network(
                load_network(name, random_weights=True), [torch.cuda.get_device_capability()], images
            )
            path = Path(f"/tmp/{name}.native")
            path.unlink(missing_ok=True)
            write_native(built, path)
            build_s = time.perf_counter() - started
            with NativeSession(SessionSpec(Runtime.NATIVE, path, "cuda")) as session:
                pixels = (built.evidence.images.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)
                found = np.concatenate([session.infer(pixels[i : i + 1])[0] for i in range(len(pixels))])
                seconds = statistics.median(float(session.execute() or 0) for _ in range(50))
            difference = np.abs(found - built.evidence.outputs)
            out["variants"][name] = {
                "build_s": build_s, "bytes": path.stat().st_size, "median_s": seconds,
                "arena_bytes": built.plan.arena_bytes, "box_max_px": float(difference[:, :4].max()),
                "score_max": float(difference[:, 4:].max()),
            }  # fmt: skip
            path.unlink()
        except Exception as error:
            out["variants"][name] = {"error": f"{type(error).__name__}: {error}"}
        print(name, out["variants"][name], flush=True)
        save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--alone", metavar="SUBJECT")
    parser.add_argument("--compiled", action="store_true", help="torch.compile and our kernels in PyTorch, too")
    parser.add_argument("--variants", action="store_true", help="build and verify all nine on this GPU")
    parser.add_argument("--budget", type=float, default=540, help="seconds for all of it")
    arguments = parser.parse_args()
    if arguments.alone:
        alone(arguments.engine, arguments.alone)
        return
    until = time.monotonic() + arguments.budget
    gpu = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm", "--format=csv,noheader"],
        capture_output=True,
        text=True,
    )
    out: dict[str, Any] = {"gpu": gpu.stdout.strip(), "rows": {}, "variants": {}}
    save = lambda: arguments.out.write_text(json.dumps(out, indent=1) + "\n")  # noqa: E731
    passed = []
    for subject in NATIVE:
        command = [
            sys.executable,
            __file__,
            str(arguments.engine),
            str(arguments.weights),
            "-",
            "--alone",
            subject.name,
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120)
        except subprocess.TimeoutExpired:
            out["rows"][subject.name] = {"error": "over 120 s"}
            continue
        if done.returncode:
            out["rows"][subject.name] = {"error": done.stderr[-1500:]}
            print(f"{subject.name}: FAILED\n{done.stderr[-1500:]}", flush=True)
            continue
        row = out["rows"][subject.name] = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"{subject.name}: boxes {row['box_max_px']:.3g} px, scores {row['score_max']:.3g}, poison {row['same_after_poison']}, "
            f"load {row['load_to_first_result_s']:.2f} s, host {row['host_peak_bytes'] / 1e6:.0f} MB, "
            f"device {row['device_bytes'] / 1e6:.0f} MB, {row['launches']} launches", flush=True,
        )  # fmt: skip
        save()
        if row["box_max_px"] < 2 and row["score_max"] < 0.02:
            passed.append(subject)
    # a second opening takes the tactics from beside the file
    again = subprocess.run([*command[:-1], NATIVE[0].name], capture_output=True, text=True)
    if not again.returncode:
        out["second_load_s"] = json.loads(again.stdout.strip().splitlines()[-1])["load_to_first_result_s"]
        print(f"second load to first result: {out['second_load_s']:.2f} s", flush=True)
    side_by_side(
        arguments.engine, arguments.weights, [*passed, *PYTORCH, *(COMPILED if arguments.compiled else ())], out, save
    )
    if arguments.variants:
        all_variants(out, save, until)
    save()


if __name__ == "__main__":
    main()
