"""What a native session needs of a GPU, through the CUDA driver alone: memory, kernels, a graph of launches, a clock.

Source: CUDA Driver API, "Graph Management", "Green Contexts", "Event Management".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError


@dataclass(frozen=True)
class Node:
    """A launch of a loaded kernel. arguments -- addresses and integers, 8 bytes each; after -- nodes that must have ended"""

    function: Any
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    arguments: tuple[int, ...]
    after: tuple[int, ...]


class Gpu:
    """A CUDA device with a stream on which everything of a session happens (context manager).

    multiprocessors -- take only so many of the device's, in a green context; None: all
    index -- the device's; name, uuid, capability, driver -- as the driver gives them
    Raises YoloproofError without cuda-bindings, without a driver, or without such a device.
    """

    def __init__(self, index: int = 0, multiprocessors: int | None = None) -> None:
        try:
            from cuda.bindings import driver
        except ImportError:
            raise YoloproofError("native engines need cuda-bindings: pip install 'yoloproof[native]'") from None
        self._cuda: Any = driver
        self._modules: list[Any] = []
        self._memory: list[int] = []
        self._green: Any = None
        try:
            self._call("cuInit", 0)
            count = self._call("cuDeviceGetCount")
        except RuntimeError as error:
            raise YoloproofError(f"no CUDA driver that can be used ({error}); see `yoloproof doctor`") from None
        if index >= count:
            raise YoloproofError(f"device cuda:{index}: this machine has {count} CUDA devices")
        self.index = index
        self._device = self._call("cuDeviceGet", index)
        self._read_facts()
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        self._current = self._context
        self._call("cuCtxSetCurrent", self._context)
        if multiprocessors is not None:
            self._take(multiprocessors)
        flags = driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        if self._green is None:
            self.stream = self._call("cuStreamCreate", flags)
        else:
            self.stream = self._call("cuGreenCtxStreamCreate", self._green, flags, 0)
        self._events = tuple(self._call("cuEventCreate", 0) for _ in range(2))

    def _read_facts(self) -> None:
        attribute = self._cuda.CUdevice_attribute

        def value(name: str) -> int:
            return int(
                self._call("cuDeviceGetAttribute", getattr(attribute, f"CU_DEVICE_ATTRIBUTE_{name}"), self._device)
            )

        self.name = self._call("cuDeviceGetName", 128, self._device).split(b"\0")[0].decode()
        self.uuid = bytes(self._call("cuDeviceGetUuid", self._device).bytes).hex()
        self.capability = (value("COMPUTE_CAPABILITY_MAJOR"), value("COMPUTE_CAPABILITY_MINOR"))
        self.multiprocessors = value("MULTIPROCESSOR_COUNT")
        self.most_shared_bytes = value("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
        self.driver = int(self._call("cuDriverGetVersion"))

    def _take(self, multiprocessors: int) -> None:
        kind = self._cuda.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM
        resource = self._call("cuDeviceGetDevResource", self._device, kind)
        groups = self._call("cuDevSmResourceSplitByCount", 1, resource, 0, multiprocessors)[0]
        described = self._call("cuDevResourceGenerateDesc", [groups[0]], 1)
        flags = self._cuda.CUgreenCtxCreate_flags.CU_GREEN_CTX_DEFAULT_STREAM
        self._green = self._call("cuGreenCtxCreate", described, self._device, flags)
        self._current = self._call("cuCtxFromGreenCtx", self._green)
        self._call("cuCtxSetCurrent", self._current)
        self.multiprocessors = int(groups[0].sm.smCount)

    def _call(self, name: str, *arguments: Any) -> Any:
        """A driver call's result; YoloproofError where it fails."""
        status, *results = getattr(self._cuda, name)(*arguments)
        if int(status) != 0:
            raise CudaError(f"{name}: {getattr(status, 'name', status)}", int(status))
        return results[0] if len(results) == 1 else tuple(results) or None

    def take_thread(self) -> None:
        """Let the calling thread work on this device."""
        self._call("cuCtxSetCurrent", self._current)

    def allocate(self, size: int) -> int:
        """The address of `size` new bytes, freed by `close`."""
        address = int(self._call("cuMemAlloc", max(size, 1)))
        self._memory.append(address)
        return address

    def upload(self, values: NDArray[Any], address: int) -> None:
        self.send(np.ascontiguousarray(values), address, self.stream)
        self.synchronize()

    def send(self, values: NDArray[Any], address: int, stream: Any) -> None:
        """Copy contiguous values to the device on a stream; pageable ones are read before this returns."""
        self._call("cuMemcpyHtoDAsync", address, values.ctypes.data, values.nbytes, stream)

    def download(self, address: int, values: NDArray[Any]) -> None:
        """Fill contiguous `values` from the device."""
        self._call("cuMemcpyDtoHAsync", values.ctypes.data, address, values.nbytes, self.stream)
        self.synchronize()

    def copy(self, source: int, target: int, size: int, stream: Any) -> None:
        """Copy bytes within the device on a stream, without waiting."""
        self._call("cuMemcpyDtoDAsync", target, source, size, stream)

    def wait_for(self, other: int, stream: Any) -> None:
        """Let a stream wait for what another has been given so far."""
        self._call("cuEventRecord", self._events[0], other)
        self._call("cuStreamWaitEvent", stream, self._events[0], 0)

    def fill(self, address: int, size: int, byte: int) -> None:
        """Set bytes on the device."""
        self._call("cuMemsetD8Async", address, byte, size, self.stream)
        self.synchronize()

    def load_kernel(self, image: bytes, entry: str, shared_bytes: int) -> Any:
        """A function from machine code, or from PTX, which the driver compiles; a thread of its own may call this."""
        module = self._call("cuModuleLoadData", image + b"\0")
        self._modules.append(module)
        function = self._call("cuModuleGetFunction", module, entry.encode())
        if shared_bytes > 48 << 10:
            attribute = self._cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call("cuFuncSetAttribute", function, attribute, shared_bytes)
        return function

    def graph(self, nodes: Sequence[Node], early: bool) -> Any:
        """An executable CUDA graph. early -- a kernel may be set up while those before it still run (its code waits)."""
        graph = self._call("cuGraphCreate", 0)
        made: list[Any] = []
        for node in nodes:
            slots = np.array([*node.arguments, 0], np.uint64)
            addresses = np.arange(len(node.arguments), dtype=np.uint64) * 8 + np.uint64(slots.ctypes.data)
            wanted = self._cuda.CUDA_KERNEL_NODE_PARAMS()
            wanted.func = node.function
            wanted.gridDimX, wanted.gridDimY, wanted.gridDimZ = node.grid
            wanted.blockDimX, wanted.blockDimY, wanted.blockDimZ = node.threads, 1, 1
            wanted.sharedMemBytes = node.shared_bytes
            wanted.kernelParams = int(addresses.ctypes.data)
            wanted.extra = 0
            before = [] if early else [made[i] for i in node.after]
            made.append(self._call("cuGraphAddKernelNode", graph, before, len(before), wanted))
            if early and node.after:
                self._add_early_edges(graph, [made[i] for i in node.after], made[-1])
        executable = self._call("cuGraphInstantiate", graph, 0)
        self._call("cuGraphDestroy", graph)
        return executable

    def _add_early_edges(self, graph: Any, before: list[Any], node: Any) -> None:
        edge = self._cuda.CUgraphEdgeData()
        edge.type = self._cuda.CUgraphDependencyType.CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC
        edge.from_port = 1  # CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC
        # bindings for CUDA 12 have the call without edge data under the plain name
        name = (
            "cuGraphAddDependencies_v2"
            if hasattr(self._cuda, "cuGraphAddDependencies_v2")
            else "cuGraphAddDependencies"
        )
        self._call(name, graph, before, [node] * len(before), [edge] * len(before), len(before))

    def launch(self, executable: Any, stream: Any = None) -> None:
        """Launch a graph on a stream, by default the session's own, without waiting."""
        self._call("cuGraphLaunch", executable, self.stream if stream is None else stream)

    def timed(self, executable: Any) -> float:
        """Launch a graph and wait; seconds between two events around it, on the device's clock."""
        start, end = self._events
        self._call("cuEventRecord", start, self.stream)
        self.launch(executable)
        self._call("cuEventRecord", end, self.stream)
        self._call("cuEventSynchronize", end)
        return float(self._call("cuEventElapsedTime", start, end)) / 1e3

    def forget(self, executable: Any) -> None:
        """Free a graph."""
        self._call("cuGraphExecDestroy", executable)

    def synchronize(self) -> None:
        self._call("cuStreamSynchronize", self.stream)

    def close(self) -> None:
        self.take_thread()
        for address in self._memory:
            self._call("cuMemFree", address)
        for module in self._modules:
            self._call("cuModuleUnload", module)
        for event in self._events:
            self._call("cuEventDestroy", event)
        self._call("cuStreamDestroy", self.stream)
        if self._green is not None:
            self._call("cuGreenCtxDestroy", self._green)
        self._call("cuDevicePrimaryCtxRelease", self._device)
        self._memory, self._modules = [], []


def driver_missing() -> str | None:
    """What keeps native engines from running here, or None."""
    try:
        from cuda.bindings import driver
    except ImportError:
        return "cuda-bindings is not installed; pip install 'yoloproof[native]'"
    try:
        status, *_ = driver.cuInit(0)
        count = 0 if int(status) else int(driver.cuDeviceGetCount()[1])
    except RuntimeError as error:  # no libcuda
        return f"no CUDA driver ({error}); engines can be built here, but run on a GPU machine only"
    return (
        None if count else "the CUDA driver finds no device; engines can be built here, but run on a GPU machine only"
    )


class CudaError(YoloproofError):
    """A driver call failed. status -- CUresult"""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(f"CUDA driver: {message}")
        self.status = status
