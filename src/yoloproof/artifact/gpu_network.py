"""A simplified network in our GPU kernels: the same function in a quarter of the launches, for float16 on CUDA."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from yoloproof.errors import YoloproofError
from yoloproof.names import Attention
from yoloproof.network.hypergraph import FullPAD_Tunnel
from yoloproof.network.wiring import IMAGES, Concat, checked_images
from yoloproof.simplify.attention import MergedAttention, attended
from yoloproof.simplify.blocks import (
    AttentionBlock,
    AttentionStages,
    Convolution,
    Downsample,
    Residual,
    SeparableConvolution,
    SplitStages,
)
from yoloproof.simplify.modules import (
    BranchPair,
    CoarseTunnel,
    DirectHead,
    MergedCrossStage,
    PairedCorrelation,
    TwoScaleEntry,
    TwoScaleFusion,
)
from yoloproof.simplify.rewrites import DEFAULT_REWRITES, SimplifiedNetwork

if TYPE_CHECKING:  # the kernels need Triton, which is not everywhere
    from yoloproof.artifact.gpu_blocks import GpuBranchPair, GpuFusion, GpuTwoScaleEntry
    from yoloproof.kernels.autotune import Autotuner, Tunable
    from yoloproof.kernels.launch import Options

LEAST_CAPABILITY = (8, 0)  # Triton after 3.2 has no Turing
LEAST_FOR_EARLY_START = (9, 0)  # CUDA's programmatic dependent launch


def gpu_kernels_missing(device: str) -> str | None:
    """What keeps `device` from running our kernels, or None."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return "Triton is not installed; PyTorch for CUDA on Linux brings it along"
    if not torch.cuda.is_available():
        return "no CUDA device is visible"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return f"compute capability {'.'.join(map(str, capability))}; Triton after 3.2 needs 8.0"
    return None


class GpuNetwork(nn.Module):
    """images [B, 3, H, W] → [B, 4 + classes, A] in float32, as the simplified network it was built from.

    model, sources -- as in `SimplifiedNetwork`; autotuner -- chooses the operations' configurations at their first run
    """

    def __init__(
        self, modules: Sequence[nn.Module], sources: tuple[tuple[int, ...], ...], autotuner: Autotuner, options: Options
    ) -> None:
        super().__init__()
        self.model, self.sources, self.autotuner, self.options = nn.Sequential(*modules), sources, autotuner, options
        self.eval().requires_grad_(False)

    @property
    def tuning(self) -> dict[str, str]:
        """Operation → configuration, of all that has run: what `network_with_kernels` takes in another process."""
        return self.autotuner.tuning

    def forward(self, images: Tensor) -> Tensor:
        outputs: dict[int, Any] = {IMAGES: checked_images(images).to(next(self.parameters()).dtype)}
        for index, sources in enumerate(self.sources):
            if sources:
                outputs[index] = self.model[index](*(outputs[s] for s in sources))
        detections: Tensor = outputs[len(self.sources) - 1]
        return detections


def network_with_kernels(
    network: SimplifiedNetwork, tuning: Mapping[str, str] | None = None, *, overlap: bool = True,
    early_start: bool | None = None, autotuner: Autotuner | None = None,
) -> GpuNetwork:  # fmt: skip
    """A network simplified with DEFAULT_REWRITES in our kernels, for float16 on CUDA; `network` is left alone.

    tuning -- configurations that were chosen before (`GpuNetwork.tuning`); what it does not hold is timed at its first run,
    so run the network once before capturing it. `compile_kernels` spares the minutes that compiling takes then.
    overlap, early_start -- see `kernels.launch.Options`; early_start None: where the current CUDA device can
    autotuner -- another one than the GPU at hand, for tests
    Raises YoloproofError without Triton, for another simplification, or an attention that is not "fused".
    """
    try:
        import triton  # noqa: F401
    except ImportError:
        raise YoloproofError("the GPU kernels need Triton, which PyTorch for CUDA on Linux brings along") from None
    if set(network.rewrites) != set(DEFAULT_REWRITES):
        raise YoloproofError("the GPU kernels take a network that was simplified with the default rewrites")
    if network.attention != Attention.FUSED:
        raise YoloproofError(f"the GPU kernels' attention is fused, not {network.attention}")
    from yoloproof.kernels.autotune import Autotuner
    from yoloproof.kernels.launch import Options

    if early_start is None:
        early_start = torch.cuda.is_available() and torch.cuda.get_device_capability() >= LEAST_FOR_EARLY_START
    build = _Builder(Options(overlap, early_start), autotuner or Autotuner(tuning))
    with torch.no_grad():
        modules = [build.block(module) for module in network.model]
    return GpuNetwork(modules, network.sources, build.autotuner, build.options)


def compile_kernels(network: GpuNetwork, batch: int, imgsz: tuple[int, int]) -> int:
    """Compile every kernel that the network may launch at this batch and (height, width), by all CPUs; how many."""
    from yoloproof.kernels.compile_ahead import compilations, compile_ahead

    return compile_ahead(compilations(network, (batch, 3, *imgsz)))


