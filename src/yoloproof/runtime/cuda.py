"""The few things a session needs of a CUDA device, through PyTorch: buffers, one stream, a clock, graph capture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError

_RUNS_BEFORE_CAPTURE = 3


class CudaDevice:
    """A CUDA device and one stream on it, on which everything of a session happens.

    name, compute_capability -- as the driver gives them ("Tesla T4", "7.5")
    Raises YoloproofError where PyTorch sees no such device.
    """

    def __init__(self, device: str) -> None:
        import torch

        if not torch.cuda.is_available():
            built = (
                "no CUDA device is visible"
                if torch.version.cuda
                else f"torch {torch.__version__} was built without CUDA"
            )
            raise YoloproofError(f"device {device}: {built}; use --device cpu, or see `yoloproof doctor`")
        self.device = torch.device(device)
        index = self.device.index or 0
        if index >= torch.cuda.device_count():
            raise YoloproofError(f"device {device}: this machine has {torch.cuda.device_count()} CUDA devices")
        torch.cuda.set_device(index)  # libraries that know nothing of PyTorch load onto the current device
        self.name = torch.cuda.get_device_name(self.device)
        self.compute_capability = ".".join(map(str, torch.cuda.get_device_capability(self.device)))
        self.stream: Any = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        event: Any = torch.cuda.Event  # untyped in torch
        self._events = (event(enable_timing=True), event(enable_timing=True))

    def empty(self, shape: Sequence[int], dtype: str) -> Any:
        """An uninitialised tensor on the device."""
        import torch

        return torch.empty(tuple(shape), dtype=getattr(torch, dtype), device=self.device)

    def upload(self, values: NDArray[Any], tensor: Any) -> None:
        """Copy values into the tensor, in its type, and wait."""
        import torch

        with torch.cuda.stream(self.stream):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(values)))
        self.stream.synchronize()

    def download(self, tensor: Any) -> NDArray[Any]:
        """A copy on the host; bfloat16, which NumPy has not, comes as float32."""
        import torch

        with torch.cuda.stream(self.stream):
            exact = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
            copied = exact.detach().to("cpu", copy=True)
        self.stream.synchronize()
        values: NDArray[Any] = copied.numpy()
        return values

    def run(self, call: Callable[[], None]) -> None:
        """Call once on the stream and wait."""
        import torch

        with torch.cuda.stream(self.stream):
            call()
        self.stream.synchronize()

    def timed(self, call: Callable[[], None]) -> float:
        """As `run`; seconds between two events around the call, on the device's clock."""
        import torch

        start, end = self._events
        with torch.cuda.stream(self.stream):
            start.record(self.stream)
            call()
            end.record(self.stream)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def captured(self, call: Callable[[], None]) -> Callable[[], None]:
        """The call as a CUDA graph: a function that replays it. Runs it a few times first, as capture asks for.

        Raises YoloproofError where the call cannot be captured: a graph is never replaced by plain calls in silence.
        """
        import torch

        for _ in range(_RUNS_BEFORE_CAPTURE):
            self.run(call)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                call()
        except RuntimeError as error:
            raise YoloproofError(
                f"{self.name}: the network could not be captured in a CUDA graph ({str(error).splitlines()[0]}); "
                "run it without one (SessionOptions(cuda_graph=False)), which goes on record"
            ) from None
        replay: Callable[[], None] = graph.replay
        return replay
