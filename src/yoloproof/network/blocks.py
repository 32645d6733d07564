"""Convolution blocks of YOLOv12 and YOLOv13. Parameter names are the published checkpoints'.

Tensors are [B, C, H, W]. Every block keeps H and W unless its stride is 2.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A module from tensors to one tensor (nn.Module leaves the type of a call open)."""

    if TYPE_CHECKING:

        def __call__(self, *x: Tensor) -> Tensor: ...


def batch_norm(c: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(c, eps=1e-3, momentum=0.03)


class Conv(Block):
    """Convolution without bias → batch norm → SiLU (or nothing), padded to keep the size."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, groups: int = 1, act: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, groups=groups, bias=False)
        self.bn = batch_norm(c2)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class DWConv(Conv):
    """A Conv with as many groups as its channels allow."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1) -> None:
        super().__init__(c1, c2, k, s, groups=gcd(c1, c2))


class DSConv(Block):
    """Depthwise k×k → pointwise 1×1 → batch norm → SiLU; nothing stands between the two convolutions."""

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.dw = nn.Conv2d(c1, c1, k, s, dilation * (k - 1) // 2, dilation=dilation, groups=c1, bias=False)
        self.pw = nn.Conv2d(c1, c2, 1, bias=False)
        self.bn = batch_norm(c2)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(self.pw(self.dw(x))))
        return y


class Bottleneck(Block):
    """Two Convs; adds its input when `shortcut` and the channels agree."""

    def __init__(self, c1: int, c2: int, shortcut: bool = True, k: tuple[int, int] = (3, 3), e: float = 0.5) -> None:
        super().__init__()
        c = int(c2 * e)
        self.cv1 = Conv(c1, c, k[0])
        self.cv2 = Conv(c, c2, k[1])
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class DSBottleneck(Block):
    """Two DSConvs (3×3, then a larger kernel); adds its input when `shortcut` and the channels agree."""

    def __init__(self, c1: int, c2: int, shortcut: bool = True, e: float = 0.5, k1: int = 3, k2: int = 5) -> None:
        super().__init__()
        c = int(c2 * e)
        self.cv1 = DSConv(c1, c, k1)
        self.cv2 = DSConv(c, c2, k2)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(Block):
    """Two 1×1 entries, a chain of blocks `m` on the first, a 1×1 exit from both."""

    def __init__(self, c1: int, c2: int, blocks: list[nn.Module], e: float = 0.5) -> None:
        super().__init__()
        c = int(c2 * e)
        self.cv1 = Conv(c1, c)
        self.cv2 = Conv(c1, c)
        self.cv3 = Conv(2 * c, c2)
        self.m = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class C3k(C3):
    """C3 of bottlenecks with k×k kernels."""

    def __init__(self, c1: int, c2: int, n: int, shortcut: bool = True, e: float = 0.5, k: int = 3) -> None:
        c = int(c2 * e)
        super().__init__(c1, c2, [Bottleneck(c, c, shortcut, (k, k), e=1.0) for _ in range(n)], e)


class DSC3k(C3):
    """C3 of depthwise-separable bottlenecks."""

    def __init__(
        self, c1: int, c2: int, n: int, shortcut: bool = True, e: float = 0.5, k1: int = 3, k2: int = 5
    ) -> None:
        c = int(c2 * e)
        super().__init__(c1, c2, [DSBottleneck(c, c, shortcut, e=1.0, k1=k1, k2=k2) for _ in range(n)], e)


class C2f(Block):
    """1×1 entry split in two halves, blocks `m` chained on the second, a 1×1 exit from everything."""

    def __init__(self, c1: int, c2: int, blocks: list[nn.Module], e: float = 0.5) -> None:
        super().__init__()
        self.c = int(c2 * e)
        self.cv1 = Conv(c1, 2 * self.c)
        self.cv2 = Conv((2 + len(blocks)) * self.c, c2)
        self.m = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        halves = self.cv1(x)  # [B, 2c, H, W]
        outputs, last = [halves], halves[:, self.c :]
        for block in self.m:
            last = block(last)
            outputs.append(last)
        return self.cv2(torch.cat(outputs, 1))


class C3k2(C2f):
    """C2f of C3k blocks (`nested`) or plain bottlenecks."""

    def __init__(self, c1: int, c2: int, n: int, nested: bool = False, e: float = 0.5) -> None:
        c = int(c2 * e)
        super().__init__(c1, c2, [C3k(c, c, 2) if nested else Bottleneck(c, c) for _ in range(n)], e)


class DSC3k2(C2f):
    """C2f of DSC3k blocks (`nested`) or depthwise-separable bottlenecks."""

    def __init__(
        self, c1: int, c2: int, n: int, nested: bool = False, e: float = 0.5, k1: int = 3, k2: int = 7
    ) -> None:
        c = int(c2 * e)
        blocks: list[nn.Module] = [
            DSC3k(c, c, 2, e=1.0, k1=k1, k2=k2) if nested else DSBottleneck(c, c, e=1.0, k1=k1, k2=k2) for _ in range(n)
        ]
        super().__init__(c1, c2, blocks, e)
