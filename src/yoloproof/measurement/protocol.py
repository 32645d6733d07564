"""The timing protocols: one frozen row each, named in every result.

A protocol says everything that decides a number besides the artifact and the machine. Two results compare only
when their protocols are equal (`yoloproof.results.compare`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """How one artifact is timed.

    processes -- fresh processes, one after another; the interval stands on them
    warmup_runs, warmup_s -- untimed inferences before the samples: at least so many and at least so long
    settle_max_s -- go on warming up until temperature, clocks and latency stand still, at most so long; 0: do not wait
    runs, seconds -- timed inferences per artifact and process: at least so many and at least so long (pauses count)
    engine_runs -- `runs` where the runtime is TensorRT or TensorRT-RTX, if another number
    wait_max_s -- on a CPU: how long a whole run may wait for a host that others slow, and take slowed turns again (gauge.py)
    turn_s -- how long an artifact runs before the next one's turn; 0: one artifact after the other
    pause_s -- a pause before each inference
    images -- "given": the caller's images in rotation; "zeros": what ProfileModels sends
    timed -- "execute": the network alone; "infer": load, execute and fetch together
    statistic -- the summary that speaks for the protocol: "median", "p90" or "clipped_mean"
    batches -- batch sizes of a sweep; the caller makes one artifact for each
    """

    name: str
    summary: str
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

    def runs_of(self, runtime: str) -> int:
        """Timed inferences per process that the named runtime must reach."""
        return self.engine_runs if self.engine_runs is not None and runtime.startswith("tensorrt") else self.runs

    def clip_rounds_of(self, runtime: str) -> int:
        """How often `published` clips: ProfileModels does it three times for an engine, five times for ONNX."""
        return 3 if runtime.startswith("tensorrt") else 5

    def as_dict(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)


_ROWS = (
    Protocol(
        "latency",
        "real images in rotation, six fresh processes, artifacts interleaved; transfers apart",
        wait_max_s=120.0,
    ),
    Protocol(
        "sustained",
        "back to back until temperature, clocks and latency stand still, then 60 s",
        warmup_s=10.0,
        settle_max_s=180.0,
        seconds=60.0,
        turn_s=0.0,
    ),
    Protocol(
        "paced",
        "200 ms of rest before each inference, so that a 70 W card does not throttle",
        runs=30,
        seconds=8.0,
        turn_s=2.0,
        pause_s=0.2,
    ),
    # ultralytics ProfileModels as it behaves: 3 × 10 warm-up runs, 60 s worth of runs but at least 100 (ONNX) or 5000
    # (TensorRT), an all-zero image, 2-sigma clipping, the mean; one process.
    Protocol(
        "published",
        "what ultralytics' ProfileModels does: zeros, one process, 2-sigma clipping, the mean",
        processes=1,
        warmup_runs=30,
        warmup_s=0.0,
        runs=100,
        engine_runs=5000,
        seconds=60.0,
        turn_s=0.0,
        images="zeros",
        statistic="clipped_mean",
    ),
    # MLPerf Inference rules, single-stream scenario: 600 s, 1024 queries, 90th percentile of the whole query.
    Protocol(
        "loadgen",
        "MLPerf single-stream rules: one process, 600 s and 1024 queries at least, 90th percentile end to end",
        processes=1,
        warmup_runs=10,
        runs=1024,
        seconds=600.0,
        turn_s=0.0,
        timed="infer",
        statistic="p90",
    ),
    Protocol(
        "throughput",
        "a sweep of batch sizes, images per second at each",
        batches=(1, 2, 4, 8, 16, 32),
    ),
)

PROTOCOLS: dict[str, Protocol] = {row.name: row for row in _ROWS}


def quick(protocol: Protocol) -> Protocol:
    """The same in seconds, for a first look, marked so: three processes carry no interval."""
    return replace(
        protocol,
        summary=f"QUICK: {protocol.summary}",
        processes=min(protocol.processes, 3),
        warmup_runs=min(protocol.warmup_runs, 2),
        warmup_s=min(protocol.warmup_s, 0.2),
        settle_max_s=0.0,
        wait_max_s=0.0,
        runs=min(protocol.runs, 5),
        engine_runs=None if protocol.engine_runs is None else min(protocol.engine_runs, 50),
        seconds=min(protocol.seconds, 0.5),
        batches=protocol.batches[:3],
        quick=True,
    )
