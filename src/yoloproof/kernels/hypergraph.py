"""The hypergraph of two branches (AdaHGConv, every projection on the hyperedges) in five launches.

Tokens are the pixels of a channels-last tensor, read where they lie; `p` counts elements from one to the next. Branch j of
BRANCHES has D channels from channel j·gap of the pixel on; `both` counts images × branches. E16: hyperedges padded to 16,
the least a matrix product takes. Reference: `yoloproof.simplify.modules.EdgeFirst`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from yoloproof.kernels.epilogue import begin
from yoloproof.kernels.launch import Options, fresh, launch, pixels, tiles

BRANCHES = 2


@dataclass(frozen=True)
class HypergraphWeights:
    """base [P, E, D], context [P, E·D, 2D], edge and node [P, D, D], their biases [P, D, 1]; P = 2 branches."""

    base: Tensor
    context: Tensor
    edge: Tensor
    edge_bias: Tensor
    node: Tensor
    node_bias: Tensor


@triton.jit(do_not_specialize=["tokens"])
def context_kernel(
    x, p, gap, partial, tokens, d,
    BRANCHES: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Sum and maximum over each run of BT tokens: float32 partial [both, runs, 2, D]."""
    begin(EARLY)
    run, n, both = tl.program_id(0), tl.program_id(1) * BD + tl.arange(0, BD), tl.program_id(2)
    t = run * BT + tl.arange(0, BT)
    inside = (t < tokens)[:, None] & (n < d)[None, :]
    at = x + (both // BRANCHES * tokens + t)[:, None] * p + both % BRANCHES * gap + n[None, :]
    v = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    out = partial + (both * tl.num_programs(0) + run) * 2 * d + n
    tl.store(out, tl.sum(v, 0), mask=n < d)
    tl.store(out + d, tl.max(tl.where(inside, v, float("-inf")), 0), mask=n < d)


@triton.jit(do_not_specialize=["tokens", "runs"])
def prototypes_kernel(
    partial, context, base, prototypes, tokens, runs, d, rows,
    BRANCHES: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """base + context·(mean, maximum): prototypes [both, rows = E·D]; context [BRANCHES, rows, 2D], base [BRANCHES, rows]."""
    begin(EARLY)
    r, both = tl.program_id(0) * BR + tl.arange(0, BR), tl.program_id(1)
    row = both % BRANCHES * rows + r
    acc = tl.load(base + row, mask=r < rows, other=0.0).to(tl.float32)
    for k0 in range(0, d, BK):
        k = k0 + tl.arange(0, BK)
        total = tl.zeros((BK,), tl.float32)
        most = tl.full((BK,), float("-inf"), tl.float32)
        for run0 in range(0, runs, 16):
            run = run0 + tl.arange(0, 16)
            there = (run < runs)[:, None] & (k < d)[None, :]
            at = partial + (both * runs + run)[:, None] * 2 * d + k[None, :]
            total += tl.sum(tl.load(at, mask=there, other=0.0), 0)
            most = tl.maximum(most, tl.max(tl.load(at + d, mask=there, other=float("-inf")), 0))
        known = (r < rows)[:, None] & (k < d)[None, :]
        weight = context + row[:, None] * 2 * d + k[None, :]
        mean, most = total / tokens, tl.where(k < d, most, 0.0)
        acc += tl.sum(tl.load(weight, mask=known, other=0.0).to(tl.float32) * mean[None, :], 1)
        acc += tl.sum(tl.load(weight + d, mask=known, other=0.0).to(tl.float32) * most[None, :], 1)
    tl.store(prototypes + both * rows + r, acc.to(prototypes.dtype.element_ty), mask=r < rows)


@triton.jit(do_not_specialize=["tokens"])
def gather_kernel(
    x, p, gap, prototypes, logits, peaks, masses, sums, tokens, d, edges,
    BRANCHES: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Tokens to hyperedges, a run of BT tokens at a time, under the run's own maximum.

    logits [both, 16, tokens]; peaks, masses [both, runs, 16]; sums [both, runs, 16, D]: Σ exp(logit − peak)·token
    """
    begin(EARLY)
    run, both = tl.program_id(0), tl.program_id(1)
    e, t = tl.arange(0, 16), run * BT + tl.arange(0, BT)
    token = x + (both // BRANCHES * tokens + t) * p + both % BRANCHES * gap
    s = tl.zeros((16, BT), tl.float32)
    for k0 in range(0, d, BK):
        k = k0 + tl.arange(0, BK)
        at = prototypes + (both * edges + e)[:, None] * d + k[None, :]
        prototype = tl.load(at, mask=(e < edges)[:, None] & (k < d)[None, :], other=0.0)
        v = tl.load(token[None, :] + k[:, None], mask=(t < tokens)[None, :] & (k < d)[:, None], other=0.0)
        s = tl.dot(prototype, v, s)
    tl.store(logits + (both * 16 + e)[:, None] * tokens + t[None, :], s, mask=(t < tokens)[None, :])
    s = tl.where((t < tokens)[None, :], s, float("-inf"))
    peak = tl.max(s, 1)
    share = tl.exp(s - peak[:, None])
    at = (both * tl.num_programs(0) + run) * 16 + e
    tl.store(peaks + at, peak)
    tl.store(masses + at, tl.sum(share, 1))
    for k0 in range(0, d, BK):
        k = k0 + tl.arange(0, BK)
        v = tl.load(token[:, None] + k[None, :], mask=(t < tokens)[:, None] & (k < d)[None, :], other=0.0)
        tl.store(sums + at[:, None] * d + k[None, :], tl.dot(share.to(v.dtype), v), mask=(k < d)[None, :])


@triton.jit
def gelu(x):
    """x·Φ(x), with the error function (not the tanh form)."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit(do_not_specialize=["runs"])
def edges_kernel(
    peaks, masses, sums, edge, edge_bias, hidden, peak, mass, runs, d,
    BRANCHES: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The runs' sums as one softmax over all tokens, then edge_proj and GELU: hidden [both, 16, D]; peak, mass [both, 16]."""
    begin(EARLY)
    o, both = tl.program_id(0) * BN + tl.arange(0, BN), tl.program_id(1)
    e, run16 = tl.arange(0, 16), tl.arange(0, 16)
    top = tl.full((16,), float("-inf"), tl.float32)
    for run0 in range(0, runs, 16):
        at = (both * runs + run0 + run16)[:, None] * 16 + e[None, :]
        top = tl.maximum(top, tl.max(tl.load(peaks + at, mask=(run0 + run16 < runs)[:, None], other=float("-inf")), 0))
    whole = tl.zeros((16,), tl.float32)
    for run0 in range(0, runs, 16):
        at = (both * runs + run0 + run16)[:, None] * 16 + e[None, :]
        there = (run0 + run16 < runs)[:, None]
        scale = tl.exp(tl.load(peaks + at, mask=there, other=float("-inf")) - top[None, :])
        whole += tl.sum(scale * tl.load(masses + at, mask=there, other=0.0), 0)
    if tl.program_id(0) == 0:
        tl.store(peak + both * 16 + e, top)
        tl.store(mass + both * 16 + e, whole)
    acc = tl.zeros((16, BN), tl.float32)
    for k0 in range(0, d, BK):
        k = k0 + tl.arange(0, BK)
        gathered = tl.zeros((16, BK), tl.float32)
        for run0 in range(0, runs, 16):
            at = (both * runs + run0 + run16)[:, None] * 16 + e[None, :]
            there = (run0 + run16 < runs)[:, None]
            scale = tl.exp(tl.load(peaks + at, mask=there, other=float("-inf")) - top[None, :])
            mask = there[:, :, None] & (k < d)[None, None, :]
            gathered += tl.sum(
                tl.load(sums + at[:, :, None] * d + k[None, None, :], mask=mask, other=0.0) * scale[:, :, None], 0
            )
        w = edge + both % BRANCHES * d * d + o[None, :] * d + k[:, None]
        w = tl.load(w, mask=(o < d)[None, :] & (k < d)[:, None], other=0.0)
        acc = tl.dot((gathered / whole[:, None]).to(w.dtype), w, acc)
    acc += tl.load(edge_bias + both % BRANCHES * d + o, mask=o < d, other=0.0).to(tl.float32)[None, :]
    out = hidden + (both * 16 + e)[:, None] * d + o[None, :]
    tl.store(out, gelu(acc).to(hidden.dtype.element_ty), mask=(o < d)[None, :])


@triton.jit(do_not_specialize=["tokens"])
def scatter_kernel(
    x, p, gap, logits, peak, mass, hidden, node, node_bias, y, y_p, tokens, d, edges,
    BRANCHES: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """node_proj of the hyperedges, back to the tokens, GELU, plus the token: branch j's at channels j·D … of y."""
    begin(EARLY)
    t, o, both = tl.program_id(0) * BT + tl.arange(0, BT), tl.program_id(1) * BN + tl.arange(0, BN), tl.program_id(2)
    e, branch = tl.arange(0, 16), both % BRANCHES
    mixed = tl.zeros((16, BN), tl.float32)
    for k0 in range(0, d, BK):
        k = k0 + tl.arange(0, BK)
        at = hidden + (both * 16 + e)[:, None] * d + k[None, :]
        h = tl.load(at, mask=(e < edges)[:, None] & (k < d)[None, :], other=0.0)
        w = node + branch * d * d + o[None, :] * d + k[:, None]
        mixed = tl.dot(h, tl.load(w, mask=(o < d)[None, :] & (k < d)[:, None], other=0.0), mixed)
    s = tl.load(logits + (both * 16 + e)[None, :] * tokens + t[:, None], mask=(t < tokens)[:, None], other=0.0)
    share = tl.exp(s - tl.load(peak + both * 16 + e)[None, :]) / tl.load(mass + both * 16 + e)[None, :]
    # a token's share of a hyperedge is about 1/tokens: times 1024 it keeps all its digits in float16
    share = tl.where((e < edges)[None, :], share * 1024.0, 0.0).to(hidden.dtype.element_ty)
    acc = tl.dot(share, mixed.to(hidden.dtype.element_ty)) * (1.0 / 1024.0)
    acc += tl.load(node_bias + branch * d + o, mask=o < d, other=0.0).to(tl.float32)[None, :]
    inside = (t < tokens)[:, None] & (o < d)[None, :]
    pixel = both // BRANCHES * tokens + t
    token = tl.load(x + pixel[:, None] * p + branch * gap + o[None, :], mask=inside, other=0.0).to(tl.float32)
    out = y + pixel[:, None] * y_p + branch * d + o[None, :]
    tl.store(out, (gelu(acc) + token).to(y.dtype.element_ty), mask=inside)


def hypergraph(weights: HypergraphWeights, x: Tensor, options: Options) -> Tensor:
    """Both branches' AdaHGConv: x [B, 4D, H, W] (each branch's D tokens' channels, then D bypassed) → [B, 2D, H, W]."""
    x, p = pixels(x)
    b, c, h, w = x.shape
    d, edges, tokens, both = c // 4, weights.base.shape[1], h * w, b * BRANCHES
    bt, bk = 64, 64
    runs = tiles(tokens, bt)

    def buffer(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=x.device)

    partial, prototypes = buffer(both, runs, 2, d), buffer(both, edges, d, dtype=x.dtype)
    logits, hidden = buffer(both, 16, tokens), buffer(both, 16, d, dtype=x.dtype)
    peaks, masses, sums = buffer(both, runs, 16), buffer(both, runs, 16), buffer(both, runs, 16, d)
    peak, mass = buffer(both, 16), buffer(both, 16)
    y, gap, wide = fresh(b, BRANCHES * d, h, w, x), 2 * d, tiles(d, bk)

    def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, **blocks: int) -> None:
        launch(kernel, grid, *arguments, BRANCHES=BRANCHES, num_warps=4, options=options, **blocks)

    start(context_kernel, (runs, wide, both), x, p, gap, partial, tokens, d, BT=bt, BD=bk)
    rows = edges * d
    start(
        prototypes_kernel, (tiles(rows, 16), both),
        partial, weights.context, weights.base, prototypes, tokens, runs, d, rows, BR=16, BK=bk,
    )  # fmt: skip
    start(
        gather_kernel, (runs, both),
        x, p, gap, prototypes, logits, peaks, masses, sums, tokens, d, edges, BT=bt, BK=bk,
    )  # fmt: skip
    start(
        edges_kernel, (tiles(d, 32), both),
        peaks, masses, sums, weights.edge, weights.edge_bias, hidden, peak, mass, runs, d, BN=32, BK=32,
    )  # fmt: skip
    start(
        scatter_kernel, (runs, wide, both),
        x, p, gap, logits, peak, mass, hidden, weights.node, weights.node_bias, y, BRANCHES * d, tokens, d, edges,
        BT=bt, BN=bk, BK=bk,
    )  # fmt: skip
    return y
