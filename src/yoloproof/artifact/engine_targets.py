"""The GPUs an engine can be built for.

Compute capabilities as TensorRT-RTX 1.7 lists them: its support matrix and engine-compatibility pages,
docs.nvidia.com/deeplearning/tensorrt-rtx. It has none for Hopper (9.0) or data-centre Blackwell (10.x), and its
default ("portable") engine leaves Turing out.
"""

from __future__ import annotations

from dataclasses import dataclass

from yoloproof.errors import YoloproofError

# Compute capability → the name of the ComputeCapability member in TensorRT-RTX.
COMPUTE_CAPABILITIES = {
    "7.5": "SM75",
    "8.0": "SM80",
    "8.6": "SM86",
    "8.9": "SM89",
    "12.0": "SM120",
    "12.1": "SM121",
}
# What an engine built for no compute capability in particular runs on ("8.0, 8.6, 8.9, 12.0 and later").
PORTABLE = ("8.0", "8.6", "8.9", "12.0", "12.1")
# The GPUs people ask for by name.
GPUS = {
    "t4": "7.5",
    "rtx2080": "7.5",
    "a100": "8.0",
    "a10": "8.6",
    "rtx3090": "8.6",
    "l4": "8.9",
    "rtx4090": "8.9",
    "rtx5090": "12.0",
    "gb10": "12.1",
}


@dataclass(frozen=True)
class Target:
    """name -- as the user gave it; compute_capabilities -- what the engine must run on, empty for the GPU present."""

    name: str
    compute_capabilities: tuple[str, ...]


def target_from_name(name: str) -> Target:
    """`t4`, `sm75`, several joined by commas (`sm75,sm86`), `portable`, or `current` for the GPU in this machine."""
    wanted = name.strip().lower()
    if wanted == "current":
        return Target(wanted, ())
    if wanted == "portable":
        return Target(wanted, PORTABLE)
    by_name = GPUS | {member.lower(): capability for capability, member in COMPUTE_CAPABILITIES.items()}
    parts = [part.strip() for part in wanted.split(",")]
    unknown = [part for part in parts if part not in by_name]
    if unknown:
        raise YoloproofError(
            f"target {unknown[0] or name!r} is not one of {', '.join(by_name)}, portable, current; "
            "TensorRT-RTX builds for no other GPU (none for Hopper)"
        )
    return Target(wanted, tuple(sorted({by_name[part] for part in parts}, key=lambda value: float(value))))
