"""How a case is timed, what was sampled, and what the samples come to. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from yoloproof.names import Runtime, TurnReason
from yoloproof.records.base import Record
from yoloproof.records.serving import ServerPlan, ServerSummary, Serving


@dataclass(frozen=True, kw_only=True)
class Protocol(Record):
    """How one artifact is timed: everything that decides a number besides the artifact and the machine.

    processes -- fresh processes, one after another; the interval stands on them
    warmup_runs, warmup_s -- untimed inferences before the samples: at least so many and at least so long
    settle_max_s -- go on warming up until temperature, clocks and latency stand still, at most so long; 0: do not wait
    runs, seconds -- timed inferences per artifact and process: at least so many and at least so long (pauses count)
    engine_runs -- `runs` where the runtime is TensorRT or TensorRT-RTX, if another number
    wait_max_s -- on a CPU: how long a run may wait for a host that others slow, and repeat the turns that were slowed
    gauge_limit -- from how many times the gauge's best reading on a host counts as slowed; gauge_share -- with more of its turns
    slowed than this share a process is repeated; gauge_rest_s -- of rest before and after each reading
    turn_s -- how long an artifact runs before the next one's turn; 0: one artifact after the other
    pause_s -- a pause before each inference
    images -- "given": the caller's images in rotation; "ProfileModels": what it sends, zeros to an engine, else uniform noise
    timed -- "execute": the network alone; "infer": load, execute and fetch together; "ProfileModels": what it times, the
      network alone of an engine, else the whole call
    threads -- of ONNX Runtime where the case names none; cuda_graph -- whether a captured graph may be run
    statistic -- the summary that speaks for the protocol: "median", "p90" or "clipped_mean"
    batches -- batch sizes of a sweep; seed -- of the order of turns, chosen by the run
    row_max_s -- what a run may take for each of its rows, building and proof included, before it stops waiting and repeating
      for a host that others slow, and begins no further process where they hold most of it; 0: no such limit
    server -- how queries arrive at sessions that are served, after an inference alone was timed; None: they do not
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
    gauge_limit: float = 1.2
    gauge_share: float = 0.25
    gauge_rest_s: float = 0.03
    turn_s: float = 0.5
    pause_s: float = 0.0
    images: str = "given"
    timed: str = "execute"
    statistic: str = "median"
    threads: int | None = None
    cuda_graph: bool = True
    batches: tuple[int, ...] = ()
    quick: bool = False
    seed: int | None = None
    row_max_s: float = 0.0
    server: ServerPlan | None = None

    def runs_of(self, runtime: Runtime) -> int:
        """Timed inferences per process that the runtime must reach."""
        return self.engine_runs if self.engine_runs is not None and runtime.builds_engines else self.runs

    def images_of(self, runtime: Runtime) -> str:
        """What the runtime is fed: "given", "zeros" or "noise"."""
        if self.images != "ProfileModels":
            return self.images
        return "zeros" if runtime.builds_engines else "noise"

    def timed_of(self, runtime: Runtime) -> str:
        """What is timed of an inference: "execute" or "infer"."""
        if self.timed != "ProfileModels":
            return self.timed
        return "execute" if runtime.builds_engines else "infer"

    def clip_rounds_of(self, runtime: Runtime) -> int:
        """How often `published` clips: ProfileModels does it three times for an engine, five times for ONNX."""
        return 3 if runtime.builds_engines else 5


@dataclass(frozen=True)
class RunWarning(Record):
    """What was seen that makes a number less than it looks, and what to do about it.

    level -- "unusable": do not quote the figure; "act": the reader can mend it; "note": good to know
    level_factor -- 1 or more: by what factor this alone may have moved the level of the whole run; None where it has no say
    in that, or where it has and nobody can tell how much (`results.compare`)
    """

    code: str
    evidence: str
    advice: str
    level_factor: float | None = None

    @property
    def level(self) -> str:
        if self.code in UNUSABLE:
            return "unusable"
        return "note" if self.code in NOTES or (self.code == "host_slowed" and self.level_factor == 1) else "act"


# Warnings that forbid a figure, and those that only say what was asked for, dealt with, or within the interval anyway.
UNUSABLE = ("failed", "partial", "clocks_disagree")
NOTES = ("published_protocol", "quick", "too_few_processes", "zero_input", "slow_start", "bimodal", "processes_differ")


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
class Turn(Record):
    """An unbroken stretch of inferences of one case, between two looks at the host's speed.

    start_s -- since the process looked at its clock; None in files of schema 1
    first, count -- its samples are samples_s[first : first + count] of its process, or of `set_aside` where it was not kept
    gauge_before_s, gauge_after_s -- readings of the host's speed, None where the protocol takes none
    waited_s -- before the turn, for a host that others slowed: every reading meanwhile was slow but the last, gauge_before_s
    kept -- False where the host was slowed and the turn was repeated; energy_j -- that the card took meanwhile, by a counter
    that advances in steps: only sums over many turns say something
    reason -- why its samples count or not, by the readings of the run until then, those around this turn among them; None where
    nobody watched, where the turn broke off, and in files that were written before
    """

    start_s: float | None = None
    first: int
    count: int
    gauge_before_s: float | None = None
    gauge_after_s: float | None = None
    waited_s: float | None = None
    kept: bool = True
    reason: TurnReason | None = None
    energy_j: float | None = None

    @property
    def gauge_s(self) -> float | None:
        """The slower reading."""
        readings = [reading for reading in (self.gauge_before_s, self.gauge_after_s) if reading is not None]
        return max(readings, default=None)


