"""What runs where: rows with sources. Unknown is a value.

A row says of one subject (an attention back end, a runtime, a number format) whether it works on GPUs of the listed
compute capabilities, in which versions, and where that was read or that we measured it. A test holds the rows against
what the packages themselves declare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from yoloproof.engine_libraries import B200, ORIN, VOLTA, Capability
from yoloproof.errors import YoloproofError

Support = Literal["yes", "no", "unknown"]

TURING: Capability = (7, 5)
A100: Capability = (8, 0)
AMPERE: Capability = (8, 6)
ADA: Capability = (8, 9)
HOPPER: Capability = (9, 0)
BLACKWELL: Capability = (12, 0)
SPARK: Capability = (12, 1)

CAPABILITIES: dict[Capability, str] = {
    VOLTA: "Volta (V100)",
    TURING: "Turing (T4, RTX 20)",
    A100: "Ampere (A100)",
    AMPERE: "Ampere (A10, RTX 30)",
    ORIN: "Ampere (Orin)",
    ADA: "Ada (L4, RTX 40)",
    HOPPER: "Hopper (H100)",
    B200: "Blackwell (B200)",
    BLACKWELL: "Blackwell (RTX 50)",
    SPARK: "Blackwell (GB10)",
}


@dataclass(frozen=True)
class Citation:
    """Where a statement comes from and the day it was read; `url` is empty for "measured by us"."""

    title: str
    url: str
    read: str


_READ = "2026-11-23"
_READ_AGAIN = "2026-11-24"
_READ_LAST = "2026-11-29"
_NVIDIA = "https://docs.nvidia.com"

SOURCES: dict[str, Citation] = {
    "flash1": Citation(
        "flash-attn 1.0.x README: Turing, Ampere, Ada, Hopper",
        "https://github.com/Dao-AILab/flash-attention/tree/v1.0.9", _READ,
    ),
    "flash2": Citation(
        "flash-attn 2.8.3.post2: setup.py builds sm_80 to sm_120; flash_api.cpp refuses older GPUs",
        "https://github.com/Dao-AILab/flash-attention/blob/v2.8.3/setup.py", _READ,
    ),
    "flash3": Citation(
        "flash-attention README: FlashAttention-3 is for H100 and H800",
        "https://github.com/Dao-AILab/flash-attention#flashattention-3-beta-release", _READ,
    ),
    "lost": Citation(
        "yolov13 #56, yolov12 #84, #90, #138: attention missing from graphs traced through flash-attn",
        "https://github.com/iMoonLab/yolov13/issues/56", _READ,
    ),
    "torch-matrix": Citation(
        "PyTorch RELEASE.md, 2.11 to 2.14: cu126 5.0–9.0; cu128 (last in 2.11) 7.5–12.0; cu130, cu132 7.5–12.0+PTX",
        "https://github.com/pytorch/pytorch/blob/main/RELEASE.md", _READ,
    ),
    "torch-cuda12": Citation(
        "PyTorch, 2026-09-04: 2.14 is the last release with CUDA 12 wheels (pytorch #190385); CUDA 13's keep Turing",
        "https://dev-discuss.pytorch.org/t/notice-cuda-12-6-wheels-will-no-longer-be-published-from-pytorch-2-15-drops-"
        "maxwell-pascal-volta/3432", _READ_LAST,
    ),
    "sdpa": Citation(
        "PyTorch 2.13's tests: flash SDPA from sm_80, memory-efficient on every CUDA GPU",
        "https://github.com/pytorch/pytorch/blob/main/torch/testing/_internal/common_cuda.py", _READ,
    ),
    "torch-archs": Citation(
        "torch 2.11.0 and 2.13.0 for CUDA 13.0, measured by us: built for sm_75, 80, 86, 90, 100, 120", "", _READ_AGAIN
    ),
    "trt-prereq": Citation(
        "TensorRT 11.4.0 prerequisites: Turing or later; driver r535+ for CUDA 12 wheels, r580+ for CUDA 13",
        f"{_NVIDIA}/deeplearning/tensorrt/11.4.0/installing-tensorrt/prerequisites.html", _READ,
    ),
    "trt-volta": Citation(
        "TensorRT 10.4.0 release notes: 10.5 removes Volta",
        f"{_NVIDIA}/deeplearning/tensorrt/latest/getting-started/release-notes-10/10.4.0.html", _READ,
    ),
    "trt-jetson": Citation(
        "TensorRT 11.4.1 on Jetson: JetPack 7.2.2 or later, SBSA build; JetPack 6 stays on 10.x",
        f"{_NVIDIA}/deeplearning/tensorrt/11.4.1/api/migration/tensorrt-10x-to-11x-jetson.html", _READ_AGAIN,
    ),
    "trt-migrate": Citation(
        "TensorRT 10.x to 11.x: BuilderFlag.FP16 removed, networks are strongly typed",
        f"{_NVIDIA}/deeplearning/tensorrt/11.4.0/api/migration/tensorrt-10x-to-11x.html", _READ,
    ),
    "trt-wrong": Citation(
        "TensorRT #4813: 11.1 moves a detector's boxes by up to 605 px, in float32 too; 10.13 does not",
        "https://github.com/NVIDIA/TensorRT/issues/4813", _READ_LAST,
    ),
    "trt-attention": Citation(
        "TensorRT, fused attention: FP16/BF16, head size 16…256, capability 7.5 or newer; IAttention from 10.14",
        f"{_NVIDIA}/deeplearning/tensorrt/latest/inference-library/transformers-fused-attention.html", _READ,
    ),
    "rtx-matrix": Citation(
        "TensorRT-RTX support matrix: 7.5, 8.6, 8.9, 12.0, 12.1; no FP32 matrix products on 7.5",
        f"{_NVIDIA}/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix.html", _READ,
    ),
    "rtx-enum": Citation("tensorrt_rtx 1.7.1 `ComputeCapability`, measured by us", "", _READ),
    "rtx-hopper": Citation("an H100 refused to load an engine, measured by us", "", _READ),
    "rtx-turing": Citation(
        "Torch-TensorRT #4643: FP32 matrix products on Turing give no context, or zeros with dynamic shapes",
        "https://github.com/pytorch/TensorRT/pull/4643", _READ,
    ),
    "cuda-driver": Citation(
        "CUDA minor version compatibility: 12.x driver >= 525, 13.x >= 580",
        f"{_NVIDIA}/deploy/cuda-compatibility/minor-version-compatibility.html", _READ,
    ),
    "ort-pypi": Citation(
        "onnxruntime-gpu's metadata on PyPI: up to 1.26 cuDNN for CUDA 12, from 1.27 for CUDA 13", "", _READ
    ),
    "ort-archs": Citation(
        "onnxruntime #28762, #23671: what Linux wheels up to 1.26 are built for",
        "https://github.com/microsoft/onnxruntime/issues/28762", _READ,
    ),
    "ort-archs-13": Citation(
        "onnxruntime #31992, and 1.31.1's library, measured by us: CUDA 13 wheels hold sm_75, 80, 86, 89, 90a, 120a",
        "https://github.com/microsoft/onnxruntime/pull/31992", _READ_AGAIN,
    ),
    "native": Citation("our own kernels, compiled ahead (docs/native.md), measured by us on an H100 and an H200", "", _READ_LAST),
    "ptx": Citation(
        "PTX ISA, release history (PTX 8.4 is CUDA 12.4's, and so on); CUDA release notes, driver branches",
        f"{_NVIDIA}/cuda/parallel-thread-execution/#release-notes-ptx-release-history", _READ_LAST,
    ),
    "triton": Citation(
        "Triton #5066: capability below 8.0 left the supported list after 3.2; parts still run",
        "https://github.com/triton-lang/triton/pull/5066", _READ,
    ),
    "triton-turing": Citation(
        "a kernel with `tl.dot` compiled for 7.5 by Triton 3.2, 3.3.1, 3.4 to 3.9, measured by us", "", _READ_AGAIN
    ),
    "cuda-guide": Citation(
        "CUDA C++ programming guide: number formats per compute capability",
        f"{_NVIDIA}/cuda/cuda-c-programming-guide/index.html", _READ,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class SupportRow:
    """`subject` on GPUs of `capabilities`: support, versions (empty: no bound known), note, key of its source."""

    subject: str
    capabilities: tuple[Capability, ...]
    support: Support
    source: str
    minimum: str = ""
    maximum: str = ""
    note: str = ""


_FROM_AMPERE = (A100, AMPERE, ORIN, ADA, HOPPER, B200, BLACKWELL, SPARK)
_FROM_TURING = (TURING, *_FROM_AMPERE)
_DESKTOP_FROM_TURING = (TURING, A100, AMPERE, ADA, HOPPER, B200, BLACKWELL, SPARK)

ROWS: tuple[SupportRow, ...] = (
    # attention back ends of PyTorch
    SupportRow(
        "flash-attn 1.x", (TURING, A100, AMPERE, ADA, HOPPER), "yes", "flash1", "1.0.0", "1.0.9",
        "an export through it loses the attention",
    ),
    SupportRow("flash-attn 1.x", (VOLTA,), "no", "flash1"),
    SupportRow("flash-attn 1.x", (ORIN, B200, BLACKWELL, SPARK), "unknown", "flash1"),
    SupportRow("flash-attn 2.x", (VOLTA, TURING), "no", "flash2", note="not needed"),
    SupportRow("flash-attn 2.x", (A100, AMPERE, ORIN, ADA, HOPPER), "yes", "flash2", "2.0.0"),
    SupportRow("flash-attn 2.x", (B200, BLACKWELL), "yes", "flash2", "2.8.0", "", "CUDA 12.8 or newer to build it"),
    SupportRow("flash-attn 2.x", (SPARK,), "unknown", "flash2"),
    SupportRow("flash-attn 3", (VOLTA, TURING, A100, AMPERE, ORIN, ADA, B200, BLACKWELL, SPARK), "no", "flash3"),
    SupportRow("flash-attn 3", (HOPPER,), "yes", "flash3"),
    SupportRow("PyTorch SDPA, flash", (VOLTA, TURING), "no", "sdpa"),
    SupportRow("PyTorch SDPA, flash", _FROM_AMPERE, "yes", "sdpa", "2.0"),
    SupportRow("PyTorch SDPA, memory-efficient", (VOLTA, *_FROM_TURING), "yes", "sdpa", "2.0"),
    # runtimes
    SupportRow(
        "PyTorch, CUDA 12.6 wheel", (VOLTA, TURING, A100, AMPERE, ADA, HOPPER), "yes", "torch-cuda12", "2.6", "2.14",
        "2.15 has wheels for CUDA 13 alone",
    ),
    SupportRow("PyTorch, CUDA 12.6 wheel", (B200, BLACKWELL, SPARK), "no", "torch-matrix"),
    SupportRow("PyTorch, CUDA 12.6 wheel", (ORIN,), "unknown", "torch-matrix", note="Jetson has its own wheels"),
    SupportRow(
        "PyTorch, CUDA 12.8 wheel", (TURING, A100, AMPERE, ADA, HOPPER, B200, BLACKWELL), "yes", "torch-matrix", "2.7",
        "2.11",
    ),
    SupportRow("PyTorch, CUDA 12.8 wheel", (VOLTA,), "no", "torch-matrix", note="dropped in 2.11"),
    SupportRow("PyTorch, CUDA 12.8 wheel", (ORIN, SPARK), "unknown", "torch-matrix"),
    SupportRow("PyTorch, CUDA 13 wheel", (VOLTA,), "no", "torch-matrix"),
    SupportRow(
        "PyTorch, CUDA 13 wheel", (TURING, A100, AMPERE, ADA, HOPPER, B200, BLACKWELL), "yes", "torch-archs", "2.9"
    ),
    SupportRow("PyTorch, CUDA 13 wheel", (SPARK,), "yes", "torch-matrix", "2.9", "", "through PTX"),
    SupportRow("PyTorch, CUDA 13 wheel", (ORIN,), "unknown", "torch-matrix", note="Jetson has its own wheels"),
    SupportRow("torch.compile (Triton)", (VOLTA, TURING), "unknown", "triton", note="supported up to Triton 3.2"),
    SupportRow("torch.compile (Triton)", _FROM_AMPERE, "yes", "triton"),
    SupportRow("Triton on tensor cores", (VOLTA,), "unknown", "triton-turing"),
    SupportRow(
        "Triton on tensor cores", (TURING,), "yes", "triton-turing", "", "3.2",
        "3.3 fails; later ones compile `tl.dot` to scalar code; kernels without it work",
    ),
    SupportRow("Triton on tensor cores", _FROM_AMPERE, "yes", "triton"),
    SupportRow("TensorRT", (VOLTA,), "yes", "trt-volta", "", "10.4", "FP16 through the builder flag only"),
    SupportRow("TensorRT", _DESKTOP_FROM_TURING, "yes", "trt-prereq", "", "", "10.x and 11.x"),
    SupportRow("TensorRT", (ORIN,), "yes", "trt-jetson", "", "", "JetPack 6: 10.x; JetPack 7.2.2: 11.4.1"),
    SupportRow("TensorRT, fused attention", (VOLTA,), "no", "trt-attention"),
    SupportRow(
        "TensorRT, fused attention", _FROM_TURING, "yes", "trt-attention", "10.14", "", "FP16/BF16, q scaled first"
    ),
    SupportRow("TensorRT-RTX", (TURING,), "yes", "rtx-matrix", "1.0", "", "float16 only; ask for sm75"),
    SupportRow("TensorRT-RTX", (A100,), "yes", "rtx-enum", "1.0", "", "in the enum, not in the support matrix"),
    SupportRow("TensorRT-RTX", (AMPERE, ADA, BLACKWELL), "yes", "rtx-matrix", "1.0"),
    SupportRow("TensorRT-RTX", (SPARK,), "yes", "rtx-matrix", "1.5"),
    SupportRow("TensorRT-RTX", (HOPPER,), "no", "rtx-hopper"),
    SupportRow("TensorRT-RTX", (VOLTA, ORIN, B200), "no", "rtx-enum"),
    SupportRow(
        "ONNX Runtime, CUDA 12", (VOLTA, TURING, A100, AMPERE, ADA, HOPPER), "yes", "ort-archs", "1.19", "1.26", "Linux"
    ),
    SupportRow("ONNX Runtime, CUDA 12", (ORIN, B200, BLACKWELL, SPARK), "unknown", "ort-archs"),
    SupportRow("ONNX Runtime, CUDA 13", (VOLTA,), "no", "ort-archs-13", note="CUDA 13 builds nothing for Volta"),
    SupportRow("ONNX Runtime, CUDA 13", (TURING, A100, AMPERE, ADA, HOPPER, BLACKWELL), "yes", "ort-archs-13", "1.27"),
    SupportRow("ONNX Runtime, CUDA 13", (ORIN, B200, SPARK), "unknown", "ort-archs-13"),
    SupportRow("native engine", (VOLTA,), "no", "native", note="its code is for 7.5 and later"),
    SupportRow("native engine", (HOPPER,), "yes", "native", note="its own code, and code for 7.5 from its PTX"),
    SupportRow(
        "native engine", (TURING, A100, AMPERE, ORIN, ADA, B200, BLACKWELL, SPARK), "unknown", "native",
        note="there is code for it, and none has run: please send what you find",
    ),
    # number formats in the tensor cores
    SupportRow("float16", (VOLTA, *_FROM_TURING), "yes", "cuda-guide"),
    SupportRow("bfloat16", (VOLTA, TURING), "no", "cuda-guide"),
    SupportRow("bfloat16", _FROM_AMPERE, "yes", "cuda-guide"),
    SupportRow("TF32", (VOLTA, TURING), "no", "cuda-guide"),
    SupportRow("TF32", _FROM_AMPERE, "yes", "cuda-guide"),
)  # fmt: skip

SUBJECTS: tuple[str, ...] = tuple(dict.fromkeys(row.subject for row in ROWS))

MINIMUM_DRIVER: dict[int, int] = {11: 450, 12: 525, 13: 580}
"""CUDA major version → first driver branch that runs it (source "cuda-driver")."""

MINIMUM_DRIVER_TENSORRT: dict[int, int] = {12: 535, 13: 580}
"""The same for TensorRT's wheels (source "trt-prereq")."""


