"""The blocks of a simplified network, each with the function of the published block that it is built from.

They differ from the published ones in what they take: convolutions have a bias, their batch norm may be gone, and several
inputs count as one, side by side along the channels, so that a rewrite can give a block its inputs as they are.
Attribute names are the published ones, which paths of modules and tensors are made of.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.network.blocks import Block
from yoloproof.network.head import DFL, pixels_from_distances
from yoloproof.network.hypergraph import upsample


def side_by_side(x: tuple[Tensor, ...]) -> Tensor:
    """One tensor as it is; several along the channels."""
    return x[0] if len(x) == 1 else torch.cat(x, 1)


def parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.contiguous(), requires_grad=False)


def convolution(weight: Tensor, bias: Tensor | None, like: nn.Conv2d, groups: int | None = None) -> nn.Conv2d:
    """A convolution with these weights [c_out, c_in/groups, k, k] and bias; stride, dilation and groups as `like`'s."""
    groups = like.groups if groups is None else groups
    k, dilation = weight.shape[2], like.dilation[0]
    conv = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], k, like.stride[0], dilation * (k - 1) // 2, dilation, groups,
        bias=bias is not None, device="meta",
    )  # fmt: skip
    conv.weight = parameter(weight)
    if bias is not None:
        conv.bias = parameter(bias)
    return conv