@dataclass(frozen=True, kw_only=True)
class SetAside(Record):
    """Samples of the turns that were not kept, as in Process; schema 1 kept `samples_s` alone."""

    samples_s: tuple[float, ...] = ()
    load_s: tuple[float, ...] = ()
    fetch_s: tuple[float, ...] = ()
    device_s: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Process(Record):
    """One case in one fresh process. All lists are in the order of the clock, and no sample is thrown away.

    start_s -- since the run began: the process looked at its clock; with it `start_s` of its turns and `at_s` of the machine's
    readings lie on one axis
    cold_start_s -- open_s (session ready) + first_inference_s (load, execute, fetch)
    host_bytes, device_bytes -- memory that opening and the first inference added, the host's at its peak
    opened_after -- how many other cases this process had opened, or had failed to, before: 0 also paid for libraries and a CUDA
    context
    samples_s -- the timed step; load_s, fetch_s -- the transfers around each; device_s -- the device's own clock
    turns -- every turn, also those that were repeated because the host was slowed, whose samples are `set_aside`
    warmup_s -- untimed inferences, those after a switch of case too; settled -- whether the machine stood still
    complete -- the process ran to the protocol's end for this case; serving -- under the protocol `server` alone
    open_only -- after all others, for cold start and memory of a case that none of them opened first: no samples, never complete
    """

    process: int
    start_s: float | None = None
    cold_start_s: float | None = None
    open_s: float | None = None
    first_inference_s: float | None = None
    host_bytes: int | None = None
    device_bytes: int | None = None
    opened_after: int = 0
    warmup_s: tuple[float, ...] = ()
    samples_s: tuple[float, ...] = ()
    device_s: tuple[float, ...] | None = None
    load_s: tuple[float, ...] = ()
    fetch_s: tuple[float, ...] = ()
    turns: tuple[Turn, ...] = ()
    set_aside: SetAside = field(default_factory=SetAside)
    settled: bool | None = None
    complete: bool = False
    timer: Timer | None = None
    cpu: CpuTime = field(default_factory=CpuTime)
    serving: Serving | None = None
    open_only: bool = False

    @property
    def gauge_s(self) -> tuple[float, ...]:
        """The slower reading of the host's speed around each turn that was kept."""
        return tuple(turn.gauge_s for turn in self.turns if turn.kept and turn.gauge_s is not None)


@dataclass(frozen=True, kw_only=True)
class Summary(Record):
    """What the samples come to.

    median_s -- the median of the processes' medians; interval_s, confidence -- its interval, None for too few processes
    p90_s, p99_s -- of the samples it stands on, taken together: the host left alone; None below 10 and 100
    p90_as_it_came_s, p99_as_it_came_s -- of all samples, also of turns that were repeated and processes that were set aside. None was
    taken while the protocol waited for the host (`waited_s` of the turns), so a user of it may see worse
    mad_s -- median distance of a sample from its own process's median; fps -- images per second at median_s
    device_median_s -- by the device's own clock; load_median_s, fetch_median_s -- of the transfers; query_median_s -- of load,
    execute and fetch together
    cold_start_s -- opening and the first inference; host_bytes, device_bytes -- memory that they added, the host's at its peak.
    All three are medians over the fresh processes that opened it first (`open_only` ones, too), None where none did
    energy_j -- of the whole card for a whole query (load, execute, fetch, the loop around them), its idle power included;
    power_w -- the card's mean power meanwhile
    clipped_mean_s, clipped_std_s, clipped_runs -- with 2-sigma clipping, under the protocol `published` alone
    server -- under the protocol `server` alone, where every other figure is of a query alone
    """

    median_s: float
    interval_s: tuple[float, float] | None = None
    confidence: float | None = None
    p90_s: float | None = None
    p99_s: float | None = None
    p90_as_it_came_s: float | None = None
    p99_as_it_came_s: float | None = None
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
    query_median_s: float | None = None
    cold_start_s: float | None = None
    host_bytes: int | None = None
    device_bytes: int | None = None
    energy_j: float | None = None
    power_w: float | None = None
    clipped_mean_s: float | None = None
    clipped_std_s: float | None = None
    clipped_runs: int | None = None
    server: ServerSummary | None = None
