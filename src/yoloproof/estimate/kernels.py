"""The kernels a network becomes after TensorRT's fusions: what each computes and moves, in float16.

Every reader (layer shapes, ONNX graphs) builds its list from the constructors here, so that the two agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

HALF = 2  # bytes of a float16

KINDS = (
    "gemm",  # convolution or matrix product on the tensor cores, as an implicit product M × K × N
    "depthwise",  # one channel to one channel: no tensor cores
    "memory",  # pooling, resizing, reductions, pointwise: bytes only
    "activation",  # the pointwise kernel behind a convolution, where it is not fused into it
    "concat",  # a copy that placing the producers' outputs side by side can save
    "attention",  # one fused attention kernel
    "score",  # memory kernel over an attention's score matrix
    "reformat",  # transposition around an attention
    "selection",  # top-k
)


@dataclass(frozen=True)
class Kernel:
    """One kernel: `groups` products of m × k by k × n, and the bytes it reads (activations, weights) and writes."""

    name: str
    block: str
    kind: str
    m: float = 0.0
    n: float = 0.0
    k: float = 0.0
    groups: float = 1.0
    bytes_activations: float = 0.0
    bytes_weights: float = 0.0

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.m * self.n * self.k * self.groups


def padded(channels: int) -> int:
    """Channels as they lie in memory: TensorRT's float16 formats pack them by 8, a 3-channel image by 4."""
    return 4 if channels <= 4 else ceil(channels / 8) * 8


def convolution_kernels(
    name: str, block: str, kernel: int, groups: int, c_in: int, c_out: int, in_pixels: int, out_pixels: int,
    activated: bool,
) -> list[Kernel]:  # fmt: skip
    """A convolution with its bias (and residual), then its activation; `*_pixels` counts batch × height × width."""
    written = HALF * padded(c_out) * out_pixels
    moved = HALF * padded(c_in) * in_pixels + written
    weights = HALF * c_out * (c_in // groups) * kernel * kernel
    taps = (c_in // groups) * kernel * kernel
    if groups > 1 and groups == c_in:
        body = Kernel(name, block, "depthwise", out_pixels, c_out, taps, 1, moved, weights)
    else:
        body = Kernel(name, block, "gemm", out_pixels, c_out // groups, taps, groups, moved, weights)
    if not activated:
        return [body]
    return [body, Kernel(f"{name}.act", block, "activation", bytes_activations=2 * written)]


def memory_kernel(name: str, block: str, elements: float, kind: str = "memory") -> Kernel:
    """A kernel that reads and writes `elements` float16 numbers in all."""
    return Kernel(name, block, kind, bytes_activations=HALF * elements)


def product_kernel(name: str, block: str, m: int, k: int, n: int, groups: int = 1, weights: bool = False) -> Kernel:
    """`groups` products [m, k] × [k, n]; `weights` says that the second factor is constant."""
    second = HALF * groups * k * n
    moved = HALF * groups * (m * k + m * n)
    return Kernel(name, block, "gemm", m, n, k, groups, moved + (0 if weights else second), second if weights else 0.0)


def attention_kernels(
    name: str, block: str, runs: int, tokens: int, dim_qk: int, dim_v: int, attention: str
) -> list[Kernel]:
    """Attention of `runs` = batch × area × heads independent heads over `tokens` tokens.

    attention -- "fused" (one kernel), "explicit" (product, softmax, product), "published" (the softmax spelled out:
    scale, maximum, subtract and exp, sum, divide) or "stripped" (nothing)
    """
    if attention == "stripped":
        return []
    score = float(runs) * tokens * tokens
    q_k_v, out = runs * tokens * (2 * dim_qk + dim_v), runs * tokens * dim_v
    reformats = [
        memory_kernel(f"{name}.heads", block, 2 * q_k_v, "reformat"),
        memory_kernel(f"{name}.back", block, 2 * out, "reformat"),
    ]
    if attention == "fused":
        fused = Kernel(
            f"{name}.attention", block, "attention", tokens, dim_qk + dim_v, tokens, runs, HALF * (q_k_v + out)
        )
        return [reformats[0], fused, reformats[1]]
    # What a softmax moves, in score matrices read and written, one entry a kernel.
    passes = {"explicit": {"softmax": 2}, "published": {"scale": 2, "max": 1, "exp": 2, "sum": 1, "divide": 2}}
    softmax = [memory_kernel(f"{name}.{part}", block, n * score, "score") for part, n in passes[attention].items()]
    first = product_kernel(f"{name}.qk", block, tokens, dim_qk, tokens, runs)
    second = product_kernel(f"{name}.v", block, tokens, tokens, dim_v, runs)
    return [reformats[0], first, *softmax, second, reformats[1]]


def hypergraph_kernels(name: str, block: str, tokens: int, dim: int, edges: int, heads: int) -> list[Kernel]:
    """YOLOv13's adaptive hypergraph convolution on [tokens, dim] with `edges` hyperedges (arXiv 2506.17733)."""
    x, scores = tokens * dim, tokens * edges

    def memory(part: str, elements: float) -> Kernel:
        return memory_kernel(f"{name}.{part}", block, elements)

    def product(part: str, m: int, k: int, n: int, groups: int = 1, weights: bool = False) -> Kernel:
        return product_kernel(f"{name}.{part}", block, m, k, n, groups, weights)

    return [
        memory("mean", x),
        memory("max", x),
        product("context", 1, 2 * dim, edges * dim, weights=True),
        memory("prototypes", 3 * edges * dim),
        product("pre_head", tokens, dim, dim, weights=True),
        memory("heads", 2 * x),
        product("logits", tokens, max(dim // heads, 1), edges, heads),
        memory("mean_heads", scores * (heads + 1)),
        memory("softmax", 2 * scores),
        product("gather", edges, tokens, dim),
        product("edge", edges, dim, dim, weights=True),
        memory("edge_act", 2 * edges * dim),
        product("scatter", tokens, edges, dim),
        product("node", tokens, dim, dim, weights=True),
        memory("node_act", 3 * x),
    ]


@dataclass(frozen=True)
class KernelTable:
    """Kernels as columns, for the arithmetic of `cost`; `starts` are the first rows of the networks put end to end."""

    kind: NDArray[np.int64]
    m: NDArray[np.float64]
    n: NDArray[np.float64]
    k: NDArray[np.float64]
    groups: NDArray[np.float64]
    activations: NDArray[np.float64]
    weights: NDArray[np.float64]
    starts: NDArray[np.int64]


def table_from_kernels(networks: Sequence[Sequence[Kernel]]) -> KernelTable:
    """The kernels of one or more networks as one table."""
    rows = [kernel for network in networks for kernel in network]
    numbers = np.array(
        [[x.m, x.n, x.k, x.groups, x.bytes_activations, x.bytes_weights] for x in rows], dtype=np.float64
    ).reshape(len(rows), 6)
    starts = np.cumsum([0, *(len(network) for network in networks)])[:-1]
    kind = np.array([KINDS.index(x.kind) for x in rows], dtype=np.int64)
    m, n, k, groups, activations, weights = numbers.T
    return KernelTable(kind, m, n, k, groups, activations, weights, starts.astype(np.int64))
