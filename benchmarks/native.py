"""The native engine on a GPU beside PyTorch: right, and how fast. One JSON file, written after every row.

    python benchmarks/native.py ENGINE WEIGHTS OUT.json [--stages native,beside,kernels,compiled] [--minutes 3]

ENGINE is a `.native` file with code for 7.5 (with PTX) and for the GPU at hand, WEIGHTS the checkpoint it was built from.
Each stage is a process of its own, so that what one breaks the others still measure:

    native    every native row: tactics are chosen, outputs held to the float32 network's in the file, operations timed
    beside    native, `published` and `stripped` side by side, round by round
    small     the same in 40 multiprocessors, as many as a T4 has (cuDNN chooses its algorithms there, too)
    fresh     the engine opened again: from opening to the first result, host and device memory
    compiled  native and `published` beside the simplified network compiled by PyTorch
    kernels   the same beside our kernels in PyTorch
    variants  every variant with random weights, end to end: built for this GPU and verified by their evidence
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yoloproof.files.native import Evidence, read_native
from yoloproof.files.plan import chosen_launches
from yoloproof.names import Runtime
from yoloproof.runtime.base import NativeOptions, SessionOptions, SessionSpec
from yoloproof.runtime.native import NativeSession, native_session
from yoloproof.runtime.native_frames import FrameSession

ROUNDS, RUNS, WARM = 25, 20, 30
SMALL = 40  # multiprocessors, as many as a T4 has
MOST_PX, MOST_SCORE = 2.0, 0.02  # a native row further off is wrong, and not timed


@dataclass(frozen=True)
class Subject:
    """A native session's options, or a network for PyTorch (`published`, `stripped`, `kernels`, `compiled`)."""

    name: str
    network: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def multiprocessors(self) -> int | None:
        return self.options.get("multiprocessors")


OWN = Subject("native own code")
TURING = Subject("native 7.5 PTX", None, {"code": "7.5"})
OWN_SMALL = Subject("native own code, 40 multiprocessors", None, {"multiprocessors": SMALL})
TURING_SMALL = Subject("native 7.5 PTX, 40 multiprocessors", None, {"code": "7.5", "multiprocessors": SMALL})
NATIVE = (OWN, TURING, TURING_SMALL, OWN_SMALL)
PUBLISHED = Subject("published", "published")
STAGES = {
    "native": NATIVE,
    "beside": (OWN, TURING, PUBLISHED, Subject("stripped", "stripped")),
    "small": (
        OWN_SMALL, TURING_SMALL,
        Subject("published, 40 multiprocessors", "published", {"multiprocessors": SMALL}),
        Subject("stripped, 40 multiprocessors", "stripped", {"multiprocessors": SMALL}),
    ),
    "fresh": (OWN,),
    "compiled": (OWN, PUBLISHED, Subject("simplified, compiled by PyTorch", "compiled")),
    "kernels": (OWN, PUBLISHED, Subject("our kernels in PyTorch", "kernels")),
    "variants": (),
}  # fmt: skip


