"""The blocks a simplified network is made of. Each computes what the published block does; `simplify.py` names why.

Places that need float32 even in a float16 network ask for it with `.float()`, which costs nothing in float32.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.network.attention import HEAD_DIM, AAttn, attend, bounded
from yoloproof.network.blocks import C3, Conv, side_by_side
from yoloproof.network.head import BINS, Detect, anchor_points
from yoloproof.network.hypergraph import C3AH, AdaHGConv, FuseModule, upsample


def product32(weight: Tensor, x: Tensor) -> Tensor:
    """weight [m, n] · x [B, n, A], or weight [P, m, n] · x [B, P, n, 1], in float32 whatever the weight's type.

    In a float16 network not as a MatMul: TensorRT-RTX has none in float32 for Turing ("FP32 GEMM is not supported").
    """
    if weight.dtype != torch.float16:
        return weight.float() @ x
    if weight.ndim == 2:
        return F.conv2d(x.unsqueeze(-1), weight.float()[:, :, None, None]).squeeze(-1)
    return (weight.float() * x.transpose(-2, -1)).sum(-1, keepdim=True)


def convolution(weight: Tensor, bias: Tensor | None, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution with these weights [c_out, c_in/groups, k, k] and bias, its geometry as `like`'s."""
    conv = nn.Conv2d(
        weight.shape[1] * like.groups, weight.shape[0], like.kernel_size, like.stride, like.padding, like.dilation,
        like.groups, bias=bias is not None, device="meta",
    )  # fmt: skip
    conv.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        conv.bias = nn.Parameter(bias.contiguous())
    return conv


def with_weights(block: Conv, weight: Tensor, bias: Tensor, groups: int = 1) -> Conv:
    """A copy of a folded Conv with other weights and the same kernel, stride and activation."""
    made = copy.copy(block)
    made._modules = dict(block._modules)
    like = copy.copy(block.conv)
    like.groups = groups
    made.conv = convolution(weight, bias, like)
    return made


def rows(*convs: Conv) -> Conv:
    """One convolution that computes several of the same input: [W1; W2; …]·x = (W1·x, W2·x, …)."""
    weight, bias = (torch.cat([getattr(c.conv, part) for c in convs]) for part in ("weight", "bias"))
    return with_weights(convs[0], weight, bias, convs[0].conv.groups)


class MergedAttention(nn.Module):
    """Area attention whose q, k and v come from one convolution (channels: q, k, v; in each, head by head)."""

    def __init__(self, block: AAttn) -> None:
        super().__init__()
        self.heads, self.area, self.attention, self.scale = block.heads, block.area, block.attention, block.scale
        self.qkv = rows(block.qk, block.v)
        self.pe, self.proj = block.pe, block.proj

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(x)
        v = qkv[:, 2 * c :]
        if self.attention == "stripped":
            return self.proj(self.pe(v))
        return self.proj(self.attended(qkv).reshape(b, c, h, w) + self.pe(v))

    def attended(self, qkv: Tensor) -> Tensor:
        """[B, 3C, H, W] → [B, heads, 32, H·W] or [B, C, H, W]; only views of a channels-last tensor.

        Two permutations of few dimensions rather than one of five, which runtimes copy element by element.
        """
        b, _, h, w = qkv.shape
        heads, area, n = self.heads, self.area, h * w // self.area
        if area == 1:
            q, k, v = qkv.reshape(b, 3 * heads, HEAD_DIM, n).transpose(2, 3).chunk(3, 1)
            return attend(q, k, v, self.attention, self.scale).transpose(2, 3)
        runs = qkv.permute(0, 2, 3, 1).reshape(b * area, n, 3 * heads, HEAD_DIM)
        q, k, v = runs.transpose(1, 2).chunk(3, 1)
        y = attend(q, k, v, self.attention, self.scale)
        return y.transpose(1, 2).reshape(b, h, w, heads * HEAD_DIM).permute(0, 3, 1, 2)


