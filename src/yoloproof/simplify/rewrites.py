"""Exact simplification of a trained network: the same function up to rounding, in fewer and cheaper operations.

Each rewrite is an identity of linear algebra, named in its docstring and held by a test. `simplify` copies the network,
applies the rewrites asked for in the order of `REWRITES`, and leaves the original alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import nn

from yoloproof.errors import YoloproofError
from yoloproof.network.attention import HEAD_DIM, A2C2f, AAttn
from yoloproof.network.blocks import C3, C2f, Conv, DSConv
from yoloproof.network.head import Detect
from yoloproof.network.hypergraph import AdaHGComputation, HyperACE
from yoloproof.network.wiring import Network
from yoloproof.simplify.modules import (
    ApartAttention,
    BranchPair,
    CoarseTunnel,
    DirectDetect,
    EdgeFirst,
    EdgeFirstComputation,
    MergedAttention,
    MergedC3,
    SplitEntry,
    SummedExit,
    TwoScaleEntry,
    TwoScaleFuse,
    convolution,
)


def fold_norms(network: Network) -> None:
    """γ·(W·x − μ)/σ + β = (γ/σ·W)·x + (β − γ·μ/σ), for every Conv and for the pointwise half of every DSConv."""
    for module in network.modules():
        if isinstance(module, Conv | DSConv):
            name = "conv" if isinstance(module, Conv) else "pw"
            conv, norm = getattr(module, name), module.bn
            # in float64, so that a folded weight is the correctly rounded one
            scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
            weight = (conv.weight.double() * scale.view(-1, 1, 1, 1)).float()
            bias = (norm.bias.double() - norm.running_mean.double() * scale).float()
            setattr(module, name, convolution(weight, bias, conv))
            module.bn = nn.Identity()


def densify_groups(network: Network) -> None:
    """A grouped convolution is a dense one with zeros between the groups; dense where a group is too thin to vectorise.

    Of the published networks only the second layer of the n scale has fewer than 16 channels in a group (8).
    """
    for module in network.modules():
        if isinstance(module, Conv) and 1 < module.conv.groups < module.conv.in_channels:
            conv, groups = module.conv, module.conv.groups
            if conv.in_channels // groups < 16:
                blocks = conv.weight.chunk(groups)
                dense = torch.zeros(conv.out_channels, conv.in_channels, *conv.kernel_size)
                for i, block in enumerate(blocks):
                    dense[
                        i * block.shape[0] : (i + 1) * block.shape[0], i * block.shape[1] : (i + 1) * block.shape[1]
                    ] = block
                conv.groups = 1
                module.conv = convolution(dense, conv.bias, conv)


def scale_queries(network: Network) -> None:
    """s·(q·kᵀ) = (s·q)·kᵀ: the attention's scale goes into the weights and bias of q."""
    for module in network.modules():
        if isinstance(module, AAttn):
            c = module.v.conv.out_channels
            module.qk.conv.weight.data[:c] *= HEAD_DIM**-0.5
            module.qk.conv.bias.data[:c] *= HEAD_DIM**-0.5
            module.scale = 1.0


def merge_attention(network: Network) -> None:
    """[Wqk; Wv]·x = (Wqk·x, Wv·x): q, k and v from one convolution."""
    _replace(network, AAttn, MergedAttention)


def commute_upsampling(network: Network) -> None:
    """W·up(x) = up(W·x) for a 1×1 convolution and nearest-neighbour upsampling, at a quarter of the cost.

    A gate on an upsampled input goes into that input's columns: W·(a + g·up(b)) = W·a + up((g·W)·b).
    """
    layers, sources = network.model, network.sources

    def enter(layer: int, up: int, cat: int, *coarse: int, fine: int, gate: torch.Tensor | None = None) -> None:
        entry = layers[layer].cv1
        c = _out_channels(layers, coarse[0])
        weight = entry.conv.weight
        columns = [weight[:, :c]] + ([] if gate is None else [weight[:, c:] * gate])
        layers[layer].cv1 = TwoScaleEntry(entry, torch.cat(columns, 1), weight[:, c:])
        sources[layer] = (*coarse, fine)
        drop(up, cat)

    def drop(*unused: int) -> None:
        for layer in unused:
            layers[layer], sources[layer] = nn.Identity(), ()

    if network.variant.family == "yolov12":
        enter(11, 9, 10, 8, fine=6)
        enter(14, 12, 13, 11, fine=4)
        return
    layers[9].fuse = TwoScaleFuse(layers[9].fuse, _out_channels(layers, 8))
    enter(17, 15, 16, 14, fine=12)
    enter(21, 19, 20, 17, 9, fine=4, gate=layers[13].gate)
    layers[23] = CoarseTunnel(layers[23].gate)  # 22, a 1×1 Conv, now reads 9 itself
    sources[22] = (9,)
    drop(10, 13)


def _out_channels(layers: nn.Sequential, index: int) -> int:
    """Channels of the A2C2f or C2f at `index`, or of the tunnel that adds to the layer of that width."""
    layer = layers[index]
    if index == 14:  # the tunnel on layer 8
        layer = layers[8]
    return int(layer.cv2.conv.out_channels)


def edges_first(network: Network) -> None:
    """The hypergraph's projections of N tokens become projections of E hyperedges, and its heads vanish.

    With h heads of d dimensions, mean over heads of (W·x + b)_h·p_h/√d = x·(Wᵀ·p)/(h·√d) + b·p/(h·√d), whose last term
    is the same for every token and cancels in the softmax over tokens. And V·(Σₑ aₑ·yₑ) = Σₑ aₑ·(V·yₑ).
    """
    _replace(network, AdaHGComputation, lambda m: EdgeFirstComputation(m.hgnn))


