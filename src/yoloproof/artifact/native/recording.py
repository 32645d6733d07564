"""Network → launch plan: the kernels that a network would launch, recorded on meta tensors. Needs no GPU.

The only module of the native engine that knows the kernels' launchers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloproof.artifact.gpu_network import network_with_kernels
from yoloproof.artifact.native.memory import laid_out
from yoloproof.errors import YoloproofError
from yoloproof.files.frames import HEAD, MOST_FRAME_BYTES, detections_bytes, parameter_count
from yoloproof.files.plan import (
    Argument,
    BufferPointer,
    Frames,
    Kernel,
    Launch,
    Operation,
    Plan,
    WeightPointer,
    all_launches,
)
from yoloproof.kernels.autotune import LIBRARY, Tunable
from yoloproof.kernels.launch import RECORDER, Options
from yoloproof.kernels.letterbox import placed
from yoloproof.kernels.suppression import Rule, listed, suppressed
from yoloproof.simplify.rewrites import SimplifiedNetwork

# The parameters through which a kernel writes; it reads through the others.
WRITTEN = {
    "conv_kernel": ("y",), "thin_conv_kernel": ("y",), "depthwise_kernel": ("y",), "separable_kernel": ("y",), "gated_sum_kernel": ("y",),
    "pool_kernel": ("y",), "decode_kernel": ("y",), "attention_kernel": ("y",), "context_kernel": ("partial",),
    "prototypes_kernel": ("prototypes",), "gather_kernel": ("logits", "peaks", "masses", "sums"),
    "edges_kernel": ("hidden", "peak", "mass"), "scatter_kernel": ("y",), "letterbox_kernel": ("y",),
    "best_kernel": ("score", "index"), "order_kernel": ("ordered", "total"), "cover_kernel": ("covers",),
    "greedy_kernel": ("rows", "counts"),
}  # fmt: skip
KINDS = {
    "conv_kernel": "convolution {K}x{K}", "thin_conv_kernel": "convolution {K}x{K}, groups {GROUPS}",
    "depthwise_kernel": "depthwise {K}x{K}",
    "separable_kernel": "depthwise {K}x{K} and 1x1", "gated_sum_kernel": "gated sum", "pool_kernel": "pooling",
    "decode_kernel": "decoding", "attention_kernel": "area attention", "context_kernel": "hypergraph: context",
    "prototypes_kernel": "hypergraph: prototypes", "gather_kernel": "hypergraph: gather",
    "edges_kernel": "hypergraph: edges", "scatter_kernel": "hypergraph: scatter", "letterbox_kernel": "letterbox",
    "best_kernel": "suppression: best class", "order_kernel": "suppression: order", "cover_kernel": "suppression: overlaps",
    "greedy_kernel": "suppression: greedy choice",
}  # fmt: skip
# Kernels without products, or with so few that no count shows them.
WITHOUT_PRODUCTS = (
    "gated_sum_kernel", "pool_kernel", "decode_kernel", "context_kernel", "prototypes_kernel", "edges_kernel",
    "letterbox_kernel", "best_kernel", "order_kernel", "cover_kernel", "greedy_kernel",
)  # fmt: skip
TYPES = {torch.float16: "*fp16", torch.float32: "*fp32", torch.uint8: "*u8", torch.int32: "*i32"}
MULTIPROCESSORS = 40  # a T4's: what the default tactics are chosen for


@dataclass(frozen=True)
class _Place:
    """Where a tensor argument points: a storage of the recording, and bytes into it."""

    storage: int
    offset: int


@dataclass(frozen=True)
class _Launch:
    """A launch whose pointers are still places."""

    kernel: Any
    grid: tuple[int, int, int]
    arguments: tuple[int | _Place, ...]
    types: tuple[str, ...]
    constants: tuple[tuple[str, int], ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Operation:
    name: str
    tactics: tuple[tuple[_Launch | _Operation, ...], ...]


@dataclass
class _Recording:
    """A `kernels.launch.Recorder`. same -- storage → the one that other tactics wrote the same result to."""

    paths: Mapping[nn.Module, str]
    steps: list[_Launch | _Operation] = field(default_factory=list)
    bytes: dict[int, int] = field(default_factory=dict)
    same: dict[int, int] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)  # a storage that was freed could lend another its address
    depth: int = 0

    def launched(self, kernel: Any, grid: tuple[int, ...], arguments: Sequence[Any], constants: dict[str, Any]) -> None:
        parameters = kernel.params[: len(arguments)]
        taken = [self._place(a) if isinstance(a, Tensor) else a for a in arguments]
        types = [_type(a, p.do_not_specialize) for a, p in zip(arguments, parameters, strict=True)]
        fixed = tuple(sorted((name, int(value)) for name, value in constants.items()))
        results = [a for a, p in zip(arguments, parameters, strict=True) if p.name in WRITTEN[kernel.__name__]]
        x, y, z = (*grid, 1, 1)[:3]
        launch = _Launch(kernel, (x, y, z), tuple(taken), tuple(types), fixed, tuple(results[0].shape))
        if self.depth:
            self.steps.append(launch)
        else:
            self.steps.append(_Operation(f"{len(self.steps)}", ((launch,),)))

    def chosen(self, operation: Tunable, sources: list[Tensor], add: Tensor | None, coarse: bool) -> Tensor:
        outer, results, tactics = self.steps, [], []
        for configuration in configurations(operation):
            self.steps, self.depth = [], self.depth + 1
            results.append(operation.run(configuration, sources, add, coarse))
            tactics.append(tuple(self.steps))
            self.depth -= 1
        self.steps = outer
        for result in results[1:]:
            self.same[self._place(result).storage] = self._place(results[0]).storage
        self.steps.append(_Operation(self.paths[operation], tuple(tactics)))
        return results[0]

    def _place(self, x: Tensor) -> _Place:
        storage = x.untyped_storage()
        key = int(storage._cdata)
        self.kept.append(x)
        self.bytes[key] = storage.nbytes()
        return _Place(key, int(x.storage_offset()) * x.element_size())


def configurations(operation: Tunable) -> list[object]:
    """Those that are launches of our own kernels."""
    ours = [one for one in operation.configurations() if one != LIBRARY]
    if not ours:
        raise YoloproofError(
            f"native engine: no kernel of ours computes {operation.kind} {operation.parameters_of_operation()}"
        )
    return ours


def _type(value: Any, free: bool) -> str:
    if isinstance(value, Tensor):
        kind = TYPES[value.dtype]
        return kind + (":16" if value.storage_offset() * value.element_size() % 16 == 0 else "")
    if free:
        return "i32"
    return "i32=1" if value == 1 else "i32:16" if value % 16 == 0 else "i32"


@dataclass(frozen=True)
class RecordedNetwork:
    """A plan and the weights that it reads, float16."""

    plan: Plan
    weights: dict[str, NDArray[np.float16]]


@dataclass
class _Ends:
    """An end-to-end plan's tensors around the network, on meta; first, last -- of the recording's steps"""

    rule: Rule
    frame: Tensor
    parameters: Tensor
    detections: Tensor
    first: int = 0
    last: int = 0

    @staticmethod
    def of(imgsz: tuple[int, int], rule: Rule) -> _Ends:
        def memory(size: int, dtype: torch.dtype) -> Tensor:
            return torch.empty(size, dtype=dtype, device="meta")

        return _Ends(
            rule, memory(MOST_FRAME_BYTES, torch.uint8), memory(parameter_count(imgsz), torch.int32),
            memory(detections_bytes(rule.most) // 4, torch.float32),
        )  # fmt: skip


def _launched(meta: nn.Module, images: Tensor, ends: _Ends | None, recording: _Recording) -> tuple[Tensor, Tensor]:
    """The network's input and raw output, with what stands around it launched, too."""
    if ends is None:
        return images, meta(images)
    options = Options(overlap=False)
    size = (images.shape[2], images.shape[3])
    images = placed(ends.frame, ends.parameters[HEAD:], size, images.dtype, options)
    ends.first = len(recording.steps)
    raw = meta(images)
    ends.last = len(recording.steps)
    suppressed(raw, ends.parameters[:HEAD].view(torch.float32), ends.detections, ends.rule, options)
    return images, raw


