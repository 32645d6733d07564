"""One fresh process of a measurement: open every subject, warm each up, then time them in turns.

`timed_process` is the whole of it and knows neither processes nor pipes: it takes a clock and an `open_session` and
hands events to `emit`, so that a test drives it with fakes. `python -m yoloproof.measurement.worker JOB` runs it on a
pickled job and writes the events as lines of JSON (events.py).
"""

from __future__ import annotations

import os
import pickle
import random
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yoloproof.measurement.clock import Clock, WallClock, nanoseconds, no_garbage_collection, timer_of
from yoloproof.measurement.events import (
    Completed,
    Ended,
    Event,
    Failed,
    Gauged,
    Offered,
    Opened,
    Rated,
    Sampled,
    Started,
    TurnBegan,
    Waiting,
    WarmedUp,
    Watched,
    line_from_event,
)
from yoloproof.measurement.gauge import END_READINGS, Gauge, HostWatch, matrix_gauge
from yoloproof.measurement.load import cpu_meter
from yoloproof.measurement.serving import Server, rated, swept
from yoloproof.measurement.settling import Heat, Thermometer, WarmUpRun, settled
from yoloproof.measurement.subject import Subject
from yoloproof.measurement.usage import Meters, meters_of
from yoloproof.names import TurnReason
from yoloproof.records import Protocol, Serving
from yoloproof.runtime.base import Session, SessionSpec
from yoloproof.runtime.native_frames import FrameSession
from yoloproof.runtime.tensors import cast_images

Emit = Callable[[Event], None]
Opener = Callable[[SessionSpec], Session]
# While waiting for a machine to settle: how often to look, and how much of the past (more than `settled` looks at).
LOOK_EVERY_S = 1.0
KEEP_RUNS_S = 25.0
# How much of a long turn a Ctrl-C or a crash may cost: samples go out this often, between two inferences.
REPORT_EVERY_S = 5.0


@dataclass(frozen=True)
class WorkerJob:
    """What one process is to do: subjects by their index in the whole run, each with its images' file or array.

    best_s, wait_s -- for `HostWatch`: the quickest reading of earlier processes, and what is left of the run's waiting
    cores -- how many this process may use
    rated -- under the protocol `server`: what earlier processes found of subjects; open_only -- end after the first inference
    """

    process: int
    subjects: dict[int, Subject]
    images: dict[int, Path | NDArray[np.float32]]
    protocol: Protocol
    best_s: float | None = None
    wait_s: float = 0.0
    cores: float = 1.0
    rated: Mapping[int, Serving] = field(default_factory=dict)
    open_only: bool = False


class _Step(NamedTuple):
    """Seconds of one inference's three steps, and the device's own account of `execute`."""

    load: float
    execute: float
    fetch: float
    device: float | None


@dataclass
class _Runner:
    """A subject opened in this process, and how far it has come."""

    index: int
    subject: Subject
    session: Session
    images: NDArray[np.float32]
    runs: int
    meters: Meters
    done: int = 0
    spent_s: float = 0.0
    served: int = field(default=0)

    def next_images(self) -> NDArray[np.float32]:
        """The next [B, 3, H, W] in rotation; a view where the batch does not wrap around."""
        start = self.served * self.subject.batch % len(self.images)
        self.served += 1
        if start + self.subject.batch <= len(self.images):
            return self.images[start : start + self.subject.batch]
        return self.images[np.arange(start, start + self.subject.batch) % len(self.images)]


