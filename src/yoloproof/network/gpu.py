"""A simplified network in the form a GPU runs best at small batches: the same function in a quarter of the launches.

At batch 1 every launch costs two or three microseconds however little it does, so concatenations are never made (the
next convolution reads its inputs where they lie), and bias, activation and residual belong to the convolution before.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.errors import YoloproofError
from yoloproof.network.attention import A2C2f, ABlock
from yoloproof.network.blocks import Bottleneck, C2f, Conv, DSBottleneck, DSConv
from yoloproof.network.head import STRIDES
from yoloproof.network.hypergraph import FullPAD_Tunnel, HyperACE
from yoloproof.network.simplified import (
    BranchPair,
    CoarseTunnel,
    DirectDetect,
    EdgeFirst,
    MergedAttention,
    MergedC3,
    TwoScaleEntry,
    TwoScaleFuse,
)
from yoloproof.network.simplify import DEFAULT_REWRITES
from yoloproof.network.wiring import Concat, Network


class GpuBottleneck(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        return self.cv2(self.cv1(x), add=x if self.add else None)


class GpuC3(MergedC3):
    def forward(self, x: Tensor) -> Tensor:
        y, bypass = self.cv12(x).split((self.c, self.c), 1)
        return self.cv3(self.m(y), bypass)


class GpuC2f(C2f):
    def forward(self, *x: Any) -> Tensor:
        y = self.cv1(*x)
        outputs, last = [y], y[:, self.c :]
        for block in self.m:
            last = block(last)
            outputs.append(last)
        return self.cv2(*outputs)


class GpuAttention(MergedAttention):
    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(x)
        v = qkv[:, 2 * c :]
        return self.proj(self.pe(v, add=self.attended(qkv).reshape(b, c, h, w)), add=x)


class GpuABlock(ABlock):
    """Its attention adds x itself."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.attn(x)
        return self.mlp[1](self.mlp[0](x), add=x)


class GpuA2C2f(A2C2f):
    def forward(self, *x: Any) -> Tensor:
        outputs = [self.cv1(*x)]
        for stage in self.m:
            outputs.append(stage(outputs[-1]))
        y = self.cv2(*outputs)
        return y if self.gamma is None else torch.addcmul(x[0], y, self.gamma.view(1, -1, 1, 1))


class GpuTwoScaleEntry(TwoScaleEntry):
    def forward(self, *x: Any) -> Tensor:
        return self.fine(x[-1], add=self.coarse(*x[:-1]), half=True)


class GpuFuse(TwoScaleFuse):
    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        return self.conv_out(coarse, (F.avg_pool2d(fine, 2), middle))


class GpuTunnel(FullPAD_Tunnel):
    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        return torch.addcmul(x0, x1, self.gate)


class GpuCoarseTunnel(CoarseTunnel):
    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        h, w = x1.shape[2:]
        quarters = x0.unflatten(3, (w, 2)).unflatten(2, (h, 2))
        return torch.addcmul(quarters, x1[:, :, :, None, :, None], self.gate).reshape(x0.shape)


class GpuConcat(Concat):
    def forward(self, *x: Tensor) -> Any:
        return x


class GpuEdgeFirst(EdgeFirst):
    """Tokens [B, P, N, D] → [B, P, N, D]."""

    def forward(self, x: Tensor) -> Tensor:
        context = torch.cat((x.mean(2), x.amax(2)), -1).unsqueeze(-1)  # [B, P, 2D, 1]
        prototypes = self.base + (self.context @ context).view(x.shape[0], *self.base.shape)  # [B, P, E, D]
        participation = (prototypes @ x.transpose(-2, -1)).softmax(-1)  # [B, P, E, N]; summed in float32
        edges = participation @ x  # [B, P, E, D]
        edges = F.gelu(edges @ self.edge.transpose(-2, -1) + self.edge_bias.transpose(-2, -1))
        edges = edges @ self.node.transpose(-2, -1)
        return F.gelu(participation.transpose(-2, -1) @ edges + self.node_bias.transpose(-2, -1)) + x


