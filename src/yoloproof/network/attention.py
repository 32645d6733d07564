"""Area attention (YOLOv12, arXiv 2502.12524, section 3.2), four ways.

fused      `scaled_dot_product_attention`, one operator
explicit   q scaled first, then MatMul → Softmax → MatMul: the pattern TensorRT recognises
published  the hand-written softmax of the published code, scaled after the product; for comparison
stripped   no attention at all, what an export traced through flash-attn 1.0.9 keeps; for forensics, never a detector

`attend` knows one more spelling, `bounded`, which the rewrite "bounds" of simplify.py puts in place of the first two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.errors import YoloproofError
from yoloproof.network.blocks import C3k, Conv

ATTENTIONS = ("fused", "explicit", "published", "stripped")
HEAD_DIM = 32
# exp(-60) is 1e-26: a million such weights are lost in a float32's rounding of 1, and 1e6 times less is still normal
BOUND = 60.0


def bounded(scores: Tensor) -> Tensor:
    """Scores that a softmax over the last dimension treats alike up to rounding, none more than BOUND below its row's
    maximum, so that no exponential is a subnormal number."""
    return torch.maximum(scores, scores.amax(-1, keepdim=True) - BOUND)


def attend(q: Tensor, k: Tensor, v: Tensor, attention: str, scale: float) -> Tensor:
    """softmax(q·kᵀ·scale)·v over the last two dimensions of q, k, v [..., n, 32], computed the named way."""
    if attention == "fused":
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    if attention == "explicit":
        scores = (q * scale if scale != 1.0 else q) @ k.transpose(-2, -1)
        return scores.softmax(-1) @ v
    if attention == "published":
        scores = (q @ k.transpose(-2, -1)) * scale
        weights = torch.exp(scores - scores.max(-1, keepdim=True).values)
        return (weights / weights.sum(-1, keepdim=True)) @ v
    if attention == "bounded":
        scores = (q * scale if scale != 1.0 else q) @ k.transpose(-2, -1)
        return bounded(scores).softmax(-1) @ v
    if attention == "stripped":
        return torch.zeros_like(q)
    raise YoloproofError(f"attention '{attention}' is none of {', '.join(ATTENTIONS)}")


class AAttn(nn.Module):
    """Multi-head self-attention inside each of `area` equal runs of the row-major tokens, plus a depthwise 5×5.

    Raises YoloproofError in `forward` when H·W is not a multiple of `area`.
    """

    def __init__(self, dim: int, heads: int, area: int, attention: str) -> None:
        super().__init__()
        self.heads, self.area, self.attention, self.scale = heads, area, attention, HEAD_DIM**-0.5
        self.qk = Conv(dim, 2 * dim, act=False)
        self.v = Conv(dim, dim, act=False)
        self.proj = Conv(dim, dim, act=False)
        self.pe = Conv(dim, dim, 5, groups=dim, act=False)

    def runs(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B·area, heads, H·W/area, 32]; head h holds channels 32·h … 32·h + 31."""
        b, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1)  # [B, H, W, C]: free for a channels-last tensor
        return x.reshape(b * self.area, h * w // self.area, self.heads, c // self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        v = self.v(x)
        if self.attention == "stripped":
            return self.proj(self.pe(v))
        q, k = self.qk(x).split((c, c), 1)
        y = attend(self.runs(q), self.runs(k), self.runs(v), self.attention, self.scale)
        y = y.transpose(1, 2).reshape(b, h, w, c).permute(0, 3, 1, 2)
        return self.proj(y + self.pe(v))


class ABlock(nn.Module):
    """x + attn(x), then x + mlp(x)."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, area: int, attention: str) -> None:
        super().__init__()
        self.attn = AAttn(dim, heads, area, attention)
        self.mlp = nn.Sequential(Conv(dim, int(dim * mlp_ratio)), Conv(int(dim * mlp_ratio), dim, act=False))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class A2C2f(nn.Module):
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
        attention: str = "fused",
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
                nn.Sequential(*(ABlock(c, heads, mlp_ratio, area, attention) for _ in range(2))) for _ in range(n)
            )
        self.gamma = nn.Parameter(torch.full((c2,), 0.01)) if residual and area is not None else None

    def forward(self, *x: Tensor) -> Tensor:
        outputs = [self.cv1(*x)]
        for stage in self.m:
            outputs.append(stage(outputs[-1]))
        y = self.cv2(*outputs)
        return y if self.gamma is None else x[0] + self.gamma.view(1, -1, 1, 1) * y
