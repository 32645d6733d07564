"""TensorRT and TensorRT-RTX: is the library here, and which line installs it. `doctor`, sessions and builders all ask here."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Literal

from yoloproof.devices import first_gpu
from yoloproof.names import Runtime

Capability = tuple[int, int]
EngineLibrary = Literal["10", "11", "rtx", "native", "none"]

VOLTA: Capability = (7, 0)
ORIN: Capability = (8, 7)
B200: Capability = (10, 0)

MODULES = {Runtime.TENSORRT: "tensorrt", Runtime.TENSORRT_RTX: "tensorrt_rtx"}
VERSIONS = {
    "tensorrt 10": "10.16.1.11", "tensorrt 10 volta": "10.4.0", "tensorrt 11": "11.4.0.106",
    "tensorrt-rtx": "1.7.1.116",
}  # fmt: skip


def missing_library(runtime: Runtime) -> str | None:
    """Why the library of `tensorrt` or `tensorrt-rtx` cannot be used here, and the line that installs it; None where it is
    here."""
    return None if is_installed(MODULES[runtime]) else f"{MODULES[runtime]} is not installed; {line_here(runtime)}"


def line_here(runtime: Runtime) -> str:
    """The line that installs the library for the GPU of this machine, or, without one, for a T4's."""
    gpu = first_gpu()
    capability, driver_cuda = gpu or ((7, 5), 12)
    return install_line(runtime, capability, cuda_major(capability, driver_cuda >= 13, torch_cuda()))


def install_line(runtime: Runtime, capability: Capability, cuda: int, engine: EngineLibrary | None = None) -> str:
    """The line that installs the library for a GPU and a CUDA major version; engine -- "11" for TensorRT 11."""
    pin = engine_pin(capability, cuda, engine or ("rtx" if runtime is Runtime.TENSORRT_RTX else "10"))
    return f"pip install {pin}" if pin else "take TensorRT from the JetPack"


def engine_pin(capability: Capability, cuda: int, engine: EngineLibrary) -> str:
    """The pin of an engine library ("tensorrt-cu12==10.16.1.11"), "" where PyPI has none for this GPU."""
    if engine == "none" or capability == ORIN:
        return ""
    if engine == "rtx":
        return f"tensorrt-rtx-cu{cuda}=={VERSIONS['tensorrt-rtx']}"
    version = VERSIONS["tensorrt 10 volta"] if capability == VOLTA else VERSIONS[f"tensorrt {engine}"]
    return f"tensorrt-cu{cuda}=={version}"


def cuda_major(capability: Capability | None, driver_takes_13: bool, torch: str | None) -> int:
    """The CUDA major version of packages to add: PyTorch's where it has one, else 13 where driver and GPU take it for sure,
    else 12. capability -- None without a GPU; torch -- the CUDA version of the installed PyTorch, "" for a CPU build."""
    installed = int(torch.split(".")[0]) if torch else 0
    if installed in (12, 13):
        return installed
    if capability is None or capability == VOLTA:
        return 12
    return 13 if capability >= B200 or driver_takes_13 else 12


def torch_cuda() -> str | None:
    """CUDA version of the installed PyTorch, "" for a CPU build, None where it is not known; read from its `version.py`:
    importing PyTorch takes seconds."""
    spec = importlib.util.find_spec("torch") if is_installed("torch") else None
    if spec is None or spec.origin is None:
        return None
    version = Path(spec.origin).with_name("version.py")
    if not version.is_file():
        return None
    found = re.search(r"^cuda\b[^=]*=\s*(?:'([^']*)'|None)", version.read_text(encoding="utf-8"), re.MULTILINE)
    return None if found is None else found.group(1) or ""


def is_installed(module: str) -> bool:
    """Whether a module can be imported. Stubs alone (tensorrt-stubs) leave a folder of that name without a module in it."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # the package that the module is in
        return False
    except ValueError:  # a module that was put in place by hand
        return True
    return found is not None and (found.origin is not None or module == "cuda.bindings")
