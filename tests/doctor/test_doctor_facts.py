"""Looking at a machine: this one for real, and the readers of other packages' files."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from yoloproof.doctor import facts as module
from yoloproof.doctor import facts_from_machine
from yoloproof.engine_libraries import torch_cuda


def test_this_machine(tmp_path: Path) -> None:
    facts = facts_from_machine(tmp_path)
    assert facts.python == ".".join(map(str, sys.version_info[:3]))
    assert facts.cpu_count >= 1
    assert facts.disk_free_bytes is not None
    assert facts.disk_free_bytes > 0
    assert "pytest" in facts.packages
    assert (facts.gpu is None) == (facts.gpu_problem is not None)


def test_looking_does_not_import_pytorch(tmp_path: Path) -> None:
    code = (
        "import sys; from yoloproof.doctor import diagnose, facts_from_machine; diagnose(facts_from_machine()); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cuda: Optional[str] = '13.0'\nhip = None\n", "13.0"),
        ("__version__ = '2.4'\ncuda = '12.1'\n", "12.1"),
        ("cuda: Optional[str] = None\n", ""),
        ("__version__ = '2.4'\n", None),
    ],
)
def test_cuda_version_of_pytorch(
    text: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version.py").write_text(text)
    spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert torch_cuda() == expected


def _nvml(monkeypatch: pytest.MonkeyPatch, **functions: object) -> None:
    class NVMLError(Exception):
        pass

    stand_in = types.ModuleType("pynvml")
    usual = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.95.05",
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: "handle",
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (7, 5),
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(total=15 * 1024**3),
        "nvmlDeviceGetName": lambda handle: "Tesla T4",
    }
    for name, value in {**usual, **functions}.items():
        setattr(stand_in, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)


def test_gpu_from_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    _nvml(monkeypatch)
    gpu, driver, problem = module._gpu_from_nvml()
    assert gpu is not None
    assert (gpu.name, gpu.capability, gpu.here, driver, problem) == ("Tesla T4", (7, 5), True, "580.95.05", None)


def test_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _nvml(monkeypatch, nvmlDeviceGetCount=lambda: 0)
    assert module._gpu_from_nvml() == (None, "580.95.05", "the driver shows no GPU")


def test_nvml_that_fails_is_a_reason_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    _nvml(monkeypatch)
    error = sys.modules["pynvml"].NVMLError

    def fail() -> None:
        raise error("driver not loaded")

    monkeypatch.setattr(sys.modules["pynvml"], "nvmlInit", fail)
    assert module._gpu_from_nvml() == (
        None,
        None,
        "none visible (NVML: driver not loaded); what follows is for the CPU",
    )


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (['nvidia-cudnn-cu12~=9.0; extra == "cudnn"'], 12),
        (['nvidia-cudnn-cu13~=9.0; extra == "cudnn"', "numpy"], 13),
        (["numpy"], None),
        (None, None),
    ],
)
def test_cuda_that_onnxruntime_gpu_declares(
    declared: list[str] | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.importlib.metadata, "requires", lambda name: declared)
    assert module._onnxruntime_cuda({"onnxruntime-gpu": "1.26.0"}) == expected
    assert module._onnxruntime_cuda({"onnxruntime": "1.32.0"}) is None


def test_half_overwritten_onnxruntime_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    assert module._onnxruntime_providers() is None
