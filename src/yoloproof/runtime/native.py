"""The native runtime: an engine of our own kernels, launched by the CUDA driver alone (no PyTorch, no Triton).

The CUDA graph is built from the plan's data dependencies, so that branches that do not read each other overlap.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.devices import driver_release
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.native import REBUILD, CompiledKernel, NativeEngine, read_native
from yoloproof.files.plan import (
    ALIGNMENT,
    BufferPointer,
    Choice,
    Launch,
    Operation,
    WeightPointer,
    chosen_launches,
    dependencies,
)
from yoloproof.files.ptx import RELEASES, needed_cuda, version_of_ptx
from yoloproof.names import Attention, Precision, Runtime
from yoloproof.records import SessionFacts
from yoloproof.runtime.base import Outputs, Session, SessionSpec, TensorSpec
from yoloproof.runtime.cuda_driver import Gpu, Node
from yoloproof.runtime.device_arrays import CUDA, DeviceArray, borrowed, on_cpu
from yoloproof.runtime.image_cast import ImageCast
from yoloproof.runtime.tactics import (
    Tactics,
    check_choice,
    choice_from_tuning,
    measured_choice,
    read_tactics,
    tactics_path,
    write_tactics,
)
from yoloproof.runtime.tensors import check_images

Capability = tuple[int, int]
EARLY_FROM = (9, 0)  # machine code from here on waits by itself for the launches before it
LOADERS = 8  # threads in which the driver compiles PTX


def native_session(spec: SessionSpec) -> Session:
    """A `.native` file opened on a GPU: images in, raw output out, or an end-to-end engine's frames and detections."""
    network = NativeSession(spec)
    if network.plan.frames is None:
        return network
    from yoloproof.runtime.native_frames import FrameSession

    return FrameSession(network)


