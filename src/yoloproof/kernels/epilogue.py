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
def summed(add, add_p, m, n, m_total, c_out, out_h, out_w, ADD: tl.constexpr):
    """What `finish` sums, loaded long before so that nothing waits for it; 2: from half the resolution; 0: nothing."""
    summand = 0.0
    if ADD != 0:
        pixel = m
        if ADD == 2:
            b, place = m // (out_h * out_w), m % (out_h * out_w)
            pixel = (b * (out_h // 2) + place // out_w // 2) * (out_w // 2) + place % out_w // 2
        inside = (m < m_total)[:, None] & (n < c_out)[None, :]
        summand = tl.load(add + pixel[:, None] * add_p + n[None, :], mask=inside, other=0.0)
    return summand


@triton.jit
def finish(acc, summand, y, y_p, m, n, m_total, c_out, ACT: tl.constexpr, ADD: tl.constexpr):
    """Activation, sum with `summand` (1: after the activation; 2: before it), store."""
    inside = (m < m_total)[:, None] & (n < c_out)[None, :]
    if ADD == 2:
        acc += summand.to(tl.float32)
    if ACT:
        acc = acc / (1.0 + tl.exp(-acc))
    if ADD == 1:
        acc += summand.to(tl.float32)
    tl.store(y + m[:, None] * y_p + n[None, :], acc.to(y.dtype.element_ty), mask=inside)
