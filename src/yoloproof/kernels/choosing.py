"""Modules that choose, by timing them once on the GPU at hand, between a library's way and our kernels' tiles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from triton.runtime.errors import OutOfResources

from yoloproof.kernels import kernels, token_kernels
from yoloproof.kernels.launch import RECORDER, Options, flat, fresh, launch, pixels, recording, tiles
from yoloproof.simplify.modules import MergedAttention

MOST_SOURCES = 6
# rows × columns × depth of a tile, warps, stages of the software pipeline
DENSE_TILES = (
    (32, 32, 64, 2, 4), (64, 32, 64, 4, 4), (64, 64, 64, 4, 4), (128, 64, 64, 4, 3),
    (16, 64, 64, 4, 4), (32, 32, 128, 4, 3), (64, 32, 128, 4, 3), (128, 128, 64, 8, 3),
)  # fmt: skip
# pixels, channels, rows of the kernel side by side (0: one after the other), warps; a separable one with its depth
DEPTHWISE_TILES = ((16, 32, 0, 2), (32, 64, 0, 4), (8, 32, 1, 4), (16, 32, 1, 8), (16, 64, 1, 8))
SEPARABLE_TILES = ((32, 32, 32, 0, 4), (32, 64, 32, 0, 4), (16, 64, 32, 1, 8), (16, 32, 32, 1, 4))
ATTENTION_TILES = ((32, 64, 2), (64, 64, 4), (32, 128, 4))
_CHOSEN: dict[tuple[Any, ...], int] = {}
_CALLS, _REPLAYS = 8, 5


class Choosing(nn.Module, ABC):
    """A module with several ways (`ways()`) to compute the same; the quickest for its shapes is taken from then on."""

    choice: int | None = None
    options = Options()

    @abstractmethod
    def ways(self) -> int:
        """How many there are."""

    @abstractmethod
    def run(self, way: int, sources: list[Tensor], add: Tensor | None, half: bool) -> Tensor:
        """The result by that way."""

    @abstractmethod
    def identity(self) -> tuple[Any, ...]:
        """What, beside the shapes, decides which way is the quickest."""

    def forward(self, *x: Any, add: Tensor | None = None, half: bool = False) -> Tensor:
        """x: inputs [B, C_i, H, W] side by side; add: summed after the activation, or (half) before it, from half size."""
        sources = flat(x)
        recorder = RECORDER.get()
        if recorder is not None:
            return recorder.chosen(self, sources, add, half)
        if recording():
            results = [self.run(way, sources, add, half) for way in range(self.ways())]
            return results[0]
        if self.choice is None:
            shapes = tuple((tuple(s.shape), s.stride(3)) for s in sources)
            key = (*self.identity(), shapes, add is None, half, self.options.early_start, sources[0].device)
            if key not in _CHOSEN:
                _CHOSEN[key] = quickest([lambda w=w: self.run(w, sources, add, half) for w in range(self.ways())])
            self.choice = _CHOSEN[key]
        return self.run(self.choice, sources, add, half)


def chosen_ways() -> dict[tuple[Any, ...], int]:
    """What was chosen in this process so far; another process takes it over with `take_ways`."""
    return dict(_CHOSEN)


def take_ways(chosen: Mapping[tuple[Any, ...], int]) -> None:
    _CHOSEN.update(chosen)


def quickest(calls: list[Callable[[], Tensor]]) -> int:
    """Index of the call that takes the least device time; a tile that this GPU has no room for takes forever."""
    if len(calls) == 1:
        return 0
    seconds = []
    for call in calls:
        try:
            seconds.append(graph_seconds(call))
        except OutOfResources:
            seconds.append(float("inf"))
    return seconds.index(min(seconds))


def graph_seconds(call: Callable[[], Any]) -> float:
    """Device seconds of a call, the least over replays of a CUDA graph that holds several."""
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


class FusedConv(Choosing):
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
            return self._finished(y, add, half)
        return self._dense(DENSE_TILES[way - 1], sources, add, half)

    def _finished(self, y: Tensor, add: Tensor | None, half: bool) -> Tensor:
        y, spacing = pixels(y)
        b, c, h, w = y.shape
        added, added_p, mode = _sum_arguments(add, half, y)
        total, bm, bn = b * h * w, 32, 64
        launch(
            kernels.finish_kernel, (tiles(total, bm), tiles(c, bn)),
            y, spacing, self.bias, added, added_p, y, spacing, h, w, c, total,
            ACT=self.act, ADD=mode, BM=bm, BN=bn, num_warps=4, options=self.options,
        )  # fmt: skip
        return y

    def _dense(self, tile: tuple[int, ...], sources: list[Tensor], add: Tensor | None, half: bool) -> Tensor:
        laid = [pixels(x) for x in sources]
        b, _, h, w = sources[0].shape
        out_h, out_w = (h - 1) // self.s + 1, (w - 1) // self.s + 1
        c_out, total = self.weight.shape[0], b * out_h * out_w
        y = fresh(b, c_out, out_h, out_w, sources[0])
        added, added_p, mode = _sum_arguments(add, half, y)
        laid += [laid[0]] * (MOST_SOURCES - len(laid))
        bm, bn, bk, warps, stages = tile
        launch(
            kernels.conv_kernel, (tiles(total, bm), tiles(c_out, bn)),
            *[x for x, _ in laid], *[x.shape[1] for x, _ in laid], *[p for _, p in laid],
            self.matrix, self.bias, added, added_p, y, c_out, h, w, out_h, out_w, self.weight.shape[1], c_out, total,
            K=self.k, S=self.s, SOURCES=len(sources), ACT=self.act, ADD=mode, BM=bm, BN=bn, BK=bk,
            num_warps=warps, num_stages=stages, options=self.options,
        )  # fmt: skip
        return y


def _sum_arguments(add: Tensor | None, half: bool, y: Tensor) -> tuple[Tensor, int, int]:
    if add is None:
        return y, 0, 0
    add, spacing = pixels(add)
    return add, spacing, 2 if half else 1


def _rows(side_by_side: int, k: int) -> int:
    """Rows of a k×k kernel laid side by side: the power of two from k on, or 1."""
    return 1 << (k - 1).bit_length() if side_by_side else 1


class Depthwise(Choosing):
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
        bm, bn, side_by_side, warps = DEPTHWISE_TILES[way]
        launch(
            kernels.depthwise_kernel, (tiles(total, bm), tiles(c, bn)),
            x, p, self.taps, self.bias, added, added_p, y, c, h, w, out_h, out_w, c, total,
            K=self.k, S=self.s, ROWS=_rows(side_by_side, self.k), ACT=self.act, ADD=mode, BM=bm, BN=bn,
            num_warps=warps, options=self.options,
        )  # fmt: skip
        return y


class Separable(Choosing):
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
        bm, bn, bk, side_by_side, warps = SEPARABLE_TILES[way - 1]
        launch(
            kernels.separable_kernel, (tiles(total, bm), tiles(c_out, bn)),
            x, p, d.taps, m.matrix, m.bias, added, added_p, y, c_out, h, w, out_h, out_w, c, c_out, total,
            K=d.k, S=d.s, ROWS=_rows(side_by_side, d.k), ACT=True, ADD=mode, BM=bm, BN=bn, BK=bk,
            num_warps=warps, num_stages=2, options=self.options,
        )  # fmt: skip
        return y


class AreaAttention(Choosing):
    """qkv [B, 3C, H, W] → [B, C, H, W]: PyTorch's scaled_dot_product_attention, or our kernel on the pixels in place."""

    def __init__(self, block: MergedAttention) -> None:
        super().__init__()
        self.heads, self.area, self.scale, self.attention = block.heads, block.area, block.scale, "fused"

    def identity(self) -> tuple[Any, ...]:
        return ("attention", self.heads, self.area, self.scale)

    def ways(self) -> int:
        return 1 + (len(ATTENTION_TILES) if self.scale == 1.0 else 0)

    def run(self, way: int, sources: list[Tensor], add: Tensor | None, half: bool) -> Tensor:
        qkv, p = pixels(sources[0])
        b, c, h, w = qkv.shape
        if way == 0:
            return MergedAttention.attended(self, qkv).reshape(b, c // 3, h, w)
        y, tokens = fresh(b, c // 3, h, w, qkv), h * w // self.area
        bm, bn, warps = ATTENTION_TILES[way - 1]
        launch(
            token_kernels.attention_kernel, (tiles(tokens, bm), self.heads, b * self.area),
            qkv, p, y, c // 3, tokens, self.heads, BM=bm, BN=bn, num_warps=warps, options=self.options,
        )  # fmt: skip
        return y