def product(weight: Tensor, x: Tensor, runs: int = 1) -> Tensor:
    """A 1×1 convolution without bias as W·xᵀ, x its tokens: [B, C, H, W] → [B·runs, C', H·W/runs]."""
    b, c, h, w = x.shape
    tokens = x.permute(0, 2, 3, 1).reshape(b * runs, h * w // runs, c)
    return weight.flatten(1) @ tokens.transpose(1, 2)


def activation(act: bool) -> nn.Module:
    return nn.SiLU() if act else nn.Identity()


class Entry(Block):
    """What computes output channels of a block's inputs that can be computed apart from one another."""

    def rows(self, rows: slice | Tensor) -> Entry:
        """An entry that computes these output channels only: (W·x)[rows] = W[rows]·x."""
        raise NotImplementedError


class Convolution(Entry):
    """act(bn(W·x + b)), x all inputs side by side. act -- SiLU or nothing; bn -- None: folded into the weights."""

    def __init__(self, conv: nn.Conv2d, act: bool, bn: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.Identity() if bn is None else bn
        self.act, self.has_act = activation(act), act

    def forward(self, *x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(self.conv(side_by_side(x))))
        return y

    def with_weights(self, weight: Tensor, bias: Tensor | None, groups: int | None = None) -> Convolution:
        """The folded convolution with other weights, its geometry and activation."""
        return Convolution(convolution(weight, bias, self.conv, groups), self.has_act)

    def rows(self, rows: slice | Tensor, groups: int | None = None) -> Convolution:
        bias = self.conv.bias
        return self.with_weights(self.conv.weight[rows], None if bias is None else bias[rows], groups)


def stacked(*blocks: Convolution, groups: int | None = None) -> Convolution:
    """One convolution that computes several of the same input: [W1; W2; …]·x = (W1·x, W2·x, …)."""
    biases = [block.conv.bias for block in blocks if block.conv.bias is not None]
    return blocks[0].with_weights(torch.cat([block.conv.weight for block in blocks]), torch.cat(biases), groups)


class SeparableConvolution(Block):
    """act(bn(pointwise(depthwise(x))))."""

    def __init__(self, dw: nn.Conv2d, pw: nn.Conv2d, bn: nn.Module | None = None) -> None:
        super().__init__()
        self.dw, self.pw = dw, pw
        self.bn = nn.Identity() if bn is None else bn
        self.act = activation(True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(self.pw(self.dw(x))))
        return y


class Residual(Block):
    """Two convolutions, and the input added where `add`: Bottleneck and DSBottleneck."""

    def __init__(self, cv1: Block, cv2: Block, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = cv1, cv2, add

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class CrossStage(Block):
    """C3: two entries, a chain `m` on the first, an exit from both."""

    def __init__(self, cv1: Convolution, cv2: Convolution, m: nn.Module, cv3: Block) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m, self.cv3 = cv1, cv2, m, cv3

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.m(self.cv1(x)), self.cv2(x))


class HypergraphStage(Block):
    """C3AH: two entries, a hypergraph computation `m` on the first, an exit from both."""

    def __init__(self, cv1: Convolution, cv2: Convolution, m: Block, cv3: Convolution) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m, self.cv3 = cv1, cv2, m, cv3

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.m(self.cv1(x)), self.cv2(x))


class SplitStages(Block):
    """C2f: an entry in two halves of `c` channels, blocks `m` chained on the second, an exit from everything.

    The halves come from the entry in one tensor, or (`SplitEntry`) as two.
    """

    def __init__(self, cv1: Entry | SplitEntry, m: nn.ModuleList, cv2: Block, c: int) -> None:
        super().__init__()
        self.cv1, self.m, self.cv2, self.c = cv1, m, cv2, c

    def forward(self, *x: Tensor) -> Tensor:
        if isinstance(self.cv1, SplitEntry):
            outputs = [*self.cv1(*x)]
            last = outputs[1]
        else:
            outputs = [self.cv1(*x)]
            last = outputs[0][:, self.c :]
        for block in self.m:
            last = block(last)
            outputs.append(last)
        return self.cv2(*outputs)


class AttentionBlock(Block):
    """ABlock: x + attn(x), then x + mlp(x)."""

    def __init__(self, attn: Block, mlp: nn.Sequential) -> None:
        super().__init__()
        self.attn, self.mlp = attn, mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        y: Tensor = self.mlp(x)
        return x + y


class AttentionStages(Block):
    """A2C2f: an entry, stages `m` chained, an exit from all of them; with `gamma` added to the one input, scaled."""

    def __init__(self, cv1: Entry, m: nn.ModuleList, cv2: Block, gamma: nn.Parameter | None) -> None:
        super().__init__()
        self.cv1, self.m, self.cv2, self.gamma = cv1, m, cv2, gamma

    def forward(self, *x: Tensor) -> Tensor:
        outputs = [self.cv1(*x)]
        for stage in self.m:
            outputs.append(stage(outputs[-1]))
        y = self.cv2(*outputs)
        return y if self.gamma is None else x[0] + self.gamma.view(1, -1, 1, 1) * y


class LevelFusion(Block):
    """FuseModule: three levels at the middle one's size, side by side, through one 1×1 convolution."""

    def __init__(self, conv_out: Convolution) -> None:
        super().__init__()
        self.conv_out = conv_out

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        return self.conv_out(F.avg_pool2d(fine, 2), middle, upsample(coarse))


class Correlation(Block):
    """HyperACE: the fused levels in three parts; a hypergraph twice on the second, blocks `m` chained on the third."""

    def __init__(
        self, fuse: Block, cv1: Convolution | SplitEntry, m: nn.ModuleList, branch1: HypergraphStage,
        branch2: HypergraphStage, cv2: Block,
    ) -> None:  # fmt: skip
        super().__init__()
        self.fuse, self.cv1, self.m, self.branch1, self.branch2, self.cv2 = fuse, cv1, m, branch1, branch2, cv2

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        y0, y1, y2 = thirds(self.cv1, self.fuse(fine, middle, coarse))
        return self.cv2(y0, self.branch1(y1), *chained(self.m, y2), self.branch2(y1))


def thirds(entry: Convolution | SplitEntry, x: Tensor) -> tuple[Tensor, ...]:
    """An entry's output [B, 3c, H, W] in three parts of c channels."""
    return entry(x) if isinstance(entry, SplitEntry) else entry(x).chunk(3, 1)


def chained(blocks: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """x, and the output of each block on the one before."""
    outputs = [x]
    for block in blocks:
        outputs.append(block(outputs[-1]))
    return outputs


class SplitEntry(nn.Module):
    """An entry's output channels in `count` equal parts, each computed apart; the parts of an entry may be read apart."""

    def __init__(self, entry: Entry, channels: int, count: int) -> None:
        super().__init__()
        c = channels // count
        self.parts = nn.ModuleList(entry.rows(slice(i * c, (i + 1) * c)) for i in range(count))

    def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(*x) for part in self.parts)


class Downsample(Block):
    """DownsampleConv: 2×2 average, then `channel_adjust` (a 1×1 convolution, or nothing)."""

    def __init__(self, channel_adjust: nn.Module) -> None:
        super().__init__()
        self.channel_adjust = channel_adjust

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.channel_adjust(F.avg_pool2d(x, 2))
        return y


class Head(Block):
    """Detect: three levels → [B, 4 + classes, A]."""

    def __init__(self, cv2: nn.ModuleList, cv3: nn.ModuleList, dfl: DFL, classes: int) -> None:
        super().__init__()
        self.cv2, self.cv3, self.dfl, self.classes = cv2, cv3, dfl, classes

    def forward(self, *levels: Tensor) -> Tensor:
        boxes = torch.cat([branch(x).flatten(2) for branch, x in zip(self.cv2, levels, strict=True)], 2)
        scores = torch.cat([branch(x).flatten(2) for branch, x in zip(self.cv3, levels, strict=True)], 2)
        boxes = pixels_from_distances(self.dfl(boxes), [(x.shape[2], x.shape[3]) for x in levels])
        return torch.cat((boxes, scores.float().sigmoid()), 1)
