"""What the doctor knows of a machine: frozen records, and the reading of this one.

`facts_from_machine` looks; everything after it (`diagnose`, the requirement files) is a pure function of `Facts`,
so that a machine one does not have is a record in a test.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from yoloproof.engine_libraries import Capability, torch_cuda
from yoloproof.errors import YoloproofError


@dataclass(frozen=True)
class GpuFacts:
    """One GPU. `here` is False for a GPU only named (`--gpu t4`): nothing about it was measured.

    capability -- CUDA compute capability, (7, 5) for a T4
    """

    name: str
    capability: Capability
    memory_bytes: int | None = None
    here: bool = True


@dataclass(frozen=True)
class NativeFile:
    """A native engine's file: the compute capabilities of its code, sorted, and the version of its PTX."""

    path: str
    capabilities: tuple[Capability, ...]
    ptx: tuple[int, int] | None


@dataclass(frozen=True)
class Facts:
    """What was found. None is "not found or not readable", never "fine".

    python -- version of the running interpreter; packages -- canonical distribution name → installed version
    driver -- NVIDIA driver version; torch_cuda -- CUDA version the installed PyTorch was built for, "" for a CPU build
    onnxruntime_cuda -- CUDA major version the installed onnxruntime-gpu declares
    providers -- ONNX Runtime's execution providers; gpu_problem -- why the GPU could not be asked
    native -- a native engine's file that is asked about
    host -- "colab", "kaggle", "container" or "" ; disk_free_bytes -- free space in the working directory
    """

    system: str
    machine: str
    python: str
    cpu_count: int
    memory_bytes: int | None
    disk_free_bytes: int | None
    packages: Mapping[str, str] = field(default_factory=dict)
    gpu: GpuFacts | None = None
    gpu_problem: str | None = None
    driver: str | None = None
    torch_cuda: str | None = None
    onnxruntime_cuda: int | None = None
    providers: tuple[str, ...] | None = None
    native: NativeFile | None = None
    host: str = ""

    def to_json(self) -> dict[str, object]:
        """The record as plain JSON types."""
        return asdict(self) | {"packages": dict(self.packages)}


_GIB = 1024**3

GPUS: dict[str, GpuFacts] = {
    "t4": GpuFacts("Tesla T4", (7, 5), 16 * _GIB, here=False),
    "rtx2080": GpuFacts("GeForce RTX 2080", (7, 5), 8 * _GIB, here=False),
    "v100": GpuFacts("Tesla V100", (7, 0), 16 * _GIB, here=False),
    "a10": GpuFacts("NVIDIA A10", (8, 6), 24 * _GIB, here=False),
    "l4": GpuFacts("NVIDIA L4", (8, 9), 24 * _GIB, here=False),
    "a100": GpuFacts("NVIDIA A100", (8, 0), 40 * _GIB, here=False),
    "h100": GpuFacts("NVIDIA H100", (9, 0), 80 * _GIB, here=False),
    "rtx4090": GpuFacts("GeForce RTX 4090", (8, 9), 24 * _GIB, here=False),
    "rtx5090": GpuFacts("GeForce RTX 5090", (12, 0), 32 * _GIB, here=False),
    "orin": GpuFacts("Jetson AGX Orin", (8, 7), 32 * _GIB, here=False),
}
"""GPUs that can be named. Capabilities: developer.nvidia.com/cuda-gpus, read 2026-11-23; memory: the vendor's data
sheets, the smallest version sold."""


def facts_with_gpu(facts: Facts, name: str) -> Facts:
    """`facts` with the GPU called `name` (a key of `GPUS`, or "none") in place of what was found.

    Raises YoloproofError when the name is unknown. Driver and ONNX Runtime providers of this machine say nothing about
    another one and become None, unless the GPU named is the kind that is here.
    """
    if name == "none":
        return replace(facts, gpu=None, gpu_problem=None, driver=None)
    if name not in GPUS:
        raise YoloproofError(f"doctor: no GPU called {name!r}; known: {', '.join(GPUS)}, none")
    gpu = GPUS[name]
    if facts.gpu is not None and re.search(rf"\b{re.escape(gpu.name)}\b", facts.gpu.name):  # an A100 is no A10
        return facts
    return replace(facts, gpu=gpu, gpu_problem=None, driver=None, providers=None)


def native_file(path: Path) -> NativeFile:
    """What the doctor asks of a native engine's file. Raises YoloproofError where it cannot be read."""
    from yoloproof.files.native import read_native
    from yoloproof.files.ptx import version_of_ptx

    code = read_native(path).code
    ptx = next((kernel.ptx for kernel in code[min(code)] if kernel is not None and kernel.ptx), b"")
    return NativeFile(str(path), tuple(sorted(code)), version_of_ptx(ptx))


def facts_from_machine(folder: Path | None = None) -> Facts:
    """Look at this machine; `folder` is where artifacts would be written (default: the working directory).

    Takes well under a second: package versions come from their metadata, PyTorch is never imported.
    """
    packages = installed_packages()
    gpu, driver, problem = _gpu_from_nvml()
    return Facts(
        system=platform.system(),
        machine=platform.machine(),
        python=platform.python_version(),
        cpu_count=_usable_cpus(),
        memory_bytes=_memory_bytes(),
        disk_free_bytes=shutil.disk_usage(folder or Path.cwd()).free,
        packages=packages,
        gpu=gpu,
        gpu_problem=problem,
        driver=driver,
        torch_cuda=torch_cuda(),
        onnxruntime_cuda=_onnxruntime_cuda(packages),
        providers=_onnxruntime_providers(),
        host=_host(),
    )


def installed_packages() -> dict[str, str]:
    """Canonical distribution name → version, of everything this interpreter would import."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # a half-removed package leaves a folder without metadata
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return found


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().total)


def _gpu_from_nvml() -> tuple[GpuFacts | None, str | None, str | None]:
    """The first GPU that NVML shows, the driver's version, and else why there is none."""
    try:
        import pynvml
    except ImportError:
        return None, None, "nvidia-ml-py is not installed, so no GPU could be asked"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, None, f"none visible (NVML: {error}); what follows is for the CPU"
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        if pynvml.nvmlDeviceGetCount() == 0:
            return None, driver, "the driver shows no GPU"
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
        return GpuFacts(str(pynvml.nvmlDeviceGetName(handle)), (int(major), int(minor)), memory), driver, None
    except pynvml.NVMLError as error:
        return None, None, f"NVML: {error}"
    finally:
        pynvml.nvmlShutdown()


def _onnxruntime_cuda(packages: Mapping[str, str]) -> int | None:
    """The CUDA major version that onnxruntime-gpu's own extras ask for (`nvidia-cudnn-cu12` → 12)."""
    if "onnxruntime-gpu" not in packages:
        return None
    declared = " ".join(importlib.metadata.requires("onnxruntime-gpu") or ())
    found = re.search(r"nvidia-cudnn-cu(\d+)", declared)
    return int(found.group(1)) if found else None


def _onnxruntime_providers() -> tuple[str, ...] | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    # Two installed builds can leave a package without its functions.
    available = getattr(onnxruntime, "get_available_providers", None)
    return tuple(available()) if available is not None else None


def _host() -> str:
    if "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "kaggle"
    return "container" if Path("/.dockerenv").exists() else ""
