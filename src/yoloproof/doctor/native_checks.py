"""Checks of the native engine: it needs the driver and one package. Facts in, findings out."""

from __future__ import annotations

from yoloproof.doctor.facts import Facts, NativeFile
from yoloproof.doctor.finding import Finding, Status, gpu_title, version_of
from yoloproof.doctor.knowledge import MINIMUM_DRIVER, row_for
from yoloproof.errors import YoloproofError
from yoloproof.files.ptx import needed_cuda

SUBJECT = "native engine"
_WAYS = ("native",)


def check_native(facts: Facts) -> list[Finding]:
    """Does a native engine run here: GPU, package, and, where a file is named, its code."""
    if facts.gpu is None:
        return [] if facts.native is None else [_without_gpu(facts.native)]
    row = row_for(SUBJECT, facts.gpu.capability)
    if row.support == "no":
        return [Finding("native-gpu", SUBJECT, "cannot work", row.note, "", row.source, _WAYS)]
    findings = [] if facts.native is None else _of_file(facts)
    if "cuda-bindings" not in facts.packages:
        old = facts.driver is not None and version_of(facts.driver).major < MINIMUM_DRIVER[13]
        fix = "pip install 'cuda-bindings>=12.9,<13'" if old else "pip install 'yoloproof[native]'"
        why = "cuda-bindings is not installed; beside it only the driver is needed, no PyTorch and no TensorRT"
        return [*findings, Finding("native-missing", SUBJECT, "missing", why, fix, "", _WAYS)]
    status: Status = "works" if row.support == "yes" else "unknown"
    subject = f"{SUBJECT}, cuda-bindings {facts.packages['cuda-bindings']}"
    return [*findings, Finding("native", subject, status, row.note, "", row.source, _WAYS)]


def _without_gpu(file: NativeFile) -> Finding:
    has = ", ".join(f"{a}.{b}" for a, b in file.capabilities)
    return Finding("native-file", file.path, "works", f"intact, with code for {has}; it runs on a GPU machine")


def _of_file(facts: Facts) -> list[Finding]:
    """The code in a file against GPU and driver: machine code needs no driver in particular, PTX one of its version."""
    assert facts.gpu is not None
    assert facts.native is not None
    file, gpu = facts.native, facts.gpu.capability
    major, minor = gpu
    rebuild = f"yoloproof export MODEL --runtime native --target sm{major}{minor}"
    has = ", ".join(f"{a}.{b}" for a, b in file.capabilities)
    if any(one == gpu or (one[0] == gpu[0] < 9 and one <= gpu) for one in file.capabilities):
        return [Finding("native-file", file.path, "works", f"has machine code for {gpu_title(facts)}", ways=_WAYS)]
    if file.ptx is None or file.capabilities[0] > gpu:
        why = f"has code for {has}, none for {gpu_title(facts)}"
        return [Finding("native-file", file.path, "cannot work", why, rebuild, "", _WAYS)]
    try:
        cuda, branch = needed_cuda(file.ptx)
    except YoloproofError as error:
        return [Finding("native-file", file.path, "unknown", str(error), rebuild, "", _WAYS)]
    version = f"{file.ptx[0]}.{file.ptx[1]}"
    why = f"runs from its PTX {version}, which needs driver {branch} (CUDA {cuda[0]}.{cuda[1]}) or newer"
    if facts.driver is None:
        return [Finding("native-file", file.path, "unknown", why, "nvidia-smi", "ptx", _WAYS)]
    if version_of(facts.driver).major < branch:
        fix = f"update the driver, or build machine code: {rebuild}"
        return [Finding("native-file", file.path, "too old", f"{why}; this is {facts.driver}", fix, "ptx", _WAYS)]
    return [Finding("native-file", file.path, "works", why, "", "ptx", _WAYS)]
