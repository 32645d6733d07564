"""The blocks of a network that runs in our kernels: those of a simplified network, in fewer launches.

A convolution takes several inputs and a sum, so concatenations and additions have no launch of their own; a block may give
its outputs as a tuple, which the next convolution reads as inputs side by side.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from yoloproof.kernels.attention import FusedAreaAttention
from yoloproof.kernels.autotune import Tunable
from yoloproof.kernels.decode import decoded
from yoloproof.kernels.gated_sum import gated_sum
from yoloproof.kernels.hypergraph import HypergraphWeights, hypergraph
from yoloproof.kernels.launch import Options, together
from yoloproof.kernels.pool import pooled
from yoloproof.simplify.blocks import chained
from yoloproof.simplify.modules import EdgeFirst

Inputs = Any  # a tensor [B, C, H, W], or a tuple of such, side by side


class GpuResidual(nn.Module):
    def __init__(self, cv1: Tunable, cv2: Tunable, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = cv1, cv2, add

    def forward(self, x: Tensor) -> Tensor:
        return self.cv2(self.cv1(x), add=x if self.add else None)


class GpuTwoScaleEntry(nn.Module):
    """`fine` carries the activation and adds the coarse part before it."""

    def __init__(self, coarse: Tunable, fine: Tunable) -> None:
        super().__init__()
        self.coarse, self.fine = coarse, fine

    def forward(self, *x: Inputs) -> Tensor:
        return self.fine(x[-1], add=self.coarse(*x[:-1]), coarse=True)


class GpuSplitStages(nn.Module):
    def __init__(self, cv1: Tunable | GpuTwoScaleEntry, m: nn.ModuleList, cv2: Tunable, c: int) -> None:
        super().__init__()
        self.cv1, self.m, self.cv2, self.c = cv1, m, cv2, c

    def forward(self, *x: Inputs) -> Tensor:
        y = self.cv1(*x)
        outputs, last = [y], y[:, self.c :]
        for block in self.m:
            last = block(last)
            outputs.append(last)
        return self.cv2(*outputs)


class GpuAttentionBlock(nn.Module):
    """x + attention, then x + mlp: each sum is part of the convolution before it."""

    def __init__(
        self, attention: FusedAreaAttention, qkv: Tunable, pe: Tunable, proj: Tunable, mlp1: Tunable, mlp2: Tunable
    ) -> None:
        super().__init__()
        self.attention, self.qkv, self.pe, self.proj, self.mlp1, self.mlp2 = attention, qkv, pe, proj, mlp1, mlp2

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        x = self.proj(self.pe(qkv[:, 2 * x.shape[1] :], add=self.attention(qkv)), add=x)
        return self.mlp2(self.mlp1(x), add=x)


class GpuAttentionStages(nn.Module):
    def __init__(
        self, cv1: Tunable | GpuTwoScaleEntry, m: nn.ModuleList, cv2: Tunable, gamma: nn.Parameter | None,
        options: Options,
    ) -> None:  # fmt: skip
        super().__init__()
        self.cv1, self.m, self.cv2, self.gamma, self.options = cv1, m, cv2, gamma, options

    def forward(self, *x: Inputs) -> Tensor:
        y = self.cv2(*chained(self.m, self.cv1(*x)))
        return y if self.gamma is None else gated_sum(x[0], y, self.gamma, self.options)


class GpuFusion(nn.Module):
    def __init__(self, conv_out: GpuTwoScaleEntry, options: Options) -> None:
        super().__init__()
        self.conv_out, self.options = conv_out, options

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Any:
        return self.conv_out(coarse, (pooled(fine, self.options), middle))


class GpuTunnel(nn.Module):
    """x0 + gate·x1; coarse: x1 has half the resolution."""

    def __init__(self, gate: nn.Parameter, coarse: bool, options: Options) -> None:
        super().__init__()
        self.gate, self.coarse, self.options = gate, coarse, options

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        return gated_sum(x0, x1, self.gate, self.options, coarse=self.coarse)


class GpuDownsample(nn.Module):
    def __init__(self, channel_adjust: nn.Module, options: Options) -> None:
        super().__init__()
        self.channel_adjust, self.options = channel_adjust, options

    def forward(self, x: Tensor) -> Any:
        return self.channel_adjust(pooled(x, self.options))


class GpuConcat(nn.Module):
    def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
        return x


class GpuBranchPair(nn.Module):
    """Both branches' outputs as a pair."""

    def __init__(self, entries: Tunable, hgnn: EdgeFirst, exit0: Tunable, exit1: Tunable, options: Options) -> None:
        super().__init__()
        self.entries, self.hgnn, self.exit0, self.exit1, self.options = entries, hgnn, exit0, exit1, options

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.entries(x)
        c = y.shape[1] // 4
        mixed = hypergraph(hypergraph_weights(self.hgnn), y, self.options)
        return self.exit0(mixed[:, :c], y[:, c : 2 * c]), self.exit1(mixed[:, c:], y[:, 3 * c :])


def hypergraph_weights(block: EdgeFirst) -> HypergraphWeights:
    return HypergraphWeights(block.base, block.context, block.edge, block.edge_bias, block.node, block.node_bias)


class GpuCorrelation(nn.Module):
    """The chain on the third part beside the hypergraph branches on the second."""

    def __init__(
        self, fuse: GpuFusion, cv1: Tunable, m: nn.ModuleList, branches: GpuBranchPair, cv2: Tunable, options: Options
    ) -> None:
        super().__init__()
        self.fuse, self.cv1, self.m, self.branches, self.cv2, self.options = fuse, cv1, m, branches, cv2, options

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        y0, y1, y2 = self.cv1(self.fuse(fine, middle, coarse)).chunk(3, 1)
        low, high = together(self.options, lambda: chained(self.m, y2), lambda: self.branches(y1))
        return self.cv2(y0, *low, high)


class GpuHead(nn.Module):
    """Box and class branches of all levels beside one another, then one launch for the rest."""

    def __init__(self, cv2: nn.ModuleList, cv3: nn.ModuleList, classes: int, options: Options) -> None:
        super().__init__()
        self.cv2, self.cv3, self.classes, self.options = cv2, cv3, classes, options

    def forward(self, *levels: Tensor) -> Tensor:
        heads = [(branch, x) for branches in (self.cv2, self.cv3) for branch, x in zip(branches, levels, strict=True)]
        logits = together(self.options, *[lambda b=branch, x=x: b(x) for branch, x in heads])
        return decoded(logits[:3], logits[3:], self.classes, self.options)