def plan_from_network(
    network: SimplifiedNetwork, batch: int, imgsz: tuple[int, int], rule: Rule | None = None
) -> RecordedNetwork:
    """The launch plan of a network simplified with the default rewrites, at a batch of images of one size (h, w).

    rule -- of the suppression of an end-to-end plan, which takes a frame of any size and gives detections
    Raises YoloproofError where anything but our kernels would touch data.
    """
    ours = network_with_kernels(network, overlap=False, early_start=False).half()
    values = dict((*ours.named_parameters(), *ours.named_buffers()))
    meta = copy.deepcopy(ours).to("meta")
    images = torch.empty((batch, *imgsz, 3), dtype=torch.float16, device="meta").permute(0, 3, 1, 2)
    ends = None if rule is None else _Ends.of(imgsz, rule)
    recording = _Recording({module: path for path, module in meta.named_modules()})
    token = RECORDER.set(recording)
    try:
        with torch.inference_mode():
            images, outputs = _launched(meta, images, ends, recording)
    finally:
        RECORDER.reset(token)
    weights = {recording._place(v).storage: name for name, v in (*meta.named_parameters(), *meta.named_buffers())}
    plan = _Planner(recording, weights).plan(images, outputs, ends)
    read = {
        a.weight for launch in all_launches(plan.operations) for a in launch.arguments if isinstance(a, WeightPointer)
    }
    return RecordedNetwork(plan, {name: values[name].detach().contiguous().numpy() for name in values if name in read})


