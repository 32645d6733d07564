"""Checks of the Python packages, each against the GPU it would run on. Facts in, findings out."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.version import Version

from yoloproof.doctor.facts import Facts
from yoloproof.doctor.finding import (
    ALL_WAYS,
    FROM_WEIGHTS,
    Finding,
    Status,
    cuda_of_wheel,
    gpu_title,
    rtx_wheels,
    tensorrt_wheels,
    version_of,
)
from yoloproof.doctor.knowledge import TURING, Support, row_for
from yoloproof.doctor.requirements import BASE, NATIVE, PINS, cuda_of_packages, install_line
from yoloproof.engine_libraries import ORIN, VOLTA, EngineLibrary
from yoloproof.engine_libraries import install_line as install_engine_line
from yoloproof.names import Runtime

_MINIMUM_TORCH = Version("2.11")
_WHEELS = {cuda: f"PyTorch, CUDA {cuda} wheel" for cuda in ("12.6", "12.8", "13")}
_CUDA_WAYS = ("torch", "tensorrt-rtx", "tensorrt")  # engines keep their device memory in PyTorch
# name → (first version, what needs it, the ways of running the main job that it stops); a test holds these to pyproject.toml
MINIMUMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "onnx": ("1.19", "the export (opset 23)", FROM_WEIGHTS),
    "onnxscript": ("0.5", "the export (opset 23)", FROM_WEIGHTS),
    "onnxruntime": ("1.23", "ONNX `Attention`, with which every proof runs,", FROM_WEIGHTS),
    "onnxruntime-gpu": ("1.23", "ONNX `Attention`, with which every proof runs,", FROM_WEIGHTS),
    "openvino": ("2026.1", "ONNX `Attention`", ()),
    "tensorrt-rtx-cu12": ("1.7", "engine building as tested", ("tensorrt-rtx",)),
}
_FROM_SUPPORT: dict[Support, Status] = {"yes": "works", "no": "cannot work", "unknown": "unknown"}


def check_torch(facts: Facts) -> list[Finding]:
    """PyTorch: there, new enough, and with code for this GPU."""
    installed = facts.packages.get("torch")
    if installed is None:
        why = "it reads the checkpoints and exports them"
        return [Finding("torch-missing", "PyTorch", "missing", why, install_line(facts), ways=FROM_WEIGHTS)]
    subject = f"PyTorch {installed}"
    if version_of(installed).release < _MINIMUM_TORCH.release:
        why = f"the opset 23 export needs {_MINIMUM_TORCH}"
        return [Finding("torch-old", subject, "too old", why, install_line(facts), ways=FROM_WEIGHTS)]
    if facts.gpu is None:
        return [Finding("torch", subject, "works", "exports and runs on the CPU")]
    if facts.gpu.capability == ORIN:
        return [_torch_on_jetson(facts, subject)]
    if facts.torch_cuda == "":
        why = f"{installed} is a CPU-only build beside a GPU: it exports, but nothing runs on the {facts.gpu.name}"
        fix = install_line(facts, "torch")
        return [Finding("torch-cpu-only", "PyTorch for CUDA", "missing", why, fix, "", _CUDA_WAYS)]
    if facts.torch_cuda is None:
        return [Finding("torch-unknown", subject, "unknown", "its CUDA version could not be read", "", "", _CUDA_WAYS)]
    wheel = _WHEELS.get(facts.torch_cuda) or _WHEELS.get(facts.torch_cuda.split(".")[0])
    if wheel is None:
        why = f"what its CUDA {facts.torch_cuda} build holds code for is not in the knowledge table"
        return [Finding("torch-unknown", subject, "unknown", why, "", "torch-matrix", _CUDA_WAYS)]
    row = row_for(wheel, facts.gpu.capability)
    if row.support == "no":
        why = f"its CUDA {facts.torch_cuda} build has no code for {gpu_title(facts)}"
        return [Finding("torch-gpu", subject, "cannot work", why, install_line(facts), row.source, _CUDA_WAYS)]
    why = f"CUDA {facts.torch_cuda} build; {row.note or 'has code for this GPU'}"
    return [Finding("torch", subject, _FROM_SUPPORT[row.support], why, "", row.source, _CUDA_WAYS)]


def _torch_on_jetson(facts: Facts, subject: str) -> Finding:
    if facts.torch_cuda:
        why = f"CUDA {facts.torch_cuda} build; what it holds code for is not in the knowledge table"
        return Finding("torch-jetson", subject, "unknown", why, "", "torch-matrix", _CUDA_WAYS)
    why, fix = (
        "a Jetson takes a CUDA build made for its JetPack; PyPI's and PyTorch's own are for other GPUs",
        install_line(facts),
    )
    return Finding("torch-jetson", "PyTorch for Jetson", "missing", why, fix, "torch-matrix", _CUDA_WAYS)


def check_minimums(facts: Facts) -> list[Finding]:
    """Packages older than this project asks for; `MINIMUMS` says which and since when."""
    findings = []
    for name, (minimum, why, ways) in MINIMUMS.items():
        installed = facts.packages.get(name)
        if installed is not None and version_of(installed) < Version(minimum):
            subject, fix = f"{name} {installed}", f"pip install '{name}>={minimum}'"
            findings.append(Finding("package-old", subject, "too old", f"{why} needs {minimum}", fix, "", ways))
    return findings


def check_onnx(facts: Facts) -> list[Finding]:
    """The packages that write and read ONNX."""
    missing = [name for name in ("onnx", "onnxscript") if name not in facts.packages]
    if missing:
        subject, why = " and ".join(missing), "the export goes through it"
        return [Finding("onnx-missing", subject, "missing", why, _pip(missing), ways=FROM_WEIGHTS)]
    return [Finding("onnx", f"onnx {facts.packages['onnx']}", "works", "export and graph audit")]


def check_attention(facts: Facts) -> list[Finding]:
    """Which fused attention this GPU gets without any extra package."""
    if facts.gpu is None:
        why = "PyTorch SDPA, ONNX `Attention`, OpenVINO's own; flash-attn is for CUDA GPUs"
        return [Finding("attention", "fused attention", "works", why)]
    flash = row_for("PyTorch SDPA, flash", facts.gpu.capability)
    back_end = "flash" if flash.support == "yes" else "memory-efficient"
    fused = row_for("TensorRT, fused attention", facts.gpu.capability).support
    engine = {"yes": "fused in float16 engines", "no": "not fused in engines", "unknown": "unknown in engines"}[fused]
    why = f"PyTorch SDPA picks its {back_end} kernel by itself; {engine}; no extra package is needed"
    return [Finding("attention", "fused attention", "works", why, source=flash.source)]


def check_flash_attn(facts: Facts) -> list[Finding]:
    """flash-attn: which major is installed, what it does on this GPU, and that nothing here needs it."""
    three = facts.packages.get("flash-attn-3")
    findings = [] if three is None else [_flash_attn_3(facts, three)]
    installed = facts.packages.get("flash-attn")
    if facts.gpu is None:
        if installed is not None:
            why = "a CUDA extension without a GPU; yoloproof never calls it"
            findings.append(Finding("flash-attn-no-gpu", f"flash-attn {installed}", "not needed", why))
        return findings
    if installed is not None and version_of(installed).major == 1:
        return [*findings, _flash_attn_1(facts, installed)]
    two = row_for("flash-attn 2.x", facts.gpu.capability)
    if two.support == "no":
        why = (
            f"needs compute capability 8.0, this is {gpu_title(facts)}; and it is not needed: fused "
            "attention comes from PyTorch SDPA, ONNX `Attention` and TensorRT"
        )
        subject = f"flash-attn {installed}" if installed else "flash-attn 2.x"
        fix = "pip uninstall -y flash-attn" if installed else ""
        return [*findings, Finding("flash-attn-2-unusable", subject, "cannot work", why, fix, "flash2")]
    if installed is None:
        why = "not installed; SDPA picks the same kind of kernel"
        return [*findings, Finding("flash-attn-absent", "flash-attn", "not needed", why, source="sdpa")]
    why = (
        "runs, and is not needed: yoloproof never calls it. A graph traced through it loses the attention without a warning; "
        "check engines made that way with `yoloproof verify`"
    )
    return [*findings, Finding("flash-attn-2", f"flash-attn {installed}", "risky", why, "", "lost")]


def _flash_attn_1(facts: Facts, installed: str) -> Finding:
    assert facts.gpu is not None
    subject = f"flash-attn {installed}"
    row = row_for("flash-attn 1.x", facts.gpu.capability)
    fix = "pip uninstall -y flash-attn"
    if row.support == "no":
        return Finding("flash-attn-1", subject, "cannot work", f"not for {gpu_title(facts)}", fix, row.source)
    runs = "runs here" if row.support == "yes" else "may run here"
    why = (
        f"{runs}, but never export through it: the tracer cannot see into the extension and records its output as a "
        "constant, so the q/k weights fall out of the graph; the engine builds, is fast and detects nothing. yoloproof "
        "never calls it; `yoloproof verify` shows it on files made elsewhere"
    )
    return Finding("flash-attn-1", subject, "risky", why, fix, "lost")


def _flash_attn_3(facts: Facts, installed: str) -> Finding:
    fits = facts.gpu is not None and row_for("flash-attn 3", facts.gpu.capability).support == "yes"
    status: Status = "not needed" if fits else "cannot work"
    return Finding("flash-attn-3", f"flash-attn-3 {installed}", status, "for Hopper only; not needed", "", "flash3")


def check_tensorrt(facts: Facts) -> list[Finding]:
    """TensorRT: one of it, of a version that fits this GPU."""
    wheels, ways = tensorrt_wheels(facts), ("tensorrt",)
    if facts.gpu is None:
        why = "it builds and runs only beside an NVIDIA GPU"
        return [Finding("tensorrt-no-gpu", "TensorRT", "cannot work", why)] if wheels else []
    row = row_for("TensorRT", facts.gpu.capability)
    if not wheels:
        if row.support != "yes":
            return [Finding("tensorrt-gpu", "TensorRT", _FROM_SUPPORT[row.support], row.note, "", row.source, ways)]
        fix = _line(facts, Runtime.TENSORRT)
        why = "not installed" + (f"; {row.note}" if row.note else "")
        return [Finding("tensorrt-missing", "TensorRT", "missing", why, fix, row.source, ways)]
    return [*_two_of("tensorrt", wheels, facts), _tensorrt(facts, max(wheels.values(), key=version_of), row.source)]


def _tensorrt(facts: Facts, installed: str, source: str) -> Finding:
    """The newest TensorRT that is installed, on the GPU of `facts`."""
    assert facts.gpu is not None
    subject, version, ways = f"TensorRT {installed}", version_of(installed), ("tensorrt",)
    if facts.gpu.capability == VOLTA and version >= Version("10.5"):
        fix = install_engine_line(Runtime.TENSORRT, VOLTA, 12)
        return Finding("tensorrt-volta", subject, "cannot work", "10.5 dropped Volta", fix, source, ways)
    if Version("11.1") <= version < Version("11.3"):
        why = (
            "gives wrong results for some detectors: 11.1 moves boxes by hundreds of pixels, 11.2 is reported to get a fusion"
            " around maxima wrong, which the published attention has. `yoloproof verify` and `profile` find such an engine"
        )
        fix = _line(facts, Runtime.TENSORRT, "11")
        return Finding("tensorrt-wrong", subject, "risky", why, fix, "trt-wrong", ways)
    if version.major >= 11:
        why = (
            "has no FP16 builder flag: `fp16=True` in other tools builds a float32 engine without a word. yoloproof "
            "writes float16 into the ONNX file, which 10.x and 11.x build alike"
        )
        return Finding("tensorrt-11", subject, "works", why, "", "trt-migrate", ways)
    if version < Version("10.14"):
        why = "its parser does not know ONNX `Attention` (10.14 does); only --attention explicit builds"
        fix = _line(facts, Runtime.TENSORRT) if facts.gpu.capability != VOLTA else "--attention explicit"
        return Finding("tensorrt-old", subject, "risky", why, fix, "trt-attention", ways)
    return Finding("tensorrt", subject, "works", "builds strongly typed float16 engines", "", source, ways)


def check_tensorrt_rtx(facts: Facts) -> list[Finding]:
    """TensorRT-RTX: one of it, and a GPU its engines accept. Without a GPU it still builds."""
    wheels, ways = rtx_wheels(facts), ("tensorrt-rtx",)
    subject = f"TensorRT-RTX {next(iter(wheels.values()))}" if wheels else "TensorRT-RTX"
    findings = _two_of("tensorrt-rtx", wheels, facts)
    if facts.gpu is None:
        if wheels:
            why = "builds engines here for GPUs that are elsewhere (--target t4); running them needs the GPU"
            findings.append(Finding("tensorrt-rtx-build", subject, "works", why, "", "rtx-enum"))
        return findings
    row = row_for("TensorRT-RTX", facts.gpu.capability)
    if row.support != "yes":
        why = f"its engines refuse {gpu_title(facts)}; it takes 7.5, 8.0, 8.6, 8.9, 12.0 and 12.1"
        status = _FROM_SUPPORT[row.support]
        return [*findings, Finding("tensorrt-rtx-gpu", subject, status, why, "use TensorRT", row.source, ways)]
    if facts.gpu.capability == TURING:
        why = (
            "float16 only: a float32 matrix product gives no execution context, or zeros with dynamic shapes; and 7.5 "
            "has to be asked for by name"
        )
        fix = "yoloproof export MODEL --format engine --runtime tensorrt-rtx --target t4"
        findings.append(Finding("tensorrt-rtx-turing", "TensorRT-RTX on Turing", "risky", why, fix, "rtx-turing"))
    if not wheels:
        why, fix = "not installed (90 MB)", _line(facts, Runtime.TENSORRT_RTX)
        return [*findings, Finding("tensorrt-rtx-missing", subject, "missing", why, fix, row.source, ways)]
    return [*findings, Finding("tensorrt-rtx", subject, "works", row.note or "supported", "", row.source, ways)]


def _line(facts: Facts, runtime: Runtime, engine: EngineLibrary | None = None) -> str:
    """What installs an engine library for the GPU of `facts`."""
    assert facts.gpu is not None
    return install_engine_line(runtime, facts.gpu.capability, cuda_of_packages(facts), engine)


def _two_of(way: str, wheels: dict[str, str], facts: Facts) -> list[Finding]:
    """A finding when wheels of different CUDA or TensorRT majors overwrite each other's module."""
    cudas = {cuda_of_wheel(name) for name in wheels if cuda_of_wheel(name)}
    majors = {version_of(version).major for version in wheels.values()}
    if len(cudas) < 2 and len(majors) < 2:
        return []
    listed = ", ".join(f"{name} {version}" for name, version in wheels.items())
    why = f"{listed} write the same Python module: which one is imported is chance"
    fix = install_line(facts, *wheels)
    return [Finding(f"{way}-two", f"two of {way}", "risky", why, fix, "", (way,))]