class _Builder:
    """Blocks of a simplified network → blocks that launch our kernels, with tensors of their own."""

    def __init__(self, options: Options, autotuner: Autotuner) -> None:
        self.options, self.autotuner = options, autotuner

    def block(self, block: nn.Module) -> nn.Module:
        from yoloproof.artifact import gpu_blocks as gpu

        match block:
            case Convolution() | SeparableConvolution() | nn.Conv2d():
                return self.convolution(block)
            case Residual():
                return gpu.GpuResidual(self.convolution(block.cv1), self.convolution(block.cv2), block.add)
            case MergedCrossStage():
                stage = self.convolution(block.cv12), self.block(block.m), self.convolution(block.cv3)
                return MergedCrossStage(*stage, block.c)
            case SplitStages():
                cv1, cv2 = self.entry(block.cv1), self.convolution(block.cv2)
                return gpu.GpuSplitStages(cv1, self.blocks(block.m), cv2, block.c)
            case AttentionBlock(attn=MergedAttention() as attn):
                return self.attention_block(attn, block.mlp)
            case AttentionStages():
                cv1, cv2, gamma = self.entry(block.cv1), self.convolution(block.cv2), copy.deepcopy(block.gamma)
                return gpu.GpuAttentionStages(cv1, self.blocks(block.m), cv2, gamma, self.options)
            case PairedCorrelation():
                parts = self.fusion(block.fuse), self.convolution(block.cv1), self.blocks(block.m)
                return gpu.GpuCorrelation(
                    *parts, self.branch_pair(block.branches), self.convolution(block.cv2), self.options
                )
            case Downsample():
                return gpu.GpuDownsample(self.block(block.channel_adjust), self.options)
            case FullPAD_Tunnel() | CoarseTunnel():
                coarse = isinstance(block, CoarseTunnel)
                return gpu.GpuTunnel(copy.deepcopy(block.gate), coarse, self.options)
            case Concat():
                return gpu.GpuConcat()
            case DirectHead():
                return gpu.GpuHead(self.blocks(block.cv2), self.blocks(block.cv3), block.classes, self.options)
            case nn.Sequential():
                return nn.Sequential(*map(self.block, block))
            case nn.Identity():
                return nn.Identity()
        raise TypeError(f"our kernels have no {type(block).__name__}")

    def blocks(self, blocks: nn.ModuleList) -> nn.ModuleList:
        return nn.ModuleList(map(self.block, blocks))

    def convolution(self, block: nn.Module) -> Tunable:
        from yoloproof.kernels.separable import SeparableConv

        match block:
            case SeparableConvolution():
                return SeparableConv(block.dw, block.pw, self.options, self.autotuner)
            case Convolution():
                return self.single(block.conv, block.has_act)
            case nn.Conv2d():
                return self.single(block, False)
        raise TypeError(f"our kernels have no {type(block).__name__} in the place of a convolution")

    def single(self, conv: nn.Conv2d, act: bool) -> Tunable:
        from yoloproof.kernels.conv import DenseConv
        from yoloproof.kernels.depthwise import DepthwiseConv

        kind = DepthwiseConv if conv.groups == conv.in_channels == conv.out_channels else DenseConv
        return kind(conv, act, self.options, self.autotuner)

    def entry(self, block: nn.Module) -> Tunable | GpuTwoScaleEntry:
        from yoloproof.artifact.gpu_blocks import GpuTwoScaleEntry

        if isinstance(block, TwoScaleEntry):
            return GpuTwoScaleEntry(self.single(block.coarse, False), self.single(block.fine, block.has_act))
        return self.convolution(block)

    def attention_block(self, attn: MergedAttention, mlp: nn.Sequential) -> nn.Module:
        from yoloproof.artifact.gpu_blocks import GpuAttentionBlock
        from yoloproof.kernels.attention import FusedAreaAttention

        core = attn.core
        attention = FusedAreaAttention(
            core.heads, core.area, core.scale, partial(attended, core), self.options, self.autotuner
        )
        return GpuAttentionBlock(
            attention, self.convolution(attn.qkv), self.convolution(attn.pe), self.convolution(attn.proj),
            self.convolution(mlp[0]), self.convolution(mlp[1]),
        )  # fmt: skip

    def fusion(self, block: nn.Module) -> GpuFusion:
        from yoloproof.artifact.gpu_blocks import GpuFusion, GpuTwoScaleEntry

        assert isinstance(block, TwoScaleFusion)
        entry = self.entry(block.conv_out)
        assert isinstance(entry, GpuTwoScaleEntry)
        return GpuFusion(entry, self.options)

    def branch_pair(self, block: BranchPair) -> GpuBranchPair:
        """The grouped exit becomes its two halves, each reading its own inputs."""
        from yoloproof.artifact.gpu_blocks import GpuBranchPair

        c = block.exits.conv.out_channels // 2
        first, second = (block.exits.rows(slice(i * c, (i + 1) * c), groups=1) for i in range(2))
        return GpuBranchPair(
            self.convolution(block.entries), copy.deepcopy(block.hgnn),
            self.convolution(first), self.convolution(second), self.options,
        )  # fmt: skip
