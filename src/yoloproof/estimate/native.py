"""What a native engine would take on a GPU that is not here, from its plan: launches, arithmetic, bytes.

Nothing here was fitted to a T4. What a launch costs and how much a multiprocessor computes in a cycle come from an H200 that
ran code for 7.5 on all and on 40 of its multiprocessors; bandwidth from a T4 that others measured (arXiv 1903.07486).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.estimate.cost import held_share
from yoloproof.estimate.gpus import GpuRates
from yoloproof.estimate.posterior import interval
from yoloproof.files.native import NativeEngine
from yoloproof.files.plan import BufferPointer, Launch, Operation, WeightPointer

DRAWS, LEVEL = 4000, 0.9
CLOCKS_HZ = {"t4": 1.59e9, "rtx2080": 1.71e9, "rtx2080ti": 1.545e9}  # boost; the T4's is the paper's
REPORTED_S = 1.97e-3  # of YOLOv13-N on a T4, by its authors


@dataclass(frozen=True)
class Prior:
    """A positive number: its median, the standard deviation of its logarithm, and what it rests on."""

    median: float
    spread: float
    rests_on: str


# yolov13n's 7.5 code took 0.539 ms on 132 multiprocessors of an H200 at 1.98 GHz and 0.719 ms on 40, branches side by side
# (results/native-h200.json). Two figures give two numbers (research/native_cycles.py).
PRIORS = {
    "launch": Prior(5464, 0.25, "5,464 cycles a launch, of which an empty one is two fifths: two figures of an H200"),
    "work": Prior(305, 0.35, "305 FLOP a cycle and multiprocessor: the same two; a T4's large products reach 650"),
    "memory": Prior(0.688, 0.08, "0.688 of the data sheet's bandwidth: a T4 that others measured"),
    "cache": Prior(5.0, 0.4, "level-2 cache 5 times as fast as memory: published T4 latencies; 5.8 measured, reading alone"),
    "misfit": Prior(1.0, 0.2, "20 % for what this leaves out: assumed"),
}  # fmt: skip
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class NativeEstimate:
    """An estimate, never a measurement. Seconds of the device, for the network alone in one CUDA graph.

    launches, bytes, flops -- of the tactics that the model finds quickest; parts_s -- adds up to `seconds`
    samples_s -- what the priors think possible
    """

    model: str
    gpu: GpuRates
    launches: int
    bytes: float
    flops: float
    seconds: float
    interval_s: tuple[float, float]
    parts_s: dict[str, float]
    samples_s: NDArray[np.float64]

    def probability_below(self, seconds: float) -> float:
        """The share of what is thought possible that is quicker."""
        return float(np.mean(self.samples_s < seconds))


@dataclass(frozen=True)
class _Work:
    """One launch. programs -- of its grid; moved, constant -- bytes of buffers and of weights"""

    programs: int
    flops: float
    moved: float
    constant: float


def estimate_native(engine: NativeEngine, gpu: GpuRates, clock_hz: float | None = None) -> NativeEstimate:
    """The native engine's code for its lowest capability on `gpu`, in the tactics that the model finds quickest there.

    clock_hz -- the GPU's; None: known for Turing alone
    Raises YoloproofError for a GPU whose clock is not known, and where the code lacks what the plan needs.
    """
    clock_hz = clock_hz or CLOCKS_HZ.get(gpu.name)
    if clock_hz is None:
        raise YoloproofError(f"a native engine is estimated for {', '.join(CLOCKS_HZ)}, not for {gpu.title}")
    model = _Model(engine, gpu, clock_hz)
    works = [work for operation in engine.plan.network for work in model.quickest(operation)]
    rng = np.random.default_rng(0)
    drawn = {name: one.median * np.exp(rng.normal(0, one.spread, DRAWS)) for name, one in PRIORS.items()}
    samples = model.parts(works, drawn).sum(0) * drawn["misfit"]
    launches, arithmetic, moved = (float(part) for part in model.parts(works, model.central)[:, 0])
    parts = {"launches": launches, "arithmetic": arithmetic, "bytes": moved}
    return NativeEstimate(
        engine.properties.get("yoloproof.variant", "").strip('"'), gpu, len(works),
        sum(one.moved + one.constant for one in works), sum(one.flops for one in works), sum(parts.values()),
        interval(samples, LEVEL), parts, samples,
    )  # fmt: skip


class _Model:
    """The cost of an engine's launches on a GPU."""

    def __init__(self, engine: NativeEngine, gpu: GpuRates, clock_hz: float) -> None:
        self.engine, self.gpu, self.clock_hz = engine, gpu, clock_hz
        self.code = engine.code[min(engine.code)]
        self.central: Values = {name: np.array([one.median]) for name, one in PRIORS.items()}

    def parts(self, works: Sequence[_Work], values: Values) -> NDArray[np.float64]:
        """Seconds of the launches themselves, their arithmetic and their bytes: [3, draws]."""
        gpu, found = self.gpu, np.zeros((3, len(values["launch"])))
        for work in works:
            busy = min(gpu.multiprocessors, work.programs)
            held = float(held_share(work.moved, gpu))
            moved = work.constant + work.moved * (1 - held + held / values["cache"])
            rate = gpu.memory_bytes_s * (1.0 if gpu.measured_memory else values["memory"])
            found += [
                values["launch"] / self.clock_hz, work.flops / (values["work"] * self.clock_hz * busy), moved / rate,
            ]  # fmt: skip
        return found

    def quickest(self, operation: Operation) -> list[_Work]:
        """The launches of an operation's quickest tactic that the code has."""
        found = [works for tactic in operation.tactics if (works := self._works(tactic, operation)) is not None]
        if not found:
            raise YoloproofError(f"the file has no code for {operation.name}; build it again")
        return min(found, key=lambda works: float(self.parts(works, self.central).sum()))

    def _works(self, tactic: Sequence[Launch | Operation], operation: Operation) -> list[_Work] | None:
        """Of one tactic, whose own launches share the arithmetic that no smaller operation in it has."""
        own = sum(isinstance(step, Launch) for step in tactic)
        within = sum(step.flops for step in tactic if isinstance(step, Operation))
        works: list[_Work] = []
        for step in tactic:
            if isinstance(step, Operation):
                works += self.quickest(step)
            elif self.code[step.kernel] is None:
                return None
            else:
                works.append(self._work(step, max(operation.flops - within, 0) / own))
        return works

    def _work(self, launch: Launch, flops: float) -> _Work:
        buffers = {one.buffer for one in launch.arguments if isinstance(one, BufferPointer)}
        weights = {one.weight for one in launch.arguments if isinstance(one, WeightPointer)}
        return _Work(
            int(np.prod(launch.grid)), flops, sum(self.engine.plan.buffers[one].bytes for one in buffers),
            sum(self.engine.weights[name].nbytes for name in weights),
        )  # fmt: skip
