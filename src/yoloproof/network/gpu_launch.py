"""Convolutions that choose, by timing them once on the GPU at hand, between cuDNN and the kernels of `gpu_kernels`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.network import gpu_kernels as kernels

MOST_SOURCES = 6
# rows × columns × depth of a tile, warps, stages of the software pipeline
DENSE_TILES = ((32, 32, 64, 2, 4), (64, 32, 64, 4, 4), (64, 64, 64, 4, 4), (128, 64, 64, 4, 3))
SEPARABLE_TILES = ((32, 32, 32, 4, 2), (32, 64, 32, 4, 2))
DEPTHWISE_TILES = ((16, 32, 2), (32, 64, 4))
_CHOSEN: dict[tuple[Any, ...], int] = {}
_CALLS, _REPLAYS = 8, 5


def flat(sources: tuple[Any, ...]) -> list[Tensor]:
    """Inputs side by side, those that come as a tuple (a concatenation never made) taken apart."""
    return [x for source in sources for x in (source if isinstance(source, tuple) else (source,))]


def pixels(x: Tensor) -> tuple[Tensor, int]:
    """The tensor with its pixels evenly spaced and channels next to one another (a copy only where not), the spacing."""
    b, c, h, w = x.shape
    p = x.stride(3)
    even = (c == 1 or x.stride(1) == 1) and x.stride(2) == w * p and (b == 1 or x.stride(0) == h * w * p)
    if even:
        return x, p
    x = x.contiguous(memory_format=torch.channels_last)
    return x, c


def fresh(b: int, c: int, h: int, w: int, like: Tensor) -> Tensor:
    return torch.empty((b, h, w, c), dtype=like.dtype, device=like.device).permute(0, 3, 1, 2)


class Timed(nn.Module):
    """A module with several ways (`ways()`) to compute the same; the quickest for its shapes is taken from then on."""

    choice: int | None = None

    def ways(self) -> int:
        raise NotImplementedError

    def run(self, way: int, sources: list[Tensor], add: Tensor | None, half: bool) -> Tensor:
        raise NotImplementedError

    def identity(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def forward(self, *x: Any, add: Tensor | None = None, half: bool = False) -> Tensor:
        """x: inputs [B, C_i, H, W] side by side; add: summed after the activation, or (half) before it, from half size."""
        sources = flat(x)
        if self.choice is None:
            shapes = tuple((tuple(s.shape), s.stride(3)) for s in sources)
            key = (*self.identity(), shapes, add is None, half)
            if key not in _CHOSEN:
                _CHOSEN[key] = quickest([lambda w=w: self.run(w, sources, add, half) for w in range(self.ways())])
            self.choice = _CHOSEN[key]
        return self.run(self.choice, sources, add, half)


def quickest(calls: list[Callable[[], Tensor]]) -> int:
    """Index of the call that takes the least device time, each replayed from a CUDA graph."""
    seconds = [_graph_seconds(call) for call in calls]
    return seconds.index(min(seconds))


def _graph_seconds(call: Callable[[], Tensor]) -> float:
    outer = torch.cuda.current_stream()
    outer.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
        call()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin()
        for _ in range(_CALLS):
            call()
        graph.capture_end()
        graph.replay()
        best = float("inf")
        for _ in range(_REPLAYS):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            best = min(best, start.elapsed_time(end) / 1e3)
    return best / _CALLS


class FusedConv(Timed):
    """Convolution, bias, SiLU and a sum; one launch, or cuDNN's and one more."""

    def __init__(self, conv: nn.Conv2d, act: bool) -> None:
        super().__init__()
        weight, bias = conv.weight.detach(), conv.bias
        self.weight = nn.Parameter(weight, requires_grad=False)
        bias = torch.zeros(weight.shape[0]) if bias is None else bias.detach()
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.k, self.s, self.groups, self.act = conv.kernel_size[0], conv.stride[0], conv.groups, act
        matrix = weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1).contiguous()
        self.matrix = nn.Parameter(matrix, requires_grad=False)

    def identity(self) -> tuple[Any, ...]:
        return ("dense", self.k, self.s, self.groups, self.act, tuple(self.weight.shape))

    def ways(self) -> int:
        return 1 + (len(DENSE_TILES) if self.groups == 1 else 0)

    def run(self, way: int, sources: list[Tensor], add: Tensor | None, half: bool) -> Tensor:
        if way == 0 or len(sources) > MOST_SOURCES:
            x = sources[0] if len(sources) == 1 else torch.cat(sources, 1)
            y = F.conv2d(x, self.weight, None, self.s, self.k // 2, 1, self.groups)
            return finished(y, self.bias, self.act, add, half)
        return dense(self, DENSE_TILES[way - 1], sources, add, half)


def _sum_arguments(add: Tensor | None, half: bool, y: Tensor) -> tuple[Tensor, int, int]:
    if add is None:
        return y, 0, 0
    add, spacing = pixels(add)
    return add, spacing, 2 if half else 1


def finished(y: Tensor, bias: Tensor, act: bool, add: Tensor | None, half: bool) -> Tensor:
    y, spacing = pixels(y)
    b, c, h, w = y.shape
    added, added_p, mode = _sum_arguments(add, half, y)
    total = b * h * w
    bm, bn = 32, 64
    kernels.finish_kernel[((total + bm - 1) // bm, (c + bn - 1) // bn)](
        y, spacing, bias, added, added_p, y, spacing, h, w, c, total, ACT=act, ADD=mode, BM=bm, BN=bn, num_warps=4
    )
    return y


def dense(m: FusedConv, tile: tuple[int, ...], sources: list[Tensor], add: Tensor | None, half: bool) -> Tensor:
    laid = [pixels(x) for x in sources]
    b, _, h, w = sources[0].shape
    out_h, out_w = (h - 1) // m.s + 1, (w - 1) // m.s + 1
    c_out, total = m.weight.shape[0], b * out_h * out_w
    y = fresh(b, c_out, out_h, out_w, sources[0])
    added, added_p, mode = _sum_arguments(add, half, y)
    laid += [laid[0]] * (MOST_SOURCES - len(laid))
    bm, bn, bk, warps, stages = tile
    kernels.conv_kernel[((total + bm - 1) // bm, (c_out + bn - 1) // bn)](
        *[x for x, _ in laid], *[x.shape[1] for x, _ in laid], *[p for _, p in laid],
        m.matrix, m.bias, added, added_p, y, c_out, h, w, out_h, out_w, m.weight.shape[1], c_out, total,
        K=m.k, S=m.s, SOURCES=len(sources), ACT=m.act, ADD=mode, BM=bm, BN=bn, BK=bk,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return y


class Depthwise(Timed):
    """Depthwise convolution, bias, activation and a sum in one launch."""

    def __init__(self, conv: nn.Conv2d, act: bool) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self.k, self.s, self.act, self.c = conv.kernel_size[0], conv.stride[0], act, weight.shape[0]
        self.taps = nn.Parameter(weight.reshape(self.c, -1).t().contiguous(), requires_grad=False)
        bias = torch.zeros(self.c) if conv.bias is None else conv.bias.detach()
        self.bias = nn.Parameter(bias, requires_grad=False)

    def identity(self) -> tuple[Any, ...]:
        return ("depthwise", self.k, self.s, self.act, self.c)

    def ways(self) -> int:
        return len(DEPTHWISE_TILES)

    def run(self, way: int, sources: list[Tensor], add: Tensor | None, half: bool) -> Tensor:
        x, p = pixels(sources[0])
        b, c, h, w = x.shape
        out_h, out_w = (h - 1) // self.s + 1, (w - 1) // self.s + 1
        y, total = fresh(b, c, out_h, out_w, x), b * out_h * out_w
        added, added_p, mode = _sum_arguments(add, half, y)
        bm, bn, warps = DEPTHWISE_TILES[way]
        kernels.depthwise_kernel[((total + bm - 1) // bm, (c + bn - 1) // bn)](
            x, p, self.taps, self.bias, added, added_p, y, c, h, w, out_h, out_w, c, total,
            K=self.k, S=self.s, ACT=self.act, ADD=mode, BM=bm, BN=bn, num_warps=warps,
        )  # fmt: skip
        return y


class Separable(Timed):
    """Depthwise and pointwise convolution: in one launch, or one each."""

    def __init__(self, dw: nn.Conv2d, pw: nn.Conv2d) -> None:
        super().__init__()
        self.first, self.second = Depthwise(dw, False), FusedConv(pw, True)

    def identity(self) -> tuple[Any, ...]:
        return ("separable", self.first.k, self.first.s, tuple(self.second.weight.shape))

    def ways(self) -> int:
        return 1 + len(SEPARABLE_TILES)

    def run(self, way: int, sources: list[Tensor], add: Tensor | None, half: bool) -> Tensor:
        if way == 0:
            return self.second(self.first(sources[0]), add=add, half=half)
        d, m = self.first, self.second
        x, p = pixels(sources[0])
        b, c, h, w = x.shape
        out_h, out_w = (h - 1) // d.s + 1, (w - 1) // d.s + 1
        c_out, total = m.weight.shape[0], b * out_h * out_w
        y = fresh(b, c_out, out_h, out_w, x)
        added, added_p, mode = _sum_arguments(add, half, y)
        bm, bn, bk, warps, stages = SEPARABLE_TILES[way - 1]
        kernels.separable_kernel[((total + bm - 1) // bm, (c_out + bn - 1) // bn)](
            x, p, d.taps, m.matrix, m.bias, added, added_p, y, c_out, h, w, out_h, out_w, c, c_out, total,
            K=d.k, S=d.s, ACT=True, ADD=mode, BM=bm, BN=bn, BK=bk, num_warps=warps, num_stages=stages,
        )  # fmt: skip
        return y


def decoded(boxes: list[Tensor], scores: list[Tensor], classes: int, strides: tuple[int, ...]) -> Tensor:
    """Logits of every level to float32 [B, 4 + classes, A]; one launch a level."""
    cells = [x.shape[2] * x.shape[3] for x in boxes]
    b, anchors = boxes[0].shape[0], sum(cells)
    y = torch.empty((b, 4 + classes, anchors), dtype=torch.float32, device=boxes[0].device)
    offset, bm = 0, 32
    for box, score, stride, n in zip(boxes, scores, strides, cells, strict=True):
        (box, box_p), (score, score_p) = pixels(box), pixels(score)
        kernels.decode_kernel[((n + bm - 1) // bm, b)](
            box, box_p, score, score_p, y, offset, anchors, box.shape[3], n, classes, float(stride),
            BM=bm, BC=16, num_warps=4,
        )  # fmt: skip
        offset += n
    return y


def timed_modules(network: nn.Module) -> Iterator[Timed]:
    """The modules of a GPU network that chose."""
    return (m for m in network.modules() if isinstance(m, Timed))
