"""Is TensorRT here, and which line installs it: doctor, sessions and builders give one answer."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from yoloproof import engine_libraries
from yoloproof.artifact import tensorrt
from yoloproof.doctor import Facts, GpuFacts, diagnose
from yoloproof.errors import YoloproofError
from yoloproof.names import Runtime
from yoloproof.runtime import missing_part

# compute capability, CUDA of the driver, of PyTorch (None: not installed) → the line that installs TensorRT
MACHINES = {
    "a T4 with an old driver": ((7, 5), 12, None, "pip install tensorrt-cu12==10.16.1.11"),
    "a T4 with a new driver": ((7, 5), 13, None, "pip install tensorrt-cu13==10.16.1.11"),
    "PyTorch for CUDA 12 there": ((7, 5), 13, "12.6", "pip install tensorrt-cu12==10.16.1.11"),
    "a V100": ((7, 0), 13, None, "pip install tensorrt-cu12==10.4.0"),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("runtime", [Runtime.TENSORRT, Runtime.TENSORRT_RTX])
def test_one_answer(machine: str, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    capability, driver_cuda, torch_cuda, line = MACHINES[machine]
    monkeypatch.setattr(engine_libraries, "first_gpu", lambda: (capability, driver_cuda))
    monkeypatch.setattr(engine_libraries, "torch_cuda", lambda: torch_cuda)
    monkeypatch.setattr(engine_libraries, "is_installed", lambda module: False)
    monkeypatch.setitem(sys.modules, engine_libraries.MODULES[runtime], None)  # an import of it fails
    if runtime is Runtime.TENSORRT_RTX:
        line = line.replace("tensorrt-cu", "tensorrt-rtx-cu").rpartition("==")[0] + "==1.7.1.116"
    assert str(missing_part(runtime)).endswith(f"is not installed; {line}")
    with pytest.raises(YoloproofError) as refused:
        tensorrt.library(runtime)
    assert str(refused.value).endswith(line)
    if runtime is Runtime.TENSORRT_RTX and capability == (7, 0):
        return  # the doctor sends a V100 to TensorRT
    facts = Facts(
        "Linux", "x86_64", "3.12.0", 8, None, None, gpu=GpuFacts("a GPU", capability),
        driver="580.1" if driver_cuda == 13 else "560.1", torch_cuda=torch_cuda,
    )  # fmt: skip
    assert {finding.code: finding.fix for finding in diagnose(facts)}[f"{runtime}-missing"] == line


def test_without_a_gpu_it_is_the_line_for_a_t4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_libraries, "first_gpu", lambda: None)
    monkeypatch.setattr(engine_libraries, "torch_cuda", lambda: None)
    assert engine_libraries.line_here(Runtime.TENSORRT) == "pip install tensorrt-cu12==10.16.1.11"


def test_a_folder_of_stubs_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None, is_package=True))
    assert not engine_libraries.is_installed("tensorrt")