def pair_branches(network: Network) -> None:
    """Both C3AH branches of HyperACE read one tensor: one convolution for four entries, one hypergraph of two items."""
    for module in network.modules():
        if isinstance(module, HyperACE):
            module.branches = BranchPair(module.branch1, module.branch2)
            c, n = module.c, len(module.m)
            # columns of the exit: y0, branch1, y2, blocks, branch2 → y0, y2, blocks, branch1, branch2
            order = [0, *range(2, 3 + n), 1, 3 + n]
            weight = module.cv2.conv.weight
            module.cv2.conv.weight = nn.Parameter(torch.cat([weight[:, i * c : (i + 1) * c] for i in order], 1))
            del module.branch1, module.branch2


def bound_scores(network: Network) -> None:
    """exp(s − m) = exp(max(s, m − 60) − m) up to rounding, m a row's maximum: a softmax that makes no subnormal number."""
    for module in network.modules():
        if isinstance(module, AAttn | MergedAttention | ApartAttention) and module.attention in ("fused", "explicit"):
            module.attention = "bounded"
        if isinstance(module, EdgeFirst):
            module.bounded = True


def merge_entries(network: Network) -> None:
    """[W1; W2]·x = (W1·x, W2·x): the two entries of a C3 as one convolution."""
    _replace(network, C3, MergedC3)


def split_attention(network: Network) -> None:
    """(Wqk·x)[:c] = Wqk[:c]·x: q, k and v from a convolution each, where cutting a tensor costs more than a call."""
    _replace(network, AAttn, ApartAttention)


def split_entries(network: Network) -> None:
    """(W·x)[:c] = W[:c]·x: halves of a C2f's entry and thirds of HyperACE's as convolutions, where a slice costs more."""
    for module in network.modules():
        if isinstance(module, C2f):
            module.cv1 = SplitEntry(module.cv1, 2 * module.c, 2)
        if isinstance(module, HyperACE):
            module.cv1 = SplitEntry(module.cv1, 3 * module.c, 3)


def sum_exits(network: Network) -> None:
    """W·(x1 beside x2) = W1·x1 + W2·x2: exits of C3, C2f, A2C2f and HyperACE, where a convolution adds for nothing."""
    for module in list(network.modules()):
        if isinstance(module, C3 | MergedC3):
            _sum(module, "cv3", 2)
        if isinstance(module, A2C2f):
            _sum(module, "cv2", 1 + len(module.m))
        if isinstance(module, C2f):
            _sum(module, "cv2", 2 + len(module.m), first=1 if isinstance(module.cv1, SplitEntry) else 2)
        if isinstance(module, HyperACE):
            _sum(module, "cv2", 4 + len(module.m), last=1 if module.branches is None else 2)


def _sum(module: nn.Module, name: str, parts: int, first: int = 1, last: int = 1) -> None:
    """The exit `name` of `parts` equal parts, of which `first` and `last` arrive side by side."""
    exit = getattr(module, name)
    c = exit.conv.in_channels // parts
    widths = [first * c, *[c] * (parts - first - last), last * c]
    setattr(module, name, SummedExit(exit, widths))


def direct_head(network: Network) -> None:
    """Expectation over bins, box arithmetic and strides as two small matrix products instead of a chain of reshapes."""
    _replace(network, Detect, DirectDetect)


def fold_pixels(network: Network) -> None:
    """W·(p/255) = (W/255)·p: the network takes pixels 0…255 (zero padding is zero either way)."""
    network.model[0].conv.weight.data /= 255.0
    network.pixel_scale = 255.0


REWRITES: dict[str, Callable[[Network], None]] = {
    "norms": fold_norms,
    "groups": densify_groups,
    "scale": scale_queries,
    "upsampling": commute_upsampling,
    "branches": pair_branches,
    "edges": edges_first,
    "attention": merge_attention,
    "queries": split_attention,
    "bounds": bound_scores,
    "entries": merge_entries,
    "halves": split_entries,
    "sums": sum_exits,
    "head": direct_head,
    "pixels": fold_pixels,
}
# `queries`, `halves` and `sums` make more convolutions to save slices and copies, `bounds` takes time where subnormal
# numbers cost none, and `pixels` changes what the network is fed: by choice only. What pays on which runtime stands in runtime_forms.py.
SimplifiedNetwork = Network
DEFAULT_REWRITES = ("norms", "groups", "scale", "upsampling", "branches", "edges", "attention", "entries", "head")


def simplify(network: Network, rewrites: Iterable[str] | None = None) -> Network:
    """A simplified copy of `network`: with DEFAULT_REWRITES, or the named ones of REWRITES.

    Raises YoloproofError for an unknown rewrite, any without "norms", or a network that is simplified already.
    """
    chosen = set(DEFAULT_REWRITES if rewrites is None else rewrites)
    if unknown := chosen - REWRITES.keys():
        raise YoloproofError(f"no rewrite is called {', '.join(sorted(unknown))}; there are {', '.join(REWRITES)}")
    if chosen and "norms" not in chosen:
        raise YoloproofError("the other rewrites work on folded batch norms; add 'norms'")
    if network.rewrites:
        raise YoloproofError("the network is simplified already; simplify the one it was made from")
    network = copy.deepcopy(network)
    for name, rewrite in REWRITES.items():
        if name in chosen:
            rewrite(network)
    network.rewrites = tuple(name for name in REWRITES if name in chosen)
    return network.eval().requires_grad_(False)


def _replace(root: nn.Module, kind: type[nn.Module], made: Callable[[nn.Module], nn.Module]) -> None:
    """Put `made(module)` in the place of every module of `kind` below `root`."""
    for parent in list(root.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, made(child))
