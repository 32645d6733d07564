"""Blocks that rewrites put in the place of others: the same function in fewer or cheaper operations.

Places that need float32 even in a float16 network ask for it with `.float()`, which costs nothing in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.network.blocks import Block
from yoloproof.network.head import BINS, anchor_points
from yoloproof.network.hypergraph import AdaHGComputation, AdaHGConv, upsample
from yoloproof.simplify.attention import bounded
from yoloproof.simplify.blocks import (
    Convolution,
    Entry,
    HypergraphStage,
    SplitEntry,
    activation,
    chained,
    convolution,
    parameter,
    product,
    side_by_side,
    stacked,
    thirds,
)


def product32(weight: Tensor, x: Tensor) -> Tensor:
    """weight [m, n] · x [B, n, A], or weight [P, m, n] · x [B, P, n, 1], in float32 whatever the weight's type.

    In a float16 network not as a MatMul: TensorRT-RTX has none in float32 for Turing ("FP32 GEMM is not supported").
    """
    if weight.dtype != torch.float16:
        return weight.float() @ x
    if weight.ndim == 2:
        return F.conv2d(x.unsqueeze(-1), weight.float()[:, :, None, None]).squeeze(-1)
    return (weight.float() * x.transpose(-2, -1)).sum(-1, keepdim=True)


class MergedCrossStage(Block):
    """A CrossStage whose two entries are one convolution."""

    def __init__(self, cv12: nn.Module, m: nn.Module, cv3: nn.Module, c: int) -> None:
        """c -- channels of the first entry"""
        super().__init__()
        self.cv12, self.m, self.cv3, self.c = cv12, m, cv3, c

    def forward(self, x: Tensor) -> Tensor:
        y, bypass = self.cv12(x).split((self.c, self.c), 1)
        out: Tensor = self.cv3(self.m(y), bypass)
        return out


class SummedExit(Block):
    """act(W·(x1 beside x2 beside …)) as act(W1·x1 + W2·x2 + …): what an exit reads is never put side by side."""

    def __init__(self, exit: Convolution, widths: Sequence[int]) -> None:
        """`widths` are the channels of the inputs."""
        super().__init__()
        weights = exit.conv.weight.split(list(widths), 1)
        biases = [exit.conv.bias, *[None] * (len(widths) - 1)]
        self.parts = nn.ModuleList(convolution(w, b, exit.conv) for w, b in zip(weights, biases, strict=True))
        self.act = activation(exit.has_act)

    def forward(self, *x: Tensor) -> Tensor:
        (first, x0), *others = zip(self.parts, x, strict=True)
        total = first(x0)
        for part, xi in others:
            total = total + part(xi)
        y: Tensor = self.act(total)
        return y


class TwoScaleEntry(Entry):
    """act(W·(up(coarse) beside fine)) as act(up(Wc·coarse) + Wf·fine): the coarse part at a quarter of the cost.

    forward(*coarse, fine): several coarse inputs are read side by side. Both convolutions are 1×1; `fine` has the bias.
    """

    def __init__(self, coarse: nn.Conv2d, fine: nn.Conv2d, act: bool) -> None:
        super().__init__()
        self.coarse, self.fine = coarse, fine
        self.act, self.has_act = activation(act), act

    def forward(self, *x: Tensor) -> Tensor:
        y: Tensor = self.act(self.fine(x[-1]) + upsample(self.coarse(side_by_side(x[:-1]))))
        return y

    def rows(self, rows: slice | Tensor) -> TwoScaleEntry:
        bias = self.fine.bias
        fine = convolution(self.fine.weight[rows], None if bias is None else bias[rows], self.fine)
        return TwoScaleEntry(convolution(self.coarse.weight[rows], None, self.coarse), fine, self.has_act)


def two_scale(entry: Convolution, coarse: Tensor, fine: Tensor) -> TwoScaleEntry:
    """coarse, fine -- the 1×1 entry's weights for the coarse inputs and the fine ones, gates multiplied in"""
    return TwoScaleEntry(
        convolution(coarse, None, entry.conv), convolution(fine, entry.conv.bias, entry.conv), entry.has_act
    )