class ApartAttention(nn.Module):
    """Area attention whose q, k and v come from a convolution each and stay [channels, tokens], as convolutions give
    them: a matrix product reads a transposed matrix for nothing, and a run of tokens is copied in one piece."""

    def __init__(self, block: AAttn) -> None:
        super().__init__()
        self.heads, self.area, self.attention, self.scale = block.heads, block.area, block.attention, block.scale
        c = block.v.conv.out_channels
        self.q, self.k = (row_part(block.qk, rows) for rows in (slice(c), slice(c, 2 * c)))
        self.v, self.pe, self.proj = block.v, block.pe, block.proj

    def runs(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, heads, 32, H·W], or with areas [B·heads, area, 32, H·W/area]."""
        b, _, h, w = x.shape
        if self.area == 1:
            return x.reshape(b, self.heads, HEAD_DIM, h * w)
        return x.reshape(b * self.heads, HEAD_DIM, self.area, h * w // self.area).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        v = self.v(x)
        if self.attention == "stripped":
            return self.proj(self.pe(v))
        q, k, values = (self.runs(t).transpose(-2, -1) for t in (self.q(x), self.k(x), v))
        y = attend(q, k, values, self.attention, self.scale).transpose(-2, -1)
        if self.area > 1:
            y = y.transpose(1, 2)
        return self.proj(y.reshape(v.shape) + self.pe(v))


class MergedC3(nn.Module):
    """C3 whose two entries are one convolution."""

    def __init__(self, block: C3) -> None:
        super().__init__()
        self.c = block.cv1.conv.out_channels
        self.cv12 = rows(block.cv1, block.cv2)
        self.m, self.cv3 = block.m, block.cv3

    def forward(self, x: Tensor) -> Tensor:
        y, bypass = self.cv12(x).split((self.c, self.c), 1)
        return self.cv3(self.m(y), bypass)


def row_part(entry: nn.Module, rows: slice) -> nn.Module:
    """A copy of an entry that computes these of its output channels only: (W·x)[rows] = W[rows]·x."""
    part = copy.copy(entry)
    part._modules = dict(entry._modules)
    for name, conv in entry.named_children():
        if isinstance(conv, nn.Conv2d):
            setattr(part, name, convolution(conv.weight[rows], None if conv.bias is None else conv.bias[rows], conv))
    return part


class SplitEntry(nn.Module):
    """An entry's output channels in `count` equal parts, each a convolution of its own; `forward` gives them apart."""

    def __init__(self, entry: nn.Module, channels: int, count: int) -> None:
        super().__init__()
        c = channels // count
        self.parts = nn.ModuleList(row_part(entry, slice(i * c, (i + 1) * c)) for i in range(count))

    def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(*x) for part in self.parts)


class SummedExit(nn.Module):
    """act(W·(x1 beside x2 beside …)) as act(W1·x1 + W2·x2 + …): what an exit reads is never put side by side."""

    def __init__(self, exit: Conv, widths: list[int]) -> None:
        """`widths` are the channels of the inputs."""
        super().__init__()
        weights = exit.conv.weight.split(widths, 1)
        biases = [exit.conv.bias, *[None] * (len(widths) - 1)]
        self.parts = nn.ModuleList(convolution(w, b, exit.conv) for w, b in zip(weights, biases, strict=True))
        self.act = exit.act

    def forward(self, *x: Tensor) -> Tensor:
        y = self.parts[0](x[0])
        for part, xi in zip(self.parts[1:], x[1:], strict=True):
            y = y + part(xi)
        return self.act(y)


class TwoScaleEntry(nn.Module):
    """act(W·(up(coarse) beside fine)) as act(up(Wc·coarse) + Wf·fine): the coarse part at a quarter of the cost.

    forward(*coarse, fine): several coarse inputs are read side by side.
    """

    def __init__(self, entry: Conv, coarse: Tensor, fine: Tensor) -> None:
        """`coarse` and `fine` are the entry's 1×1 weights for the coarse inputs and the fine one, gates multiplied in."""
        super().__init__()
        bias = entry.conv.bias
        assert bias is not None
        self.coarse = nn.Conv2d(coarse.shape[1], coarse.shape[0], 1, bias=False, device="meta")
        self.coarse.weight = nn.Parameter(coarse.contiguous())
        self.fine = convolution(fine, bias, entry.conv)
        self.act = entry.act

    def forward(self, *x: Tensor) -> Tensor:
        return self.act(self.fine(x[-1]) + upsample(self.coarse(side_by_side(x[:-1]))))


class TwoScaleFuse(nn.Module):
    """FuseModule with its coarse level's part of the 1×1 convolution before the upsampling."""

    def __init__(self, block: FuseModule, coarse_channels: int) -> None:
        super().__init__()
        weight = block.conv_out.conv.weight
        c = weight.shape[1] - coarse_channels
        self.conv_out = TwoScaleEntry(block.conv_out, weight[:, c:], weight[:, :c])

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        return self.conv_out(coarse, torch.cat((F.avg_pool2d(fine, 2), middle), 1))


class CoarseTunnel(nn.Module):
    """x0 + gate·up(x1): the gate is applied to the quarter of the pixels there are."""

    def __init__(self, gate: Tensor) -> None:
        super().__init__()
        self.gate = nn.Parameter(gate.clone())

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        return x0 + upsample(self.gate * x1)