def timed_process(
    job: WorkerJob,
    emit: Emit,
    *,
    clock: Clock,
    open_session: Opener,
    thermometer: Thermometer | None = None,
    gauge: Gauge | None = None,
    meters: Meters | None = None,
) -> None:
    """Run `job` to its end. A subject that raises is reported, closed and left out of the later turns.

    gauge -- where the protocol waits for the host, read between turns: one in which the host was slowed is repeated as long as
    `job.wait_s` lasts; else read at the beginning and the end, so that hosts can be told apart
    """
    emit(Started(timer_of(clock), clock.now()))
    if job.open_only:
        for runner in _opened(job, emit, clock, open_session, meters or Meters()):
            runner.session.close()
        return
    protocol = job.protocol
    limits = {"limit": protocol.gauge_limit, "rest_s": protocol.gauge_rest_s}
    watch = None if gauge is None else HostWatch(gauge, clock, job.best_s, job.wait_s, **limits)
    between_turns = watch if protocol.wait_max_s else None
    if watch is not None and between_turns is None:
        for _ in range(END_READINGS):
            emit(Gauged(watch.read()))
    order = random.Random(f"{job.protocol.seed}/{job.process}")
    runners = _opened(job, emit, clock, open_session, meters or Meters())
    try:
        with no_garbage_collection():
            if job.protocol.turn_s:
                for runner in list(runners):
                    _guarded(runners, runner, emit, lambda r: _warm_up(r, job.protocol, emit, clock, thermometer))
                _take_turns(runners, job.protocol, order, emit, clock, between_turns)
            else:
                for runner in order.sample(runners, len(runners)):
                    _guarded(runners, runner, emit, lambda r: _alone(r, job, emit, clock, thermometer, open_session))
    finally:
        for runner in runners:
            runner.session.close()
    if watch is not None and between_turns is None:
        for _ in range(END_READINGS):
            emit(Gauged(watch.read()))


def _opened(job: WorkerJob, emit: Emit, clock: Clock, open_session: Opener, meters: Meters) -> list[_Runner]:
    runners: list[_Runner] = []
    indices = sorted(job.subjects)
    # Rotated, so that over as many processes each subject once opens first and pays for libraries and CUDA context.
    first = job.process % len(indices)
    for before, index in enumerate(indices[first:] + indices[:first]):
        subject = job.subjects[index]
        source = job.images[index]
        images = np.load(source) if isinstance(source, Path) else source
        emit(TurnBegan(index, "open"))
        memory = meters.memory()
        try:
            start = clock.now()
            session = open_session(subject.spec)
            ready = clock.now()
            if isinstance(session, FrameSession):  # takes bytes: that they are made of these images is not timed
                images = cast_images(images, "uint8").transpose(0, 2, 3, 1).copy()
            runner = _Runner(index, subject, session, images, job.protocol.runs_of(subject.spec.runtime), meters)
            session.infer(runner.next_images())
            end = clock.now()
        except Exception as error:
            emit(_failure(index, "open", error))
            continue
        taken = memory()
        facts = session.facts
        emit(Opened(index, ready - start, end - ready, before, facts, taken.host_bytes, taken.device_bytes))
        runners.append(runner)
    return runners


def _alone(
    runner: _Runner, job: WorkerJob, emit: Emit, clock: Clock, thermometer: Thermometer | None, open_session: Opener
) -> None:
    """Warm-up and one turn to the end, with no other subject between; then it is served, where the protocol says so."""
    _warm_up(runner, job.protocol, emit, clock, thermometer)
    alone_s = _turn(runner, job.protocol, False, emit, clock)
    _serve(runner, job, alone_s, emit, clock, open_session)
    _completed(runner, job.protocol, emit)


def _serve(runner: _Runner, job: WorkerJob, alone_s: Sequence[float], emit: Emit, clock: Clock, opener: Opener) -> None:
    """Where the protocol serves: capacity and bound, unless an earlier process found them, and latency at each rate."""
    plan = job.protocol.server
    if plan is None:
        return
    seed = f"{job.protocol.seed}/{job.process}/{runner.index}"
    with Server(runner.session, runner.subject.spec, plan.sessions, opener, runner.next_images, clock) as server:
        found = job.rated.get(runner.index) or rated(server, plan, alone_s)
        emit(Rated(runner.index, found))
        swept(server, plan, found, seed, lambda load, share: emit(Offered(runner.index, load, share)))