class NativeSession(Session):
    """The network of a `.native` file opened on a GPU, of an end-to-end engine without what stands around it; of the
    options it knows `native`."""

    def __init__(self, spec: SessionSpec) -> None:
        if spec.path is None:
            raise YoloproofError("native opens a file: give a path to a .native")
        self._path = Path(spec.path)
        started = time.perf_counter()
        self._engine = read_native(self._path)
        self.plan = self._engine.plan
        self._options = spec.options.native
        if spec.precision not in (None, Precision.FP16):
            raise YoloproofError(f"{self._path} computes in fp16, not {spec.precision}")
        self.gpu = Gpu(_device_index(spec.device), self._options.multiprocessors)
        self._capability, self._from_ptx = chosen_code(
            self._engine, self.gpu.capability, self._options.code, self._path
        )
        if self._from_ptx:
            check_driver_loads(self._engine, self._capability, self.gpu.driver, self._path)
        self._kernels = _Kernels(self.gpu, self._engine.code[self._capability], self._from_ptx)
        self._early = self._options.early_start and self._capability >= EARLY_FROM
        plan = self.plan
        self._arena = self.gpu.allocate(plan.arena_bytes)
        self.gpu.fill(self._arena, plan.arena_bytes, 0)
        self._weights = _upload_weights(self.gpu, self._engine.weights)
        self._cast = ImageCast(plan.images)
        self.inputs = (TensorSpec("images", plan.images, "float32"),)
        self.outputs = (TensorSpec("output0", plan.outputs, "float32"),)
        self.choice: Choice = self._tactics()
        check_choice(plan.operations, self.choice)
        self._graph = self.graph(chosen_launches(plan.network, self.choice))
        self.facts = SessionFacts(
            name=Runtime.NATIVE, version=self._engine.built["yoloproof"], device=spec.device, provider=self.gpu.name,
            precision=Precision.FP16.dtype, cuda_graph=True, attention=Attention.FUSED,
            tuning={name: str(index) for name, index in self.choice.items()},
            compute_capability=".".join(map(str, self.gpu.capability)),
            target=".".join(map(str, self._capability)) + (" (PTX)" if self._from_ptx else ""),
            prepare_s=time.perf_counter() - started,
        )  # fmt: skip

    def _tactics(self) -> Choice:
        """The tactics given, else those kept for this GPU, driver, code and file, else measured ones."""
        plan, options = self.plan, self._options
        if options.tuning is not None:
            return choice_from_tuning(options.tuning)
        if not options.measured:
            return self._defaults(plan.operations)
        driver = driver_release() or self.gpu.driver  # else its CUDA version, which several releases share
        key = "; ".join(
            [
                self.gpu.name, f"{self.gpu.multiprocessors} multiprocessors", f"driver {driver}",
                f"code {self._capability[0]}.{self._capability[1]}", sha256_of(self._path),
            ]
        )  # fmt: skip
        path = options.tactics or tactics_path(self._path, key)
        kept = read_tactics(path)
        if kept is not None and kept.key == key:
            return kept.choice
        if options.tactics is not None:
            held = "none" if kept is None else f"those of {kept.key}"
            raise YoloproofError(f"{path} holds no tactics of {key}, but {held}; leave --tactics out to measure them")
        self._kernels.load_all()
        self.gpu.launch(self.graph(chosen_launches(plan.operations, self._defaults(plan.operations))))
        self.gpu.synchronize()
        tactics = Tactics(key, measured_choice(plan.operations, self._available, self._seconds))
        write_tactics(path, tactics)
        return tactics.choice

    def _available(self, launch: Launch) -> bool:
        return self._kernels.available(launch.kernel)

    def _defaults(self, operations: Sequence[Operation]) -> dict[str, int]:
        """The file's defaults; where the code lacks one, the first tactic that it has."""
        return measured_choice(operations, self._available, None)

    def _seconds(self, launches: Sequence[Launch], repeats: int) -> float:
        """Device seconds of launches one after the other, the least of a few runs of a graph that repeats them."""
        nodes = [self._node(launch, (i - 1,) if i else ()) for i, launch in enumerate([*launches] * repeats)]
        graph = self.gpu.graph(nodes, self._early)
        self.gpu.launch(graph)
        best = min(self.gpu.timed(graph) for _ in range(5)) / repeats
        self.gpu.forget(graph)
        return best

    def graph(self, launches: Sequence[Launch]) -> Any:
        """A CUDA graph of these launches of the plan."""
        if self._options.overlap:
            after = reduced(dependencies(launches))
        else:
            after = [(i - 1,) if i else () for i in range(len(launches))]
        nodes = [self._node(launch, before) for launch, before in zip(launches, after, strict=True)]
        return self.gpu.graph(nodes, self._early)

    def _node(self, launch: Launch, after: tuple[int, ...]) -> Node:
        plan = self.plan
        kinds = plan.kernels[launch.kernel].arguments
        values: list[int] = []
        for argument, kind in zip(launch.arguments, kinds, strict=True):
            if isinstance(argument, BufferPointer):
                values.append(self._arena + plan.buffers[argument.buffer].offset + argument.offset)
            elif isinstance(argument, WeightPointer):
                values.append(self._weights[argument.weight])
            elif not kind.endswith("=1"):  # else compiled in
                values.append(argument)
        facts = self._kernels.facts(launch.kernel)
        if len(values) > facts.parameters:
            raise YoloproofError(
                f"{self._path}: {facts.entry} takes {facts.parameters} arguments, the plan has more; {REBUILD}"
            )
        values += [0] * (facts.parameters - len(values))
        return Node(
            self._kernels.function(launch.kernel), launch.grid, facts.threads, facts.shared_bytes, tuple(values), after
        )

    def load(self, images: Any) -> None:
        """Take images [B, 3, H, W], RGB in 0…1: a NumPy array, or another's on the CPU with `__dlpack__`; or an array on this GPU
        in float16 and channels-last memory, with `__dlpack__` or `__cuda_array_interface__`, or a `DeviceArray`."""
        self.gpu.take_thread()
        if on_cpu(images):
            images = np.from_dlpack(images)
        if not isinstance(images, np.ndarray):
            self._copy_in(images, self.gpu.stream)
            self.gpu.synchronize()
            return
        check_images(images, self.inputs[0])
        self.gpu.upload(self._cast(images), self.address(self.plan.input))

    def execute(self) -> float | None:
        self.gpu.take_thread()
        return self.gpu.timed(self._graph)

    def fetch(self) -> Outputs:
        outputs = np.empty(self.plan.outputs, np.float32)
        self.gpu.take_thread()
        self.gpu.download(self.address(self.plan.output), outputs)
        return (outputs,)

    def device_outputs(self) -> DeviceArray:
        """The last run's outputs where they lie, for `torch.from_dlpack` and others; the next run overwrites them."""
        plan = self.plan
        return DeviceArray(self.address(plan.output), plan.outputs, "float32", device=self.gpu.index, owner=self)

    def enqueue(self, images: object, outputs: object, stream: int) -> None:
        """Copy images from this GPU, run, and copy the outputs out, all on a stream of the caller's, without waiting.

        images, outputs -- as `load` takes them, and float32 [B, 4 + classes, A]; or device addresses of such arrays
        stream -- a CUDA stream's handle. Both arrays stay in place until the stream has done this; calls on several
          streams must not overlap, since they share the session's memory
        """
        self.gpu.take_thread()
        self._copy_in(images, stream)
        self.gpu.launch(self._graph, stream)
        shape = self.plan.outputs
        with self.found(outputs, shape, "float32", contiguous(shape), "outputs", stream) as found:
            self.gpu.copy(self.address(self.plan.output), found.address, found.bytes, stream)

    def _copy_in(self, images: object, stream: Any) -> None:
        shape = self.plan.images
        channels, width = shape[1], shape[3]
        strides = (math.prod(shape[1:]), 1, channels * width, channels)  # channels last
        with self.found(images, shape, "float16", strides, "images", stream) as found:
            self.gpu.copy(found.address, self.address(self.plan.input), found.bytes, stream)

    @contextmanager
    def found(
        self, array: object, shape: tuple[int, ...], dtype: str, strides: tuple[int, ...], what: str, stream: Any
    ) -> Iterator[DeviceArray]:
        """Somebody's array on this GPU, for use on a stream; YoloproofError where it is not as described.

        array -- or the device address of such a one, taken at its word; strides -- in values
        """
        if isinstance(array, int):
            array = DeviceArray(array, shape, dtype, strides, device=self.gpu.index)
        with self.found_here(array, what, stream) as found:
            given = found.strides or contiguous(found.shape)
            same = all(a == b for a, b, size in zip(given, strides, found.shape, strict=False) if size > 1)
            if found.shape != shape or found.dtype != dtype or not same:
                order = "contiguous" if what == "outputs" else "channels-last"
                raise YoloproofError(
                    f"{what} on the GPU: the engine takes {dtype} {list(shape)} in {order} memory, not {found.dtype}"
                    f" {list(found.shape)} with strides {list(given)}"
                )
            yield found

    @contextmanager
    def found_here(self, array: object, what: str, stream: Any) -> Iterator[DeviceArray]:
        """Somebody's array, ready for use on a stream; YoloproofError where it lies on another device."""
        with borrowed(array, int(stream)) as found:
            if found.kind != CUDA or found.device != self.gpu.index:
                raise YoloproofError(
                    f"{what} lie on another device than the engine's cuda:{self.gpu.index}; move them there"
                )
            if found.stream is not None:
                self.gpu.wait_for(found.stream, stream)
            yield found

    def address(self, buffer: int) -> int:
        """Of a buffer of the plan on the device."""
        return self._arena + self.plan.buffers[buffer].offset

    def close(self) -> None:
        self.gpu.take_thread()
        self.gpu.forget(self._graph)
        self.gpu.close()