class Report:
    """The file that every stage adds to. `row` keeps what is known of a subject, `trying` an error instead of raising it."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage
        self.all: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def row(self, name: str, **facts: Any) -> None:
        self.all.setdefault(self.stage, {}).setdefault(name, {}).update(facts)
        self.path.write_text(json.dumps(self.all, indent=1) + "\n")
        shown = {
            k: round(v, 6) if isinstance(v, float) else v for k, v in facts.items() if not isinstance(v, dict | list)
        }
        print(f"{self.stage}: {name}: {shown}", flush=True)

    def trying(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            traceback.print_exc()
            self.row(name, error=f"{type(error).__name__}: {error}")
            return None


def opened(engine: Path, subject: Subject) -> NativeSession:
    options = SessionOptions(native=NativeOptions(**subject.options))
    return NativeSession(SessionSpec(Runtime.NATIVE, engine, "cuda", options=options))


def pictures(evidence: Evidence) -> Any:
    return np.ascontiguousarray((evidence.images.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2))


def differences(given: Any, expected: Any) -> dict[str, float]:
    apart = np.abs(given - expected)
    return {"box_max_px": float(apart[:, :4].max()), "score_max": float(apart[:, 4:].max())}


def native(engine: Path, subject: Subject, report: Report) -> None:
    """One row: how it loads, how right it is, how long each operation takes alone."""
    built = read_native(engine)
    started = time.perf_counter()
    with opened(engine, subject) as session:
        images = pictures(built.evidence)
        found = [session.infer(images[:1])[0]]
        first_s = time.perf_counter() - started
        found += [session.infer(images[i : i + 1])[0] for i in range(1, len(images))]
        launches = len(chosen_launches(built.plan.operations, session.choice))
        report.row(
            subject.name, **differences(np.concatenate(found), built.evidence.outputs), choosing_to_first_result_s=first_s,
            launches=launches, alone_s=statistics.median(float(session.execute() or 0) for _ in range(100)),
            facts=asdict(session.facts),
        )  # fmt: skip
        report.trying(subject.name, lambda: report.row(subject.name, same_after_poison=poisoned(session, built, found)))
        report.trying(subject.name, lambda: report.row(subject.name, operations=operations(session, built.plan)))


def poisoned(session: NativeSession, built: Any, found: list[Any]) -> bool:
    """Whether the outputs stay the same after all memory was filled with NaN."""
    session.gpu.fill(session._arena, built.plan.arena_bytes, 0xFF)
    again = session.infer(pictures(built.evidence)[-1:])[0]
    return bool(np.array_equal(again, found[-1]))


def operations(session: NativeSession, plan: Any) -> list[list[Any]]:
    """Name, kind, shape, floating-point operations, tactic and seconds of each operation, alone."""
    return [
        [one.name, one.kind, one.shape, one.flops, session.choice[one.name],
         session._seconds(chosen_launches([one], session.choice), 10)]
        for one in plan.operations
    ]  # fmt: skip


def fresh(engine: Path, report: Report) -> None:
    """A process that does nothing but open the engine, whose tactics are kept, and run it."""
    before, started = memory_in_use(), time.perf_counter()
    with opened(engine, OWN) as session:
        session.infer(np.zeros(session.inputs[0].shape, np.float32))
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        report.row(
            OWN.name, load_to_first_result_s=seconds, host_peak_bytes=peak, device_bytes=memory_in_use() - before
        )


def memory_in_use() -> int:
    """Bytes of the GPU's memory that are taken, by anybody."""
    said = asked("memory.used").split()
    return int(said[0]) << 20 if said else 0


def asked(query: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


class PyTorch:
    """A network as a CUDA graph, in float16, on all multiprocessors or a green context's."""

    def __init__(self, weights: Path, subject: Subject) -> None:
        import torch

        torch.backends.cudnn.benchmark = True
        self.torch = torch
        self.stream, self.green = stream_of(subject.multiprocessors)
        with torch.cuda.stream(self.stream), torch.inference_mode():
            self.network = network_of(weights, str(subject.network))
            images = torch.zeros(1, 3, 640, 640, dtype=torch.float16, device="cuda")
            self.images = images.to(memory_format=torch.channels_last)
            for _ in range(4):
                self.outputs = self.network(self.images)
            self.stream.synchronize()
            gc.disable()  # a module that is unloaded during capture ends it
            self.graph = torch.cuda.CUDAGraph()
            self.graph.capture_begin()
            self.outputs = self.network(self.images)
            self.graph.capture_end()
            gc.enable()
        self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]

    def load(self, images: Any) -> None:
        with self.torch.cuda.stream(self.stream), self.torch.inference_mode():
            self.images.copy_(self.torch.from_numpy(images))
        self.stream.synchronize()

    def execute(self) -> float:
        with self.torch.cuda.stream(self.stream):
            self.events[0].record(self.stream)
            self.graph.replay()
            self.events[1].record(self.stream)
        self.events[1].synchronize()
        return float(self.events[0].elapsed_time(self.events[1])) / 1e3

    def fetch(self) -> Any:
        with self.torch.cuda.stream(self.stream), self.torch.inference_mode():
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
    """A stream, and the green context that it belongs to where it has only so many multiprocessors."""
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


