"""Autotuning: which configuration of an operation (a library's call, or a tile of our kernel) is the fastest here.

The first run of an operation times its configurations on the GPU at hand. A tuning, operation → configuration, says what
was chosen; a network that is given it runs exactly that, in any process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from triton.runtime.errors import OutOfResources

from yoloproof.errors import YoloproofError
from yoloproof.kernels.launch import RECORDER, Options, flat, recording

LIBRARY = "library"
_CALLS, _REPLAYS = 8, 5


@dataclass(frozen=True)
class Operation:
    """An operation on tensors of given shapes: all that decides which configuration is the fastest.

    inputs -- shape and pixel stride of each; adds -- what is summed: "nothing", "a tensor" or "a coarse tensor"
    """

    kind: str
    parameters: tuple[float, ...]
    inputs: tuple[tuple[tuple[int, ...], int], ...]
    adds: str
    early_start: bool
    device: str

    def __str__(self) -> str:
        parameters = ", ".join(str(value) for value in self.parameters)
        inputs = " and ".join(f"{'x'.join(map(str, shape))} every {stride}" for shape, stride in self.inputs)
        early = ", early start" if self.early_start else ""
        return f"{self.kind} ({parameters}) of {inputs}, adds {self.adds}{early}, {self.device}"


class Autotuner:
    """Chooses each operation's configuration once; operations that `tuning` holds are not timed."""

    def __init__(self, tuning: Mapping[str, str] | None = None) -> None:
        self._known = dict(tuning or {})
        self._chosen: dict[Operation, str] = {}

    @property
    def tuning(self) -> dict[str, str]:
        """Operation → configuration of everything given or chosen so far, in words: for another process."""
        return {**self._known, **{str(operation): name for operation, name in self._chosen.items()}}

    def choose(self, operation: Operation, names: Sequence[str], run: Callable[[str], Tensor]) -> str:
        """The name of the configuration to take; `run` computes the operation in one."""
        if operation not in self._chosen:
            known = self._known.get(str(operation))
            if known is not None and known not in names:
                raise YoloproofError(f"the tuning asks for {known} of {operation}; choose from {', '.join(names)}")
            self._chosen[operation] = fastest(names, run) if known is None else known
        return self._chosen[operation]


class Tunable(nn.Module, ABC):
    """An operation with several configurations that compute the same."""

    kind: str

    def __init__(self, options: Options, autotuner: Autotuner) -> None:
        super().__init__()
        self.options, self.autotuner = options, autotuner

    @abstractmethod
    def configurations(self) -> tuple[object, ...]:
        """Those there are, each with a text of its own; the first needs none of our kernels where there is such."""

    @abstractmethod
    def parameters_of_operation(self) -> tuple[float, ...]:
        """What, beside kind and shapes, decides which configuration is the fastest."""

    @abstractmethod
    def run(self, configuration: object, sources: list[Tensor], add: Tensor | None, coarse: bool) -> Tensor:
        """The result in that configuration."""

    @cached_property
    def by_name(self) -> dict[str, object]:
        return {str(configuration): configuration for configuration in self.configurations()}

    if TYPE_CHECKING:

        def __call__(self, *x: Any, add: Tensor | None = None, coarse: bool = False) -> Tensor: ...

    def forward(self, *x: Any, add: Tensor | None = None, coarse: bool = False) -> Tensor:
        """x -- inputs [B, C_i, H, W] (or tuples of such) side by side
        add -- summed after the activation; where `coarse` before it, from half the resolution, each pixel for four
        """
        sources = flat(x)
        recorder = RECORDER.get()
        if recorder is not None:
            return recorder.chosen(self, sources, add, coarse)
        if recording():
            results = [self.run(configuration, sources, add, coarse) for configuration in self.by_name.values()]
            return results[0]
        operation = Operation(
            self.kind, self.parameters_of_operation(), tuple((tuple(s.shape), s.stride(3)) for s in sources),
            "nothing" if add is None else "a coarse tensor" if coarse else "a tensor",
            self.options.early_start, str(sources[0].device),
        )  # fmt: skip
        chosen = self.autotuner.choose(
            operation, list(self.by_name), lambda name: self.run(self.by_name[name], sources, add, coarse)
        )
        return self.run(self.by_name[chosen], sources, add, coarse)


def fastest(names: Sequence[str], run: Callable[[str], Tensor]) -> str:
    """The one that takes the least device time; a tile that this GPU has no room for takes forever."""
    if len(names) == 1:
        return names[0]
    seconds = {}
    for name in names:
        try:
            seconds[name] = graph_seconds(partial(run, name))
        except OutOfResources:
            seconds[name] = float("inf")
    return min(seconds, key=lambda name: seconds[name])


def graph_seconds(call: Callable[[], Any]) -> float:
    """Device seconds of a call, the least over replays of a CUDA graph that holds several."""
    outer = torch.cuda.current_stream()
    outer.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
        call()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin()
        for _ in range(_CALLS):
            call()
        graph.capture_end()
        graph.replay()
        best = float("inf")
        for _ in range(_REPLAYS):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            best = min(best, start.elapsed_time(end) / 1e3)
    return best / _CALLS
