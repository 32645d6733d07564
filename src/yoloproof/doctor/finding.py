"""One line of the doctor's answer, and the small questions that several checks ask of the facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packaging.version import InvalidVersion, Version

from yoloproof.doctor.facts import Facts
from yoloproof.doctor.knowledge import SOURCES, row_for

Status = Literal["ready", "works", "risky", "too old", "cannot work", "missing", "not needed", "unknown"]
BROKEN: tuple[Status, ...] = ("cannot work", "too old", "missing")  # the worst first

WAYS: dict[str, str] = {
    "cpu": "profile on the CPU",
    "torch": "profile with PyTorch on the GPU",
    "tensorrt-rtx": "profile with TensorRT-RTX",
    "tensorrt": "profile with TensorRT",
    "onnxruntime": "profile with ONNX Runtime on the GPU",
    "native": "run a native engine (.native)",
}
"""The ways to run the main job."""

ALL_WAYS = tuple(WAYS)
FROM_WEIGHTS = tuple(way for way in WAYS if way != "native")  # they read checkpoints, which takes PyTorch and ONNX


@dataclass(frozen=True)
class Finding:
    """What was found of one subject.

    code -- short and stable, for machines; why -- one sentence; fix -- the line that mends it, or ""
    source -- key of `knowledge.SOURCES`, or "" when it is what was seen on this machine
    ways -- the ways of running the main job (keys of `WAYS`) that this finding bears on
    """

    code: str
    subject: str
    status: Status
    why: str
    fix: str = ""
    source: str = ""
    ways: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The record with its source spelled out."""
        source = SOURCES[self.source] if self.source else None
        return {
            "code": self.code,
            "subject": self.subject,
            "status": self.status,
            "why": self.why,
            "fix": self.fix,
            "ways": list(self.ways),
            "source": None if source is None else {"title": source.title, "url": source.url, "read": source.read},
        }


def version_of(text: str) -> Version:
    """`text` as a version; what is no version at all sorts before every version."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def gpu_title(facts: Facts) -> str:
    """Name and compute capability of the GPU: "Tesla T4 (7.5)"."""
    if facts.gpu is None:
        return "no GPU"
    major, minor = facts.gpu.capability
    return f"{facts.gpu.name} ({major}.{minor})"


def supports(facts: Facts, subject: str) -> bool:
    """Does the knowledge table say that `subject` works on the GPU of `facts`?"""
    return facts.gpu is not None and row_for(subject, facts.gpu.capability).support == "yes"


def cuda_of_wheel(name: str) -> int | None:
    """CUDA major version in a distribution's name ("tensorrt-cu12" → 12), None when the name has none."""
    return int(name[-2:]) if name[-5:-2] == "-cu" and name[-2:].isdigit() else None


def cuda_of_plain_tensorrt(version: str) -> int:
    """CUDA major version that the package `tensorrt` pulls in: 13 since 10.13.2, 12 before (its metadata)."""
    return 13 if version_of(version) >= Version("10.13.2") else 12


def tensorrt_wheels(facts: Facts) -> dict[str, str]:
    """The installed TensorRT front packages (neither TensorRT-RTX nor the -libs and -bindings they pull in)."""
    return _installed(facts, ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"))


def rtx_wheels(facts: Facts) -> dict[str, str]:
    """The installed TensorRT-RTX front packages."""
    return _installed(facts, ("tensorrt-rtx", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13"))


def _installed(facts: Facts, names: tuple[str, ...]) -> dict[str, str]:
    return {name: facts.packages[name] for name in names if name in facts.packages}