def _warm_up(runner: _Runner, protocol: Protocol, emit: Emit, clock: Clock, thermometer: Thermometer | None) -> None:
    """At least `warmup_runs` and `warmup_s`, and until the machine stands still where the protocol asks for it."""
    emit(TurnBegan(runner.index, "warm-up"))
    start = clock.now()
    steps: list[_Step] = []
    runs: deque[WarmUpRun] = deque()
    heat = Heat()
    looked_at = float("-inf")
    still: bool | None = None
    while True:
        spent = clock.now() - start
        # Looking takes longer than a fast inference: done after each, the device would idle and never get warm.
        if protocol.settle_max_s and spent - looked_at >= LOOK_EVERY_S:
            while runs and runs[0].at_s < spent - KEEP_RUNS_S:
                runs.popleft()
            still, looked_at = settled(runs), spent
            heat = thermometer() if thermometer else Heat()
        warm = len(steps) >= protocol.warmup_runs and spent >= protocol.warmup_s
        if warm and (still is not False or spent >= protocol.settle_max_s):
            break
        steps.append(_inference(runner, protocol, clock))
        runs.append(WarmUpRun(spent, steps[-1].execute, heat))
    emit(WarmedUp(runner.index, _timed(steps, runner, protocol), still))


def _take_turns(
    runners: list[_Runner], protocol: Protocol, order: random.Random, emit: Emit, clock: Clock, watch: HostWatch | None
) -> None:
    """Rounds in which every unfinished subject has one turn, in a new random order each round."""
    cold = len(runners) > 1 or watch is not None
    while runners:
        for runner in order.sample(runners, len(runners)):
            _guarded(runners, runner, emit, lambda r: _watched_turn(r, protocol, cold, emit, clock, watch))
        for runner in [r for r in runners if _finished(r, protocol)]:
            runners.remove(runner)
            runner.session.close()


def _finished(runner: _Runner, protocol: Protocol) -> bool:
    return runner.done >= runner.runs and runner.spent_s >= protocol.seconds


def _watched_turn(
    runner: _Runner, protocol: Protocol, cold: bool, emit: Emit, clock: Clock, watch: HostWatch | None
) -> None:
    """A turn between two looks at the host's speed. One in which it was slowed is repeated while there is time."""
    if watch is None:
        _turn(runner, protocol, cold, emit, clock)
    else:
        left, done, spent = watch.wait_s, runner.done, runner.spent_s
        before = watch.wait(lambda waited_s: emit(Waiting(runner.index, waited_s)))
        waited_s, start = left - watch.wait_s, clock.now()
        _turn(runner, protocol, cold, emit, clock)
        taken_s = clock.now() - start
        after = watch.read()
        reason = watch.reason(before, after)
        if reason is TurnReason.SLOWED:
            watch.wait_s -= taken_s
            runner.done, runner.spent_s = done, spent
        emit(Watched(runner.index, before, after, watch.best_s, waited_s, taken_s, reason))
    _completed(runner, protocol, emit)


def _completed(runner: _Runner, protocol: Protocol, emit: Emit) -> None:
    if _finished(runner, protocol):
        emit(Completed(runner.index))


def _turn(runner: _Runner, protocol: Protocol, cold: bool, emit: Emit, clock: Clock) -> list[float]:
    """Time the subject for `turn_s`, or to its end; its samples. After a switch, or a look at the host's speed, the first
    inference finds the caches full of something else (`cold`): it goes to the warm-ups."""
    emit(TurnBegan(runner.index, "sample"))
    if cold:
        emit(WarmedUp(runner.index, _timed([_inference(runner, protocol, clock)], runner, protocol)))
    turn_end = clock.now() + protocol.turn_s if protocol.turn_s else float("inf")
    goes_on, samples_s = False, list[float]()
    while not _finished(runner, protocol) and clock.now() < turn_end:
        samples_s += _stretch(runner, protocol, turn_end, goes_on, emit, clock)
        goes_on = True
    return samples_s