class _Kernels:
    """The code of one capability, loaded onto a GPU kernel by kernel as it is asked for."""

    def __init__(self, gpu: Gpu, code: Sequence[CompiledKernel | None], from_ptx: bool) -> None:
        self._gpu, self._code, self._from_ptx = gpu, code, from_ptx
        self._functions: dict[int, Any] = {}

    def available(self, index: int) -> bool:
        kernel = self._code[index]
        return kernel is not None and kernel.facts.shared_bytes <= self._gpu.most_shared_bytes

    def facts(self, index: int) -> Any:
        kernel = self._code[index]
        assert kernel is not None
        return kernel.facts

    def function(self, index: int) -> Any:
        if index not in self._functions:
            self._functions[index] = self._load(index)
        return self._functions[index]

    def load_all(self) -> None:
        """Every kernel at once: what the driver has to compile it compiles in several threads."""
        missing = [i for i in range(len(self._code)) if self.available(i) and i not in self._functions]
        if not self._from_ptx:
            missing = []
        with ThreadPoolExecutor(LOADERS, initializer=self._gpu.take_thread) as pool:
            self._functions |= dict(zip(missing, pool.map(self._load, missing), strict=True))

    def _load(self, index: int) -> Any:
        kernel = self._code[index]
        assert kernel is not None
        image = kernel.ptx if self._from_ptx else kernel.cubin
        return self._gpu.load_kernel(image, kernel.facts.entry, kernel.facts.shared_bytes)


