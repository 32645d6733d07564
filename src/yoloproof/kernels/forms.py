"""The blocks of a simplified network as a GPU runs them best at small batches: the same function, fewer launches."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from yoloproof.kernels.functions import decoded, gated_sum, hypergraph, pooled
from yoloproof.kernels.launch import together
from yoloproof.network.attention import A2C2f, ABlock
from yoloproof.network.blocks import Bottleneck, C2f, DSBottleneck
from yoloproof.network.hypergraph import DownsampleConv, FullPAD_Tunnel, HyperACE
from yoloproof.network.wiring import Concat
from yoloproof.simplify.modules import (
    BranchPair,
    CoarseTunnel,
    DirectDetect,
    MergedAttention,
    MergedC3,
    TwoScaleEntry,
    TwoScaleFuse,
)


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
        qkv = self.qkv(x)
        return self.proj(self.pe(qkv[:, 2 * x.shape[1] :], add=self.area_attention(qkv)), add=x)


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
        return y if self.gamma is None else gated_sum(x[0], y, self.gamma, self.options)


class GpuTwoScaleEntry(TwoScaleEntry):
    def forward(self, *x: Any) -> Tensor:
        return self.fine(x[-1], add=self.coarse(*x[:-1]), half=True)


class GpuFuse(TwoScaleFuse):
    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        return self.conv_out(coarse, (pooled(fine, self.options), middle))


class GpuTunnel(FullPAD_Tunnel):
    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        return gated_sum(x0, x1, self.gate, self.options)


class GpuCoarseTunnel(CoarseTunnel):
    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        return gated_sum(x0, x1, self.gate, self.options, half=True)


class GpuDownsample(DownsampleConv):
    def forward(self, x: Tensor) -> Tensor:
        return self.channel_adjust(pooled(x, self.options))


class GpuConcat(Concat):
    def forward(self, *x: Tensor) -> Any:
        return x


class GpuBranchPair(BranchPair):
    """Both branches' outputs as a pair."""

    def forward(self, x: Tensor) -> Any:
        y = self.entries(x)
        c = y.shape[1] // 4
        mixed = hypergraph(self.hgnn, y, self.options)
        return self.exit0(mixed[:, :c], y[:, c : 2 * c]), self.exit1(mixed[:, c:], y[:, 3 * c :])


class GpuHyperACE(HyperACE):
    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        y0, y1, y2 = self.cv1(self.fuse(fine, middle, coarse)).chunk(3, 1)
        low, high = together(self.options, lambda: self.chain(y2), lambda: self.branches(y1))
        return self.cv2(y0, *low, high)

    def chain(self, y: Tensor) -> list[Tensor]:
        outputs = [y]
        for block in self.m:
            outputs.append(block(outputs[-1]))
        return outputs


class GpuDetect(DirectDetect):
    def forward(self, levels: list[Tensor]) -> Tensor:
        heads = [(branch, x) for branches in (self.cv2, self.cv3) for branch, x in zip(branches, levels, strict=True)]
        logits = together(self.options, *[lambda b=branch, x=x: b(x) for branch, x in heads])
        return decoded(logits[:3], logits[3:], self.classes, self.options)


FORMS: dict[type[nn.Module], type[nn.Module]] = {
    Bottleneck: GpuBottleneck, DSBottleneck: GpuBottleneck, MergedC3: GpuC3, C2f: GpuC2f,
    MergedAttention: GpuAttention, ABlock: GpuABlock, A2C2f: GpuA2C2f, TwoScaleEntry: GpuTwoScaleEntry,
    TwoScaleFuse: GpuFuse, FullPAD_Tunnel: GpuTunnel, CoarseTunnel: GpuCoarseTunnel, DownsampleConv: GpuDownsample,
    Concat: GpuConcat, BranchPair: GpuBranchPair, HyperACE: GpuHyperACE, DirectDetect: GpuDetect,
}  # fmt: skip
