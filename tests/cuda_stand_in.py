"""A CUDA driver in NumPy: memory, graphs of kernel launches, events. Kernels run by the plan's reference.

Machine code is `code(index)`: the number of the kernel in the plan. A graph runs its nodes in an order that its edges
allow and a program would not choose: the latest first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from native_plan.execution import KERNELS, TYPES
from yoloproof.files.plan import Plan

BASE = 1 << 40
SIZE = 1 << 26
OWN = 77


def code(index: int) -> bytes:
    return b"kernel %d" % index


def put_in_place(driver: ModuleType, put: Callable[[str, ModuleType], object]) -> None:
    """Let `import cuda.bindings.driver` give the stand-in; put -- sets a name in sys.modules"""
    parent, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    parent.__path__ = bindings.__path__ = []
    bindings.driver = driver
    for name, module in (("cuda", parent), ("cuda.bindings", bindings), ("cuda.bindings.driver", driver)):
        module.__spec__ = ModuleSpec(name, None)
        put(name, module)


class _Enum(IntEnum):
    CU_STREAM_NON_BLOCKING = 1
    CU_DEV_RESOURCE_TYPE_SM = 2
    CU_GREEN_CTX_DEFAULT_STREAM = 3
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 4
    CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC = 5
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 6
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 7
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 8
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 9


class CudaStandIn(ModuleType):
    """Stands in for `cuda.bindings.driver`. loaded -- images given to the driver; launched -- nodes run so far;
    streams -- those that graphs and copies within the device were given to; waits -- of a stream for another"""

    CUstream_flags = CUdevice_attribute = CUfunction_attribute = CUgraphDependencyType = _Enum
    CUdevResourceType = CUgreenCtxCreate_flags = _Enum
    CUDA_KERNEL_NODE_PARAMS = CUgraphEdgeData = SimpleNamespace

    def __init__(self, plan: Plan, capability: tuple[int, int] = (7, 5), shared: int = 64 << 10) -> None:
        super().__init__("driver")
        self.plan, self.capability, self.shared = plan, capability, shared
        self.memory = np.full(SIZE, 0xFF, np.uint8)
        self.streams, self.waits = [], 0
        self.taken, self.loaded, self.launched, self.freed, self.early = 0, [], 0, 0, 0

    def __int__(self) -> int:
        return OWN  # as the handle of a stream that was made here

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu") or name.endswith("_v2"):
            raise AttributeError(name)
        return lambda *arguments: (0, self)  # whatever has no effect here

    def cuDeviceGetCount(self):
        return 0, 1

    def cuDriverGetVersion(self):
        return 0, 13000

    def cuDeviceGetName(self, length, device):
        return 0, b"Stand-in GPU\0"

    def cuDeviceGetUuid(self, device):
        return 0, SimpleNamespace(bytes=bytes(16))

    def cuDeviceGetAttribute(self, attribute, device):
        values = {6: self.capability[0], 7: self.capability[1], 8: 40, 9: self.shared}
        return 0, values[int(attribute)]

    def cuMemAlloc(self, size):
        address = BASE + self.taken
        self.taken += -(-size // 256) * 256
        return (2, None) if self.taken > SIZE else (0, address)

    def cuMemFree(self, address):
        self.freed += 1
        return (0,)

    def cuMemsetD8Async(self, address, value, size, stream):
        self.memory[address - BASE : address - BASE + size] = value
        return (0,)

    def cuMemcpyHtoDAsync(self, address, host, size, stream):
        self.memory[address - BASE : address - BASE + size] = np.ctypeslib.as_array(
            (ctypes.c_uint8 * size).from_address(host)
        )
        return (0,)

    def cuMemcpyDtoHAsync(self, host, address, size, stream):
        ctypes.memmove(host, self.memory[address - BASE :].ctypes.data, size)
        return (0,)

    def cuMemcpyDtoDAsync(self, target, source, size, stream):
        self.streams.append(stream)
        self.memory[target - BASE : target - BASE + size] = self.memory[source - BASE : source - BASE + size]
        return (0,)

    def cuStreamWaitEvent(self, stream, event, flags):
        self.waits += 1
        return (0,)

    def cuModuleLoadData(self, image):
        assert image.endswith(b"\0")
        self.loaded.append(image)
        return 0, image

    def cuModuleGetFunction(self, module, entry):
        return 0, int(module.split()[1].rstrip(b"\0"))

    def cuGraphCreate(self, flags):
        return 0, []

    def cuGraphAddKernelNode(self, graph, before, count, wanted):
        assert count == len(before)
        values = self._values(wanted)
        graph.append((wanted, values, [*before]))
        return 0, len(graph) - 1

    def cuGraphAddDependencies(self, graph, before, after, edges, count):
        assert len(before) == len(after) == len(edges) == count
        for one, node, edge in zip(before, after, edges, strict=True):
            assert (int(edge.type), edge.from_port) == (5, 1)
            self.early += 1
            graph[node][2].append(one)
        return (0,)

    def cuGraphInstantiate(self, graph, flags):
        return 0, [*graph]

    def _values(self, wanted):
        kinds = self.plan.kernels[wanted.func].arguments
        passed = [kind for kind in kinds if not kind.endswith("=1")]
        slots = (ctypes.c_uint64 * len(passed)).from_address(wanted.kernelParams)
        values = []
        for slot, kind in zip(slots, passed, strict=True):
            at = ctypes.cast(slot, ctypes.POINTER(ctypes.c_uint64 if kind.startswith("*") else ctypes.c_int32))
            values.append(int(at[0]))
        return values

    def cuGraphLaunch(self, graph, stream):
        self.streams.append(stream)
        done: set[int] = set()
        while len(done) < len(graph):
            ready = [i for i, (_, _, before) in enumerate(graph) if i not in done and done.issuperset(before)]
            wanted, values, _ = graph[ready[-1]]
            self._run(wanted, iter(values))
            done.add(ready[-1])
            self.launched += 1
        return (0,)

    def _run(self, wanted, values):
        kernel = self.plan.kernels[wanted.func]
        arguments = []
        for kind in kernel.arguments:
            if kind.startswith("*"):
                memory = self.memory[next(values) - BASE :]
                arguments.append(memory[: memory.size // 4 * 4].view(TYPES[kind.split(":")[0]]))
            else:
                arguments.append(1 if kind.endswith("=1") else next(values))
        grid = (wanted.gridDimX, wanted.gridDimY, wanted.gridDimZ)
        with np.errstate(all="ignore"):
            KERNELS[kernel.name](*arguments, grid=grid, **dict(kernel.constants))

    def cuEventElapsedTime(self, start, end):
        return 0, 1.0
