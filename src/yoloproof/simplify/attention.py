"""Area attention in a simplified network: as published (q and k from one convolution, or q, k and v from one, head by
head), q, k and v from one convolution in that order, each from its own, or k transposed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from yoloproof.names import Attention
from yoloproof.network.attention import HEAD_DIM, attend
from yoloproof.network.blocks import Block
from yoloproof.simplify.blocks import Convolution, product

# exp(-60) is 1e-26: a million such weights are lost in a float32's rounding of 1, and 1e6 times less is still normal
BOUND = 60.0


def bounded(scores: Tensor) -> Tensor:
    """Scores that a softmax over the last dimension treats alike up to rounding, none more than BOUND below its row's
    maximum, so that no exponential is a subnormal number."""
    return torch.maximum(scores, scores.amax(-1, keepdim=True) - BOUND)


@dataclass(frozen=True)
class AttentionCore:
    """How q, k and v become the output: `heads` of 32 channels, in each of `area` runs of the tokens, as `attention` says.

    bounded -- the scores go through `bounded`; "fused" is then spelled as "explicit"
    """

    heads: int
    area: int
    attention: Attention
    scale: float
    bounded: bool = False

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q·kᵀ·scale)·v over the last two dimensions."""
        if not self.bounded:
            return attend(q, k, v, self.attention, self.scale)
        scores = (q * self.scale if self.scale != 1.0 else q) @ k.transpose(-2, -1)
        return bounded(scores).softmax(-1) @ v

    def runs(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B·area, heads, H·W/area, 32]."""
        b, _, h, w = x.shape
        x = x.permute(0, 2, 3, 1)
        return x.reshape(b * self.area, h * w // self.area, self.heads, HEAD_DIM).transpose(1, 2)

    def image(self, y: Tensor, like: Tensor) -> Tensor:
        """Runs as an image of the shape of `like`."""
        b, c, h, w = like.shape
        return y.transpose(1, 2).reshape(b, h, w, c).permute(0, 3, 1, 2)

    @property
    def stripped(self) -> bool:
        return self.attention == Attention.STRIPPED


class AreaAttention(Block):
    """AAttn: `qk` and `v` are convolutions; output proj(attention + pe(v))."""

    def __init__(
        self, core: AttentionCore, qk: Convolution, v: Convolution, pe: Convolution, proj: Convolution
    ) -> None:
        super().__init__()
        self.core, self.qk, self.v, self.pe, self.proj = core, qk, v, pe, proj

    def forward(self, x: Tensor) -> Tensor:
        core, c, v = self.core, x.shape[1], self.v(x)
        if core.stripped:
            return self.proj(self.pe(v))
        q, k = self.qk(x).split((c, c), 1)
        y = core.attend(core.runs(q), core.runs(k), core.runs(v))
        return self.proj(core.image(y, v) + self.pe(v))


class TransposedKeys(Block):
    """Area attention whose k is computed transposed, as q·kᵀ reads it: s·q·kᵀ = q·(W·(s·x)ᵀ), s the scale, x tokens.

    k has no bias: q·b is one number for all scores of a query, which softmax does not see. The scale stands at x because
    OpenVINO reads a tensor as tokens without a copy only if no convolution adds into that tensor.
    """

    def __init__(
        self, core: AttentionCore, q: Convolution, k: Convolution, v: Convolution, pe: Convolution, proj: Convolution
    ) -> None:
        super().__init__()
        self.core, self.scale = replace(core, scale=1.0), core.scale
        self.q, self.k, self.v, self.pe, self.proj = q, k.with_weights(k.conv.weight, None), v, pe, proj

    def forward(self, x: Tensor) -> Tensor:
        core, v = self.core, self.v(x)
        if core.stripped:
            return self.proj(self.pe(v))
        keys = product(self.k.conv.weight, self.scale * x, core.area)  # [B·area, C, H·W/area]
        k = keys.unflatten(1, (core.heads, HEAD_DIM)).transpose(-2, -1)
        y = core.attend(core.runs(self.q(x)), k, core.runs(v))
        return self.proj(core.image(y, v) + self.pe(v))


class _OneConvolution(Block):
    """q, k and v from one convolution; output proj(attention + pe(v))."""

    def __init__(self, core: AttentionCore, qkv: Convolution, pe: Convolution, proj: Convolution) -> None:
        super().__init__()
        self.core, self.qkv, self.pe, self.proj = core, qkv, pe, proj


class HeadwiseAttention(_OneConvolution):
    """AAttnV1: the convolution's channels are for each head its q, its k, its v."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        heads, area = self.core.heads, self.core.area
        qkv = self.qkv(x)
        v = qkv.unflatten(1, (heads, 3, HEAD_DIM))[:, :, 2].reshape(b, c, h, w)
        if self.core.stripped:
            return self.proj(self.pe(v))
        runs = qkv.permute(0, 2, 3, 1).reshape(b * area, h * w // area, heads, 3 * HEAD_DIM).transpose(1, 2)
        y = self.core.attend(*runs.chunk(3, -1))
        return self.proj(y.transpose(1, 2).reshape(b, h, w, c).permute(0, 3, 1, 2) + self.pe(v))

    def channels(self, part: int) -> Tensor:
        """Output channels of q (0), k (1) or v (2), head by head."""
        channels = torch.arange(self.qkv.conv.out_channels).view(self.core.heads, 3, HEAD_DIM)
        return channels[:, part].flatten()


class MergedAttention(_OneConvolution):
    """Area attention; the convolution's channels are q, k, v, and in each head by head."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(x)
        v = qkv[:, 2 * c :]
        if self.core.stripped:
            return self.proj(self.pe(v))
        return self.proj(attended(self.core, qkv).reshape(b, c, h, w) + self.pe(v))


def attended(core: AttentionCore, qkv: Tensor) -> Tensor:
    """q, k and v [B, 3C, H, W] → [B, heads, 32, H·W] or [B, C, H, W]; only views of a channels-last tensor.

    Two permutations of few dimensions rather than one of five, which runtimes copy element by element.
    """
    b, _, h, w = qkv.shape
    heads, area, n = core.heads, core.area, h * w // core.area
    if area == 1:
        q, k, v = qkv.reshape(b, 3 * heads, HEAD_DIM, n).transpose(2, 3).chunk(3, 1)
        return core.attend(q, k, v).transpose(2, 3)
    runs = qkv.permute(0, 2, 3, 1).reshape(b * area, n, 3 * heads, HEAD_DIM)
    q, k, v = runs.transpose(1, 2).chunk(3, 1)
    y = core.attend(q, k, v)
    return y.transpose(1, 2).reshape(b, h, w, heads * HEAD_DIM).permute(0, 3, 1, 2)


class ApartAttention(Block):
    """Area attention whose q, k and v come from a convolution each and stay [channels, tokens], as convolutions give
    them: a matrix product reads a transposed matrix for nothing, and a run of tokens is copied in one piece."""

    def __init__(
        self, core: AttentionCore, q: Convolution, k: Convolution, v: Convolution, pe: Convolution, proj: Convolution
    ) -> None:
        super().__init__()
        self.core, self.q, self.k, self.v, self.pe, self.proj = core, q, k, v, pe, proj

    def runs(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, heads, 32, H·W], or with areas [B·heads, area, 32, H·W/area]."""
        b, _, h, w = x.shape
        heads, area = self.core.heads, self.core.area
        if area == 1:
            return x.reshape(b, heads, HEAD_DIM, h * w)
        return x.reshape(b * heads, HEAD_DIM, area, h * w // area).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        v = self.v(x)
        if self.core.stripped:
            return self.proj(self.pe(v))
        q, k, values = (self.runs(t).transpose(-2, -1) for t in (self.q(x), self.k(x), v))
        y = self.core.attend(q, k, values).transpose(-2, -1)
        if self.core.area > 1:
            y = y.transpose(1, 2)
        return self.proj(y.reshape(v.shape) + self.pe(v))
