"""YOLOv13's hypergraph blocks (arXiv 2506.17733, sections 3.2 and 3.3). Parameter names are the published ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.network.blocks import Block, Conv, DSC3k


class AdaHyperedgeGen(Block):
    """Participation of every token in every hyperedge: X [B, N, D] → A [B, N, E], a softmax over the tokens.

    Hyperedge prototypes are a learned base plus an offset from the tokens' mean and maximum.
    """

    def __init__(self, dim: int, hyperedges: int, heads: int) -> None:
        super().__init__()
        self.hyperedges, self.heads = hyperedges, heads
        self.prototype_base = nn.Parameter(torch.empty(hyperedges, dim))
        self.context_net = nn.Linear(2 * dim, hyperedges * dim)
        self.pre_head_proj = nn.Linear(dim, dim)

    def prototypes(self, x: Tensor) -> Tensor:
        """X [B, N, D] → prototypes [B, E, D]."""
        context = torch.cat((x.float().mean(1), x.float().amax(1)), -1).to(x.dtype)  # [B, 2D]
        offsets: Tensor = self.context_net(context).unflatten(-1, (self.hyperedges, -1))
        return self.prototype_base + offsets

    def forward(self, x: Tensor) -> Tensor:
        d = x.shape[-1] // self.heads
        tokens: Tensor = self.pre_head_proj(x).unflatten(-1, (self.heads, d)).transpose(1, 2)  # [B, heads, N, d]
        prototypes: Tensor = self.prototypes(x).unflatten(-1, (self.heads, d)).permute(0, 2, 3, 1)  # [B, heads, d, E]
        logits: Tensor = (tokens @ prototypes / d**0.5).mean(1)  # [B, N, E]
        return logits.float().softmax(1).to(x.dtype)


class AdaHGConv(Block):
    """Tokens → hyperedges → tokens, with a residual: X [B, N, D] → [B, N, D]."""

    def __init__(self, dim: int, hyperedges: int, heads: int) -> None:
        super().__init__()
        self.edge_generator = AdaHyperedgeGen(dim, hyperedges, heads)
        self.edge_proj = nn.Sequential(nn.Linear(dim, dim), nn.GELU())
        self.node_proj = nn.Sequential(nn.Linear(dim, dim), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        participation = self.edge_generator(x)
        edges = self.edge_proj(participation.transpose(1, 2) @ x)  # [B, E, D]
        nodes: Tensor = self.node_proj(participation @ edges)
        return nodes + x


class AdaHGComputation(Block):
    """AdaHGConv on the pixels of [B, C, H, W]."""

    def __init__(self, dim: int, hyperedges: int, heads: int) -> None:
        super().__init__()
        self.hgnn = AdaHGConv(dim, hyperedges, heads)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # [B, N, C]
        return self.hgnn(tokens).transpose(1, 2).reshape(b, c, h, w)


class C3AH(Block):
    """C3 whose chain is one AdaHGComputation."""

    def __init__(self, c1: int, c2: int, hyperedges: int) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c2)
        self.cv2 = Conv(c1, c2)
        self.m = AdaHGComputation(c2, hyperedges, heads=c2 // 16)
        self.cv3 = Conv(2 * c2, c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class FuseModule(Block):
    """Three levels at the middle one's size, side by side, through one 1×1 Conv."""

    def __init__(self, c_in: int, widen: bool) -> None:
        super().__init__()
        self.conv_out = Conv((4 if widen else 3) * c_in, c_in)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        return self.conv_out(torch.cat((F.avg_pool2d(fine, 2), middle, upsample(coarse)), 1))


class HyperACE(Block):
    """Correlation of three levels: two hypergraph branches, a low-order branch and a bypass on the fused level."""

    def __init__(self, c1: int, c2: int, n: int, hyperedges: int, widen: bool) -> None:
        super().__init__()
        c = int(c2 * 0.5)
        self.fuse = FuseModule(c1, widen)
        self.cv1 = Conv(c1, 3 * c)
        self.m = nn.ModuleList(DSC3k(c, c, 2, k1=3, k2=7) for _ in range(n))
        self.branch1 = C3AH(c, c, hyperedges)
        self.branch2 = C3AH(c, c, hyperedges)
        self.cv2 = Conv((4 + n) * c, c2)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        y0, y1, y2 = self.cv1(self.fuse(fine, middle, coarse)).chunk(3, 1)
        low = [y2]
        for block in self.m:
            low.append(block(low[-1]))
        return self.cv2(torch.cat((y0, self.branch1(y1), *low, self.branch2(y1)), 1))


class DownsampleConv(Block):
    """2×2 average; then a 1×1 Conv that doubles the channels where `widen`."""

    def __init__(self, c: int, widen: bool) -> None:
        super().__init__()
        self.channel_adjust = Conv(c, 2 * c) if widen else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.channel_adjust(F.avg_pool2d(x, 2))
        return y


class FullPAD_Tunnel(Block):
    """x0 + gate·x1 with one learned scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.tensor(0.0))

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        return x0 + self.gate * x1


def upsample(x: Tensor) -> Tensor:
    """Nearest neighbour, twice the height and width."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
