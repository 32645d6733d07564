"""The dense convolutions of native engines' plans, and the kernels for them: those in the files, and toolchains.cu's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloproof.files.native import CompiledKernel, read_native
from yoloproof.files.plan import Kernel, Launch, Operation

SOURCE = Path(__file__).with_name("toolchains.cu")
DENSE = "conv_kernel"
TURING = (7, 5)
SHARED_BYTES = 64 << 10  # of a T4's multiprocessor


@dataclass(frozen=True)
class Convolution:
    """A dense convolution of a plan. sources, add, out -- (channels, pixel stride) of its inputs, summand and result

    adds -- 0: nothing, 1: a tensor, 2: one of half the resolution; size, out_size -- (height, width)
    """

    k: int
    s: int
    act: int
    adds: int
    sources: tuple[tuple[int, int], ...]
    out: tuple[int, int]
    add_p: int
    size: tuple[int, int]
    out_size: tuple[int, int]

    @property
    def c_in(self) -> int:
        return sum(channels for channels, _ in self.sources)

    @property
    def pixels(self) -> int:
        return self.out_size[0] * self.out_size[1]

    @property
    def flops(self) -> int:
        return 2 * self.pixels * self.out[0] * self.k**2 * self.c_in

    def __str__(self) -> str:
        inputs = "+".join(str(channels) for channels, _ in self.sources)
        adds = ("", ", + tensor", ", + coarse tensor")[self.adds]
        stride = f"/{self.s}" if self.s > 1 else ""
        return f"{self.k}x{self.k}{stride} {inputs} -> {self.out[0]} at {self.out_size[0]}x{self.out_size[1]}{adds}"


@dataclass(frozen=True)
class Tile:
    """Of toolchains.cu: pixels × channels × depth, shared by warps along the three."""

    pixels: int
    channels: int
    depth: int
    warps: tuple[int, int, int]

    @property
    def threads(self) -> int:
        return 32 * self.warps[0] * self.warps[1] * self.warps[2]

    @property
    def shared_bytes(self) -> int:
        """Two buffers of operands; behind them the same place takes the parts along the depth, then the result."""
        operands = 2 * 2 * (self.pixels + self.channels) * (self.depth + 8)
        parts = (self.warps[2] - 1) * self.pixels * self.channels * 4
        return max(operands, parts, 2 * self.pixels * (self.channels + 8))

    def suits(self, convolution: Convolution) -> bool:
        """Whether channels and depth are not mostly padding."""
        most = max(channels for channels, _ in convolution.sources)
        columns = max(16, 1 << (convolution.out[0] - 1).bit_length())
        return self.channels <= columns and self.depth <= max(32, 1 << (most - 1).bit_length())


TILES = tuple(Tile(*tile) for tile in (
    (16, 32, 64, (1, 2, 2)), (16, 64, 64, (1, 4, 1)), (16, 32, 128, (1, 2, 4)), (32, 16, 32, (2, 1, 1)),
    (32, 32, 32, (2, 2, 1)), (32, 32, 64, (2, 2, 1)), (32, 32, 64, (1, 1, 4)), (32, 32, 128, (2, 2, 2)),
    (32, 64, 64, (2, 2, 1)), (64, 16, 32, (4, 1, 1)), (64, 32, 32, (2, 1, 1)), (64, 32, 64, (4, 1, 1)),
    (64, 64, 32, (2, 2, 1)), (64, 64, 64, (2, 2, 1)), (64, 64, 64, (4, 2, 1)), (128, 32, 32, (4, 1, 1)),
    (128, 64, 32, (4, 2, 1)), (128, 64, 32, (2, 2, 1)), (128, 128, 32, (4, 2, 1)),
))  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A way to launch one convolution. image -- PTX; arguments -- the names of the entry's parameters, in order"""

    name: str
    image: bytes
    entry: str
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    arguments: tuple[str, ...]
    parameters: int


def parameter_names(kernel: str = DENSE) -> list[str]:
    """Of a convolution's kernel in `yoloproof.kernels`, without the compile-time ones."""
    from yoloproof.kernels.conv import conv_kernel
    from yoloproof.kernels.thin_conv import thin_conv_kernel

    found = {DENSE: conv_kernel, "thin_conv_kernel": thin_conv_kernel}[kernel]
    return [parameter.name for parameter in found.params if not parameter.is_constexpr]


def dense_operations(steps: Sequence[Launch | Operation], kernels: Sequence[Kernel]) -> Iterator[Operation]:
    """Operations that `conv_kernel` computes in one launch, those inside others only where the default tactic has them."""
    for step in steps:
        if isinstance(step, Launch):
            continue
        first = step.tactics[0][0]
        if isinstance(first, Launch) and kernels[first.kernel].name == DENSE:
            yield step
        else:
            yield from dense_operations(step.tactics[step.default], kernels)


