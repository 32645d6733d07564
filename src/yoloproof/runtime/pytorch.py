"""PyTorch: the network itself, on a CPU or a GPU.

On a GPU the call is captured in a CUDA graph while images are first loaded, so that a run is one launch; a plain
call is bound by its 1,000 launches and says nothing about the network. Device time is taken with CUDA events.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.names import Precision, Runtime
from yoloproof.records import SessionFacts
from yoloproof.runtime.base import Outputs, Session, SessionSpec, TensorSpec
from yoloproof.runtime.cuda import CudaDevice
from yoloproof.runtime.tensors import check_images
from yoloproof.runtime.threads import physical_cores


class PyTorchSession(Session):
    """A network built by `spec.network`.

    Of the options it knows `channels_last` and `compile`, and on a GPU `cuda_graph` and `tf32`.
    """

    def __init__(self, spec: SessionSpec) -> None:
        import torch

        if spec.network is None:
            raise YoloproofError("pytorch runs a network, not a file: load a checkpoint, or name yolov13n")
        self._device = _device(spec)
        self._cuda = CudaDevice(spec.device) if self._device.type == "cuda" else None
        on_gpu = self._cuda is not None
        options = spec.options
        self._captures, self._compiles = on_gpu and options.cuda_graph, options.compile
        channels_last = on_gpu if options.channels_last is None else options.channels_last
        precision = _precision(spec, on_gpu)
        threads = _set_up_process(spec)
        self._dtype = getattr(torch, precision)
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        network = spec.network().eval().to(device=self._device, dtype=self._dtype)
        self._network = network.to(memory_format=self._format)
        if self._compiles:
            self._network = torch.compile(self._network, dynamic=False)
        self.inputs = (TensorSpec("images", ("batch", 3, "height", "width"), precision),)
        self.outputs = (TensorSpec("output0", ("batch", "4+classes", "anchors"), precision),)
        self._images: Any = None
        self._outputs: tuple[Any, ...] = ()
        self._run: Callable[[], None] = self._call
        self.facts = SessionFacts(
            name=Runtime.PYTORCH,
            version=str(torch.__version__),
            device=str(self._device),
            provider=self._cuda.name if self._cuda is not None else "CPU",
            threads=threads,
            precision=precision,
            flush_to_zero=spec.flush_to_zero,
            channels_last=channels_last,
            compile=self._compiles,
            cuda_graph=self._captures,
            tf32=options.tf32,
        )

    def load(self, images: NDArray[np.float32]) -> None:
        """As Session.load; a shape not seen before is also compiled and captured here, and its seconds recorded."""
        check_images(images, self.inputs[0])
        fresh = self._images is None or tuple(self._images.shape) != images.shape
        if fresh:
            self._images = self._empty(images.shape)
        if self._cuda is not None:
            self._cuda.upload(images, self._images)
        else:
            import torch

            self._images.copy_(torch.from_numpy(np.ascontiguousarray(images)))
        if fresh:
            started = time.perf_counter()
            self._prepare()
            tuning = getattr(self._network, "tuning", None)  # of our kernels: chosen in the first run
            self.facts = replace(self.facts, prepare_s=time.perf_counter() - started, tuning=tuning)

    def _empty(self, shape: tuple[int, ...]) -> Any:
        import torch

        return torch.empty(shape, dtype=self._dtype, device=self._device, memory_format=self._format)

    def _prepare(self) -> None:
        """Compile and, on a GPU, choose kernels and capture for the loaded shape."""
        self._run = self._call
        if self._cuda is not None and self._captures:
            self._run = self._cuda.captured(self._call)
        elif self._cuda is not None:
            self._cuda.run(self._call)
        elif self._compiles:
            self._call()

    def _call(self) -> None:
        import torch

        with torch.inference_mode():
            outputs = self._network(self._images)
        self._outputs = tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)

    def execute(self) -> float | None:
        if self._cuda is not None:
            return self._cuda.timed(self._run)
        self._call()
        return None

    def fetch(self) -> Outputs:
        import torch

        if self._cuda is not None:
            return tuple(self._cuda.download(value) for value in self._outputs)
        as_numpy = [value.float() if value.dtype == torch.bfloat16 else value for value in self._outputs]
        return tuple(value.detach().clone().numpy() for value in as_numpy)

    def close(self) -> None:
        self._run = self._call
        self._images = self._network = None
        self._outputs = ()
        if self._cuda is not None:
            import torch

            torch.cuda.empty_cache()


def _device(spec: SessionSpec) -> Any:
    import torch

    try:
        device = torch.device(spec.device)
    except RuntimeError:
        raise YoloproofError(f"{spec.device} is not a device; use cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise YoloproofError(f"pytorch sessions run on cpu or cuda, not on {spec.device}")
    if device.type == "cuda" and not torch.cuda.is_available():
        built = (
            "no CUDA device is visible" if torch.version.cuda else f"torch {torch.__version__} is built without CUDA"
        )
        raise YoloproofError(f"device {spec.device}: {built}; use --device cpu, or see `yoloproof doctor`")
    return device


def _precision(spec: SessionSpec, cuda: bool) -> str:
    import torch

    precision = spec.precision or Precision.FP32
    if precision is Precision.BF16 and cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise YoloproofError(f"{torch.cuda.get_device_name(spec.device)} has no bfloat16 units; use float16")
    return precision.dtype


def _set_up_process(spec: SessionSpec) -> int:
    """Set what PyTorch keeps per process, and return the thread count; flush-to-zero first, new threads inherit it."""
    import torch

    if not torch.set_flush_denormal(spec.flush_to_zero) and spec.flush_to_zero:
        raise YoloproofError("pytorch cannot flush subnormal numbers to zero on this CPU; leave flush-to-zero off")
    torch.set_num_threads(spec.threads or physical_cores())
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = spec.options.tf32
    torch.backends.cuda.matmul.allow_tf32 = spec.options.tf32
    return torch.get_num_threads()
