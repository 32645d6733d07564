"""Exact simplification of a trained network: the same function up to rounding, in fewer and cheaper operations.

Each rewrite is an identity of linear algebra, named in its docstring and held by a test. `simplify` builds a network of
its own from a published one's tensors and applies the rewrites asked for in the order of `REWRITES`; a rewrite of a block
changes it or gives another for its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from yoloproof.errors import YoloproofError
from yoloproof.names import Attention
from yoloproof.network.hypergraph import AdaHGComputation, FullPAD_Tunnel
from yoloproof.network.wiring import IMAGES, Concat, Network, Upsample
from yoloproof.simplify.attention import (
    ApartAttention,
    AreaAttention,
    AttentionCore,
    HeadwiseAttention,
    MergedAttention,
    TransposedKeys,
)
from yoloproof.simplify.blocks import (
    AttentionStages,
    Convolution,
    Correlation,
    CrossStage,
    Head,
    LevelFusion,
    SeparableConvolution,
    SplitEntry,
    SplitStages,
    convolution,
    stacked,
)
from yoloproof.simplify.modules import (
    ChannelsFirst,
    CoarseTunnel,
    DirectHead,
    EdgeFirst,
    EdgeFirstComputation,
    MergedCrossStage,
    PairedCorrelation,
    SummedExit,
    TwoScaleEntry,
    TwoScaleFusion,
    branch_pair,
    edges_first,
    two_scale,
)
from yoloproof.simplify.network import Layers, SimplifiedNetwork, layers_from_network

__all__ = ["DEFAULT_REWRITES", "REWRITES", "SimplifiedNetwork", "simplify"]


def fold_norms(block: nn.Module) -> nn.Module:
    """γ·(W·x − μ)/σ + β = (γ/σ·W)·x + (β − γ·μ/σ), for every convolution and a separable one's pointwise half."""
    match block:
        case Convolution(bn=nn.BatchNorm2d() as norm):
            block.conv, block.bn = _folded(block.conv, norm), nn.Identity()
        case SeparableConvolution(bn=nn.BatchNorm2d() as norm):
            block.pw, block.bn = _folded(block.pw, norm), nn.Identity()
    return block


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # in float64, so that a folded weight is the correctly rounded one
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = (conv.weight.double() * scale.view(-1, 1, 1, 1)).float()
    bias = (norm.bias.double() - norm.running_mean.double() * scale).float()
    return convolution(weight, bias, conv)


def densify_groups(block: nn.Module) -> nn.Module:
    """A grouped convolution is a dense one with zeros between the groups; dense where a group is too thin to vectorise.

    Of the published networks only the second layer of the n scale has fewer than 16 channels in a group (8).
    """
    if not isinstance(block, Convolution):
        return block
    conv, groups = block.conv, block.conv.groups
    if not 1 < groups < conv.in_channels or conv.in_channels // groups >= 16:
        return block
    dense = torch.zeros(conv.out_channels, conv.in_channels, *conv.weight.shape[2:])
    for i, part in enumerate(conv.weight.chunk(groups)):
        c_out, c_in = part.shape[:2]
        dense[i * c_out : (i + 1) * c_out, i * c_in : (i + 1) * c_in] = part
    return block.with_weights(dense, conv.bias, groups=1)


def scale_queries(block: nn.Module) -> nn.Module:
    """s·(q·kᵀ) = (s·q)·kᵀ: the attention's scale goes into the weights and bias of q."""
    match block:
        case AreaAttention():
            block.qk = _scaled(block.qk, slice(block.v.conv.out_channels), block.core.scale)
        case HeadwiseAttention():
            block.qkv = _scaled(block.qkv, block.channels(0), block.core.scale)
        case _:
            return block
    block.core = replace(block.core, scale=1.0)
    return block


def _scaled(block: Convolution, rows: slice | Tensor, factor: float) -> Convolution:
    """The convolution with these output channels multiplied by `factor`."""
    assert block.conv.bias is not None
    scale = torch.ones(block.conv.out_channels)
    scale[rows] = factor
    return block.with_weights(block.conv.weight * scale.view(-1, 1, 1, 1), block.conv.bias * scale)