def _stretch(
    runner: _Runner, protocol: Protocol, turn_end: float, goes_on: bool, emit: Emit, clock: Clock
) -> tuple[float, ...]:
    """Samples up to the turn's end, the subject's end or `REPORT_EVERY_S`, and one event with them."""
    cpu, energy_before = cpu_meter(), runner.meters.energy_j()
    start = clock.now()
    steps: list[_Step] = []
    try:
        while True:
            steps.append(_inference(runner, protocol, clock))
            now = clock.now()
            if now >= turn_end or now - start >= REPORT_EVERY_S:
                break
            if runner.done + len(steps) >= runner.runs and runner.spent_s + now - start >= protocol.seconds:
                break
    finally:
        # Also when an inference raised: what was measured before it is kept.
        spent = clock.now() - start
        runner.done += len(steps)
        runner.spent_s += spent
        if steps:
            energy_after = runner.meters.energy_j()
            device = [step.device for step in steps if step.device is not None]
            emit(
                Sampled(
                    subject=runner.index,
                    start_s=start,
                    share=_share(runner, protocol),
                    goes_on=goes_on,
                    wall_s=_timed(steps, runner, protocol),
                    load_s=nanoseconds(step.load for step in steps),
                    fetch_s=nanoseconds(step.fetch for step in steps),
                    device_s=nanoseconds(device) if len(device) == len(steps) else None,
                    cpu=cpu(),
                    energy_j=None if energy_before is None or energy_after is None else energy_after - energy_before,
                )
            )
    return _timed(steps, runner, protocol)


def _share(runner: _Runner, protocol: Protocol) -> float:
    return min(1.0, runner.done / max(runner.runs, 1), runner.spent_s / protocol.seconds if protocol.seconds else 1.0)


def _inference(runner: _Runner, protocol: Protocol, clock: Clock) -> _Step:
    """One inference in three timed steps; choosing the images and the pause stand outside them."""
    images = runner.next_images()
    if protocol.pause_s:
        clock.sleep(protocol.pause_s)
    session = runner.session
    start = clock.now()
    session.load(images)
    loaded = clock.now()
    device = session.execute()
    executed = clock.now()
    session.fetch()
    fetched = clock.now()
    return _Step(loaded - start, executed - loaded, fetched - executed, device)


def _timed(steps: Sequence[_Step], runner: _Runner, protocol: Protocol) -> tuple[float, ...]:
    """What the protocol times of each inference."""
    if protocol.timed_of(runner.subject.spec.runtime) == "infer":
        return nanoseconds(step.load + step.execute + step.fetch for step in steps)
    return nanoseconds(step.execute for step in steps)


def _guarded(runners: list[_Runner], runner: _Runner, emit: Emit, act: Callable[[_Runner], None]) -> None:
    """A session may raise anything; the subject is then out, with what it said, and the others go on."""
    try:
        act(runner)
    except Exception as error:
        emit(_failure(runner.index, "inference", error))
        runners.remove(runner)
        runner.session.close()


def _failure(index: int, step: str, error: Exception) -> Failed:
    text = " ".join(str(error).split()) or "no message"
    return Failed(index, step, f"{type(error).__name__}: {text}")


def main(job_file: str) -> None:
    """Run the pickled job; events go to what was standard output, whatever the libraries print goes to stderr."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    job: WorkerJob = pickle.loads(Path(job_file).read_bytes())

    from yoloproof.measurement.machine import thermometer_of
    from yoloproof.runtime import open_session

    def emit(event: Event) -> None:
        events.write(line_from_event(event) + "\n")

    devices = {subject.spec.device for subject in job.subjects.values()}
    thermometer = thermometer_of(max(devices)) if job.protocol.settle_max_s else None
    watched = devices == {"cpu"} and (job.protocol.wait_max_s > 0 or not job.protocol.quick)
    gauge = matrix_gauge(job.cores) if watched else None
    timed_process(
        job, emit, clock=WallClock(), open_session=open_session, thermometer=thermometer, gauge=gauge,
        meters=meters_of(max(devices)),
    )  # fmt: skip
    emit(Ended())


if __name__ == "__main__":
    main(sys.argv[1])