def check_onnxruntime(facts: Facts) -> list[Finding]:
    """ONNX Runtime: one of its two distributions, and a CUDA provider that can load."""
    cpu, gpu, ways = facts.packages.get("onnxruntime"), facts.packages.get("onnxruntime-gpu"), ("onnxruntime",)
    if cpu is None and gpu is None:
        why, fix = "every proof runs on it", _pip(["onnxruntime"])
        return [Finding("onnxruntime-missing", "ONNX Runtime", "missing", why, fix, ways=FROM_WEIGHTS)]
    if cpu is not None and gpu is not None:
        keep, version = ("onnxruntime", cpu) if facts.gpu is None else ("onnxruntime-gpu", gpu)
        why = f"onnxruntime {cpu} and onnxruntime-gpu {gpu} write one module: its CUDA provider is there by chance"
        fix = f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {keep}=={version}"
        return [Finding("onnxruntime-two", "two ONNX Runtimes", "risky", why, fix, "", ways)]
    if facts.gpu is None:
        return [Finding("onnxruntime", f"ONNX Runtime {cpu or gpu}", "works", "CPU provider")]
    if gpu is None:
        why = "only the CPU build is here"
        pin = PINS[f"onnxruntime-gpu cu{cuda_of_packages(facts)}"]
        fix = f"pip uninstall -y onnxruntime && pip install onnxruntime-gpu=={pin}"
        if facts.gpu.capability == ORIN:
            why, fix = f"{why}; PyPI has none for a Jetson's GPU", "take NVIDIA's build for the JetPack"
        return [
            Finding("onnxruntime", f"ONNX Runtime {cpu}", "works", "CPU build: every proof runs"),
            Finding("onnxruntime-gpu-missing", "ONNX Runtime for CUDA", "missing", why, fix, "", ways),
        ]
    return [_onnxruntime_gpu(facts, gpu)]


