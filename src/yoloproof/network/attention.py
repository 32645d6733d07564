"""Area attention (YOLOv12, arXiv 2502.12524, section 3.2) and the blocks around it.

`yoloproof.names.Attention` says how it is computed: "fused" is `scaled_dot_product_attention`, one operator; "explicit"
scales q first, then MatMul → Softmax → MatMul, the pattern that TensorRT recognises; "published" is the hand-written
softmax of the published code, scaled after the product; "stripped" has no attention at all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.errors import YoloproofError
from yoloproof.names import Attention
from yoloproof.network.blocks import Block, C3k, Conv

HEAD_DIM = 32


def attention_from_name(name: str) -> Attention:
    """The member of that name; YoloproofError lists those there are."""
    if name not in list(Attention):
        raise YoloproofError(f"attention '{name}' is not one of {', '.join(Attention)}")
    return Attention(name)


def attend(q: Tensor, k: Tensor, v: Tensor, attention: Attention, scale: float) -> Tensor:
    """softmax(q·kᵀ·scale)·v over the last two dimensions of q, k, v [..., n, 32]; zeros where it is "stripped"."""
    if attention == Attention.FUSED:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    if attention == Attention.EXPLICIT:
        scores = (q * scale if scale != 1.0 else q) @ k.transpose(-2, -1)
        return scores.softmax(-1) @ v
    if attention == Attention.PUBLISHED:
        scores = (q @ k.transpose(-2, -1)) * scale
        weights = torch.exp(scores - scores.max(-1, keepdim=True).values)
        return (weights / weights.sum(-1, keepdim=True)) @ v
    return torch.zeros_like(q)


class AAttn(Block):
    """Multi-head self-attention inside each of `area` equal runs of the row-major tokens, plus a depthwise 5×5 on v.

    Raises RuntimeError in `forward` when H·W is not a multiple of `area`.
    """

    def __init__(self, dim: int, heads: int, area: int, attention: Attention) -> None:
        super().__init__()
        self.heads, self.area, self.attention, self.scale = heads, area, attention, HEAD_DIM**-0.5
        self.add_projections(dim)

    def add_projections(self, dim: int) -> None:
        self.qk = Conv(dim, 2 * dim, act=False)
        self.v = Conv(dim, dim, act=False)
        self.proj = Conv(dim, dim, act=False)
        self.pe = Conv(dim, dim, 5, groups=dim, act=False)

    def runs(self, x: Tensor) -> Tensor:
        """[B, heads·D, H, W] → [B·area, heads, H·W/area, D]; head h holds channels D·h … D·h + D - 1."""
        b, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1)  # [B, H, W, heads·D]: free for a channels-last tensor
        return x.reshape(b * self.area, h * w // self.area, self.heads, c // self.heads).transpose(1, 2)

    def attended(self, q: Tensor, k: Tensor, v: Tensor, like: Tensor) -> Tensor:
        """Attention of three `runs` as an image of the shape of `like` [B, C, H, W]."""
        b, c, h, w = like.shape
        y = attend(q, k, v, self.attention, self.scale)
        return y.transpose(1, 2).reshape(b, h, w, c).permute(0, 3, 1, 2)

    def values(self, x: Tensor) -> Tensor:
        """v [B, C, H, W], heads one after the other."""
        return self.v(x)

    def forward(self, x: Tensor) -> Tensor:
        v = self.values(x)
        if self.attention == Attention.STRIPPED:
            return self.proj(self.pe(v))
        q, k = self.qk(x).chunk(2, 1)
        return self.proj(self.attended(self.runs(q), self.runs(k), self.runs(v), v) + self.pe(v))


class AAttnV1(AAttn):
    """The attention of YOLOv12 v1.0: q, k and v from one convolution, head by head, and a depthwise 7×7 on v.

    The ultralytics package spells it as plain softmax with q scaled first, so "published" is "explicit" here.
    """

    def __init__(self, dim: int, heads: int, area: int, attention: Attention) -> None:
        super().__init__(dim, heads, area, Attention.EXPLICIT if attention == Attention.PUBLISHED else attention)

    def add_projections(self, dim: int) -> None:
        self.qkv = Conv(dim, 3 * dim, act=False)
        self.proj = Conv(dim, dim, act=False)
        self.pe = Conv(dim, dim, 7, groups=dim, act=False)

    def values(self, x: Tensor) -> Tensor:
        qkv: Tensor = self.qkv(x)
        return self._values(qkv)

    def _values(self, qkv: Tensor) -> Tensor:
        values: Tensor = qkv.unflatten(1, (self.heads, 3, HEAD_DIM))[:, :, 2].flatten(1, 2)
        return values

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        v = self._values(qkv)
        if self.attention == Attention.STRIPPED:
            return self.proj(self.pe(v))
        q, k, values = self.runs(qkv).chunk(3, -1)
        return self.proj(self.attended(q, k, values, v) + self.pe(v))


class ABlock(Block):
    """x + attn(x), then x + mlp(x)."""

    def __init__(self, dim: int, mlp_ratio: float, attn: AAttn) -> None:
        super().__init__()
        self.attn = attn
        self.mlp = nn.Sequential(Conv(dim, int(dim * mlp_ratio)), Conv(int(dim * mlp_ratio), dim, act=False))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        y: Tensor = self.mlp(x)
        return x + y


class A2C2f(Block):
    """1×1 entry, n stages chained (two ABlocks each, or a C3k without attention), 1×1 exit from all of them.

    With `residual` the exit is scaled by the learned `gamma` [c2] and added to the input.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int,
        *,
        area: int | None,
        residual: bool = False,
        mlp_ratio: float = 2.0,
        attn: type[AAttn] = AAttn,
        attention: Attention = Attention.FUSED,
    ) -> None:
        super().__init__()
        c = int(c2 * 0.5)
        self.cv1 = Conv(c1, c)
        self.cv2 = Conv((1 + n) * c, c2)
        if area is None:
            self.m = nn.ModuleList(C3k(c, c, 2) for _ in range(n))
        else:
            heads = c // HEAD_DIM
            self.m = nn.ModuleList(
                nn.Sequential(*(ABlock(c, mlp_ratio, attn(c, heads, area, attention)) for _ in range(2)))
                for _ in range(n)
            )
        self.gamma = nn.Parameter(torch.full((c2,), 0.01)) if residual and area is not None else None

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.cv1(x)]
        for stage in self.m:
            outputs.append(stage(outputs[-1]))
        y = self.cv2(torch.cat(outputs, 1))
        return y if self.gamma is None else x + self.gamma.view(1, -1, 1, 1) * y
