"""Which compiler for Turing: Triton's kernels, CUDA C++ and cuDNN on an engine's convolutions, in 40 multiprocessors.

    python benchmarks/toolchains.py ENGINE OUT.json [--shapes 16] [--seconds 60]

ENGINE is a `.native` file with code for 7.5, which runs from its PTX as that of `conv75.cu` does (compiled by NVRTC). The
shapes are those that take the most time. Each result is the least of five runs of a graph of ten launches; cuDNN's are a
convolution with its bias, without activation. What is not within 0.02 of float32 is not timed.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yoloproof.files.native import read_native
from yoloproof.files.plan import Launch, Operation, all_operations, chosen_launches
from yoloproof.names import Runtime
from yoloproof.runtime.base import NativeOptions, SessionOptions, SessionSpec
from yoloproof.runtime.cuda_driver import Node
from yoloproof.runtime.native import NativeSession

SMALL, LAUNCHES, MOST_ERROR = 40, 10, 0.02
# pixels, channels, depth of a tile; warps along pixels and channels
TILES = (
    (16, 32, 64, 1, 2),
    (32, 32, 64, 1, 2),
    (64, 32, 64, 2, 2),
    (64, 64, 32, 2, 2),
    (64, 64, 64, 2, 2),
    (128, 64, 32, 4, 2),
)


@dataclass(frozen=True)
class Shape:
    """A convolution of one image; inputs that lie side by side count as one."""

    H: int
    W: int
    OH: int
    OW: int
    C_IN: int
    C_OUT: int
    K: int
    S: int


def shape_of(launch: Launch, constants: dict[str, int]) -> Shape:
    height, width, out_h, out_w, c_in, c_out = (int(a) for a in launch.arguments[24:30])  # type: ignore[arg-type]
    return Shape(height, width, out_h, out_w, c_in, c_out, constants["K"], constants["S"])


def convolutions(session: NativeSession, plan: Any) -> dict[Shape, tuple[int, float]]:
    """Dense convolutions with an activation and nothing summed: how many there are, and seconds in their tactic."""
    found: dict[Shape, list[Operation]] = {}
    for operation in all_operations(plan.operations):
        launches = chosen_launches([operation], session.choice)
        kernel = plan.kernels[launches[0].kernel]
        constants = dict(kernel.constants)
        if len(launches) == 1 and kernel.name == "conv_kernel" and constants["ACT"] and not constants["ADD"]:
            found.setdefault(shape_of(launches[0], constants), []).append(operation)
    return {
        shape: (len(same), session._seconds(chosen_launches(same[:1], session.choice), LAUNCHES))
        for shape, same in found.items()
    }


def ptx_of(shape: Shape, tile: Sequence[int]) -> bytes:
    """`conv75.cu` for a shape in a tile, as PTX for 7.5 of a version that older drivers read."""
    from cuda.bindings import nvrtc

    constants = {**asdict(shape), **dict(zip(("BM", "BN", "BK", "WM", "WN"), tile, strict=True))}
    text = "".join(f"constexpr int {name} = {value};\n" for name, value in constants.items())
    source = (text + Path(__file__).with_name("conv75.cu").read_text()).encode()
    program = nvrtc.nvrtcCreateProgram(source, b"conv75.cu", 0, [], [])[1]
    (status,) = nvrtc.nvrtcCompileProgram(program, 2, [b"--gpu-architecture=compute_75", b"--std=c++17"])
    if int(status):
        log = b" " * nvrtc.nvrtcGetProgramLogSize(program)[1]
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(log.decode())
    ptx = b" " * nvrtc.nvrtcGetPTXSize(program)[1]
    nvrtc.nvrtcGetPTX(program, ptx)
    return re.sub(rb"\.version \d+\.\d+", b".version 7.8", ptx.rstrip(b"\0 "))


def data(shape: Shape) -> tuple[Any, Any, Any, Any]:
    """Pixels [H, W, C_IN], weights [C_OUT, K, K, C_IN] and bias in float16, and silu of the result in float32."""
    random = np.random.default_rng(0)
    x = random.standard_normal((shape.H, shape.W, shape.C_IN)).astype(np.float16)
    w = (random.standard_normal((shape.C_OUT, shape.K, shape.K, shape.C_IN)) / 40).astype(np.float16)
    bias, half = random.standard_normal(shape.C_OUT).astype(np.float16), shape.K // 2
    padded = np.pad(x.astype(np.float32), ((half, half + shape.S), (half, half + shape.S), (0, 0)))
    y = np.zeros((shape.OH, shape.OW, shape.C_OUT), np.float32) + bias
    for dy in range(shape.K):
        for dx in range(shape.K):
            rows = padded[dy : dy + shape.S * shape.OH : shape.S, dx : dx + shape.S * shape.OW : shape.S]
            y += rows[: shape.OH, : shape.OW] @ w[:, dy, dx].astype(np.float32).T
    return x, w, bias, y / (1 + np.exp(-y))


def cuda_seconds(session: NativeSession, shape: Shape, images: dict[tuple[int, ...], bytes]) -> dict[str, Any]:
    """Seconds of each tile of the CUDA C++ kernel."""
    gpu, found = session._gpu, dict[str, Any]()
    gpu.take_thread()
    x, w, bias, wanted = data(shape)
    places = [gpu.allocate(one.nbytes) for one in (x, w, bias)]
    for values, place in zip((x, w, bias), places, strict=True):
        gpu.upload(values, place)
    given = np.zeros(wanted.shape, np.float16)
    result = gpu.allocate(given.nbytes)
    for tile, image in images.items():
        gpu.fill(result, given.nbytes, 0xFF)
        function = gpu.load_kernel(image, "conv75", 0)
        grid = (-(-shape.OH * shape.OW // tile[0]), -(-shape.C_OUT // tile[1]), 1)
        threads = 32 * tile[3] * tile[4]
        nodes = [Node(function, grid, threads, 0, (*places, result), (i - 1,) if i else ()) for i in range(LAUNCHES)]
        graph = gpu.graph(nodes, False)
        gpu.launch(graph)
        gpu.synchronize()
        gpu.download(result, given)
        error = float(np.abs(given.astype(np.float32) - wanted).max())
        name = "x".join(map(str, tile))
        found[name] = min(gpu.timed(graph) for _ in range(5)) / LAUNCHES if error < MOST_ERROR else f"off by {error}"
        gpu.forget(graph)
    return found


def cudnn_seconds(shape: Shape, stream: Any) -> float:
    import torch
    import torch.nn.functional as F

    x, w, bias, _ = data(shape)
    with torch.cuda.stream(stream), torch.inference_mode():
        image = torch.from_numpy(x).cuda()[None].permute(0, 3, 1, 2)
        weight = torch.from_numpy(w).cuda().permute(0, 3, 1, 2)
        shift = torch.from_numpy(bias).cuda()

        def call() -> Any:
            return F.conv2d(image, weight, shift, shape.S, shape.K // 2)

        for _ in range(3):
            call()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin()
        kept = [call() for _ in range(LAUNCHES)]
        graph.capture_end()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        best = float("inf")
        for _ in range(6):
            events[0].record(stream)
            graph.replay()
            events[1].record(stream)
            events[1].synchronize()
            best = min(best, events[0].elapsed_time(events[1]) / 1e3)
        del kept
    return best / LAUNCHES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shapes", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60, help="no further shape is begun after this")
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    options = SessionOptions(native=NativeOptions(code="7.5", multiprocessors=SMALL))
    rows: list[dict[str, Any]] = []
    with NativeSession(SessionSpec(Runtime.NATIVE, given.engine, "cuda", options=options)) as session:
        timed = convolutions(session, read_native(given.engine).plan)
        shapes = sorted(timed, key=lambda shape: -timed[shape][0] * timed[shape][1])[: given.shapes]
        wanted = [(shape, tile) for shape in shapes for tile in TILES]
        with ThreadPoolExecutor() as pool:
            ptx = dict(zip(wanted, pool.map(lambda one: ptx_of(*one), wanted), strict=True))
        for shape in shapes:
            if time.monotonic() > until:
                break
            row: dict[str, Any] = {**asdict(shape), "count": timed[shape][0], "triton_s": timed[shape][1]}
            rows.append(row)
            try:
                row["cuda_s"] = cuda_seconds(session, shape, {tile: ptx[shape, tile] for tile in TILES})
            except Exception as error:
                row["cuda_error"] = f"{type(error).__name__}: {error}"
            given.out.write_text(json.dumps(rows, indent=1) + "\n")
            print(row, flush=True)
    import torch
    from native import stream_of

    torch.backends.cudnn.benchmark = True
    stream, _green = stream_of(SMALL)
    for row, shape in zip(rows, shapes, strict=False):
        try:
            row["cudnn_s"] = cudnn_seconds(shape, stream)
        except Exception as error:
            row["cudnn_error"] = f"{type(error).__name__}: {error}"
        given.out.write_text(json.dumps(rows, indent=1) + "\n")
        cuda = [value for value in row.get("cuda_s", {}).values() if isinstance(value, float)]
        print(
            f"{shape}: Triton {1e6 * row['triton_s']:.1f} us, CUDA C++ {1e6 * min(cuda, default=0):.1f}, "
            f"cuDNN {1e6 * row.get('cudnn_s', 0):.1f}", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
