"""The networks' wiring as tables of layers: where each layer reads from and what it is.

Channel numbers are before scaling. Layer numbers are the published ones, which parameter names carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloproof.errors import YoloproofError
from yoloproof.names import Attention
from yoloproof.network.attention import A2C2f, AAttn, AAttnV1, attention_from_name
from yoloproof.network.blocks import Block, C3k2, Conv, DSC3k2, DSConv
from yoloproof.network.head import Detect
from yoloproof.network.hypergraph import DownsampleConv, FullPAD_Tunnel, HyperACE, upsample
from yoloproof.network.variants import Variant


class Upsample(Block):
    """Nearest neighbour, twice the size."""

    def forward(self, x: Tensor) -> Tensor:
        return upsample(x)


class Concat(Block):
    """Side by side along the channels."""

    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, 1)


IMAGES = -1  # among a network's sources: the images themselves


@dataclass(frozen=True)
class Layer:
    """`sources` are layer numbers (-1: the layer before, or for the first the images); `build(c)` makes the module from its
    sources' channels; `channels(c)` are the output's channels."""

    sources: tuple[int, ...]
    build: Callable[[list[int]], nn.Module]
    channels: Callable[[list[int]], int]


@dataclass(frozen=True)
class Wiring:
    """The layers of one variant in order, the last being the Detect head. Channel numbers are before scaling."""

    variant: Variant
    classes: int
    attention: Attention

    def conv(self, c: int, source: int = -1, k: int = 3, s: int = 2, groups: int = 1) -> Layer:
        c = self.variant.channels(c)
        return Layer((source,), lambda i: Conv(i[0], c, k, s, groups), lambda i: c)

    def dsconv(self, c: int) -> Layer:
        c = self.variant.channels(c)
        return Layer((-1,), lambda i: DSConv(i[0], c, 3, 2), lambda i: c)

    def c2f(self, block: type[C3k2] | type[DSC3k2], c: int, nested: bool, e: float = 0.5) -> Layer:
        c, n = self.variant.channels(c), self.variant.repeats(2)
        return Layer((-1,), lambda i: block(i[0], c, n, nested, e), lambda i: c)

    def a2c2f(self, c: int, n: int, area: int | None, attn: type[AAttn] = AAttn) -> Layer:
        v, c, n = self.variant, self.variant.channels(c), self.variant.repeats(n)

        def build(i: list[int]) -> A2C2f:
            return A2C2f(
                i[0], c, n, area=area, residual=v.residual, mlp_ratio=v.mlp_ratio, attn=attn, attention=self.attention
            )

        return Layer((-1,), build, lambda i: c)

    def hyper(self, *sources: int) -> Layer:
        v, c, n = self.variant, self.variant.channels(512), self.variant.repeats(2)
        return Layer(sources, lambda i: HyperACE(i[1], c, n, v.hyperedges, v.widen), lambda i: c)

    def down(self, source: int) -> Layer:
        widen = self.variant.widen
        return Layer((source,), lambda i: DownsampleConv(i[0], widen), lambda i: i[0] * (2 if widen else 1))

    def up(self, source: int = -1) -> Layer:
        return Layer((source,), lambda i: Upsample(), lambda i: i[0])

    def cat(self, *sources: int) -> Layer:
        return Layer(sources, lambda i: Concat(), sum)

    def tunnel(self, x0: int, x1: int) -> Layer:
        return Layer((x0, x1), lambda i: FullPAD_Tunnel(), lambda i: i[0])

    def detect(self, *sources: int) -> Layer:
        return Layer(sources, lambda i: Detect(self.classes, i), lambda i: 4 + self.classes)

    def yolov12(self) -> list[Layer]:
        return self.twelve(AAttn, (2, 4))

    def yolo12(self) -> list[Layer]:
        return self.twelve(AAttnV1, (1, 1))

    def twelve(self, attn: type[AAttn], groups: tuple[int, int]) -> list[Layer]:
        """`groups` of the convolutions 1 and 3."""
        nested = self.variant.nested
        return [
            self.conv(64), self.conv(128, groups=groups[0]), self.c2f(C3k2, 256, nested, 0.25),  # 0 … 2
            self.conv(256, groups=groups[1]), self.c2f(C3k2, 512, nested, 0.25),  # 3, 4
            self.conv(512), self.a2c2f(512, 4, 4, attn), self.conv(1024), self.a2c2f(1024, 4, 1, attn),  # 5 … 8
            self.up(), self.cat(9, 6), self.a2c2f(512, 2, area=None),  # 9 … 11
            self.up(), self.cat(12, 4), self.a2c2f(256, 2, area=None),  # 12 … 14
            self.conv(256), self.cat(15, 11), self.a2c2f(512, 2, area=None),  # 15 … 17
            self.conv(512), self.cat(18, 8), self.c2f(C3k2, 1024, True),  # 18 … 20
            self.detect(14, 17, 20),
        ]  # fmt: skip

    def yolov13(self) -> list[Layer]:
        nested = self.variant.nested
        return [
            self.conv(64), self.conv(128, groups=2), self.c2f(DSC3k2, 256, nested, 0.25),  # 0 … 2
            self.conv(256, groups=4), self.c2f(DSC3k2, 512, nested, 0.25),  # 3, 4
            self.dsconv(512), self.a2c2f(512, 4, area=4), self.dsconv(1024), self.a2c2f(1024, 4, area=1),  # 5 … 8
            self.hyper(4, 6, 8), self.up(9), self.down(9),  # 9 … 11
            self.tunnel(6, 9), self.tunnel(4, 10), self.tunnel(8, 11),  # 12 … 14
            self.up(14), self.cat(15, 12), self.c2f(DSC3k2, 512, True), self.tunnel(17, 9),  # 15 … 18
            self.up(17), self.cat(19, 13), self.c2f(DSC3k2, 256, True),  # 19 … 21
            self.conv(256, 10, k=1, s=1), self.tunnel(21, 22),  # 22, 23
            self.conv(256), self.cat(24, 18), self.c2f(DSC3k2, 512, True), self.tunnel(26, 9),  # 24 … 27
            self.conv(512, 26), self.cat(28, 14), self.c2f(DSC3k2, 1024, True), self.tunnel(30, 11),  # 28 … 31
            self.detect(23, 27, 31),
        ]  # fmt: skip


LAYERS: dict[str, Callable[[Wiring], list[Layer]]] = {
    "yolov13": Wiring.yolov13,
    "yolov12": Wiring.yolov12,
    "yolo12": Wiring.yolo12,
}


class Network(Block):
    """An attention YOLO for inference: images [B, 3, H, W] (RGB, 0…1, H and W multiples of 32) → [B, 4 + classes, A].

    variant, attention -- which network, and how its attention is computed
    names -- class index → name
    source, sha256 -- where the weights came from and the hash of that file (None: random weights)
    sources, channels -- of each layer, the layers it reads (IMAGES: the images), and its output's channels
    Frozen: in evaluation mode, without gradients; nothing changes it after its weights are loaded.
    Raises YoloproofError for an unknown attention, less than one class, or images of another shape.
    """

    def __init__(
        self,
        variant: Variant,
        classes: int = 80,
        attention: str = Attention.FUSED,
        *,
        names: Mapping[int, str] | None = None,
        source: str = "random weights",
        sha256: str | None = None,
    ) -> None:
        super().__init__()
        if classes < 1:
            raise YoloproofError(f"a detector needs at least 1 class, not {classes}")
        self.variant, self.classes, self.attention = variant, classes, attention_from_name(attention)
        self.names = {i: (names or {}).get(i, f"class{i}") for i in range(classes)}
        self.source, self.sha256 = source, sha256
        self.sources: list[tuple[int, ...]] = []
        modules: list[nn.Module] = []
        self.channels: list[int] = []
        for index, layer in enumerate(LAYERS[variant.family](Wiring(variant, classes, self.attention))):
            self.sources.append(tuple(index - 1 if s == -1 else s for s in layer.sources))
            c_in = [3 if s == IMAGES else self.channels[s] for s in self.sources[-1]]
            modules.append(layer.build(c_in))
            self.channels.append(layer.channels(c_in))
        self.model = nn.Sequential(*modules)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        images = checked_images(images).to(next(self.parameters()).dtype)
        outputs: list[Tensor] = []
        # by index: a slice of a Sequential is a new module, whose name an export would put into every node's path
        for index, sources in enumerate(self.sources[:-1]):
            outputs.append(self.model[index](*(images if s == IMAGES else outputs[s] for s in sources)))
        detections: Tensor = self.model[-1]([outputs[s] for s in self.sources[-1]])
        return detections


def checked_images(images: Tensor) -> Tensor:
    """`images` as they are; YoloproofError unless they are [B, 3, H, W] with H and W multiples of 32."""
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % 32 or images.shape[3] % 32:
        raise YoloproofError(
            f"images are {list(images.shape)}; the network takes [B, 3, H, W], H and W multiples of 32"
        )
    return images


def network_from_variant(variant: Variant, classes: int = 80, attention: str = Attention.FUSED) -> Network:
    """The untrained network of one row of VARIANTS, ready for a strict load."""
    return Network(variant, classes, attention)


def network_with_attention(network: Network, attention: str) -> Network:
    """The same network with its attention computed as `attention` says. It shares the tensors of `network`, which stays as
    it is: for running both, not for writing to either."""
    with torch.device("meta"):  # shapes only: nothing is initialised that is replaced anyway
        other = Network(
            network.variant, network.classes, attention,
            names=network.names, source=network.source, sha256=network.sha256,
        )  # fmt: skip
    other.load_state_dict(network.state_dict(), strict=True, assign=True)
    other.eval().requires_grad_(False)
    return other


def attention_paths(modules: Iterable[tuple[str, nn.Module]]) -> list[str]:
    """Module paths of the area attentions among `named_modules()`, in order of execution; `attn` is their published name."""
    return [path for path, _ in modules if path.endswith(".attn")]
