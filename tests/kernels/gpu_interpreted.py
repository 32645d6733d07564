"""Every GPU kernel under Triton's interpreter, on the CPU: prints case → largest difference from PyTorch, as JSON.

Run by test_kernels.py in a process of its own: Triton reads TRITON_INTERPRET when the kernels are defined.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.artifact.gpu_blocks import hypergraph_weights
from yoloproof.artifact.gpu_network import network_with_kernels
from yoloproof.kernels.attention import FusedAreaAttention
from yoloproof.kernels.autotune import LIBRARY, Autotuner, Operation, Tunable
from yoloproof.kernels.conv import CONFIGURATIONS, DenseConv, DenseTile
from yoloproof.kernels.decode import decoded
from yoloproof.kernels.depthwise import DepthwiseConv
from yoloproof.kernels.gated_sum import gated_sum
from yoloproof.kernels.hypergraph import hypergraph
from yoloproof.kernels.launch import Options
from yoloproof.kernels.pool import pooled
from yoloproof.kernels.separable import SeparableConv
from yoloproof.network import load_network
from yoloproof.simplify.attention import MergedAttention, attended
from yoloproof.simplify.modules import BranchPair, DirectHead
from yoloproof.simplify.rewrites import SimplifiedNetwork, simplify

OPTIONS = Options()


class InTurn(Autotuner):
    """No GPU to time on: each operation takes the next of its configurations."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    def choose(self, operation: Operation, names: Sequence[str], run: Callable[[str], Tensor]) -> str:
        self.taken += 1
        return names[self.taken % len(names)]


class First(Autotuner):
    def choose(self, operation: Operation, names: Sequence[str], run: Callable[[str], Tensor]) -> str:
        return names[0]