def _onnxruntime_gpu(facts: Facts, installed: str) -> Finding:
    assert facts.gpu is not None
    subject, ways, cuda = f"ONNX Runtime {installed} (GPU)", ("onnxruntime",), facts.onnxruntime_cuda
    torch_cuda = int(facts.torch_cuda.split(".")[0]) if facts.torch_cuda else None
    if cuda is not None and torch_cuda is not None and cuda != torch_cuda:
        why = f"a CUDA {cuda} build beside a CUDA {torch_cuda} PyTorch finds no libraries and falls back to the CPU"
        fix = f"pip install onnxruntime-gpu=={PINS.get(f'onnxruntime-gpu cu{torch_cuda}', installed)}"
        return Finding("onnxruntime-cuda", subject, "cannot work", why, fix, "ort-pypi", ways)
    if facts.providers is not None and "CUDAExecutionProvider" not in facts.providers:
        why = f"offers no CUDA provider, only {', '.join(facts.providers)}"
        fix = f"pip uninstall -y onnxruntime-gpu && pip install onnxruntime-gpu=={installed}"
        return Finding("onnxruntime-no-cuda", subject, "cannot work", why, fix, "", ways)
    row = row_for(f"ONNX Runtime, CUDA {cuda or 13}", facts.gpu.capability)
    status, why = _FROM_SUPPORT[row.support], row.note or f"CUDA {cuda} build"
    return Finding("onnxruntime-gpu", subject, status, why, "", row.source, ways)


