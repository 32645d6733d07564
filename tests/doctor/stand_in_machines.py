"""Stand-in machines: `Facts` records as the traps' victims had them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from yoloproof.doctor import GPUS, Facts
from yoloproof.doctor.requirements import BASE, PINS

GIB = 1024**3

HEALTHY = {
    **{name: PINS[name] for name in BASE},
    "torch": "2.13.0",
    "onnx": "1.23.2",
    "onnxscript": "0.7.2",
    "onnxruntime": "1.32.0",
    "openvino": "2026.4.1",
}


def cpu_machine(**changes: Any) -> Facts:
    """A CPU machine with everything the main job needs."""
    facts = Facts("Linux", "x86_64", "3.12.4", 8, 32 * GIB, 100 * GIB, dict(HEALTHY), torch_cuda="")
    return replace(facts, **changes)


def gpu_machine(name: str, packages: dict[str, str] | None = None, **changes: Any) -> Facts:
    """A machine with the GPU `name` in it, CUDA 13 PyTorch, driver 580, and `packages` on top."""
    facts = cpu_machine(
        gpu=replace(GPUS[name], here=True),
        driver="580.95.05",
        torch_cuda="13.0",
        packages={**HEALTHY, **(packages or {})},
    )
    return replace(facts, **changes)
