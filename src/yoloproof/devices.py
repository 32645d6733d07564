"""The GPUs as the CUDA driver shows them, asked of the driver itself: no library of NVIDIA's needs to be installed for it."""

from __future__ import annotations

import ctypes
import sys

WINDOWS = sys.platform == "win32"
CUDA = "nvcuda.dll" if WINDOWS else "libcuda.so.1"
NVML = "nvml.dll" if WINDOWS else "libnvidia-ml.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


def gpu_count() -> tuple[int, str]:
    """How many GPUs the driver shows, and why there are none."""
    driver = _library(CUDA)
    if driver is None:
        return 0, "no NVIDIA driver is installed here"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0, "the NVIDIA driver shows no GPU"
    return count.value, "" if count.value else "the NVIDIA driver shows no GPU"


def first_gpu() -> tuple[tuple[int, int], int] | None:
    """Compute capability of the first GPU, and the CUDA major version that its driver runs; None without a GPU."""
    driver = _library(CUDA)
    if driver is None or not gpu_count()[0]:
        return None
    version, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, 0)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, 0)
    return (major.value, minor.value), version.value // 1000


def driver_release() -> str | None:
    """The driver's own version, as in "580.82.07"; None where its management library does not say it."""
    library, text = _library(NVML), ctypes.create_string_buffer(80)
    if library is None or library.nvmlInit_v2() != 0 or library.nvmlSystemGetDriverVersion(text, 80) != 0:
        return None
    return text.value.decode()


def _library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
