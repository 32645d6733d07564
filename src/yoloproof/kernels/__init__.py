"""A simplified network in the form a GPU runs best at small batches: the same function in a quarter of the launches.

At batch 1 every launch costs two or three microseconds however little it does, so concatenations are never made (the
next convolution reads its inputs where they lie), bias, activation and residual belong to the convolution before, and
branches that do not read each other run side by side.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from yoloproof.errors import YoloproofError
from yoloproof.network.blocks import Conv, DSConv
from yoloproof.network.wiring import Network
from yoloproof.simplify.modules import BranchPair, MergedAttention, TwoScaleEntry
from yoloproof.simplify.rewrites import DEFAULT_REWRITES

LEAST_CAPABILITY = (8, 0)  # Triton after 3.2 has no Turing
LEAST_FOR_EARLY_START = (9, 0)  # CUDA's programmatic dependent launch


def gpu_form_missing(device: str) -> str | None:
    """What keeps `device` from running the GPU form, or None."""
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


def gpu_network(network: Network, *, overlap: bool = True, early_start: bool | None = None) -> Network:
    """The GPU form of a network simplified with DEFAULT_REWRITES, for float16 on CUDA; `network` is left alone.

    overlap, early_start -- see `gpu.launch.Options`; early_start None: where the current CUDA device can
    Every convolution times its ways at its first run, so run it once before capturing it. `gpu.choosing.take_ways` spares
    that, `gpu.compiling.compile_ahead` the minutes that compiling takes then.
    Raises YoloproofError without Triton, for another simplification, or an attention that is not "fused".
    """
    try:
        import triton  # noqa: F401
    except ImportError:
        raise YoloproofError("the GPU form needs Triton, which PyTorch for CUDA on Linux brings along") from None
    if set(network.rewrites) != set(DEFAULT_REWRITES):
        raise YoloproofError("the GPU form is made from simplify(network) with the default rewrites")
    if network.attention != "fused":
        raise YoloproofError(f"the GPU form's attention is fused, not {network.attention}")
    from yoloproof.kernels.choosing import AreaAttention
    from yoloproof.kernels.forms import FORMS
    from yoloproof.kernels.launch import Options

    if early_start is None:
        early_start = torch.cuda.is_available() and torch.cuda.get_device_capability() >= LEAST_FOR_EARLY_START
    network = copy.deepcopy(network)
    _split_exits(network)
    _replace_convolutions(network)
    for module in network.modules():
        if isinstance(module, MergedAttention):
            module.area_attention = AreaAttention(module)
    for module in network.modules():
        form = next((FORMS[kind] for kind in type(module).__mro__ if kind in FORMS), None)
        if form is not None:
            module.__class__ = form
        module.options = Options(overlap, early_start)
    return network.eval().requires_grad_(False)


def _split_exits(network: Network) -> None:
    """The grouped exit of a BranchPair as its two halves, each reading its own inputs."""
    for module in network.modules():
        if isinstance(module, BranchPair):
            exits = module.exits
            halves = zip(exits.conv.weight.chunk(2), exits.conv.bias.chunk(2), strict=True)
            for i, (weight, bias) in enumerate(halves):
                conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
                conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
                half = copy.copy(exits)
                half._modules = {**exits._modules, "conv": conv}
                setattr(module, f"exit{i}", half)
            del module.exits


def _replace_convolutions(network: Network) -> None:
    from yoloproof.kernels.choosing import Depthwise, FusedConv, Separable

    def made(module: nn.Module, act: bool) -> nn.Module | None:
        if isinstance(module, DSConv):
            return Separable(module.dw, module.pw)
        if isinstance(module, Conv):
            return made(module.conv, isinstance(module.act, nn.SiLU))
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels == module.out_channels
            return Depthwise(module, act) if depthwise else FusedConv(module, act)
        return None

    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            # the entry's own convolution carries its activation
            act = isinstance(parent, TwoScaleEntry) and name == "fine"
            if isinstance(parent, Conv | DSConv):
                continue
            replacement = made(child, act)
            if replacement is not None:
                setattr(parent, name, replacement)