def image(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def configurations(
    name: str, module: Tunable, sources: list[Tensor], wanted: Tensor, add: Tensor | None = None, coarse: bool = False
) -> Iterator[tuple[str, Tensor]]:
    every = module.configurations()
    if DenseTile in map(type, every):
        every = (LIBRARY, *CONFIGURATIONS)  # also those that do not suit so few channels
    for i, configuration in enumerate(every):
        module.options = replace(OPTIONS, ahead=i % 2 == 1)
        yield f"{name}: {configuration}", module.run(configuration, sources, add, coarse) - wanted


def convolutions() -> Iterator[tuple[str, Tensor]]:
    # two inputs side by side, one a slice of a wider tensor; channels that fill no tile
    wide, other, add = image(2, 40, 9, 7), image(2, 24, 9, 7), image(2, 20, 9, 7)

    def dense(conv: nn.Conv2d, act: bool) -> DenseConv:
        return DenseConv(conv, act, OPTIONS, First())

    conv = nn.Conv2d(40, 20, 3, 1, 1)
    wanted = F.silu(conv(torch.cat((wide[:, 24:], other), 1))) + add
    sources = [wide[:, 24:], other]
    yield from configurations("dense 3x3, two sources, residual", dense(conv, True), sources, wanted, add)
    strided = nn.Conv2d(40, 20, 3, 2, 1)
    yield from configurations("dense 3x3, stride 2", dense(strided, False), [wide], strided(wide))
    pointwise, coarse = nn.Conv2d(40, 16, 1), image(2, 16, 4, 3)
    fine = image(2, 40, 8, 6)
    wanted = F.silu(pointwise(fine) + F.interpolate(coarse, scale_factor=2.0))
    yield from configurations("dense 1x1, coarse sum", dense(pointwise, True), [fine], wanted, coarse, True)
    for count in (3, 4, 5, 6):
        parts = [image(1, c, 5, 4) for c in (40, 8, 72, 16, 24, 16)[:count]]
        beside = nn.Conv2d(sum(part.shape[1] for part in parts), 20, 1)
        yield from configurations(
            f"dense 1x1, {count} sources", dense(beside, False), parts, beside(torch.cat(parts, 1))
        )
    grouped = nn.Conv2d(40, 20, 3, 1, 1, groups=4)
    yield from configurations("grouped", dense(grouped, True), [wide], F.silu(grouped(wide)))
    stem, picture, add = nn.Conv2d(3, 20, 3, 2, 1), image(2, 3, 9, 7), image(2, 20, 5, 4)
    yield from configurations("three channels", dense(stem, True), [picture], F.silu(stem(picture)) + add, add)
    for k, stride in ((3, 1), (3, 2), (5, 1), (7, 1)):
        dw = nn.Conv2d(40, 40, k, stride, k // 2, groups=40)
        depthwise = DepthwiseConv(dw, True, OPTIONS, First())
        yield from configurations(f"depthwise {k}x{k}, stride {stride}", depthwise, [wide], F.silu(dw(wide)))
        dw = nn.Conv2d(40, 40, k, stride, k // 2, groups=40, bias=False)
        pw = nn.Conv2d(40, 24, 1)
        separable = SeparableConv(dw, pw, OPTIONS, First())
        yield from configurations(f"separable {k}x{k}, stride {stride}", separable, [wide], F.silu(pw(dw(wide))))


def attention(network: SimplifiedNetwork) -> Iterator[tuple[str, Tensor]]:
    for block in [m for m in network.modules() if isinstance(m, MergedAttention)][::4]:
        core = block.core
        qkv = image(2, 3 * 32 * core.heads, 12, 14)  # runs of 42 tokens, or of 168
        module = FusedAreaAttention(core.heads, core.area, core.scale, partial(attended, core), OPTIONS, First())
        wanted = attended(core, qkv).reshape(2, 32 * core.heads, 12, 14)
        yield from configurations(f"attention, area {core.area}", module, [qkv], wanted)


def operations(network: SimplifiedNetwork) -> Iterator[tuple[str, Tensor]]:
    pair = next(m for m in network.modules() if isinstance(m, BranchPair))
    y = image(2, 256, 33, 34)  # 1122 tokens: 18 runs, more than one group of 16
    tokens = y.reshape(2, 2, 128, -1)[:, :, :64]
    given = hypergraph(hypergraph_weights(pair.hgnn), y, OPTIONS)
    yield "hypergraph", given - pair.hgnn(tokens).reshape(2, 128, 33, 34)
    x0, x1, gate = image(2, 24, 8, 12), image(2, 24, 4, 6), torch.tensor(0.3)
    yield "gate", gated_sum(x0, x0 * 2, gate, OPTIONS) - (x0 + gate * x0 * 2)
    wanted = x0 + gate * F.interpolate(x1, scale_factor=2.0)
    yield "gate, coarse", gated_sum(x0, x1, gate, OPTIONS, coarse=True) - wanted
    gamma = torch.randn(24)
    yield "gate, per channel", gated_sum(x0, x0, gamma, OPTIONS) - (x0 + gamma.view(1, -1, 1, 1) * x0)
    yield "pool", pooled(x0, OPTIONS) - F.avg_pool2d(x0, 2)
    levels = [image(2, 64 + 80, s, s + 2) for s in (8, 4, 2)]
    head = DirectHead(nn.ModuleList([Part(slice(64))] * 3), nn.ModuleList([Part(slice(64, None))] * 3), 80)
    given = decoded([x[:, :64] for x in levels], [x[:, 64:] for x in levels], 80, OPTIONS)
    yield "decode", (given - head(*levels)) / in_units()


class Part(nn.Module):
    """Some channels, in the place of a head's branch."""

    def __init__(self, channels: slice) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.channels]


def in_units() -> Tensor:
    """Boxes count in hundreds of pixels, scores as they are."""
    return torch.tensor([100.0] * 4 + [1.0] * 80).view(1, -1, 1)


def whole(name: str) -> Iterator[tuple[str, Tensor]]:
    """The whole network, every operation in another of its configurations."""
    network = simplify(load_network(name, random_weights=True))
    images = image(1, 3, 32, 32).sigmoid()
    gpu = network_with_kernels(network, autotuner=InTurn())
    yield name, (gpu(images) - network(images)) / in_units()


if __name__ == "__main__":
    torch.manual_seed(0)
    simplified = simplify(load_network("yolov13n", random_weights=True))
    found: dict[str, float] = {}
    with torch.inference_mode():
        for cases in (
            convolutions(), attention(simplified), operations(simplified), whole("yolov13n"), whole("yolov12n"),
        ):  # fmt: skip
            for name, difference in cases:
                found[name] = float(difference.abs().max())
    print(json.dumps(found))