class GpuBranchPair(BranchPair):
    """Both branches' outputs as a pair."""

    def forward(self, x: Tensor) -> Any:
        b, _, h, w = x.shape
        y = self.entries(x)
        c = y.shape[1] // 4
        tokens = y.permute(0, 2, 3, 1).reshape(b, h * w, 2, 2 * c)[..., :c].transpose(1, 2)  # [B, 2, N, C]
        mixed = self.hgnn(tokens).transpose(2, 3).unflatten(3, (h, w))  # [B, 2, C, H, W]
        return self.exit0(mixed[:, 0], y[:, c : 2 * c]), self.exit1(mixed[:, 1], y[:, 3 * c :])


class GpuHyperACE(HyperACE):
    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        y0, y1, y2 = self.cv1(self.fuse(fine, middle, coarse)).chunk(3, 1)
        low = [y2]
        for block in self.m:
            low.append(block(low[-1]))
        return self.cv2(y0, *low, self.branches(y1))


class GpuDetect(DirectDetect):
    def forward(self, levels: list[Tensor]) -> Tensor:
        from yoloproof.network.gpu_launch import decoded

        boxes = [branch(x) for branch, x in zip(self.cv2, levels, strict=True)]
        scores = [branch(x) for branch, x in zip(self.cv3, levels, strict=True)]
        return decoded(boxes, scores, self.classes, STRIDES)


FORMS: dict[type[nn.Module], type[nn.Module]] = {
    Bottleneck: GpuBottleneck, DSBottleneck: GpuBottleneck, MergedC3: GpuC3, MergedAttention: GpuAttention,
    ABlock: GpuABlock, A2C2f: GpuA2C2f, TwoScaleEntry: GpuTwoScaleEntry, TwoScaleFuse: GpuFuse,
    FullPAD_Tunnel: GpuTunnel, CoarseTunnel: GpuCoarseTunnel, Concat: GpuConcat, EdgeFirst: GpuEdgeFirst,
    BranchPair: GpuBranchPair, HyperACE: GpuHyperACE, DirectDetect: GpuDetect,
}  # fmt: skip


def gpu_network(network: Network) -> Network:
    """The GPU form of a network simplified with DEFAULT_REWRITES, for float16 on CUDA; `network` is left alone.

    Every convolution times its ways at its first run, so run it once before compiling or capturing it.
    Raises YoloproofError without Triton, for another simplification, or an attention that is not "fused".
    """
    try:
        import triton  # noqa: F401
    except ImportError:
        raise YoloproofError("the GPU form needs Triton, which PyTorch for CUDA on Linux brings along") from None
    if set(network.rewrites) != set(DEFAULT_REWRITES):
        raise YoloproofError("the GPU form is made from simplify(network) with the default rewrites")
    if network.attention != "fused":
        raise YoloproofError(f"the GPU form's attention is fused, not {network.attention}")
    network = copy.deepcopy(network)
    _split_exits(network)
    _replace_convolutions(network)
    for module in network.modules():
        form = next((FORMS[kind] for kind in type(module).__mro__ if kind in FORMS), None)
        if form is not None:
            module.__class__ = form
    return network.eval().requires_grad_(False)


def _split_exits(network: Network) -> None:
    """The grouped exit of a BranchPair as its two halves, each reading its own inputs."""
    for module in network.modules():
        if isinstance(module, BranchPair):
            exits = module.exits
            halves = zip(exits.conv.weight.chunk(2), exits.conv.bias.chunk(2), strict=True)
            for i, (weight, bias) in enumerate(halves):
                conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
                conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
                half = copy.copy(exits)
                half._modules = {**exits._modules, "conv": conv}
                setattr(module, f"exit{i}", half)
            del module.exits


def _replace_convolutions(network: Network) -> None:
    from yoloproof.network.gpu_launch import Depthwise, FusedConv, Separable

    def made(module: nn.Module, act: bool) -> nn.Module | None:
        if isinstance(module, DSConv):
            return Separable(module.dw, module.pw)
        if isinstance(module, Conv):
            return made(module.conv, isinstance(module.act, nn.SiLU))
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels == module.out_channels
            return Depthwise(module, act) if depthwise else FusedConv(module, act)
        return None

    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            # the entry's own convolution carries its activation
            act = isinstance(parent, TwoScaleEntry) and name == "fine"
            if isinstance(parent, Conv | DSConv):
                continue
            replacement = made(child, act)
            if replacement is not None:
                setattr(parent, name, replacement)