def convolution_of(launch: Launch, kernel: Kernel) -> Convolution:
    """What a launch of `conv_kernel` computes."""
    v: dict[str, Any] = {**dict(zip(parameter_names(), launch.arguments, strict=True)), **dict(kernel.constants)}
    sources = tuple((v[f"c{i}"], v[f"p{i}"]) for i in range(v["SOURCES"]))
    return Convolution(
        v["K"], v["S"], v["ACT"], v["ADD"], sources, (v["c_out"], v["y_p"]), v["add_p"], (v["height"], v["width"]),
        (v["out_h"], v["out_w"]),
    )  # fmt: skip


def triton_candidates(
    operation: Operation, kernels: Sequence[Kernel], code: Sequence[CompiledKernel | None]
) -> Iterator[Candidate]:
    """The operation's tactics as the engine launches them."""
    for tactic in operation.tactics:
        (launch,) = tactic
        assert isinstance(launch, Launch)
        kernel, compiled = kernels[launch.kernel], code[launch.kernel]
        if compiled is None:
            continue
        names = zip(parameter_names(kernel.name), kernel.arguments, strict=True)
        passed = [name for name, kind in names if not kind.endswith("=1")]
        v, facts = dict(kernel.constants), compiled.facts
        pixels = v["BM"] if kernel.name == DENSE else f"{v['ROWS']}x{v['COLUMNS']}"
        name = f"{kernel.name} {pixels}x{v['BN']}x{v['BK']}, {v['num_warps']} warps"
        yield Candidate(
            name, compiled.ptx, facts.entry, launch.grid, facts.threads, facts.shared_bytes, tuple(passed),
            facts.parameters,
        )  # fmt: skip


def convolutions_of_files(paths: Sequence[Path]) -> tuple[dict[Convolution, Counter[str]], dict[Convolution, Any]]:
    """The distinct dense convolutions: how often each model has it, and Triton's candidates for it."""
    occurs: dict[Convolution, Counter[str]] = {}
    candidates: dict[Convolution, list[Candidate]] = {}
    for path in paths:
        engine = read_native(path)
        model = json.loads(engine.properties["yoloproof.variant"])
        for operation in dense_operations(engine.plan.operations, engine.plan.kernels):
            first = operation.tactics[0][0]
            assert isinstance(first, Launch)
            found = convolution_of(first, engine.plan.kernels[first.kernel])
            occurs.setdefault(found, Counter())[model] += 1
            if found not in candidates:
                candidates[found] = list(triton_candidates(operation, engine.plan.kernels, engine.code[TURING]))
    return occurs, candidates


def defines(convolution: Convolution, tile: Tile) -> tuple[tuple[str, int], ...]:
    """The constants of toolchains.cu."""
    constants = {
        "K": convolution.k, "S": convolution.s, "SOURCES": len(convolution.sources), "ACT": convolution.act,
        "ADD": convolution.adds, "BM": tile.pixels, "BN": tile.channels, "BK": tile.depth,
        **dict(zip(("WM", "WN", "WK"), tile.warps, strict=True)),
    }  # fmt: skip
    return tuple(constants.items())


def compiled_by_nvrtc(constants: tuple[tuple[str, int], ...]) -> bytes:
    """PTX for compute_75; RuntimeError with the compiler's log where it fails."""
    from cuda.bindings import nvrtc

    _, program = nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), SOURCE.name.encode(), 0, [], [])
    options = [b"--gpu-architecture=compute_75", b"--std=c++17", *(f"-D{n}={v}".encode() for n, v in constants)]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status) != 0:
        log = b" " * nvrtc.nvrtcGetProgramLogSize(program)[1]
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"NVRTC, {dict(constants)}: {log.decode()}")
    ptx = b" " * nvrtc.nvrtcGetPTXSize(program)[1]
    nvrtc.nvrtcGetPTX(program, ptx)
    nvrtc.nvrtcDestroyProgram(program)
    return ptx.rstrip(b"\0")


def cuda_candidates(convolution: Convolution, code: Mapping[Any, bytes]) -> list[Candidate]:
    """Every tile of toolchains.cu that suits."""
    names = tuple(parameter_names())
    return [
        Candidate(
            f"{tile.pixels}x{tile.channels}x{tile.depth}, {'x'.join(map(str, tile.warps))} warps",
            code[defines(convolution, tile)], "conv_mma",
            (-(-convolution.pixels // tile.pixels), -(-convolution.out[0] // tile.channels), 1), tile.threads,
            tile.shared_bytes, names, len(names),
        )
        for tile in tiles_for(convolution)
    ]  # fmt: skip


def tiles_for(convolution: Convolution) -> list[Tile]:
    """Those that suit; none for channels or strides that are no multiples of 8."""
    numbers = (*convolution.out, *(n for source in convolution.sources for n in source), convolution.add_p)
    if any(n % 8 for n in numbers):
        return []
    return [tile for tile in TILES if tile.suits(convolution) and tile.shared_bytes <= SHARED_BYTES]
