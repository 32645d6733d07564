"""Every GPU kernel under Triton's interpreter, on the CPU: prints case → largest difference from PyTorch, as JSON.

Run by test_gpu.py in a process of its own: Triton reads TRITON_INTERPRET when the kernels are defined.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.kernels import gpu_network
from yoloproof.kernels.choosing import AreaAttention, Choosing, Depthwise, FusedConv, Separable
from yoloproof.kernels.functions import decoded, gated_sum, hypergraph, pooled
from yoloproof.kernels.launch import Options
from yoloproof.network import load_network
from yoloproof.simplify.modules import BranchPair, DirectDetect, MergedAttention
from yoloproof.simplify.rewrites import simplify

OPTIONS = Options()


def image(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def ways(
    name: str, module: Choosing, sources: list[Tensor], wanted: Tensor, **sums: object
) -> Iterator[tuple[str, Tensor]]:
    for way in range(module.ways()):
        yield f"{name} way {way}", module.run(way, sources, sums.get("add"), bool(sums.get("half"))) - wanted


def convolutions() -> Iterator[tuple[str, Tensor]]:
    # two inputs side by side, one a slice of a wider tensor; channels that fill no tile
    wide, other, add = image(2, 40, 9, 7), image(2, 8, 9, 7), image(2, 20, 9, 7)
    conv = nn.Conv2d(24, 20, 3, 1, 1)
    wanted = F.silu(conv(torch.cat((wide[:, 24:], other), 1))) + add
    yield from ways("dense 3x3, two sources, residual", FusedConv(conv, True), [wide[:, 24:], other], wanted, add=add)
    strided = nn.Conv2d(40, 20, 3, 2, 1)
    yield from ways("dense 3x3, stride 2", FusedConv(strided, False), [wide], strided(wide))
    pointwise, coarse = nn.Conv2d(40, 16, 1), image(2, 16, 4, 3)
    fine = image(2, 40, 8, 6)
    wanted = F.silu(pointwise(fine) + F.interpolate(coarse, scale_factor=2.0))
    yield from ways("dense 1x1, half-size sum", FusedConv(pointwise, True), [fine], wanted, add=coarse, half=True)
    grouped = nn.Conv2d(40, 20, 3, 1, 1, groups=4)
    yield from ways("grouped", FusedConv(grouped, True), [wide], F.silu(grouped(wide)))
    for k, stride in ((3, 1), (3, 2), (5, 1), (7, 1)):
        dw = nn.Conv2d(40, 40, k, stride, k // 2, groups=40)
        yield from ways(f"depthwise {k}x{k}, stride {stride}", Depthwise(dw, True), [wide], F.silu(dw(wide)))
        dw = nn.Conv2d(40, 40, k, stride, k // 2, groups=40, bias=False)
        pw = nn.Conv2d(40, 24, 1)
        separable = Separable(dw, pw)
        separable.first.choice = separable.second.choice = 0
        yield from ways(f"separable {k}x{k}, stride {stride}", separable, [wide], F.silu(pw(dw(wide))))


def attention(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for block in [m for m in network.modules() if isinstance(m, MergedAttention)][::4]:
        qkv = image(2, 3 * 32 * block.heads, 12, 14)  # runs of 42 tokens, or of 168
        module = AreaAttention(block)
        yield from ways(f"attention, area {block.area}", module, [qkv], module.run(0, [qkv], None, False))


def functions(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    pair = next(m for m in network.modules() if isinstance(m, BranchPair))
    y = image(2, 256, 33, 34)  # 1122 tokens: 18 runs, more than one group of 16
    tokens = y.reshape(2, 2, 128, -1)[:, :, :64]
    yield "hypergraph", hypergraph(pair.hgnn, y, OPTIONS) - pair.hgnn(tokens).reshape(2, 128, 33, 34)
    x0, x1, gate = image(2, 24, 8, 12), image(2, 24, 4, 6), torch.tensor(0.3)
    yield "gate", gated_sum(x0, x0 * 2, gate, OPTIONS) - (x0 + gate * x0 * 2)
    yield (
        "gate, half size",
        gated_sum(x0, x1, gate, OPTIONS, half=True) - (x0 + gate * F.interpolate(x1, scale_factor=2.0)),
    )
    gamma = torch.randn(24)
    yield "gate, per channel", gated_sum(x0, x0, gamma, OPTIONS) - (x0 + gamma.view(1, -1, 1, 1) * x0)
    yield "pool", pooled(x0, OPTIONS) - F.avg_pool2d(x0, 2)
    detect = next(m for m in network.modules() if isinstance(m, DirectDetect))
    levels = [image(2, 64 + 80, s, s + 2) for s in (8, 4, 2)]
    head = DirectDetect.__new__(DirectDetect)
    nn.Module.__init__(head)
    head.classes, head.sums, head.boxes = 80, detect.sums, detect.boxes
    head.cv2 = [lambda x: x[:, :64]] * 3
    head.cv3 = [lambda x: x[:, 64:]] * 3
    given = decoded([x[:, :64] for x in levels], [x[:, 64:] for x in levels], 80, OPTIONS)
    yield "decode", (given - head(levels)) / in_units()


def in_units() -> Tensor:
    """Boxes count in hundreds of pixels, scores as they are."""
    return torch.tensor([100.0] * 4 + [1.0] * 80).view(1, -1, 1)


def whole(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The whole network, every module another of its ways."""
    form = gpu_network(network)
    for i, module in enumerate(m for m in form.modules() if isinstance(m, Choosing)):
        module.choice = i % module.ways()
    images = image(1, 3, 32, 32).sigmoid()
    yield "yolov13n", (form(images) - network(images)) / in_units()


if __name__ == "__main__":
    torch.manual_seed(0)
    simplified = simplify(load_network("yolov13n", random_weights=True))
    found: dict[str, float] = {}
    with torch.inference_mode():
        for cases in (convolutions(), attention(simplified), functions(simplified), whole(simplified)):
            for name, difference in cases:
                found[name] = float(difference.abs().max())
    print(json.dumps(found))