def check_dependencies(facts: Facts) -> list[Finding]:
    """The smaller packages that yoloproof imports: left out where it was put on the path instead of installed."""
    present = set(facts.packages)
    if present & {"opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"}:
        present.add("opencv-python-headless")  # they are one module
    missing = [name for name in BASE if name not in present and name not in ("onnx", "onnxscript")]
    if not missing:
        return []
    why = "yoloproof imports " + ("them" if len(missing) > 1 else "it")
    ways = ALL_WAYS if {*missing} & {*NATIVE} else FROM_WEIGHTS
    return [Finding("packages-missing", ", ".join(missing), "missing", why, _pip(missing), ways=ways)]


def _pip(names: Sequence[str]) -> str:
    return "pip install " + " ".join(f"{name}=={PINS[name]}" for name in names)


def check_openvino(facts: Facts) -> list[Finding]:
    """OpenVINO, for the CPU."""
    installed = facts.packages.get("openvino")
    if installed is None:
        why = "optional: a second runtime for the CPU; which of the two is faster depends on the CPU"
        return [Finding("openvino-missing", "OpenVINO", "missing", why, _pip(["openvino"]))]
    why = "left to itself it runs bfloat16 on CPUs with AMX; yoloproof sets and records the precision"
    return [Finding("openvino", f"OpenVINO {installed}", "works", why)]