def row_for(subject: str, capability: Capability) -> SupportRow:
    """The row of `subject` for a GPU of `capability`; a capability in no row is an "unknown" row, never a guess.

    Raises YoloproofError for a subject that the table does not have.
    """
    rows = [row for row in ROWS if row.subject == subject]
    if not rows:
        raise YoloproofError(f"doctor: no subject {subject!r} in the knowledge table; it has {', '.join(SUBJECTS)}")
    for row in rows:
        if capability in row.capabilities:
            return row
    return SupportRow(
        subject, (capability,), "unknown", rows[0].source, note="this compute capability is not in the table"
    )


def _spans(capabilities: Sequence[Capability]) -> str:
    """ "7.5, 8.6–9.0": three or more that follow each other in the table as a span."""
    order = list(CAPABILITIES)
    runs: list[list[Capability]] = []
    for capability in sorted(capabilities, key=order.index):
        if runs and order.index(capability) == order.index(runs[-1][-1]) + 1:
            runs[-1].append(capability)
        else:
            runs.append([capability])
    texts = []
    for run in runs:
        names = [f"{major}.{minor}" for major, minor in run]
        texts += names if len(names) < 3 else [f"{names[0]}–{names[-1]}"]
    return ", ".join(texts)


def knowledge_markdown() -> str:
    """The table and its sources as Markdown: the page `docs/compatibility.md`."""
    names = "; ".join(f"{major}.{minor} {name}" for (major, minor), name in CAPABILITIES.items())
    lines = [
        "# What runs where", "",
        "By compute capability, with versions and notes in brackets. `yoloproof doctor` says it for your machine, and with",
        "`--gpu t4` for another; `--knowledge` writes this page.", "", f"{names}.", "",
        "| subject | works on | does not work on | unknown | read in |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for subject in SUBJECTS:
        rows = [row for row in ROWS if row.subject == subject]
        cells = [
            "; ".join(_place(row) for row in rows if row.support == support) for support in ("yes", "no", "unknown")
        ]
        links = ", ".join(f"[{source}](#{source})" for source in dict.fromkeys(row.source for row in rows))
        lines.append(f"| {subject} | {' | '.join(cells)} | {links} |")
    lines += ["", "## Drivers", "", "| CUDA | driver, at least | for TensorRT's wheels |", "|---|---|---|"]
    for cuda, driver in MINIMUM_DRIVER.items():
        lines.append(f"| {cuda}.x | {driver} | {MINIMUM_DRIVER_TENSORRT.get(cuda, '–')} |")
    lines += ["", "Sources: [cuda-driver](#cuda-driver), [trt-prereq](#trt-prereq).", "", "## Sources", ""]
    for key, source in SOURCES.items():
        title = f"[{source.title}]({source.url})" if source.url else source.title
        lines.append(f'- <a id="{key}"></a>**{key}**: {title}; {source.read}.')
    return "\n".join(lines) + "\n"


def _place(row: SupportRow) -> str:
    """ "8.0–9.0 (from 2.0.0; note)"."""
    least, most = row.minimum, row.maximum
    versions = f"{least}–{most}" if least and most else f"from {least}" if least else f"up to {most}" if most else ""
    said = "; ".join(part for part in (versions, row.note) if part)
    return _spans(row.capabilities) + (f" ({said})" if said else "")
