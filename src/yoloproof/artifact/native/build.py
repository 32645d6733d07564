"""Network → native engine: one file with plan, weights, machine code and evidence. Needs no GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

import yoloproof
from yoloproof.artifact.native.compiling import compile_kernels, toolchain_for
from yoloproof.artifact.native.recording import plan_from_network
from yoloproof.artifact.native.targets import Capability
from yoloproof.artifact.nms import METADATA_KEY, NmsOptions
from yoloproof.artifact.onnx import onnx_metadata
from yoloproof.errors import YoloproofError
from yoloproof.files.frames import ORDER
from yoloproof.files.native import CompiledKernel, Evidence, NativeEngine
from yoloproof.files.plan import Launch, Operation, Plan, all_launches, all_operations
from yoloproof.kernels.suppression import Rule
from yoloproof.names import Precision, Progress, no_progress
from yoloproof.network.wiring import Network
from yoloproof.simplify.rewrites import simplify

EVIDENCE_IMAGES = 2


def native_from_network(
    network: Network, capabilities: Sequence[Capability], images: NDArray[np.float32], batch: int = 1,
    progress: Progress = no_progress, suppression: NmsOptions | None = None,
) -> NativeEngine:  # fmt: skip
    """The native engine of a published network (float32) for GPUs of some compute capabilities, float16.

    images -- letterboxed real images [n, 3, H, W] in 0…1: the size is the engine's, the first two are its evidence
    suppression -- of an end-to-end engine, which takes a frame of any size and gives detections; its batch is 1
    Raises YoloproofError for an attention that is not fused, and where a Triton is missing or cannot compile.
    """
    height, width = images.shape[2:]
    if any(side % 32 for side in (height, width)) or (height // 16) * (width // 16) % 4:
        raise YoloproofError(f"native engine: {height}x{width} images cannot be split into the attention's four areas")
    progress("planning the launches", None)
    rule = None if suppression is None else Rule(suppression.score, suppression.iou, suppression.max_detections)
    recorded = plan_from_network(simplify(network), batch, (height, width), rule)
    code, built = {}, {"yoloproof": yoloproof.__version__}
    for capability in sorted(set(capabilities)):
        name = f"{capability[0]}.{capability[1]}"
        code[capability] = without_spills(recorded.plan, compile_kernels(recorded.plan.kernels, capability, progress))
        built[f"triton for {name}"] = toolchain_for(capability).version
    progress("running the float32 network on the evidence", None)
    stated = onnx_metadata(simplify(network), (height, width), batch, Precision.FP16, "float32", False, 0)
    return NativeEngine(
        {**{key: value for key, value in stated.items() if isinstance(value, str)}, **ends_stated(recorded.plan, suppression)},
        built, recorded.plan, recorded.weights, code, evidence(network, images[:EVIDENCE_IMAGES]),
    )  # fmt: skip


def ends_stated(plan: Plan, suppression: NmsOptions | None) -> dict[str, str]:
    """What an end-to-end engine states of its frames and its suppression; nothing of another."""
    if plan.frames is None or suppression is None:
        return {}
    frames = {"order": ORDER, "most_bytes": plan.buffers[plan.frames.frame].bytes}
    nms = {"form": "kernels", "score": suppression.score, "iou": suppression.iou,
           "max_detections": plan.frames.most, "candidates": plan.frames.candidates}  # fmt: skip
    return {
        "yoloproof.frames": json.dumps(frames), "yoloproof.input": json.dumps("uint8"), METADATA_KEY: json.dumps(nms),
    }  # fmt: skip


def without_spills(plan: Plan, kernels: Sequence[CompiledKernel | None]) -> tuple[CompiledKernel | None, ...]:
    """The kernels without those that spill registers, except where an operation could then run in no tactic."""

    def runs(step: Launch | Operation, kept: Sequence[CompiledKernel | None]) -> bool:
        if isinstance(step, Launch):
            return kept[step.kernel] is not None
        return any(all(runs(part, kept) for part in tactic) for tactic in step.tactics)

    kept = [one if one is not None and not one.facts.spilled_bytes else None for one in kernels]
    for operation in all_operations(plan.operations):
        if not runs(operation, kept):
            for launch in all_launches([operation]):
                kept[launch.kernel] = kernels[launch.kernel]
    return tuple(kept)


def evidence(network: Network, images: NDArray[np.float32]) -> Evidence:
    """Images as bytes, and what the network makes of just these."""
    pixels = np.rint(images * 255).astype(np.uint8)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(pixels.astype(np.float32) / np.float32(255)))
    return Evidence(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), outputs.float().numpy())
