"""An end-to-end native engine: a frame of any size in, its detections out, in one CUDA graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.files.frames import COLUMNS, Detections, detections_bytes, detections_from_memory, frame_parameters
from yoloproof.files.plan import chosen_launches
from yoloproof.runtime.base import Outputs, Session, TensorSpec
from yoloproof.runtime.device_arrays import DeviceArray, on_cpu
from yoloproof.runtime.native import NativeSession, contiguous
from yoloproof.runtime.tensors import cast_images


class FrameSession(Session):
    """Letterbox, network and suppression as one graph. Boxes are in the frame's pixels.

    network -- the network alone, in the same memory and tactics: images in, raw output out
    """

    def __init__(self, network: NativeSession) -> None:
        assert network.plan.frames is not None
        self.network, self._ends = network, network.plan.frames
        self._graph = self._graph_from(0)
        self._size: tuple[int, int] | None = None  # of the frame whose parameters lie on the device
        inputs, outputs = frame_tensors(self._ends.most)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.facts = network.facts

    def _graph_from(self, first: int) -> Any:
        network = self.network
        return network.graph(chosen_launches(network.plan.operations[first:], network.choice))

    def load(self, images: Any) -> None:
        """Take a frame, uint8 [H, W, 3], RGB, of any size that fits: a NumPy array, or another's on the CPU or on this GPU.

        Images [1, 3, H, W] in 0…1, as every session takes them, stand for the frame of their bytes.
        """
        gpu = self.network.gpu
        gpu.take_thread()
        if not isinstance(images, np.ndarray):
            if not on_cpu(images):
                self._copy_in(images, gpu.stream)
                gpu.synchronize()
                return
            images = np.from_dlpack(images)
        frame = frame_of(images)
        self.check_frame(frame)
        self._place((frame.shape[0], frame.shape[1]), gpu.stream)
        gpu.upload(frame, self.network.address(self._ends.frame))

    def check_frame(self, frame: Any) -> None:
        """Raise YoloproofError unless it is uint8 [H, W, 3] and not larger than the engine's room for one."""
        shape, most = tuple(frame.shape), self.network.plan.buffers[self._ends.frame].bytes
        if str(frame.dtype) != "uint8" or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise YoloproofError(f"a frame is uint8 [H, W, 3], RGB, not {frame.dtype} {list(shape)}")
        if (size := shape[0] * shape[1] * 3) > most:
            raise YoloproofError(
                f"a frame of {shape[1]}x{shape[0]} has {size} bytes, the engine takes {most}: make it smaller first"
            )

    def _place(self, size: tuple[int, int], stream: Any) -> None:
        """Let the device know of the frame's size, where it is another than the last one's."""
        if size != self._size:
            _, _, height, width = self.network.plan.images
            values = frame_parameters(*size, (height, width))
            self.network.gpu.send(values, self.network.address(self._ends.parameters), stream)
            self._size = size

    def _copy_in(self, frame: object, stream: Any) -> None:
        with self.network.found_here(frame, "frames", stream) as found:
            self.check_frame(found)
            if found.strides not in (None, contiguous(found.shape)):
                raise YoloproofError(f"a frame on the GPU lies in contiguous memory, not with strides {found.strides}")
            self._place((found.shape[0], found.shape[1]), stream)
            self.network.gpu.copy(found.address, self.network.address(self._ends.frame), found.bytes, stream)

    def execute(self) -> float | None:
        self.network.gpu.take_thread()
        return self.network.gpu.timed(self._graph)

    def fetch(self) -> Outputs:
        return self.detections().outputs()

    def detections(self) -> Detections:
        """Of the last run, as `check_counts` accepts them."""
        memory = np.empty(detections_bytes(self._ends.most) // 4, np.float32)
        self.network.gpu.take_thread()
        self.network.gpu.download(self.network.address(self._ends.detections), memory)
        found = detections_from_memory(memory, self._ends.most)
        self.check_counts(found.count, found.candidates)
        return found

    def check_counts(self, count: int, candidates: int) -> None:
        """Raise YoloproofError where more boxes were candidates than the engine puts in order, and fewer than it keeps were
        left: suppression of all of them could have found more. Both as `device_counts` holds them."""
        if candidates > self._ends.candidates and count < self._ends.most:
            raise YoloproofError(
                f"{candidates} boxes above the threshold, of which the engine orders the best {self._ends.candidates}:"
                " export it with a higher --nms-confidence, or without --end-to-end"
            )

    def device_outputs(self) -> DeviceArray:
        """The last run's detections where they lie, float32 [most, 6]: x1, y1, x2, y2, score, class; zeros behind the last.

        Whether there could have been more, `check_counts` says of `device_counts`.
        """
        address, most = self.network.address(self._ends.detections), self._ends.most
        return DeviceArray(address, (most, COLUMNS), "float32", device=self.network.gpu.index, owner=self)

    def device_counts(self) -> DeviceArray:
        """The last run's counts where they lie, int32 [2]: detections, and candidates before suppression; for `check_counts`."""
        address = self.network.address(self._ends.detections) + 4 * COLUMNS * self._ends.most
        return DeviceArray(address, (2,), "int32", device=self.network.gpu.index, owner=self)

    def enqueue(self, frame: object, outputs: object, stream: int) -> None:
        """Copy a frame from this GPU, run, and copy the detections out, all on a stream of the caller's, without waiting.

        Too many candidates raise nothing here. To learn of them, copy `device_counts` on the same stream before the next
        run, and give both to `check_counts` once they are on the host.
        frame -- an array as `load` takes it; outputs -- float32 [most, 6], or the device address of such an array
        stream -- as in `NativeSession.enqueue`
        """
        network, shape = self.network, (self._ends.most, COLUMNS)
        network.gpu.take_thread()
        self._copy_in(frame, stream)
        network.gpu.launch(self._graph, stream)
        with network.found(outputs, shape, "float32", contiguous(shape), "outputs", stream) as found:
            network.gpu.copy(network.address(self._ends.detections), found.address, found.bytes, stream)

    def network_input(self) -> NDArray[np.float32]:
        """What the last run's letterbox gave the network: [1, 3, h, w] in 0…1."""
        batch, channels, height, width = self.network.plan.images
        pixels = np.empty((batch, height, width, channels), np.float16)
        self.network.gpu.download(self.network.address(self.network.plan.input), pixels)
        return pixels.transpose(0, 3, 1, 2).astype(np.float32)

    def suppressed(self, raw: NDArray[np.float32]) -> Detections:
        """The detections of a raw output [1, 4 + classes, A] that the network did not give, in its input's pixels."""
        gpu, plan = self.network.gpu, self.network.plan
        gpu.take_thread()
        self._place((plan.images[2], plan.images[3]), gpu.stream)
        gpu.upload(raw.astype(np.float32, copy=False), self.network.address(plan.output))
        graph = self._graph_from(self._ends.last)
        gpu.timed(graph)
        gpu.forget(graph)
        return self.detections()

    def close(self) -> None:
        self.network.gpu.take_thread()
        self.network.gpu.forget(self._graph)
        self.network.close()


def frame_tensors(most: int) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Input and outputs of an end-to-end engine that keeps so many detections."""
    outputs = {"count": ((1,), "int32"), "boxes": ((1, most, 4), "float32"), "scores": ((1, most), "float32"),
               "classes": ((1, most), "int32")}  # fmt: skip
    named = [TensorSpec(name, shape, dtype) for name, (shape, dtype) in outputs.items()]
    return [TensorSpec("frame", ("height", "width", 3), "uint8")], named


def frame_of(images: NDArray[Any]) -> NDArray[Any]:
    """A frame [H, W, 3] or [1, H, W, 3] as [H, W, 3]; of images [1, 3, H, W] in 0…1 their bytes."""
    if images.ndim != 4 or len(images) != 1:
        return images
    if images.dtype.kind == "f" and images.shape[1] == 3:
        return np.ascontiguousarray(cast_images(images[0], "uint8").transpose(1, 2, 0))
    frame: NDArray[Any] = images[0]
    return frame
