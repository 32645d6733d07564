"""A simplified network, and how its layers are built from a published network's tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from yoloproof.network.attention import A2C2f, AAttn, ABlock
from yoloproof.network.blocks import C3, Block, Bottleneck, C2f, Conv, DSBottleneck, DSConv
from yoloproof.network.head import Detect
from yoloproof.network.hypergraph import C3AH, DownsampleConv, FullPAD_Tunnel, HyperACE
from yoloproof.network.wiring import IMAGES, Concat, Network, Upsample, checked_images
from yoloproof.simplify.attention import AreaAttention, AttentionCore
from yoloproof.simplify.blocks import (
    AttentionBlock,
    AttentionStages,
    Convolution,
    Correlation,
    CrossStage,
    Downsample,
    Head,
    HypergraphStage,
    LevelFusion,
    Residual,
    SeparableConvolution,
    SplitStages,
)


@dataclass(frozen=True)
class Layers:
    """A network while it is rewritten.

    sources -- of each layer, the layers it reads (IMAGES: the images); none: the layer is gone, its number is not reused
    channels -- of each published layer's output
    pixel_scale -- what an image's brightest value is: 1, or 255 where the first layers take pixels
    """

    modules: tuple[nn.Module, ...]
    sources: tuple[tuple[int, ...], ...]
    channels: tuple[int, ...]
    pixel_scale: float = 1.0

    def each(self, rewrite: Callable[[nn.Module], nn.Module]) -> Layers:
        """Layers with `rewrite` applied to every module and every module in it, the inner ones first."""
        return replace(self, modules=tuple(_everywhere(rewrite, module) for module in self.modules))


def _everywhere(rewrite: Callable[[nn.Module], nn.Module], module: nn.Module) -> nn.Module:
    for name, child in list(module.named_children()):
        module.register_module(name, _everywhere(rewrite, child))
    return rewrite(module)


class SimplifiedNetwork(Block):
    """A network for inference with the function of a published one: images as `Network` takes them, and its output.

    variant, classes, attention, names, source, sha256 -- of the published network
    rewrites -- names of what was applied; pixel_scale -- 255 where the images are to be pixels 0…255, else 1
    model, sources -- as in `Network`; a layer without sources was simplified away
    """

    def __init__(self, published: Network, layers: Layers, rewrites: tuple[str, ...]) -> None:
        super().__init__()
        self.variant, self.classes, self.attention = published.variant, published.classes, published.attention
        self.names, self.source, self.sha256 = published.names, published.source, published.sha256
        self.rewrites, self.pixel_scale, self.sources = rewrites, layers.pixel_scale, layers.sources
        self.model = nn.Sequential(*layers.modules)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        outputs = {IMAGES: checked_images(images).to(next(self.parameters()).dtype)}
        for index, sources in enumerate(self.sources):
            if sources:
                outputs[index] = self.model[index](*(outputs[s] for s in sources))
        return outputs[len(self.sources) - 1]


def layers_from_network(network: Network) -> Layers:
    """The network's layers as blocks of this package, with tensors of their own."""
    modules = tuple(_block(layer) for layer in network.model)
    return Layers(modules, tuple(network.sources), tuple(network.channels))


def _block(block: nn.Module) -> nn.Module:
    """The block of this package with the function of a published block."""
    match block:
        case Conv() | DSConv():
            return _convolution(block)
        case Bottleneck() | DSBottleneck():
            return Residual(_convolution(block.cv1), _convolution(block.cv2), block.add)
        case C3():
            return CrossStage(_conv(block.cv1), _conv(block.cv2), _sequential(block.m), _conv(block.cv3))
        case C2f():
            return SplitStages(_conv(block.cv1), _list(block.m), _conv(block.cv2), block.c)
        case ABlock():
            return AttentionBlock(_attention(block.attn), _sequential(block.mlp))
        case A2C2f():
            return AttentionStages(_conv(block.cv1), _list(block.m), _conv(block.cv2), copy.deepcopy(block.gamma))
        case HyperACE():
            fuse, branches = LevelFusion(_conv(block.fuse.conv_out)), (_hyper(block.branch1), _hyper(block.branch2))
            return Correlation(fuse, _conv(block.cv1), _list(block.m), *branches, _conv(block.cv2))
        case DownsampleConv():
            return Downsample(_block(block.channel_adjust))
        case Detect():
            return Head(_list(block.cv2), _list(block.cv3), copy.deepcopy(block.dfl), block.classes)
        case nn.Sequential():
            return _sequential(block)
        case FullPAD_Tunnel() | Upsample() | Concat() | nn.Conv2d() | nn.Identity():
            return copy.deepcopy(block)
    raise TypeError(f"no block of a simplified network stands for {type(block).__name__}")


def _conv(conv: Conv) -> Convolution:
    act = not isinstance(conv.act, nn.Identity)
    return Convolution(copy.deepcopy(conv.conv), act, copy.deepcopy(conv.bn))


def _convolution(conv: Conv | DSConv) -> Convolution | SeparableConvolution:
    if isinstance(conv, Conv):
        return _conv(conv)
    return SeparableConvolution(copy.deepcopy(conv.dw), copy.deepcopy(conv.pw), copy.deepcopy(conv.bn))


def _attention(block: AAttn) -> AreaAttention:
    core = AttentionCore(block.heads, block.area, block.attention, block.scale)
    return AreaAttention(core, _conv(block.qk), _conv(block.v), _conv(block.pe), _conv(block.proj))


def _hyper(block: C3AH) -> HypergraphStage:
    return HypergraphStage(_conv(block.cv1), _conv(block.cv2), copy.deepcopy(block.m), _conv(block.cv3))


def _sequential(blocks: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(*map(_block, blocks))


def _list(blocks: nn.ModuleList) -> nn.ModuleList:
    return nn.ModuleList(map(_block, blocks))
