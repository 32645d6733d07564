"""The one small interface behind which every runtime stands.

A session is an artifact opened for running. Its three steps are separate so that each can be timed alone:
`load` brings images to the device, `execute` runs the network on what was loaded and returns when the
device is done, `fetch` brings the outputs back. `infer` is all three.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.names import Name, Precision, Runtime
from yoloproof.records import SessionFacts

Outputs = tuple[NDArray[Any], ...]
# What one inference may take, far above any detector's time: 30 s, and 10 s for each image of 640 x 640.
FIRST_S, PIXELS_S = 30.0, 10.0 / (3 * 640 * 640)


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (a string marks a dynamic dimension) and NumPy dtype name of one input or output."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


class NonFiniteOutput(YoloproofError):
    """An output holds NaN or infinity; `counts` maps the output's name to how many values do."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        held = ", ".join(f"{name} holds {count} values that are NaN or infinite" for name, count in counts.items())
        super().__init__(
            f"{held}: this artifact cannot be used; export it in float32 to see whether the weights or the rounding are at fault"
        )


def check_finite(specs: Sequence[TensorSpec], outputs: Outputs) -> None:
    """Raise NonFiniteOutput unless every floating-point output is finite everywhere."""
    counts = {
        spec.name: int(array.size - np.isfinite(array).sum())
        for spec, array in zip(specs, outputs, strict=True)
        if array.dtype.kind == "f" and not np.isfinite(array).all()
    }
    if counts:
        raise NonFiniteOutput(counts)


def took_too_long(artifact: object, limit_s: float) -> YoloproofError:
    """What to say of a graph that does not come to an end."""
    return YoloproofError(f"{artifact}: one inference was stopped after {limit_s:.0f} s; does it hold an endless loop?")


@dataclass(frozen=True)
class NativeOptions:
    """How a native engine runs.

    tuning -- tactics by operation that another process chose; tactics -- a file of such; neither: the file beside the
      engine, measured and written where there is none. measured -- False: the engine's default tactics
    code -- the capability whose code is to run, as "7.5" (of a lower one than the GPU's the PTX); None: the best there is
    overlap -- branches side by side; early_start -- kernels are set up while those before them run, where the code can
    multiprocessors -- take only so many of the GPU's
    """

    tuning: Mapping[str, str] | None = None
    tactics: Path | None = None
    measured: bool = True
    code: str | None = None
    overlap: bool = True
    early_start: bool = True
    multiprocessors: int | None = None


@dataclass(frozen=True)
class SessionOptions:
    """What only some runtimes know.

    inputs -- file runtimes: values of a foreign detector's inputs besides the image, by name
    provider -- ONNX Runtime: an execution provider; None: the CPU's on a CPU, CUDA's on a GPU
    cpu_nodes -- ONNX Runtime on a GPU: the provider may leave operators to the CPU
    cuda_graph -- PyTorch and TensorRT on a GPU: capture the call, so that a run is one launch
    channels_last -- PyTorch; None: on a GPU alone; compile -- PyTorch: torch.compile
    tf32 -- PyTorch on a GPU: float32 products may be rounded to TF32
    throughput -- OpenVINO: its throughput hint; `execute` runs a request for each of its streams, all on the loaded images
    pinned -- OpenVINO: threads keep to their cores; those of sessions side by side would all keep to the first ones
    native -- native engines
    """

    inputs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    provider: str | None = None
    cpu_nodes: bool = False
    cuda_graph: bool = True
    channels_last: bool | None = None
    compile: bool = False
    tf32: bool = False
    throughput: bool = False
    pinned: bool = True
    native: NativeOptions = field(default_factory=NativeOptions)


@dataclass(frozen=True)
class SessionSpec:
    """What to open and how; picklable, so that a fresh process can open the same.

    runtime, precision -- members of their enums, or their text; precision None: that of the file, float32 for a network
    network -- builds the module for the PyTorch runtime; called in the process that runs it
    threads -- None leaves the choice to the runtime, which records what it took
    Raises YoloproofError for text that names no runtime or precision.
    """

    runtime: Runtime
    path: Path | None = None
    device: str = "cpu"
    threads: int | None = None
    precision: Precision | None = None
    flush_to_zero: bool = False
    network: Callable[[], Any] | None = None
    options: SessionOptions = field(default_factory=SessionOptions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "runtime", _member("runtime", Runtime, self.runtime))
        if self.precision is not None:
            object.__setattr__(self, "precision", _member("precision", Precision, self.precision))


def _member(what: str, names: type[Name], text: str) -> Name:
    try:
        return names(text)
    except ValueError:
        raise YoloproofError(f"no {what} {text}; choose from {', '.join(names)}") from None


class Session(ABC):
    """An opened artifact (context manager).

    inputs, outputs -- the tensors' specs, the image input first
    facts -- what is on record of how it runs; `load` may add to them
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    facts: SessionFacts

    @abstractmethod
    def load(self, images: NDArray[np.float32]) -> None:
        """Take images [B, 3, H, W], RGB in 0…1, cast them to the input's type and bring them to the device."""

    @abstractmethod
    def execute(self) -> float | None:
        """Run once on the loaded images; return when done. Device seconds where the device has a clock, else None."""

    @abstractmethod
    def fetch(self) -> Outputs:
        """Bring the last run's outputs to the host, in the artifact's order and types, as copies."""

    def close(self) -> None:  # noqa: B027 - most runtimes free themselves
        """Free the device's memory."""

    def execute_within(self, limit_s: float) -> None:
        """`execute`, stopped with a YoloproofError after `limit_s` where the runtime runs other people's graphs."""
        self.execute()

    def infer(self, images: NDArray[np.float32]) -> Outputs:
        """load, execute, fetch; raises NonFiniteOutput where an output holds NaN or infinity."""
        self.load(images)
        self.execute_within(FIRST_S + PIXELS_S * images.size)
        outputs = self.fetch()
        check_finite(self.outputs, outputs)
        return outputs

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
