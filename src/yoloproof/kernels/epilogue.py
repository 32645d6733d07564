"""What kernels begin and end with: waiting for the kernel before; activation, a sum and the store.

Activations are channels-last. Pixel strides (`p`, `…_p`) count elements from one pixel to the next, so that a slice of
channels is an input like any other. Products are summed in float32 and rounded once.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from yoloproof.kernels.launch import pixels

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # Triton 3.2, the last for Turing, which has no such launches; EARLY stays off there

    @triton.jit
    def gdc_wait():
        pass

    gdc_launch_dependents = gdc_wait

# Sizes of the picture: a kernel compiled for one serves all.
SIZES = ["height", "width", "out_h", "out_w", "m_total"]


def sum_arguments(add: Tensor | None, coarse: bool, y: Tensor) -> tuple[Tensor, int, int]:
    """`add`, its pixel stride, and ADD of `finish`, for a kernel that writes y; coarse: `add` has half the resolution."""
    if add is None:
        return y, 0, 0
    add, spacing = pixels(add)
    return add, spacing, 2 if coarse else 1


@triton.jit
def begin(EARLY: tl.constexpr):
    """With programmatic dependent launch (EARLY), wait for the kernel before, then let the next one be set up."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()


@triton.jit
def finish(
    acc, add, add_p, y, y_p, m, n, m_total, c_out, oy, ox, b, out_h, out_w, ACT: tl.constexpr, ADD: tl.constexpr
):
    """Activation, sum with `add` (1: after the activation; 2: before it, from half the resolution), store."""
    inside = (m < m_total)[:, None] & (n < c_out)[None, :]
    if ADD == 2:
        coarse = (b * (out_h // 2) + oy // 2) * (out_w // 2) + ox // 2
        acc += tl.load(add + coarse[:, None] * add_p + n[None, :], mask=inside, other=0.0).to(tl.float32)
    if ACT:
        acc = acc / (1.0 + tl.exp(-acc))
    if ADD == 1:
        acc += tl.load(add + m[:, None] * add_p + n[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(y + m[:, None] * y_p + n[None, :], acc.to(y.dtype.element_ty), mask=inside)
