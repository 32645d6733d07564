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

Outputs = tuple[NDArray[Any], ...]


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
        super().__init__(f"{held}: this artifact's numbers cannot be used; export it in float32 to see which it is")


def check_finite(specs: Sequence[TensorSpec], outputs: Outputs) -> None:
    """Raise NonFiniteOutput unless every floating-point output is finite everywhere."""
    counts = {
        spec.name: int(array.size - np.isfinite(array).sum())
        for spec, array in zip(specs, outputs, strict=True)
        if array.dtype.kind == "f" and not np.isfinite(array).all()
    }
    if counts:
        raise NonFiniteOutput(counts)


@dataclass(frozen=True)
class SessionSpec:
    """What to open and how; picklable, so that a fresh process can open the same.

    `network` builds the module for the PyTorch runtime and is called in the process that runs it.
    `threads` None leaves the choice to the runtime, which records what it took.
    """

    runtime: str
    path: Path | None = None
    device: str = "cpu"
    threads: int | None = None
    precision: str | None = None
    flush_to_zero: bool = False
    network: Callable[[], Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Session(ABC):
    """An opened artifact (context manager).

    inputs, outputs -- the tensors' specs, the image input first
    facts -- what is on record of how it runs: runtime, version, device, provider, threads, precision …
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    facts: dict[str, Any]

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

    def infer(self, images: NDArray[np.float32]) -> Outputs:
        """load, execute, fetch; raises NonFiniteOutput where an output holds NaN or infinity."""
        self.load(images)
        self.execute()
        outputs = self.fetch()
        check_finite(self.outputs, outputs)
        return outputs

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