def merge_attention(block: nn.Module) -> nn.Module:
    """[Wqk; Wv]·x = (Wqk·x, Wv·x): q, k and v from one convolution; P·(W·x) = (P·W)·x where it held them head by head."""
    match block:
        case AreaAttention():
            return MergedAttention(block.core, stacked(block.qk, block.v), block.pe, block.proj)
        case HeadwiseAttention():
            qkv = block.qkv.rows(torch.cat([block.channels(part) for part in range(3)]))
            return MergedAttention(block.core, qkv, block.pe, block.proj)
    return block


def commute_upsampling(layers: Layers) -> Layers:
    """W·up(x) = up(W·x) for a 1×1 convolution and nearest-neighbour upsampling, at a quarter of the cost.

    A gate on an upsampled input goes into that input's columns: W·(a + g·up(b)) = W·a + up((g·W)·b). Where a block's entry
    reads an upsampled layer beside a finer one, where a tunnel adds a convolution of an upsampled layer, and in HyperACE.
    """
    modules, sources = list(layers.modules), list(layers.sources)

    def is_upsampled(index: int) -> bool:
        return index != IMAGES and isinstance(modules[index], Upsample)

    for index, module in enumerate(layers.modules):
        first = sources[index][0]
        if isinstance(module, SplitStages | AttentionStages) and isinstance(modules[first], Concat):
            up, fine = sources[first][0], sources[first][-1]
            if is_upsampled(up) and len(sources[first]) == 2 and isinstance(module.cv1, Convolution):
                coarse, gate = sources[up], None
                tunnel = modules[fine]
                if isinstance(tunnel, FullPAD_Tunnel) and is_upsampled(sources[fine][1]):
                    fine, added = sources[fine]
                    coarse, gate = (*coarse, *sources[added]), tunnel.gate
                module.cv1 = _two_scale_entry(module.cv1, layers.channels[up], gate)
                sources[index] = (*coarse, fine)
        if isinstance(module, FullPAD_Tunnel):
            added = sources[index][1]
            readers = [reader for reader, read in enumerate(sources) if added in read]
            if _is_pointwise(modules[added]) and is_upsampled(sources[added][0]) and readers == [index]:
                modules[index] = CoarseTunnel(module.gate)
                sources[added] = sources[sources[added][0]]
    layers = _without_unread(replace(layers, modules=tuple(modules), sources=tuple(sources)))
    return layers.each(_two_scale_fusion)


def _two_scale_fusion(block: nn.Module) -> nn.Module:
    """Columns of a LevelFusion's convolution: the fine and the middle level, as wide as its output; then the coarse one."""
    if not isinstance(block, LevelFusion):
        return block
    weight = block.conv_out.conv.weight
    c = 2 * weight.shape[0]
    return TwoScaleFusion(two_scale(block.conv_out, weight[:, c:], weight[:, :c]))


def _two_scale_entry(entry: Convolution, channels: int, gate: Tensor | None) -> TwoScaleEntry:
    """The entry with its `channels` upsampled channels, and with `gate` the rest's upsampled part, read coarse."""
    coarse, fine = entry.conv.weight[:, :channels], entry.conv.weight[:, channels:]
    return two_scale(entry, coarse if gate is None else torch.cat((coarse, fine * gate), 1), fine)


def _is_pointwise(block: nn.Module) -> bool:
    return isinstance(block, Convolution) and block.conv.kernel_size == block.conv.stride == (1, 1)


def _without_unread(layers: Layers) -> Layers:
    """Layers that no layer reads lose their sources; their places keep the numbering. The last is the output."""
    modules, sources = list(layers.modules), list(layers.sources)
    for index in reversed(range(len(sources) - 1)):  # a layer is read by later ones only
        if not any(index in read for read in sources):
            modules[index], sources[index] = nn.Identity(), ()
    return replace(layers, modules=tuple(modules), sources=tuple(sources))


def edges_before_tokens(block: nn.Module) -> nn.Module:
    """The hypergraph's projections of N tokens become projections of E hyperedges, and its heads vanish.

    With h heads of d dimensions, mean over heads of (W·x + b)_h·p_h/√d = x·(Wᵀ·p)/(h·√d) + b·p/(h·√d), whose last term
    is the same for every token and cancels in the softmax over tokens. And V·(Σₑ aₑ·yₑ) = Σₑ aₑ·(V·yₑ).
    """
    return EdgeFirstComputation(edges_first([block.hgnn])) if isinstance(block, AdaHGComputation) else block