class TwoScaleFusion(Block):
    """A LevelFusion with its coarse level's part of the 1×1 convolution before the upsampling."""

    def __init__(self, conv_out: TwoScaleEntry) -> None:
        super().__init__()
        self.conv_out = conv_out

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        return self.conv_out(coarse, torch.cat((F.avg_pool2d(fine, 2), middle), 1))


class CoarseTunnel(Block):
    """x0 + gate·up(x1): the gate is applied to the quarter of the pixels there are."""

    def __init__(self, gate: Tensor) -> None:
        super().__init__()
        self.gate = parameter(gate)

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        return x0 + upsample(self.gate * x1)


class EdgeFirst(Block):
    """One or more (P) AdaHGConvs on tokens [B, P, D, N] → [B, P, D, N], every projection on the E hyperedges.

    base [P, E, D], context [P, E·D, 2D]: prototypes with pre_head_proj, the heads' mean and 1/√d multiplied in
    edge, node [P, D, D] and biases [P, D, 1]: the published edge_proj and node_proj
    is_bounded -- the softmax's scores go through `bounded`
    """

    def __init__(
        self, base: Tensor, context: Tensor, edge: Tensor, edge_bias: Tensor, node: Tensor, node_bias: Tensor
    ) -> None:
        super().__init__()
        self.base, self.context = parameter(base), parameter(context)
        self.edge, self.edge_bias = parameter(edge), parameter(edge_bias)
        self.node, self.node_bias = parameter(node), parameter(node_bias)
        self.is_bounded = False

    def forward(self, x: Tensor) -> Tensor:
        context = torch.cat((x.float().mean(-1), x.float().amax(-1)), -1).unsqueeze(-1)  # [B, P, 2D, 1]
        offsets = product32(self.context, context).view(x.shape[0], *self.base.shape)
        prototypes = (self.base.float() + offsets).to(x.dtype)  # [B, P, E, D]
        logits = (prototypes @ x).float()
        if self.is_bounded:
            logits = bounded(logits)
        participation = logits.softmax(-1).to(x.dtype)  # [B, P, E, N]
        edges = x @ participation.transpose(-2, -1)  # [B, P, D, E]
        edges = self.node @ F.gelu(self.edge @ edges + self.edge_bias)
        return F.gelu(edges @ participation + self.node_bias) + x


def edges_first(blocks: Sequence[AdaHGConv]) -> EdgeFirst:
    """The published convolutions as one EdgeFirst, one item each."""
    bases, contexts = [], []
    for block in blocks:
        g = block.edge_generator
        e, d = g.prototype_base.shape
        projection = g.pre_head_proj.weight.double() / (g.heads * (d / g.heads) ** 0.5)
        bases.append((g.prototype_base.double() + g.context_net.bias.double().view(e, d)) @ projection)
        context = g.context_net.weight.double().view(e, d, 2 * d)
        contexts.append(torch.einsum("eck,cd->edk", context, projection).reshape(e * d, 2 * d))
    edges, nodes = [_linear(block.edge_proj) for block in blocks], [_linear(block.node_proj) for block in blocks]
    return EdgeFirst(
        torch.stack(bases).float(), torch.stack(contexts).float(),
        torch.stack([linear.weight for linear in edges]), torch.stack([linear.bias[:, None] for linear in edges]),
        torch.stack([linear.weight for linear in nodes]), torch.stack([linear.bias[:, None] for linear in nodes]),
    )  # fmt: skip


def _linear(projection: nn.Sequential) -> nn.Linear:
    linear = projection[0]
    assert isinstance(linear, nn.Linear)
    return linear


class EdgeFirstComputation(Block):
    """EdgeFirst on the pixels of [B, C, H, W]."""

    def __init__(self, hgnn: EdgeFirst) -> None:
        super().__init__()
        self.hgnn = hgnn

    def forward(self, x: Tensor) -> Tensor:
        return self.hgnn(x.flatten(2).unsqueeze(1)).view_as(x)


