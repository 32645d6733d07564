"""Checks of the machine: GPU, driver, Python, CPUs, disk. Facts in, findings out."""

from __future__ import annotations

from packaging.version import Version

from yoloproof.doctor.facts import Facts
from yoloproof.doctor.finding import (
    ALL_WAYS,
    Finding,
    cuda_of_plain_tensorrt,
    cuda_of_wheel,
    gpu_title,
    rtx_wheels,
    supports,
    tensorrt_wheels,
    version_of,
)
from yoloproof.doctor.knowledge import CAPABILITIES, MINIMUM_DRIVER, MINIMUM_DRIVER_TENSORRT

_GIB = 1024**3


def check_gpu(facts: Facts) -> list[Finding]:
    """Which GPU, and which number formats its tensor cores have."""
    if facts.gpu is None:
        why = facts.gpu_problem or "none; what follows is for the CPU"
        return [Finding("gpu-none", "GPU", "missing", why, _gpu_remedy(why))]
    where = (
        "found"
        if facts.gpu.here
        else "only named, not here: its driver is unknown, and the packages are those of this Python"
    )
    generation = CAPABILITIES.get(facts.gpu.capability)
    if generation is None:
        why = f"{where}; its compute capability is not in the knowledge table"
        return [Finding("gpu-unknown", gpu_title(facts), "unknown", why)]
    formats = ", ".join(name if supports(facts, name) else f"no {name}" for name in ("float16", "bfloat16", "TF32"))
    return [Finding("gpu", gpu_title(facts), "works", f"{where}; {generation}: {formats}", source="cuda-guide")]


def _gpu_remedy(problem: str) -> str:
    """What to do where a GPU should be and none is seen, by NVML's words."""
    if "nvidia-ml-py is not installed" in problem:
        return "pip install nvidia-ml-py"
    if "Library Not Found" in problem or "Driver Not Loaded" in problem or "driver shows no GPU" in problem:
        return "if this machine has one: install its driver; in a container: docker run --gpus all"
    if "version mismatch" in problem:
        return "the driver was updated under the running kernel: reboot"
    return ""


def check_driver(facts: Facts) -> list[Finding]:
    """The driver against the CUDA version of every installed wheel that names one."""
    if facts.gpu is None:
        return []
    if facts.driver is None:
        why = "CUDA 12 wheels need 525 (TensorRT's 535), CUDA 13 wheels 580"
        return [Finding("driver-unknown", "NVIDIA driver", "unknown", why, "nvidia-smi", "cuda-driver")]
    branch = version_of(facts.driver).major
    findings = []
    for name, way, cuda, minimum, source in _driver_needs(facts):
        if branch < minimum:
            why = f"driver {facts.driver} is older than {minimum}, which the CUDA {cuda} build of {name} needs"
            older = "pip install 'cuda-bindings<13'" if way == "native" else "yoloproof doctor --requirements --cuda 12"
            fix = f"update the driver to {minimum} or newer, or: {older}"
            findings.append(Finding("driver-old", name, "too old", why, fix, source, (way,)))
    if findings:
        return findings
    runs = max((cuda for cuda, minimum in MINIMUM_DRIVER.items() if branch >= minimum), default=None)
    if runs is None:
        why = f"older than {min(MINIMUM_DRIVER.values())}: no supported CUDA version runs on it"
        subject, fix = f"NVIDIA driver {facts.driver}", "update the driver"
        return [Finding("driver-old", subject, "too old", why, fix, "cuda-driver", ALL_WAYS[1:])]
    why = f"runs CUDA {runs}.x and older"
    return [Finding("driver", f"NVIDIA driver {facts.driver}", "works", why, source="cuda-driver")]


def _driver_needs(facts: Facts) -> list[tuple[str, str, int, int, str]]:
    """(package, way, CUDA major, first driver branch, source) of every installed GPU wheel."""
    needs = []
    if facts.torch_cuda:
        cuda = int(facts.torch_cuda.split(".")[0])
        needs.append(("torch", "torch", cuda, MINIMUM_DRIVER.get(cuda, 0), "cuda-driver"))
    if facts.onnxruntime_cuda is not None:
        cuda = facts.onnxruntime_cuda
        needs.append(("onnxruntime-gpu", "onnxruntime", cuda, MINIMUM_DRIVER.get(cuda, 0), "cuda-driver"))
    for name, version in tensorrt_wheels(facts).items():
        cuda = cuda_of_wheel(name) or cuda_of_plain_tensorrt(version)
        needs.append((name, "tensorrt", cuda, MINIMUM_DRIVER_TENSORRT[cuda], "trt-prereq"))
    if "cuda-bindings" in facts.packages:
        cuda = version_of(facts.packages["cuda-bindings"]).major
        needs.append(("cuda-bindings", "native", cuda, MINIMUM_DRIVER.get(cuda, 0), "cuda-driver"))
    for name in rtx_wheels(facts):
        cuda = cuda_of_wheel(name) or 0
        needs.append((name, "tensorrt-rtx", cuda, MINIMUM_DRIVER.get(cuda, 0), "cuda-driver"))
    return needs


def check_python(facts: Facts) -> list[Finding]:
    """The interpreter's version."""
    subject, version = f"Python {facts.python}", version_of(facts.python)
    if version < Version("3.10"):
        return [Finding("python-old", subject, "too old", "yoloproof needs 3.10", "install Python 3.12", ways=ALL_WAYS)]
    if version < Version("3.11"):
        why = "onnxruntime 1.32 and numpy 2.4 need 3.11; the pinned files do not install here"
        return [Finding("python-3.10", subject, "risky", why, "install Python 3.12")]
    return [Finding("python", subject, "works", "3.11 or newer")]


def check_cpus(facts: Facts) -> list[Finding]:
    """CPUs this process may use: two beside a GPU are the hosted notebooks' trap."""
    subject = f"{facts.cpu_count} CPU" + ("s" if facts.cpu_count != 1 else "")
    hosted = f" ({facts.host})" if facts.host else ""
    if facts.cpu_count > 2:
        return [Finding("cpu", subject, "works", f"enough to build engines and keep a GPU fed{hosted}")]
    if facts.gpu is None:
        return [Finding("cpu", subject, "works", f"enough{hosted}; the thread count is recorded with every figure")]
    why = (
        f"beside a GPU{hosted}: starting kernels, not the GPU, can set the latency of a small network, "
        "and end-to-end figures suffer most"
    )
    return [Finding("cpu-few", subject, "risky", why, "time engines or CUDA graphs, and report the CPU count")]


def check_disk(facts: Facts) -> list[Finding]:
    """Room for the artifacts of the largest model: checkpoint 258 MB, ONNX file 256 MB, engine and caches."""
    if facts.disk_free_bytes is None:
        return [Finding("disk-unknown", "disk", "unknown", "free space could not be read")]
    free = f"{facts.disk_free_bytes / _GIB:.1f} GiB free"
    if facts.disk_free_bytes < _GIB:
        why = f"{free}; yolov13x needs 1 GiB for checkpoint, ONNX file, engine and caches"
        return [Finding("disk-low", "disk", "cannot work", why, "free 1 GiB, or work in another folder", ways=ALL_WAYS)]
    return [Finding("disk", "disk", "works", f"{free}; the largest model needs about 1 GiB")]
