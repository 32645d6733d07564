"""The timing protocols: one frozen row each, named in every result.

A protocol says everything that decides a number besides the artifact and the machine. Two results compare only
when their protocols are equal (`yoloproof.results.compare`).
"""

from __future__ import annotations

from dataclasses import replace

from yoloproof.errors import YoloproofError
from yoloproof.records import Protocol, ServerPlan

_ROWS = (
    Protocol(
        name="latency",
        summary="real images in rotation, six fresh processes, artifacts interleaved; transfers apart",
        wait_max_s=120.0,
        row_max_s=110.0,
    ),
    Protocol(
        name="sustained",
        summary="back to back until temperature, clocks and latency stand still, then 60 s",
        warmup_s=10.0,
        settle_max_s=180.0,
        seconds=60.0,
        turn_s=0.0,
    ),
    Protocol(
        name="paced",
        summary="200 ms of rest before each inference, so that a 70 W card does not throttle",
        runs=30,
        seconds=8.0,
        turn_s=2.0,
        pause_s=0.2,
    ),
    # ultralytics ProfileModels as it behaves: 3 × 10 warm-up runs, 60 s worth of runs but at least 100 (ONNX) or 5000
    # (TensorRT), 2-sigma clipping, the mean; one process. An engine gets zeros and is timed alone, without a CUDA graph, by a
    # clock that waits for the device; ONNX Runtime gets noise, eight threads and the whole of `session.run`.
    Protocol(
        name="published",
        summary="what ultralytics' ProfileModels does: zeros or noise, one process, no CUDA graph, 2-sigma clipping, the mean",
        processes=1,
        warmup_runs=30,
        warmup_s=0.0,
        runs=100,
        engine_runs=5000,
        seconds=60.0,
        turn_s=0.0,
        images="ProfileModels",
        timed="ProfileModels",
        threads=8,
        cuda_graph=False,
        statistic="clipped_mean",
    ),
    # As in MLPerf Inference's single-stream scenario: 600 s, 1024 queries, 90th percentile of the whole query. Its estimate for
    # early stopping is not made, so this is its style, not its figure.
    Protocol(
        name="single-stream-style",
        summary="in the style of MLPerf's single stream: one process, 600 s and 1024 queries at least, 90th percentile end to end",
        processes=1,
        warmup_runs=10,
        runs=1024,
        seconds=600.0,
        turn_s=0.0,
        timed="infer",
        statistic="p90",
    ),
    # As in MLPerf Inference's server scenario: Poisson arrivals, and the highest rate whose 99th percentile keeps a bound. Without
    # its number of queries and its early stopping, so this too is its style. Five processes are the least for an interval.
    Protocol(
        name="server",
        summary="in the style of MLPerf's server: Poisson arrivals at sessions behind one queue, latency from the scheduled arrival",
        processes=5,
        warmup_runs=10,
        runs=30,
        seconds=2.0,
        turn_s=0.0,
        timed="infer",
        server=ServerPlan(),
    ),
    Protocol(
        name="throughput",
        summary="a sweep of batch sizes, images per second at each",
        batches=(1, 2, 4, 8, 16, 32),
    ),
)

PROTOCOLS: dict[str, Protocol] = {row.name: row for row in _ROWS}


def protocol_from_name(name: str, quick: bool = False) -> Protocol:
    """The row of that name, or the same in seconds. Raises YoloproofError that lists the names there are."""
    if name not in PROTOCOLS:
        raise YoloproofError(f"protocol '{name}' is not one of {', '.join(PROTOCOLS)}")
    return in_seconds(PROTOCOLS[name]) if quick else PROTOCOLS[name]


def in_seconds(protocol: Protocol) -> Protocol:
    """The same in seconds, for a first look, marked so: three processes carry no interval."""
    return replace(
        protocol,
        summary=f"QUICK: {protocol.summary}",
        processes=1 if protocol.server else min(protocol.processes, 3),
        warmup_runs=min(protocol.warmup_runs, 2),
        warmup_s=min(protocol.warmup_s, 0.2),
        settle_max_s=0.0,
        wait_max_s=0.0,
        runs=min(protocol.runs, 5),
        engine_runs=None if protocol.engine_runs is None else min(protocol.engine_runs, 50),
        seconds=min(protocol.seconds, 0.5),
        batches=protocol.batches[:3],
        server=protocol.server and replace(protocol.server, loads=(0.5, 0.9), steps=0, queries=20, seconds=1.0),
        quick=True,
    )


def with_server(protocol: Protocol, sessions: int | None, p99_s: float | None) -> Protocol:
    """The protocol with so many sessions, and this bound on the 99th percentile; None: its own. Raises YoloproofError for a
    protocol without a server."""
    if sessions is None and p99_s is None:
        return protocol
    if protocol.server is None:
        raise YoloproofError("--sessions and --p99-ms are settings of --protocol server")
    plan = replace(protocol.server, sessions=sessions or protocol.server.sessions, p99_s=p99_s)
    return replace(protocol, server=plan)
