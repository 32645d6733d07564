"""A frame of any size as the network's input: scaled to fit, centred on grey, 0…1. Reference: `detection.letterbox.letterbox`.

Offsets and weights of the pixels come from the host (`files.frames.frame_parameters`): the arithmetic is OpenCV's integers.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from yoloproof.kernels.epilogue import begin
from yoloproof.kernels.launch import Options, launch, tiles


@triton.jit(do_not_specialize=["width", "height"])
def letterbox_kernel(frame, taps, y, width, height, BM: tl.constexpr, EARLY: tl.constexpr):
    """A row of BM pixels a program: uint8 frame to y [height, width, 3]; taps [4, width] of the columns, then [4, height]."""
    begin(EARLY)
    x, row = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1)
    inside = x < width
    left, right = tl.load(taps + x, mask=inside, other=-1), tl.load(taps + width + x, mask=inside, other=-1)
    near = tl.load(taps + 2 * width + x, mask=inside, other=0)
    far = tl.load(taps + 3 * width + x, mask=inside, other=0)
    lines = taps + 4 * width + row
    top, bottom = tl.load(lines), tl.load(lines + height)
    over, under = tl.load(lines + 2 * height), tl.load(lines + 3 * height)
    seen = inside & (tl.minimum(left, top) >= 0)
    for c in tl.static_range(3):
        upper = tl.load(frame + (top + left + c), mask=seen, other=0).to(tl.int32) * near
        upper += tl.load(frame + (top + right + c), mask=seen, other=0).to(tl.int32) * far
        lower = tl.load(frame + (bottom + left + c), mask=seen, other=0).to(tl.int32) * near
        lower += tl.load(frame + (bottom + right + c), mask=seen, other=0).to(tl.int32) * far
        value = (((over * (upper >> 4)) >> 16) + ((under * (lower >> 4)) >> 16) + 2) >> 2
        value = tl.where(seen, value, 114).to(tl.float32) * (1.0 / 255.0)
        tl.store(y + (row * width + x) * 3 + c, value.to(y.dtype.element_ty), mask=inside)


def placed(frame: Tensor, taps: Tensor, imgsz: tuple[int, int], dtype: torch.dtype, options: Options) -> Tensor:
    """uint8 frame, as many bytes as it has, and its int32 taps [4·(w + h)] → [1, 3, h, w] in channels-last memory."""
    h, w = imgsz
    y, bm = torch.empty((1, h, w, 3), dtype=dtype, device=frame.device), 128
    launch(letterbox_kernel, (tiles(w, bm), h), frame, taps, y, w, h, BM=bm, num_warps=4, options=options)
    return y.permute(0, 3, 1, 2)
