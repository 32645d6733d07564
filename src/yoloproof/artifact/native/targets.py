"""The GPUs that a native engine can be built for."""

from __future__ import annotations

from collections.abc import Sequence

from yoloproof.artifact.engine_targets import GPUS
from yoloproof.errors import YoloproofError

Capability = tuple[int, int]

# Compute capability → bytes of shared memory that one program may take (CUDA C++ Programming Guide, technical
# specifications per compute capability, less 1 KiB that the system keeps from 8.0 on).
CAPABILITIES: dict[Capability, int] = {
    (7, 5): 64 << 10, (8, 0): 163 << 10, (8, 6): 99 << 10, (8, 7): 163 << 10, (8, 9): 99 << 10, (9, 0): 227 << 10,
    (10, 0): 227 << 10, (12, 0): 99 << 10, (12, 1): 99 << 10,
}  # fmt: skip
FURTHER_GPUS = {"orin": "8.7", "h100": "9.0", "h200": "9.0", "b200": "10.0"}


def capabilities_from_targets(targets: Sequence[str]) -> tuple[Capability, ...]:
    """`t4`, `sm75`, several joined by commas or given apart, `current` for the GPU in this machine; none: current.

    Raises YoloproofError for other names, and for `current` without a GPU.
    """
    by_name = {f"sm{major}{minor}": (major, minor) for major, minor in CAPABILITIES}
    by_name |= {name: capability_from_text(text) for name, text in {**GPUS, **FURTHER_GPUS}.items()}
    found = []
    for name in (part.strip().lower() for target in targets or ("current",) for part in target.split(",")):
        if name == "current":
            found.append(_present())
        elif name in by_name:
            found.append(by_name[name])
        else:
            raise YoloproofError(f"target '{name}' is not one of {', '.join(by_name)}, current")
    return tuple(sorted(set(found)))


def capability_from_text(text: str) -> Capability:
    """ "7.5" → (7, 5)."""
    major, minor = text.split(".")
    return int(major), int(minor)


def _present() -> Capability:
    import torch

    if not torch.cuda.is_available():
        raise YoloproofError("target current: there is no CUDA device here; name a GPU, such as --target t4")
    capability = torch.cuda.get_device_capability()
    if capability not in CAPABILITIES:
        raise YoloproofError(f"target current: no native engine for compute capability {capability[0]}.{capability[1]}")
    return capability