def side_by_side(engine: Path, weights: Path, subjects: list[Subject], report: Report) -> None:
    import torch
    from cuda.bindings import driver

    torch.zeros(1, device="cuda")
    primary = driver.cuCtxGetCurrent()[1]
    evidence = read_native(engine).evidence
    ready: dict[str, Any] = {}

    def prepare(subject: Subject) -> None:
        driver.cuCtxSetCurrent(primary)
        started = time.perf_counter()
        one = PyTorch(weights, subject) if subject.network else opened(engine, subject)
        one.load(pictures(evidence)[:1])
        one.execute()
        found = differences(one.fetch()[0], evidence.outputs[:1])
        report.row(subject.name, prepare_s=time.perf_counter() - started, **found)
        if subject.network or (found["box_max_px"] < MOST_PX and found["score_max"] < MOST_SCORE):
            ready[subject.name] = one

    for subject in subjects:
        report.trying(subject.name, lambda subject=subject: prepare(subject))
    taken: dict[str, list[float]] = {name: [] for name in ready}
    for turn in range(ROUNDS):
        for name, one in list(ready.items()):
            driver.cuCtxSetCurrent(primary)

            def run(one: Any = one, warm: int = 3 if turn else WARM) -> float:
                for _ in range(warm):
                    one.execute()
                return statistics.median(one.execute() for _ in range(RUNS))

            seconds = report.trying(name, run)
            if seconds is None:
                del ready[name]
            else:
                taken[name].append(seconds)
    for name, rounds in taken.items():
        if rounds:
            report.row(
                name, median_s=statistics.median(rounds), least_s=min(rounds), most_s=max(rounds), rounds_s=rounds
            )
    report.row("the GPU after it", clocks_power=asked("clocks.sm,clocks.mem,temperature.gpu,power.draw"))


def variant(name: str, report: Report) -> None:
    """One variant with random weights: built end to end for this GPU here, and verified by its evidence."""
    import torch

    from yoloproof.artifact.native.build import native_from_network
    from yoloproof.artifact.nms import NmsOptions
    from yoloproof.demo import demo_images
    from yoloproof.detection.letterbox import letterboxed
    from yoloproof.files.native import write_native
    from yoloproof.network import load_network
    from yoloproof.proof.native import verify_by_evidence

    started, path = time.perf_counter(), Path(f"/tmp/{name}.native")
    network, images = load_network(name, random_weights=True), letterboxed(demo_images(), (640, 640))
    built = native_from_network(network, [torch.cuda.get_device_capability()], images, suppression=NmsOptions())
    path.unlink(missing_ok=True)
    write_native(built, path)
    build_s, images = time.perf_counter() - started, pictures(built.evidence)
    with native_session(SessionSpec(Runtime.NATIVE, path, "cuda")) as session:
        assert isinstance(session, FrameSession)
        verdict = verify_by_evidence(path, session)
        found = np.concatenate([session.network.infer(images[i : i + 1])[0] for i in range(len(images))])
        alone, whole = (
            statistics.median(float(one.execute() or 0) for _ in range(50)) for one in (session.network, session)
        )
    report.row(
        name, verified=verdict.passed, failures=[f"{one.name}: {one.detail}" for one in verdict.failures],
        **differences(found, built.evidence.outputs), build_s=build_s, bytes=path.stat().st_size,
        median_s=alone, end_to_end_s=whole, arena_bytes=built.plan.arena_bytes,
        checks=[asdict(one) for one in verdict.checks],
    )  # fmt: skip
    path.unlink()


def stage(name: str, engine: Path, weights: Path, out: Path, until: float) -> None:
    """One stage, in this process."""
    report = Report(out, name)
    if name == "native":
        for subject in NATIVE:
            report.trying(subject.name, lambda subject=subject: native(engine, subject, report))
    elif name == "fresh":
        report.trying(OWN.name, lambda: fresh(engine, report))
    elif name == "variants":
        from yoloproof.network import VARIANTS  # brings PyTorch, whose memory `fresh` must not count

        for one in VARIANTS:
            if time.time() < until:
                report.trying(one, lambda one=one: variant(one, report))
    else:
        report.trying("all rows", lambda: side_by_side(engine, weights, list(STAGES[name]), report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--stages", default="native,beside,small,fresh,compiled,kernels", help=f"of {', '.join(STAGES)}"
    )
    parser.add_argument("--minutes", type=float, default=5, help="for all of it: what is not done by then is left out")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    until = time.time() + 60 * given.minutes
    if given.stage:
        stage(given.stage, given.engine, given.weights, given.out, until)
        return
    Report(given.out, "machine").row("GPU", stated=asked("name,driver_version,clocks.max.sm,clocks.max.mem"))
    for name in given.stages.split(","):
        left = until - time.time()
        if left < 5:
            print(f"{name}: no time is left", flush=True)
            continue
        started = time.perf_counter()
        command = [sys.executable, __file__, *map(str, (given.engine, given.weights, given.out)), "--stage", name]
        try:
            status = str(subprocess.run([*command, "--minutes", str(left / 60)], timeout=left).returncode)
        except subprocess.TimeoutExpired:
            status = "out of time"
        Report(given.out, "stages").row(name, status=status, seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main()
