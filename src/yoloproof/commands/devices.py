"""Whether the CUDA driver shows a GPU, asked of the driver itself: no library of NVIDIA's needs to be installed for it."""

from __future__ import annotations

import ctypes
import sys

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def gpu_count() -> tuple[int, str]:
    """How many GPUs the driver shows, and why there are none."""
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        return 0, "no NVIDIA driver is installed here"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0, "the NVIDIA driver shows no GPU"
    return count.value, "" if count.value else "the NVIDIA driver shows no GPU"
