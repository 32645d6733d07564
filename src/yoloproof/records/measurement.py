"""How a case is timed, what was sampled, and what the samples come to. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from yoloproof.names import Runtime
from yoloproof.records.base import Record


@dataclass(frozen=True, kw_only=True)
class Protocol(Record):
    """How one artifact is timed: everything that decides a number besides the artifact and the machine.

    processes -- fresh processes, one after another; the interval stands on them
    warmup_runs, warmup_s -- untimed inferences before the samples: at least so many and at least so long
    settle_max_s -- go on warming up until temperature, clocks and latency stand still, at most so long; 0: do not wait
    runs, seconds -- timed inferences per artifact and process: at least so many and at least so long (pauses count)
    engine_runs -- `runs` where the runtime is TensorRT or TensorRT-RTX, if another number
    wait_max_s -- on a CPU: how long a run may wait for a host that others slow, and repeat the turns that were slowed
    turn_s -- how long an artifact runs before the next one's turn; 0: one artifact after the other
    pause_s -- a pause before each inference
    images -- "given": the caller's images in rotation; "zeros": what ProfileModels sends
    timed -- "execute": the network alone; "infer": load, execute and fetch together
    statistic -- the summary that speaks for the protocol: "median", "p90" or "clipped_mean"
    batches -- batch sizes of a sweep; seed -- of the order of turns, chosen by the run
    """

    name: str
    summary: str = ""
    processes: int = 6
    warmup_runs: int = 5
    warmup_s: float = 1.0
    settle_max_s: float = 0.0
    runs: int = 20
    seconds: float = 4.0
    engine_runs: int | None = None
    wait_max_s: float = 0.0
    turn_s: float = 0.5
    pause_s: float = 0.0
    images: str = "given"
    timed: str = "execute"
    statistic: str = "median"
    batches: tuple[int, ...] = ()
    quick: bool = False
    seed: int | None = None

    def runs_of(self, runtime: Runtime) -> int:
        """Timed inferences per process that the runtime must reach."""
        return self.engine_runs if self.engine_runs is not None and runtime.builds_engines else self.runs

    def clip_rounds_of(self, runtime: Runtime) -> int:
        """How often `published` clips: ProfileModels does it three times for an engine, five times for ONNX."""
        return 3 if runtime.builds_engines else 5


@dataclass(frozen=True)
class RunWarning(Record):
    """What was seen that makes a number less than it looks, and what to do about it.

    level_factor -- 1 or more: by what factor this alone may have moved the level of the whole run; None where it has no say
    in that, or where it has and nobody can tell how much (`results.compare`)
    """

    code: str
    evidence: str
    advice: str
    level_factor: float | None = None


@dataclass(frozen=True)
class Timer(Record):
    """step_s -- the clock's smallest step; cost_s -- of reading it."""

    step_s: float
    cost_s: float


@dataclass(frozen=True)
class CpuTime(Record):
    """Core seconds while the samples ran: our process's, everybody else's, and the wall's."""

    own_s: float = 0.0
    others_s: float = 0.0
    wall_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Process(Record):
    """One case in one fresh process. All lists are in the order of the clock and nothing is thrown away.

    cold_start_s -- open_s (session ready) + first_inference_s (load, execute, fetch)
    opened_after -- how many other cases this process had opened before: 0 also paid for loading the runtime library
    samples_s -- the timed step; load_s, fetch_s -- the transfers around each; device_s -- the device's own clock
    gauge_s -- before and after each turn, the slower reading of the host's speed; set_aside_s -- samples of turns in which
    the host was slowed and that were repeated; turns -- how many samples each turn gave
    warmup_s -- untimed inferences, those after a switch of case too; settled -- whether the machine stood still
    complete -- the process ran to the protocol's end for this case
    """

    process: int
    cold_start_s: float | None = None
    open_s: float | None = None
    first_inference_s: float | None = None
    opened_after: int = 0
    warmup_s: tuple[float, ...] = ()
    samples_s: tuple[float, ...] = ()
    device_s: tuple[float, ...] | None = None
    load_s: tuple[float, ...] = ()
    fetch_s: tuple[float, ...] = ()
    turns: tuple[int, ...] = ()
    gauge_s: tuple[float, ...] = ()
    set_aside_s: tuple[float, ...] = ()
    settled: bool | None = None
    complete: bool = False
    timer: Timer | None = None
    cpu: CpuTime = field(default_factory=CpuTime)


@dataclass(frozen=True, kw_only=True)
class Summary(Record):
    """What the samples come to.

    median_s -- the median of the processes' medians; interval_s, confidence -- its interval, None for too few processes
    p90_s, p99_s -- of all samples together, None below 10 and 100; mad_s -- median distance of a sample from its own
    process's median; fps -- images per second at median_s
    device_median_s -- by the device's own clock; load_median_s, fetch_median_s -- of the transfers
    clipped_mean_s, clipped_std_s, clipped_runs -- with 2-sigma clipping, under the protocol `published` alone
    """

    median_s: float
    interval_s: tuple[float, float] | None = None
    confidence: float | None = None
    p90_s: float | None = None
    p99_s: float | None = None
    mad_s: float = 0.0
    mean_s: float
    min_s: float
    fps: float
    samples: int
    processes: int
    process_medians_s: tuple[float, ...]
    device_median_s: float | None = None
    load_median_s: float | None = None
    fetch_median_s: float | None = None
    cold_start_s: float | None = None
    clipped_mean_s: float | None = None
    clipped_std_s: float | None = None
    clipped_runs: int | None = None