class _Planner:
    """From places to buffers."""

    def __init__(self, recording: _Recording, weights: Mapping[int, str]) -> None:
        self.recording, self.weights = recording, weights
        self.buffers: dict[int, int] = {}  # storage → index
        self.bytes: list[int] = []
        self.kernels: dict[Kernel, int] = {}

    def plan(self, images: Tensor, outputs: Tensor, ends: _Ends | None) -> Plan:
        first = self._buffer(self.recording._place(images).storage)
        operations = tuple(self._operation(step) for step in self.recording.steps if isinstance(step, _Operation))
        last = self._buffer(self.recording._place(outputs).storage)
        b, c, h, w = images.shape
        _, rows, anchors = outputs.shape
        plan = Plan(
            (b, c, h, w),
            (b, rows, anchors),
            first,
            last,
            0,
            (),
            tuple(self.kernels),
            operations,
            self._frames(ends, anchors),
        )
        arena_bytes, buffers = laid_out(operations, self.bytes, plan.given, plan.kept)
        return replace(plan, arena_bytes=arena_bytes, buffers=buffers)

    def _frames(self, ends: _Ends | None, anchors: int) -> Frames | None:
        if ends is None:
            return None
        given, read, result = (
            self._buffer(self.recording._place(x).storage) for x in (ends.frame, ends.parameters, ends.detections)
        )
        return Frames(given, read, result, ends.rule.most, listed(anchors), ends.first, ends.last)

    def _buffer(self, storage: int) -> int:
        storage = self.recording.same.get(storage, storage)
        if storage not in self.buffers:
            self.buffers[storage] = len(self.bytes)
            self.bytes.append(self.recording.bytes[storage])
        return self.buffers[storage]

    def _operation(self, recorded: _Operation) -> Operation:
        tactics = tuple(
            tuple(self._operation(step) if isinstance(step, _Operation) else self._launch(step) for step in tactic)
            for tactic in recorded.tactics
        )
        first = recorded.tactics[0][-1]
        while isinstance(first, _Operation):
            first = first.tactics[0][-1]
        costs = [_cost(tactic) for tactic in recorded.tactics]
        name = recorded.name if not recorded.name.isdigit() else f"{first.kernel.__name__}.{recorded.name}"
        kind = KINDS[first.kernel.__name__].format(**dict(first.constants))
        return Operation(name, kind, first.shape, _flops(first), tactics, costs.index(min(costs)))

    def _launch(self, recorded: _Launch) -> Launch:
        arguments: list[Argument] = []
        reads: set[int] = set()
        writes: set[int] = set()
        names = [p.name for p in recorded.kernel.params]
        for name, argument in zip(names, recorded.arguments, strict=False):
            if not isinstance(argument, _Place):
                arguments.append(argument)
            elif argument.storage in self.weights:
                if argument.offset:
                    raise YoloproofError(f"native engine: {recorded.kernel.__name__} reads a part of a weight")
                arguments.append(WeightPointer(self.weights[argument.storage]))
            else:
                buffer = self._buffer(argument.storage)
                (writes if name in WRITTEN[recorded.kernel.__name__] else reads).add(buffer)
                arguments.append(BufferPointer(buffer, argument.offset))
        kernel = Kernel(recorded.kernel.__name__, recorded.types, recorded.constants)
        index = self.kernels.setdefault(kernel, len(self.kernels))
        # where there is nothing to add a kernel is given its own result's address
        return Launch(index, recorded.grid, tuple(arguments), tuple(sorted(reads - writes)), tuple(sorted(writes)))