def pair_branches(block: nn.Module) -> nn.Module:
    """Both branches of HyperACE read one tensor: one convolution for four entries, one hypergraph of two items."""
    if not (isinstance(block, Correlation) and isinstance(block.cv2, Convolution)):
        return block
    n, exit = len(block.m), block.cv2
    # columns of the exit: y0, branch1, y2, blocks, branch2 → y0, y2, blocks, branch1, branch2
    columns = exit.conv.weight.chunk(4 + n, 1)
    order = [0, *range(2, 3 + n), 1, 3 + n]
    reordered = exit.with_weights(torch.cat([columns[i] for i in order], 1), exit.conv.bias)
    return PairedCorrelation(block.fuse, block.cv1, block.m, branch_pair(block.branch1, block.branch2), reordered)


def bound_scores(block: nn.Module) -> nn.Module:
    """exp(s − m) = exp(max(s, m − 60) − m) up to rounding, m a row's maximum: a softmax that makes no subnormal number."""
    match block:
        case AreaAttention() | MergedAttention() | HeadwiseAttention() | ApartAttention() | TransposedKeys():
            spelled = block.core.attention in (Attention.FUSED, Attention.EXPLICIT)
            block.core = replace(block.core, bounded=spelled)
        case EdgeFirst():
            block.is_bounded = True
    return block


def merge_entries(block: nn.Module) -> nn.Module:
    """[W1; W2]·x = (W1·x, W2·x): the two entries of a C3 as one convolution."""
    if not isinstance(block, CrossStage):
        return block
    return MergedCrossStage(stacked(block.cv1, block.cv2), block.m, block.cv3, block.cv1.conv.out_channels)


def split_attention(block: nn.Module) -> nn.Module:
    """(Wqk·x)[:c] = Wqk[:c]·x: q, k and v from a convolution each, where cutting a tensor costs more than a call."""
    parts = _attention_apart(block)
    return block if parts is None else ApartAttention(*parts)


def transpose_keys(block: nn.Module) -> nn.Module:
    """kᵀ = W·xᵀ: k as q·kᵀ reads it, where a matrix product is as fast as a convolution."""
    parts = _attention_apart(block)
    return block if parts is None else TransposedKeys(*parts)


def _attention_apart(
    block: nn.Module,
) -> tuple[AttentionCore, Convolution, Convolution, Convolution, Convolution, Convolution] | None:
    """Core, q, k, v, pe and proj of an area attention as published; None for any other block."""
    match block:
        case AreaAttention():
            c = block.v.conv.out_channels
            return block.core, block.qk.rows(slice(c)), block.qk.rows(slice(c, 2 * c)), block.v, block.pe, block.proj
        case HeadwiseAttention():
            q, k, v = (block.qkv.rows(block.channels(part)) for part in range(3))
            return block.core, q, k, v, block.pe, block.proj
    return None


def split_entries(block: nn.Module) -> nn.Module:
    """(W·x)[:c] = W[:c]·x: halves of a C2f's entry and thirds of HyperACE's as convolutions, where a slice costs more."""
    match block:
        case SplitStages(cv1=Convolution() | TwoScaleEntry() as entry):
            block.cv1 = SplitEntry(entry, 2 * block.c, 2)
        case Correlation(cv1=Convolution() as entry) | PairedCorrelation(cv1=Convolution() as entry):
            block.cv1 = SplitEntry(entry, entry.conv.out_channels, 3)
    return block


def sum_exits(block: nn.Module) -> nn.Module:
    """W·(x1 beside x2) = W1·x1 + W2·x2: exits of C3, C2f, A2C2f and HyperACE, where a convolution adds for nothing."""
    match block:
        case CrossStage(cv3=Convolution() as exit) | MergedCrossStage(cv3=Convolution() as exit):
            block.cv3 = _summed(exit, 2)
        case AttentionStages(cv2=Convolution() as exit):
            block.cv2 = _summed(exit, 1 + len(block.m))
        case SplitStages(cv2=Convolution() as exit):
            block.cv2 = _summed(exit, 2 + len(block.m), first=1 if isinstance(block.cv1, SplitEntry) else 2)
        case Correlation(cv2=Convolution() as exit):
            block.cv2 = _summed(exit, 4 + len(block.m))
        case PairedCorrelation(cv2=Convolution() as exit):
            block.cv2 = _summed(exit, 4 + len(block.m), last=2)
    return block


