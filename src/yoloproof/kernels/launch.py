"""Launching kernels, on streams of their own where they may overlap; and recording which compilations launches would take."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Options:
    """overlap -- while a CUDA graph is captured, independent branches go to streams of their own
    early_start -- a kernel is set up while the one before it still runs (programmatic dependent launch, from 9.0 on)
    ahead -- kernels load the next step's operands while they multiply this one's, as compilers arrange only from 8.0 on
    """

    overlap: bool = True
    early_start: bool = False
    ahead: bool = False


@dataclass(frozen=True)
class Compilation:
    """One specialisation of a kernel: its module and name, its arguments (a type's name for a tensor, an integer), constants."""

    module: str
    kernel: str
    arguments: tuple[str | int, ...]
    constants: tuple[tuple[str, int | bool], ...]


class Recorder(Protocol):
    """Takes what a network would launch, while it runs on meta tensors."""

    def launched(
        self, kernel: Any, grid: tuple[int, ...], arguments: Sequence[Any], constants: dict[str, int | bool]
    ) -> None:
        """A launch; constants without EARLY."""

    def chosen(self, operation: Any, sources: list[Tensor], add: Tensor | None, coarse: bool) -> Tensor:
        """The result of an `autotune.Tunable`, whose configurations the recorder runs itself."""


_RECORD: ContextVar[set[Compilation] | None] = ContextVar("record", default=None)
RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, options: Options, **constants: int | bool) -> None:
    """Start a kernel; inside `recorded`, only note which compilation it would take; with a RECORDER, hand it to that."""
    recorder = RECORDER.get()
    if recorder is not None:
        recorder.launched(kernel, grid, arguments, constants)
        return
    record = _RECORD.get()
    if record is not None:
        record.add(compilation(kernel, arguments, options, constants))
        return
    kernel[grid](*arguments, **_constants(options, constants))


def compilation(
    kernel: Any, arguments: Sequence[Any], options: Options, constants: dict[str, int | bool]
) -> Compilation:
    """Which specialisation of `kernel` a launch with these arguments takes."""
    free = {p.name for p in kernel.params if p.do_not_specialize}
    plain = [
        str(a.dtype).removeprefix("torch.") if isinstance(a, Tensor) else _class(a, name in free)
        for a, name in zip(arguments, kernel.arg_names, strict=False)
    ]
    return Compilation(
        kernel.__module__, kernel.__name__, tuple(plain), tuple(sorted(_constants(options, constants).items()))
    )


def _constants(options: Options, constants: dict[str, int | bool]) -> dict[str, int | bool]:
    early = {"launch_pdl": True} if options.early_start else {}
    return {**constants, "EARLY": options.early_start, **early}


def _class(value: int, free: bool) -> int:
    """A stand-in of the integers that share a compilation: 1, multiples of 16, the others."""
    return 17 if free else 1 if value == 1 else 16 if value % 16 == 0 else 17


@contextlib.contextmanager
def recorded() -> Iterator[set[Compilation]]:
    """Compilations that calls inside would take, on meta tensors."""
    found: set[Compilation] = set()
    token = _RECORD.set(found)
    try:
        yield found
    finally:
        _RECORD.reset(token)


def recording() -> bool:
    return _RECORD.get() is not None


def together(options: Options, *calls: Callable[[], Any]) -> list[Any]:
    """Results of independent calls. While a CUDA graph is captured each call but the first has a stream of its own."""
    if not (options.overlap and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
        return [call() for call in calls]
    main = torch.cuda.current_stream()
    results: list[Any] = [None] * len(calls)
    streams = [torch.cuda.Stream() for _ in calls[1:]]
    for stream in streams:
        stream.wait_stream(main)
    for i, (stream, call) in enumerate(zip(streams, calls[1:], strict=True), start=1):
        with torch.cuda.stream(stream):
            results[i] = call()
    results[0] = calls[0]()
    for stream in streams:
        main.wait_stream(stream)
    return results


def flat(sources: tuple[Any, ...]) -> list[Tensor]:
    """Inputs side by side, those that come as a tuple (a concatenation never made) taken apart."""
    return [x for source in sources for x in (source if isinstance(source, tuple) else (source,))]


def pixels(x: Tensor) -> tuple[Tensor, int]:
    """The tensor with its pixels evenly spaced and channels next to one another (a copy only where not), the spacing."""
    b, c, h, w = x.shape
    p = x.stride(3)
    even = (c == 1 or x.stride(1) == 1) and x.stride(2) == w * p and (b == 1 or x.stride(0) == h * w * p)
    if even:
        return x, p
    x = x.contiguous(memory_format=torch.channels_last)
    return x, c


def fresh(b: int, c: int, h: int, w: int, like: Tensor) -> Tensor:
    """An uninitialised channels-last tensor [B, C, H, W]."""
    return torch.empty((b, h, w, c), dtype=like.dtype, device=like.device).permute(0, 3, 1, 2)


def tiles(total: int, size: int) -> int:
    return (total + size - 1) // size
