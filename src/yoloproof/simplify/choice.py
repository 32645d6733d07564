"""The form of the network that each runtime gets: which exact rewrites pay there, and our kernels on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from yoloproof.kernels import gpu_form_missing, gpu_network
from yoloproof.network import Network
from yoloproof.runtime import SessionSpec
from yoloproof.simplify.rewrites import DEFAULT_REWRITES, simplify

# What pays on a CPU depends on who runs it (benchmarks/export.py); everything else gets DEFAULT_REWRITES. Both keep
# convolutions in layouts of their own that a slice breaks, and let a convolution add to a tensor, which is cheaper than
# a concatenation. OpenVINO has a grouped kernel for 8 channels and fuses the attention's transposes and the head itself.
RUNTIME_REWRITES = {
    "onnxruntime": (
        "norms", "groups", "scale", "upsampling", "branches", "edges", "queries", "halves", "sums", "head",
    ),
    "openvino": ("norms", "scale", "upsampling", "branches", "edges", "sums"),
}  # fmt: skip
# The official code as it exports itself: convolutions' norms folded, nothing else.
PUBLISHED_REWRITES = ("norms",)


def rewrites_for(runtime: str, device: str, attention: str) -> tuple[str, ...]:
    """The simplifications that pay on a runtime; for `published` and `stripped` only what the official export does."""
    if attention in ("published", "stripped"):
        return PUBLISHED_REWRITES
    return RUNTIME_REWRITES.get(runtime, DEFAULT_REWRITES) if device == "cpu" else DEFAULT_REWRITES


def gpu_form(runtime: str, precision: str, attention: str, device: str) -> bool:
    """Whether a row runs in our Triton kernels: PyTorch, fused attention in float16, on a GPU that has Triton."""
    wanted = device.startswith("cuda") and (runtime, precision, attention) == ("pytorch", "fp16", "fused")
    return wanted and gpu_form_missing(device) is None


def simplified_network(
    load: Callable[[str], Network], attention: str, device: str, form: bool = False,
    ways: Mapping[tuple[Any, ...], int] | None = None,
) -> Network:  # fmt: skip
    """For the PyTorch runtime, called in the process that runs it; `form`: as `gpu_network`, which need not choose its
    `ways` anew where they are given."""
    network = simplify(load(attention), rewrites_for("pytorch", device, attention))
    if ways:
        from yoloproof.kernels.choosing import take_ways

        take_ways(ways)
    return gpu_network(network) if form else network


def compile_form(form: Network, batch: int, imgsz: tuple[int, int]) -> None:
    """Every kernel that the GPU form may launch at this batch, by all CPUs at once."""
    from yoloproof.kernels.compiling import compile_ahead
    from yoloproof.kernels.launch import compilations

    compile_ahead(compilations(form, (batch, 3, *imgsz)))


def in_proved_ways(spec: SessionSpec) -> SessionSpec:
    """The session of a GPU form as other processes are to open it: in the very ways that were chosen, and proved, here."""
    from yoloproof.kernels.choosing import chosen_ways

    build: Callable[..., Network] | None = spec.network
    assert build is not None
    return replace(spec, network=partial(build, ways=chosen_ways()))