def _values(launch: _Launch) -> dict[str, int | _Place]:
    names = [p.name for p in launch.kernel.params]
    return {**dict(zip(names, launch.arguments, strict=False)), **dict(launch.constants)}


def _flops(launch: _Launch) -> int:
    """Floating-point operations of the products in a launch, without those on padding. Raises YoloproofError for a kernel
    that is not counted here."""
    v, name = {key: value for key, value in _values(launch).items() if isinstance(value, int)}, launch.kernel.__name__
    if name == "conv_kernel":
        return 2 * v["m_total"] * v["c_out"] * v["K"] ** 2 * sum(v[f"c{i}"] for i in range(v["SOURCES"]))
    if name == "thin_conv_kernel":
        return 2 * v["m_total"] * v["GROUPS"] * v["C_OUT"] * v["K"] ** 2 * v["C"]
    if name == "depthwise_kernel":
        return 2 * v["m_total"] * v["c"] * v["K"] ** 2
    if name == "separable_kernel":
        return 2 * v["m_total"] * v["c_in"] * (v["K"] ** 2 + v["c_out"])
    if name == "attention_kernel":
        return 4 * v["tokens"] ** 2 * 32 * v["heads"] * launch.grid[2]
    if name in ("gather_kernel", "scatter_kernel"):
        return 4 * v["tokens"] * v["d"] * v["edges"] * launch.grid[-1]
    if name not in WITHOUT_PRODUCTS:
        raise YoloproofError(f"native engine: recording.py does not count the products of {name}")
    return 0


def _cost(tactic: tuple[_Launch | _Operation, ...]) -> float:
    """A rough figure to choose a default tactic by: waves of programs on a T4, each as long as its tile is large."""
    total = 0.0
    for step in tactic:
        if isinstance(step, _Operation):
            total += min(_cost(one) for one in step.tactics)
            continue
        v = {key: value for key, value in _values(step).items() if isinstance(value, int)}
        programs = step.grid[0] * step.grid[1] * step.grid[2]
        tile = v.get("BM", 64) * v.get("BN", 64)
        waves = -(-programs // (2 * MULTIPROCESSORS))
        total += 4096 + waves * (tile + 2048) * (2 if "num_stages" in v and tile <= 1024 else 1)
    return total