def chosen_code(engine: NativeEngine, gpu: Capability, asked: str | None, path: Path) -> tuple[Capability, bool]:
    """The capability whose code a GPU runs, and whether it is the PTX: machine code for the GPU itself, or for an older
    one of the same generation below 9.0 (CUDA's binary compatibility), else PTX of an older one.

    Raises YoloproofError where the file has none of these.
    """
    there = ", ".join(f"{major}.{minor}" for major, minor in sorted(engine.code))
    if asked is not None:
        wanted = tuple(int(part) for part in asked.split("."))
        found = [one for one in engine.code if one == wanted]
    else:
        same = [one for one in engine.code if one == gpu or (one[0] == gpu[0] < 9 and one <= gpu)]
        with_ptx = [one for one, kernels in engine.code.items() if one <= gpu and any(k and k.ptx for k in kernels)]
        found = [max(same)] if same else with_ptx[:1]
    if not found or found[0] > gpu:
        raise YoloproofError(
            f"{path} has code for {there}, not for {asked or '.'.join(map(str, gpu))}; this GPU has {gpu[0]}.{gpu[1]}: "
            f"build one with --target sm{gpu[0]}{gpu[1]}"
        )
    capability = found[0]
    from_ptx = not (capability == gpu or (capability[0] == gpu[0] < 9))
    if from_ptx and not any(kernel and kernel.ptx for kernel in engine.code[capability]):
        raise YoloproofError(f"{path} has no PTX for {capability[0]}.{capability[1]}, only for the lowest of {there}")
    return capability, from_ptx


def check_driver_loads(engine: NativeEngine, capability: Capability, driver: int, path: Path) -> None:
    """Raise YoloproofError where a driver (1000 · major + 10 · minor of its CUDA) is older than a file's PTX."""
    version = version_of_ptx(next((kernel.ptx for kernel in engine.code[capability] if kernel), b""))
    if version is None or version not in RELEASES:
        return  # the driver says so itself
    (major, minor), branch = needed_cuda(version)
    if driver < 1000 * major + 10 * minor:
        raise YoloproofError(
            f"{path}: its PTX {version[0]}.{version[1]} needs driver {branch} (CUDA {major}.{minor}), this one is of CUDA "
            f"{driver // 1000}.{driver % 1000 // 10}: update it, or build machine code for this GPU with --target"
        )


def reduced(dependencies: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The dependencies without those that others imply."""
    before: list[int] = []
    kept = []
    for needed in dependencies:
        implied = 0
        for other in needed:
            implied |= before[other]
        kept.append(tuple(other for other in needed if not implied >> other & 1))
        before.append(implied | sum(1 << other for other in needed))
    return kept


def _upload_weights(gpu: Gpu, weights: Mapping[str, NDArray[np.float16]]) -> dict[str, int]:
    """Each weight's address; all of them in one allocation and one copy."""
    offsets: dict[str, int] = {}
    end = 0
    for name, values in weights.items():
        offsets[name] = end
        end += -(-values.nbytes // ALIGNMENT) * ALIGNMENT
    whole = np.zeros(end, np.uint8)
    for name, values in weights.items():
        whole[offsets[name] : offsets[name] + values.nbytes] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    address = gpu.allocate(end)
    gpu.upload(whole, address)
    return {name: address + offset for name, offset in offsets.items()}


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous array, in values."""
    return tuple(math.prod(shape[at + 1 :]) for at in range(len(shape)))


def _device_index(device: str) -> int:
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdigit():
        raise YoloproofError(f"native engines run on cuda or cuda:N, not on {device}")
    return int(index or 0)
