"""The native engine's dense convolutions by three toolchains, side by side in 40 multiprocessors. One JSON file.

    python benchmarks/toolchains.py OUT.json yolov13n.native yolov13s.native [--minutes 4]

The files hold code for 7.5 with its PTX (`yoloproof export MODEL --runtime native --target t4`). Their plans say which
convolutions there are, how often each occurs, and how the engine launches it. Per distinct shape, float16, each as a CUDA
graph of 20 launches one after the other, in rounds that take turns, every result held to PyTorch's float32:

    triton      our kernels as the file has them: Triton 3.2's PTX for 7.5, the best tactic
    cuda        toolchains.cu, compiled for compute_75 through NVRTC, the best tile
    cudnn       cuDNN's choice (benchmark mode, channels-last) for this GPU, with the two launches that it lacks: inputs
                side by side are concatenated, bias, SiLU and sum are one kernel of ours behind it
    cudnn bare  the convolution alone: no bias, activation or sum, its inputs concatenated beforehand

The first two are code for 7.5 that the driver compiles for the GPU at hand; cuDNN takes what the GPU at hand is best at.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convolutions import (
    Candidate,
    Convolution,
    compiled_by_nvrtc,
    convolutions_of_files,
    cuda_candidates,
    defines,
    tiles_for,
)

from yoloproof.runtime.cuda_driver import Gpu, Node

MULTIPROCESSORS = 40  # as many as a T4 has
LAUNCHES, ROUNDS, REPLAYS, TRIES = 20, 15, 5, 4
MOST_ERROR = 1e-3  # of the result's norm; float16 rounds to 3e-4
THREADS = 16
INPUTS = 6


class Bench:
    """A green context with a stream that both our launches and PyTorch's use."""

    def __init__(self) -> None:
        import torch
        from cuda.bindings import driver

        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.zeros(1, device="cuda")
        self.torch, self.driver = torch, driver
        self.primary = driver.cuCtxGetCurrent()[1]
        self.gpu = Gpu(0, MULTIPROCESSORS)
        self.stream = torch.cuda.ExternalStream(int(self.gpu.stream))
        self.functions: dict[bytes, Any] = {}
        self.graphs: list[Any] = []
        self.pytorch()

    def pytorch(self) -> None:
        """Let PyTorch work on this thread."""
        self.driver.cuCtxSetCurrent(self.primary)

    def load(self, candidates: Sequence[Candidate]) -> None:
        """Every kernel onto the GPU; the driver compiles the PTX, in several threads."""
        distinct = {one.image: one for one in candidates}
        with ThreadPoolExecutor(THREADS, initializer=self.gpu.take_thread) as pool:
            loaded = pool.map(lambda c: self.gpu.load_kernel(c.image, c.entry, c.shared_bytes), distinct.values())
            self.functions |= dict(zip(distinct, loaded, strict=True))

    def resources(self, candidate: Candidate) -> dict[str, int]:
        """Registers and spilled bytes a thread, on the GPU at hand."""
        attribute = self.driver.CUfunction_attribute
        wanted = {"registers": "NUM_REGS", "spilled_bytes": "LOCAL_SIZE_BYTES"}
        function = self.functions[candidate.image]
        return {
            name: int(self.driver.cuFuncGetAttribute(getattr(attribute, f"CU_FUNC_ATTRIBUTE_{of}"), function)[1])
            for name, of in wanted.items()
        }

    def launches(self, candidate: Candidate, values: Mapping[str, int]) -> Callable[[], float]:
        """The candidate's graph: a call runs it and gives the seconds of one launch."""
        self.gpu.take_thread()
        given = [values[name] for name in candidate.arguments]
        given += [0] * (candidate.parameters - len(given))
        function = self.functions[candidate.image]
        nodes = [
            Node(
                function, candidate.grid, candidate.threads, candidate.shared_bytes, tuple(given), (i - 1,) if i else ()
            )
            for i in range(LAUNCHES)
        ]
        graph = self.gpu.graph(nodes, early=False)
        self.graphs.append(graph)

        def run() -> float:
            self.gpu.take_thread()
            seconds = self.gpu.timed(graph) / LAUNCHES
            self.pytorch()
            return seconds

        return run

    def forget(self) -> None:
        """Free the graphs of our launches."""
        self.gpu.take_thread()
        for graph in self.graphs:
            self.gpu.forget(graph)
        self.graphs = []
        self.pytorch()

    def captured(self, call: Callable[[], Any]) -> Callable[[], float]:
        """The same for a call of PyTorch."""
        torch = self.torch
        self.pytorch()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        with torch.cuda.stream(self.stream), torch.inference_mode():
            for _ in range(3):
                call()
            self.stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            gc.disable()
            graph.capture_begin()
            for _ in range(LAUNCHES):
                call()
            graph.capture_end()
            gc.enable()

        def run() -> float:
            with torch.cuda.stream(self.stream):
                events[0].record(self.stream)
                graph.replay()
                events[1].record(self.stream)
            events[1].synchronize()
            return float(events[0].elapsed_time(events[1])) / 1e3 / LAUNCHES

        return run