class BranchPair(Block):
    """Two HypergraphStages of one input: [B, C, H, W] → [B, 2C, H, W], first and second side by side."""

    def __init__(self, entries: Convolution, hgnn: EdgeFirst, exits: Convolution) -> None:
        """entries -- cv1 and cv2 of both, stacked; exits -- both cv3 as two groups"""
        super().__init__()
        self.entries, self.hgnn, self.exits = entries, hgnn, exits

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens, bypass = self.entries(x).reshape(b, 2, 2 * c, h * w).split((c, c), 2)  # [B, 2, C, N] each
        return self.exits(torch.cat((self.hgnn(tokens), bypass), 2).reshape(b, 4 * c, h, w))


def branch_pair(first: HypergraphStage, second: HypergraphStage) -> BranchPair:
    graphs = [block.m.hgnn for block in (first, second) if isinstance(block.m, AdaHGComputation)]
    entries = stacked(first.cv1, first.cv2, second.cv1, second.cv2)
    return BranchPair(entries, edges_first(graphs), stacked(first.cv3, second.cv3, groups=2))


class PairedCorrelation(Block):
    """A Correlation whose two hypergraph branches are one; its exit reads the branches' outputs last."""

    def __init__(
        self, fuse: Block, cv1: Convolution | SplitEntry, m: nn.ModuleList, branches: BranchPair, cv2: Block
    ) -> None:
        super().__init__()
        self.fuse, self.cv1, self.m, self.branches, self.cv2 = fuse, cv1, m, branches, cv2

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        y0, y1, y2 = thirds(self.cv1, self.fuse(fine, middle, coarse))
        return self.cv2(y0, *chained(self.m, y2), self.branches(y1))


class ChannelsFirst(Block):
    """The head's last 1×1 convolution of a branch as `product`: [B, C, H, W] → [B, C', H·W]."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return product(self.weight, x) + self.bias[:, None]


class DirectHead(Block):
    """Detect with the bins' expectation as one ratio of matrix products and the box arithmetic as one matrix.

    For each side, Σ j·softmax(x)_j = Σ j·exp(x_j − m) / Σ exp(x_j − m), m the maximum over the 16 bins.
    """

    sums: Tensor
    boxes: Tensor

    def __init__(self, cv2: nn.ModuleList, cv3: nn.ModuleList, classes: int) -> None:
        super().__init__()
        self.cv2, self.cv3, self.classes = cv2, cv3, classes
        sides = torch.eye(4).repeat_interleave(BINS, 1)  # [4, 64]
        weights = torch.arange(BINS, dtype=torch.float32).repeat(4)
        self.register_buffer("sums", torch.cat((sides * weights, sides)))  # numerators, then denominators: [8, 64]
        # left, top, right, bottom → cx, cy, w, h
        boxes = torch.tensor([[-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5], [1, 0, 1, 0], [0, 1, 0, 1]])
        self.register_buffer("boxes", boxes)

    def forward(self, *levels: Tensor) -> Tensor:
        logits = torch.cat([branch(x).flatten(2) for branch, x in zip(self.cv2, levels, strict=True)], 2)
        # a sigmoid right behind each level's convolution becomes a part of it in most runtimes
        scores = [branch(x).float().sigmoid().flatten(2) for branch, x in zip(self.cv3, levels, strict=True)]
        centres, strides = anchor_points([(x.shape[2], x.shape[3]) for x in levels], logits.device)
        origin = F.pad(centres * strides, (0, 0, 0, 2))  # [1, 4, A]: no offset for w and h
        bins: Tensor = logits.float().unflatten(1, (4, BINS))
        sums = product32(self.sums, torch.exp(bins - bins.amax(2, keepdim=True)).flatten(1, 2))
        numerator, denominator = sums.chunk(2, 1)
        boxes = product32(self.boxes, numerator / denominator) * strides + origin
        return torch.cat((boxes, torch.cat(scores, 2)), 1)
