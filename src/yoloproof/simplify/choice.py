"""Which exact rewrites pay on which runtime."""

from __future__ import annotations

from yoloproof.names import Attention
from yoloproof.simplify.rewrites import DEFAULT_REWRITES

# What pays on a CPU depends on who runs it (benchmarks/export.py); everything else gets DEFAULT_REWRITES. Both keep
# convolutions in layouts of their own that a slice breaks, and let a convolution add to a tensor, which is cheaper than
# a concatenation. OpenVINO has a grouped kernel for 8 channels, fuses the attention's transposes except that of k, and
# multiplies matrices as fast as it convolves, so that a product may give another layout for nothing.
RUNTIME_REWRITES = {
    "onnxruntime": (
        "norms", "groups", "scale", "upsampling", "branches", "edges", "queries", "halves", "sums", "head",
    ),
    "openvino": ("norms", "upsampling", "branches", "edges", "keys", "entries", "sums", "head", "planes"),
}  # fmt: skip
# The official code as it exports itself: convolutions' norms folded, nothing else.
PUBLISHED_REWRITES = ("norms",)


def rewrites_for(runtime: str, device: str, attention: str) -> tuple[str, ...]:
    """The simplifications that pay on a runtime; for `published` and `stripped` only what the official export does."""
    if attention in (Attention.PUBLISHED, Attention.STRIPPED):
        return PUBLISHED_REWRITES
    return RUNTIME_REWRITES.get(runtime, DEFAULT_REWRITES) if device == "cpu" else DEFAULT_REWRITES