class EdgeFirst(nn.Module):
    """One or more (P) AdaHGConvs on tokens [B, P, D, N] → [B, P, D, N], every projection on the E hyperedges.

    base [P, E, D], context [P, E·D, 2D]: prototypes with pre_head_proj, the heads' mean and 1/√d multiplied in
    edge, node [P, D, D] and biases [P, D, 1]: the published edge_proj and node_proj
    """

    def __init__(self, blocks: list[AdaHGConv]) -> None:
        super().__init__()
        self.bounded = False
        bases, contexts = [], []
        for block in blocks:
            g = block.edge_generator
            e, d = g.prototype_base.shape
            projection = g.pre_head_proj.weight.double() / (g.heads * (d / g.heads) ** 0.5)
            bases.append((g.prototype_base.double() + g.context_net.bias.double().view(e, d)) @ projection)
            context = g.context_net.weight.double().view(e, d, 2 * d)
            contexts.append(torch.einsum("eck,cd->edk", context, projection).reshape(e * d, 2 * d))
        self.base = nn.Parameter(torch.stack(bases).float())
        self.context = nn.Parameter(torch.stack(contexts).float())
        self.edge = nn.Parameter(torch.stack([b.edge_proj[0].weight for b in blocks]))
        self.edge_bias = nn.Parameter(torch.stack([b.edge_proj[0].bias[:, None] for b in blocks]))
        self.node = nn.Parameter(torch.stack([b.node_proj[0].weight for b in blocks]))
        self.node_bias = nn.Parameter(torch.stack([b.node_proj[0].bias[:, None] for b in blocks]))

    def forward(self, x: Tensor) -> Tensor:
        context = torch.cat((x.float().mean(-1), x.float().amax(-1)), -1).unsqueeze(-1)  # [B, P, 2D, 1]
        offsets = product32(self.context, context).view(x.shape[0], *self.base.shape)
        prototypes = (self.base.float() + offsets).to(x.dtype)  # [B, P, E, D]
        logits = (prototypes @ x).float()
        if self.bounded:
            logits = bounded(logits)
        participation = logits.softmax(-1).to(x.dtype)  # [B, P, E, N]
        edges = x @ participation.transpose(-2, -1)  # [B, P, D, E]
        edges = self.node @ F.gelu(self.edge @ edges + self.edge_bias)
        return F.gelu(edges @ participation + self.node_bias) + x


class EdgeFirstComputation(nn.Module):
    """EdgeFirst on the pixels of [B, C, H, W]."""

    def __init__(self, block: AdaHGConv) -> None:
        super().__init__()
        self.hgnn = EdgeFirst([block])

    def forward(self, x: Tensor) -> Tensor:
        return self.hgnn(x.flatten(2).unsqueeze(1)).view_as(x)


class BranchPair(nn.Module):
    """HyperACE's two C3AH branches of one input: [B, C, H, W] → [B, 2C, H, W], first and second side by side."""

    def __init__(self, first: C3AH, second: C3AH) -> None:
        super().__init__()
        self.entries = rows(first.cv1, first.cv2, second.cv1, second.cv2)
        self.hgnn = EdgeFirst([first.m.hgnn, second.m.hgnn])
        weight, bias = (torch.cat([getattr(b.cv3.conv, part) for b in (first, second)]) for part in ("weight", "bias"))
        self.exits = with_weights(first.cv3, weight, bias, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens, bypass = self.entries(x).reshape(b, 2, 2 * c, h * w).split((c, c), 2)  # [B, 2, C, N] each
        return self.exits(torch.cat((self.hgnn(tokens), bypass), 2).reshape(b, 4 * c, h, w))


class DirectDetect(nn.Module):
    """Detect with the bins' expectation as one ratio of matrix products and the box arithmetic as one matrix.

    For each side, Σ j·softmax(x)_j = Σ j·exp(x_j − m) / Σ exp(x_j − m), m the maximum over the 16 bins.
    """

    def __init__(self, block: Detect) -> None:
        super().__init__()
        self.classes, self.cv2, self.cv3 = block.classes, block.cv2, block.cv3
        sides = torch.eye(4).repeat_interleave(BINS, 1)  # [4, 64]
        weights = torch.arange(BINS, dtype=torch.float32).repeat(4)
        self.register_buffer("sums", torch.cat((sides * weights, sides)))  # numerators, then denominators: [8, 64]
        # left, top, right, bottom → cx, cy, w, h
        boxes = torch.tensor([[-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5], [1, 0, 1, 0], [0, 1, 0, 1]])
        self.register_buffer("boxes", boxes)

    def forward(self, levels: list[Tensor]) -> Tensor:
        logits = torch.cat([branch(x).flatten(2) for branch, x in zip(self.cv2, levels, strict=True)], 2)
        # a sigmoid right behind each level's convolution becomes a part of it in most runtimes
        scores = [branch(x).float().sigmoid().flatten(2) for branch, x in zip(self.cv3, levels, strict=True)]
        centres, strides = anchor_points([(x.shape[2], x.shape[3]) for x in levels], logits.device)
        origin = F.pad(centres * strides, (0, 0, 0, 2))  # [1, 4, A]: no offset for w and h
        bins = logits.float().unflatten(1, (4, BINS))
        sums = product32(self.sums, torch.exp(bins - bins.amax(2, keepdim=True)).flatten(1, 2))
        numerator, denominator = sums.chunk(2, 1)
        boxes = product32(self.boxes, numerator / denominator) * strides + origin
        return torch.cat((boxes, torch.cat(scores, 2)), 1)
