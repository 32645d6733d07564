"""The two networks' wiring as tables of layers: where each layer reads from and what it is.

Channel numbers are before scaling. Layer numbers are the published ones, which parameter names carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloproof.errors import YoloproofError
from yoloproof.network.attention import ATTENTIONS, A2C2f
from yoloproof.network.blocks import C3k2, Conv, DSC3k2, DSConv
from yoloproof.network.head import Detect
from yoloproof.network.hypergraph import DownsampleConv, FullPAD_Tunnel, HyperACE, upsample
from yoloproof.network.variants import Variant


class Upsample(nn.Module):
    """Nearest neighbour, twice the size."""

    def forward(self, x: Tensor) -> Tensor:
        return upsample(x)


class Concat(nn.Module):
    """Side by side along the channels."""

    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, 1)


@dataclass(frozen=True)
class Layer:
    """`sources` are layer numbers (-1: the layer before); `build(c)` makes the module from its sources' channels;
    `channels(c)` are the output's channels."""

    sources: tuple[int, ...]
    build: Callable[[list[int]], nn.Module]
    channels: Callable[[list[int]], int]


def layers(variant: Variant, classes: int, attention: str) -> list[Layer]:
    """The layers of `variant` in order, the last being the Detect head."""
    v = variant

    def conv(c: int, source: int = -1, k: int = 3, s: int = 2, groups: int = 1) -> Layer:
        return Layer((source,), lambda i: Conv(i[0], v.channels(c), k, s, groups), lambda i: v.channels(c))

    def dsconv(c: int) -> Layer:
        return Layer((-1,), lambda i: DSConv(i[0], v.channels(c), 3, 2), lambda i: v.channels(c))

    def c2f(block: type[C3k2] | type[DSC3k2], c: int, nested: bool, e: float = 0.5) -> Layer:
        return Layer((-1,), lambda i: block(i[0], v.channels(c), v.repeats(2), nested, e), lambda i: v.channels(c))

    def a2c2f(c: int, n: int, area: int | None) -> Layer:
        options = {"area": area, "residual": v.residual, "mlp_ratio": v.mlp_ratio, "attention": attention}
        return Layer((-1,), lambda i: A2C2f(i[0], v.channels(c), v.repeats(n), **options), lambda i: v.channels(c))

    def up(source: int = -1) -> Layer:
        return Layer((source,), lambda i: Upsample(), lambda i: i[0])

    def cat(*sources: int) -> Layer:
        return Layer(sources, lambda i: Concat(), sum)

    def tunnel(x0: int, x1: int) -> Layer:
        return Layer((x0, x1), lambda i: FullPAD_Tunnel(), lambda i: i[0])

    def detect(*sources: int) -> Layer:
        return Layer(sources, lambda i: Detect(classes, i), lambda i: 4 + classes)

    stem = [conv(64), conv(128, groups=2)]
    if v.family == "yolov12":
        return [
            *stem, c2f(C3k2, 256, v.nested, 0.25), conv(256, groups=4), c2f(C3k2, 512, v.nested, 0.25),
            conv(512), a2c2f(512, 4, area=4), conv(1024), a2c2f(1024, 4, area=1),
            up(), cat(9, 6), a2c2f(512, 2, area=None), up(), cat(12, 4), a2c2f(256, 2, area=None),
            conv(256), cat(15, 11), a2c2f(512, 2, area=None), conv(512), cat(18, 8), c2f(C3k2, 1024, True),
            detect(14, 17, 20),
        ]  # fmt: skip
    hyper = Layer(
        (4, 6, 8),
        lambda i: HyperACE(i[1], v.channels(512), v.repeats(2), v.hyperedges, v.widen),
        lambda i: v.channels(512),
    )
    down = Layer((9,), lambda i: DownsampleConv(i[0], v.widen), lambda i: i[0] * (2 if v.widen else 1))
    return [
        *stem, c2f(DSC3k2, 256, v.nested, 0.25), conv(256, groups=4), c2f(DSC3k2, 512, v.nested, 0.25),
        dsconv(512), a2c2f(512, 4, area=4), dsconv(1024), a2c2f(1024, 4, area=1),
        hyper, up(9), down, tunnel(6, 9), tunnel(4, 10), tunnel(8, 11),
        up(14), cat(15, 12), c2f(DSC3k2, 512, True), tunnel(17, 9),
        up(17), cat(19, 13), c2f(DSC3k2, 256, True), conv(256, 10, k=1, s=1), tunnel(21, 22),
        conv(256), cat(24, 18), c2f(DSC3k2, 512, True), tunnel(26, 9),
        conv(512, 26), cat(28, 14), c2f(DSC3k2, 1024, True), tunnel(30, 11), detect(23, 27, 31),
    ]  # fmt: skip


class Network(nn.Module):
    """An attention YOLO for inference: images [B, 3, H, W] (RGB, 0…1, H and W multiples of 32) → [B, 4 + classes, A].

    variant, attention -- which network, and how its attention is computed
    names -- class index → name
    source, sha256 -- where the weights came from and the hash of that file (None: random weights)
    Raises YoloproofError for images of another shape.
    """

    def __init__(self, variant: Variant, classes: int = 80, attention: str = "fused") -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise YoloproofError(f"attention '{attention}' is none of {', '.join(ATTENTIONS)}")
        if classes < 1:
            raise YoloproofError(f"a detector of {classes} classes cannot be; give at least 1")
        self.variant, self.classes, self.attention = variant, classes, attention
        self.names: dict[int, str] = {i: f"class{i}" for i in range(classes)}
        self.source, self.sha256 = "random weights", None
        self.pixel_scale = 1.0
        self.rewrites: tuple[str, ...] = ()
        self.sources: list[tuple[int, ...]] = []
        modules: list[nn.Module] = []
        channels: list[int] = []
        for index, layer in enumerate(layers(variant, classes, attention)):
            self.sources.append(tuple(index - 1 if s == -1 else s for s in layer.sources))
            c_in = [channels[s] if s >= 0 else 3 for s in self.sources[-1]]
            modules.append(layer.build(c_in))
            channels.append(layer.channels(c_in))
        self.model = nn.Sequential(*modules)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % 32 or images.shape[3] % 32:
            raise YoloproofError(
                f"images are {list(images.shape)}; the network takes [B, 3, H, W], H and W multiples of 32"
            )
        images = images.to(next(self.model[0].parameters()).dtype)
        outputs: list[Tensor] = []
        # by index: a slice of a Sequential is a new module, whose name an export would put into every node's path
        for index, sources in enumerate(self.sources[:-1]):
            # a layer without sources was simplified away; its place keeps the numbering
            inputs = [outputs[s] if s >= 0 else images for s in sources]
            outputs.append(self.model[index](*inputs) if sources else images)
        return self.model[-1]([outputs[s] for s in self.sources[-1]])


def network_from_variant(variant: Variant, classes: int = 80, attention: str = "fused") -> Network:
    """The untrained network of one row of VARIANTS, ready for a strict load."""
    return Network(variant, classes, attention)


def attention_paths(modules: Iterable[tuple[str, nn.Module]]) -> list[str]:
    """Module paths of the area attentions among `named_modules()`, in order of execution."""
    return [path for path, module in modules if hasattr(module, "heads") and hasattr(module, "area")]