class Problem:
    """A convolution with random data on a device, and the float32 result."""

    def __init__(self, convolution: Convolution, device: str) -> None:
        import torch

        c = convolution
        self.torch, self.convolution = torch, c
        made = torch.Generator(device).manual_seed(0)

        def laid(channels: int, spacing: int, h: int, w: int) -> Any:
            memory = torch.randn(h * w * spacing, generator=made, device=device).half()
            return memory.as_strided((1, channels, h, w), (h * w * spacing, 1, w * spacing, spacing))

        self.sources = [laid(*source, *c.size) for source in c.sources]
        add_size = c.size if c.adds == 0 else c.out_size if c.adds == 1 else tuple(side // 2 for side in c.out_size)
        self.add = laid(c.out[0], c.add_p, *add_size) if c.adds else None
        self.result = laid(*c.out, *c.out_size)
        self.conv = torch.nn.Conv2d(c.c_in, c.out[0], c.k, c.s, c.k // 2, device=device).requires_grad_(False)
        self.conv.weight.normal_(0, (c.c_in * c.k**2) ** -0.5, generator=made)
        self.conv.bias.normal_(generator=made)
        self.conv.half()
        self.matrix = self.conv.weight.permute(0, 2, 3, 1).reshape(c.out[0], -1).contiguous()
        self.expected = self._expected()

    def _expected(self) -> Any:
        F, c, conv = self.torch.nn.functional, self.convolution, self.conv
        x = self.torch.cat([x.float() for x in self.sources], 1)
        y = F.conv2d(x, conv.weight.float(), conv.bias.float(), c.s, c.k // 2)
        if c.adds == 2:
            y = y + F.interpolate(self.add.float(), scale_factor=2, mode="nearest")
        y = F.silu(y) if c.act else y
        return y + self.add.float() if c.adds == 1 else y

    def values(self) -> dict[str, int]:
        """The kernels' parameters by name."""
        c = self.convolution
        filled = [*range(len(c.sources)), *[0] * (INPUTS - len(c.sources))]
        return {
            **{f"x{i}": self.sources[j].data_ptr() for i, j in enumerate(filled)},
            **{f"c{i}": c.sources[j][0] for i, j in enumerate(filled)},
            **{f"p{i}": c.sources[j][1] for i, j in enumerate(filled)},
            "x": self.sources[0].data_ptr(), "p": c.sources[0][1],  # the thin kernel's, which has one input
            "w": self.matrix.data_ptr(), "bias": self.conv.bias.data_ptr(),
            "add": (self.result if self.add is None else self.add).data_ptr(), "add_p": c.add_p,
            "y": self.result.data_ptr(), "y_p": c.out[1], "height": c.size[0], "width": c.size[1],
            "out_h": c.out_size[0], "out_w": c.out_size[1], "c_in": c.c_in, "c_out": c.out[0], "m_total": c.pixels,
        }  # fmt: skip

    def error(self, run: Callable[[], Any]) -> float:
        """Of the result that a run writes, relative to the float32 result's norm; infinite where something is not written."""
        self.result.fill_(float("nan"))
        self.torch.cuda.synchronize()
        run()
        self.torch.cuda.synchronize()
        return self.apart(self.result)

    def apart(self, result: Any) -> float:
        found = float((result.float() - self.expected).norm() / self.expected.norm())
        return found if found == found else float("inf")


def best_of(bench: Bench, problem: Problem, candidates: Sequence[Candidate]) -> tuple[dict[str, Any], Any]:
    """Facts of the quickest candidate, all of which must be right, and the call that runs it."""
    tried: dict[str, float] = {}
    facts: dict[str, Any] = {}
    best = None
    for one in candidates:
        run = bench.launches(one, problem.values())
        error = problem.error(run)
        if error > MOST_ERROR:
            raise RuntimeError(f"{problem.convolution}: {one.name} is wrong by {error:.1e}")
        tried[one.name] = min(run() for _ in range(TRIES))
        if best is None or tried[one.name] <= min(tried.values()):
            best, facts = run, {"configuration": one.name, "error": error, **bench.resources(one)}
    return {**facts, "tried_s": {name: round(seconds, 10) for name, seconds in tried.items()}}, best


def cudnn(bench: Bench, problem: Problem) -> tuple[Any, Any, float]:
    """cuDNN with what it lacks, cuDNN alone, and the error of the first."""
    from yoloproof.kernels.autotune import LIBRARY, Autotuner
    from yoloproof.kernels.conv import DenseConv
    from yoloproof.kernels.launch import Options

    torch, c = bench.torch, problem.convolution
    conv = problem.conv.to(memory_format=torch.channels_last)
    whole = DenseConv(conv, bool(c.act), Options(), Autotuner())
    x = torch.cat(problem.sources, 1).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        error = problem.apart(whole.run(LIBRARY, problem.sources, problem.add, c.adds == 2))
    with_rest = bench.captured(lambda: whole.run(LIBRARY, problem.sources, problem.add, c.adds == 2))
    alone = bench.captured(lambda: torch.nn.functional.conv2d(x, conv.weight, None, c.s, c.k // 2))
    return with_rest, alone, error


def row(bench: Bench, convolution: Convolution, triton: Sequence[Candidate], cuda: Sequence[Candidate]) -> Any:
    """All toolchains on one shape: facts by toolchain, with the seconds of every round."""
    problem = Problem(convolution, "cuda")
    facts: dict[str, dict[str, Any]] = {}
    runs: dict[str, Callable[[], float]] = {}
    for name, candidates in (("triton", triton), ("cuda", cuda)):
        facts[name], runs[name] = best_of(bench, problem, candidates)
    runs["cudnn"], runs["cudnn bare"], error = cudnn(bench, problem)
    facts |= {"cudnn": {"error": error}, "cudnn bare": {}}
    if error > 4 * MOST_ERROR:  # two roundings
        raise RuntimeError(f"{convolution}: cuDNN is wrong by {error:.1e}")
    rounds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(ROUNDS + 1):  # the first warms up
        for name, run in runs.items():
            seconds = statistics.median(run() for _ in range(REPLAYS))
            if turn:
                rounds[name].append(seconds)
    bench.forget()
    for name, taken in rounds.items():
        facts[name] |= {
            "median_us": round(statistics.median(taken) * 1e6, 3),
            "rounds_s": [round(s, 10) for s in taken],
        }
    return facts


def totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By model, the sum over its convolutions in µs of each toolchain, and of the better of triton and cuda each time."""
    found: dict[str, dict[str, float]] = {}
    for one in rows:
        times = {name: facts["median_us"] for name, facts in one["toolchains"].items()}
        times["better of triton and cuda"] = min(times["triton"], times["cuda"])
        for model, count in one["occurs"].items():
            sums = found.setdefault(model, {"convolutions": 0, "shapes": 0, **dict.fromkeys(times, 0.0)})
            sums["convolutions"] += count
            sums["shapes"] += 1
            for name, us in times.items():
                sums[name] = round(sums[name] + count * us, 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("engines", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=5, help="shapes that are not done by then are left out")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    occurs, triton = convolutions_of_files(given.engines)
    wanted = sorted({defines(c, tile) for c in occurs for tile in tiles_for(c)})
    started = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        code = dict(zip(wanted, pool.map(compiled_by_nvrtc, wanted), strict=True))
    nvrtc_s = time.monotonic() - started
    print(f"NVRTC: {len(code)} kernels in {nvrtc_s:.0f} s", flush=True)
    covered = [c for c in occurs if tiles_for(c)]
    cuda = {c: cuda_candidates(c, code) for c in covered}
    bench = Bench()
    started = time.monotonic()
    bench.load([one for c in covered for one in (*triton[c], *cuda[c])])
    load_s = time.monotonic() - started
    print(f"driver: {len(bench.functions)} kernels in {load_s:.0f} s", flush=True)
    document = {
        "gpu": bench.gpu.name, "driver": bench.gpu.driver, "multiprocessors": bench.gpu.multiprocessors,
        "torch": bench.torch.__version__, "cudnn": bench.torch.backends.cudnn.version(),
        "nvrtc_s": nvrtc_s, "load_s": load_s, "launches": LAUNCHES, "rounds": ROUNDS, "left_out": [], "rows": [],
    }  # fmt: skip
    for c in occurs:  # model by model, so that a first one is complete where time runs out
        if c not in cuda or time.monotonic() > until:
            document["left_out"].append({"shape": str(c), "occurs": dict(occurs[c])})
            continue
        facts = row(bench, c, triton[c], cuda[c])
        document["rows"].append(
            {"shape": str(c), **asdict(c), "flops": c.flops, "occurs": dict(occurs[c]), "toolchains": facts}
        )
        print(f"{c}: " + ", ".join(f"{name} {f['median_us']:.2f}" for name, f in facts.items()) + " µs", flush=True)
        document["totals"] = totals(document["rows"])
        given.out.write_text(json.dumps(document) + "\n")
    print(json.dumps(document.get("totals"), indent=1))


if __name__ == "__main__":
    main()