def _summed(exit: Convolution, parts: int, first: int = 1, last: int = 1) -> SummedExit:
    """An exit of `parts` equal parts, of which `first` and `last` arrive side by side."""
    c = exit.conv.in_channels // parts
    return SummedExit(exit, [first * c, *[c] * (parts - first - last), last * c])


def direct_head(block: nn.Module) -> nn.Module:
    """Expectation over bins, box arithmetic and strides as two small matrix products instead of a chain of reshapes."""
    return DirectHead(block.cv2, block.cv3, block.classes) if isinstance(block, Head) else block


def channels_first(block: nn.Module) -> nn.Module:
    """The head's last convolutions as W·xᵀ: outputs channels first at once, where turning them round costs more."""
    if isinstance(block, Head | DirectHead):
        for branch in (*block.cv2, *block.cv3):
            branch[-1] = ChannelsFirst(branch[-1])
    return block


def fold_pixels(layers: Layers) -> Layers:
    """W·(p/255) = (W/255)·p: the network takes pixels 0…255 (zero padding is zero either way)."""
    modules = list(layers.modules)
    for index, sources in enumerate(layers.sources):
        module = modules[index]
        if IMAGES in sources:
            assert isinstance(module, Convolution)
            modules[index] = module.with_weights(module.conv.weight / 255.0, module.conv.bias)
    return replace(layers, modules=tuple(modules), pixel_scale=255.0)


def everywhere(rewrite: Callable[[nn.Module], nn.Module]) -> Callable[[Layers], Layers]:
    """The rewrite of a block as a rewrite of all layers."""
    return lambda layers: layers.each(rewrite)


REWRITES: dict[str, Callable[[Layers], Layers]] = {
    "norms": everywhere(fold_norms),
    "groups": everywhere(densify_groups),
    "scale": everywhere(scale_queries),
    "upsampling": commute_upsampling,
    "branches": everywhere(pair_branches),
    "edges": everywhere(edges_before_tokens),
    "attention": everywhere(merge_attention),
    "queries": everywhere(split_attention),
    "keys": everywhere(transpose_keys),
    "bounds": everywhere(bound_scores),
    "entries": everywhere(merge_entries),
    "halves": everywhere(split_entries),
    "sums": everywhere(sum_exits),
    "head": everywhere(direct_head),
    "planes": everywhere(channels_first),
    "pixels": fold_pixels,
}
# `queries`, `keys`, `halves`, `sums` and `planes` save slices and copies by more or other operators, `bounds` takes time where
# subnormal numbers cost none, and `pixels` changes what the network is fed: by choice only. `choice.py` says what pays on which runtime.
DEFAULT_REWRITES = ("norms", "groups", "scale", "upsampling", "branches", "edges", "attention", "entries", "head")


def simplify(network: Network, rewrites: Iterable[str] | None = None) -> SimplifiedNetwork:
    """The simplified network: with DEFAULT_REWRITES, or the named ones of REWRITES. `network` is left alone.

    Raises YoloproofError for an unknown rewrite, any without "norms", or a network that is simplified already.
    """
    chosen = set(DEFAULT_REWRITES if rewrites is None else rewrites)
    if unknown := chosen - REWRITES.keys():
        raise YoloproofError(f"no rewrite is called {', '.join(sorted(unknown))}; choose from {', '.join(REWRITES)}")
    if chosen and "norms" not in chosen:
        raise YoloproofError("the other rewrites work on folded batch norms; add 'norms'")
    if not isinstance(network, Network):
        raise YoloproofError("the network is simplified already; simplify the one it was made from")
    layers = layers_from_network(network)
    with torch.no_grad():
        for name, rewrite in REWRITES.items():
            if name in chosen:
                layers = rewrite(layers)
    return SimplifiedNetwork(network, layers, tuple(name for name in REWRITES if name in chosen))
