"""One fresh process of a measurement: open every subject, warm each up, then time them in turns.

`timed_process` is the whole of it and knows neither processes nor pipes: it takes a clock and an `open_session` and
hands events to `emit`, so that a test drives it with fakes. `python -m yoloproof.measurement.worker JOB` runs it on a
pickled job and writes the events as lines of JSON; `measure` reads them.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.measurement.clock import Clock, WallClock, timer_facts
from yoloproof.measurement.gauge import Gauge, HostWatch, matrix_gauge
from yoloproof.measurement.load import cpu_meter
from yoloproof.measurement.protocol import Protocol
from yoloproof.measurement.records import Step, Subject
from yoloproof.measurement.settling import Reading, Thermometer, settled
from yoloproof.runtime.base import Session, SessionSpec

Emit = Callable[[dict[str, Any]], None]
Opener = Callable[[SessionSpec], Session]
# While waiting for a machine to settle: how often to look, and how much of the past (more than `settled` looks at).
LOOK_EVERY_S = 1.0
KEEP_READINGS_S = 25.0
# How much of a long turn a Ctrl-C or a crash may cost: samples go out this often, between two inferences.
REPORT_EVERY_S = 5.0


@dataclass(frozen=True)
class Job:
    """What one process is to do: subjects by their index in the whole run, each with its images' file or array.

    best_s, wait_s -- for `HostWatch`: the quickest reading of earlier processes, and what is left of the run's waiting
    cores -- how many this process may use
    """

    process: int
    subjects: dict[int, Subject]
    images: dict[int, Path | NDArray[np.float32]]
    protocol: Protocol
    seed: int
    best_s: float | None = None
    wait_s: float = 0.0
    cores: float = 1.0


@dataclass
class _Runner:
    """A subject opened in this process, and how far it has come."""

    index: int
    subject: Subject
    session: Session
    images: NDArray[np.float32]
    runs: int
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
    job: Job,
    emit: Emit,
    *,
    clock: Clock,
    open_session: Opener,
    thermometer: Thermometer | None = None,
    gauge: Gauge | None = None,
) -> None:
    """Run `job` to its end. A subject that raises is reported, closed and left out of the later turns.

    gauge -- read between turns; a turn that the host was slowed in is taken again as long as `job.wait_s` lasts
    """
    emit({"event": "start", "timer": timer_facts(clock)})
    watch = None if gauge is None else HostWatch(gauge, clock, job.best_s, job.wait_s)
    order = random.Random(f"{job.seed}/{job.process}")
    runners = _opened(job, emit, clock, open_session)
    try:
        with _QuietCollector():
            if job.protocol.turn_s:
                for runner in list(runners):
                    _guarded(runners, runner, emit, lambda r: _warm_up(r, job.protocol, emit, clock, thermometer))
                _take_turns(runners, job.protocol, order, emit, clock, watch)
            else:
                for runner in order.sample(runners, len(runners)):
                    _guarded(runners, runner, emit, lambda r: _alone(r, job.protocol, emit, clock, thermometer))
    finally:
        for runner in runners:
            runner.session.close()


def _opened(job: Job, emit: Emit, clock: Clock, open_session: Opener) -> list[_Runner]:
    runners: list[_Runner] = []
    indices = sorted(job.subjects)
    # Rotated, so that over the processes each subject once opens first and pays for loading the library.
    first = job.process % len(indices)
    for index in indices[first:] + indices[:first]:
        subject = job.subjects[index]
        source = job.images[index]
        images = np.load(source) if isinstance(source, Path) else source
        emit({"event": "turn", "subject": index, "step": "open"})
        try:
            start = clock.now()
            session = open_session(subject.spec)
            ready = clock.now()
            runner = _Runner(index, subject, session, images, job.protocol.runs_of(subject.spec.runtime))
            session.infer(runner.next_images())
            end = clock.now()
        except Exception as error:
            emit(_failure(index, "open", error))
            continue
        emit(
            {
                "event": "opened",
                "subject": index,
                "open_s": ready - start,
                "first_inference_s": end - ready,
                "opened_after": len(runners),
                "facts": session.facts,
            }
        )
        runners.append(runner)
    return runners


def _alone(runner: _Runner, protocol: Protocol, emit: Emit, clock: Clock, thermometer: Thermometer | None) -> None:
    """Warm-up and one turn to the end, with no other subject between."""
    _warm_up(runner, protocol, emit, clock, thermometer)
    _turn(runner, protocol, False, emit, clock)
    _completed(runner, protocol, emit)


def _warm_up(runner: _Runner, protocol: Protocol, emit: Emit, clock: Clock, thermometer: Thermometer | None) -> None:
    """At least `warmup_runs` and `warmup_s`, and until the machine stands still where the protocol asks for it."""
    emit({"event": "turn", "subject": runner.index, "step": "warm-up"})
    start = clock.now()
    steps: list[Step] = []
    readings: deque[Reading] = deque()
    heat: dict[str, float] = {}
    looked_at = float("-inf")
    still: bool | None = None
    while True:
        spent = clock.now() - start
        # Looking takes longer than a fast inference: done after each, the device would idle and never get warm.
        if protocol.settle_max_s and spent - looked_at >= LOOK_EVERY_S:
            while readings and readings[0].at_s < spent - KEEP_READINGS_S:
                readings.popleft()
            still, looked_at = settled(readings), spent
            heat = thermometer() if thermometer else {}
        warm = len(steps) >= protocol.warmup_runs and spent >= protocol.warmup_s
        if warm and (still is not False or spent >= protocol.settle_max_s):
            break
        steps.append(_inference(runner, protocol, clock))
        readings.append(Reading(spent, steps[-1].execute, heat))
    emit({"event": "warmup", "subject": runner.index, "settled": still, **_columns(steps, protocol)})


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
    """A turn between two looks at the host's speed. One in which it was slowed is to be taken again while there is time."""
    if watch is None:
        _turn(runner, protocol, cold, emit, clock)
    else:
        left, done, spent = watch.wait_s, runner.done, runner.spent_s
        before = watch.wait()
        start = clock.now()
        _turn(runner, protocol, cold, emit, clock)
        taken = clock.now() - start
        reading = max(before, watch.read())
        again = watch.slowed(reading) and watch.wait_s > 0
        if again:
            watch.wait_s -= taken
            runner.done, runner.spent_s = done, spent
        waited = {"gauge_s": reading, "best_s": watch.best_s, "again": again, "waited_s": left - watch.wait_s}
        emit({"event": "watched", "subject": runner.index, **waited})
    _completed(runner, protocol, emit)


def _completed(runner: _Runner, protocol: Protocol, emit: Emit) -> None:
    if _finished(runner, protocol):
        emit({"event": "complete", "subject": runner.index})


def _turn(runner: _Runner, protocol: Protocol, cold: bool, emit: Emit, clock: Clock) -> None:
    """Time the subject for `turn_s`, or to its end. After a switch, or a look at the host's speed, the first inference
    finds the caches full of something else (`cold`): it goes to the warm-ups."""
    emit({"event": "turn", "subject": runner.index, "step": "sample"})
    if cold:
        emit({"event": "warmup", "subject": runner.index, **_columns([_inference(runner, protocol, clock)], protocol)})
    turn_end = clock.now() + protocol.turn_s if protocol.turn_s else float("inf")
    goes_on = False
    while not _finished(runner, protocol) and clock.now() < turn_end:
        _stretch(runner, protocol, turn_end, goes_on, emit, clock)
        goes_on = True


def _stretch(runner: _Runner, protocol: Protocol, turn_end: float, goes_on: bool, emit: Emit, clock: Clock) -> None:
    """Samples up to the turn's end, the subject's end or `REPORT_EVERY_S`, and one event with them."""
    cpu = cpu_meter()
    start = clock.now()
    steps: list[Step] = []
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
            emit(
                {
                    "event": "samples",
                    "subject": runner.index,
                    "goes_on": goes_on,
                    "share": _share(runner, protocol),
                    "cpu": cpu(),
                    **_columns(steps, protocol),
                }
            )


def _share(runner: _Runner, protocol: Protocol) -> float:
    return min(1.0, runner.done / max(runner.runs, 1), runner.spent_s / protocol.seconds if protocol.seconds else 1.0)


def _inference(runner: _Runner, protocol: Protocol, clock: Clock) -> Step:
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
    return Step(loaded - start, executed - loaded, fetched - executed, device)


def _columns(steps: Sequence[Step], protocol: Protocol) -> dict[str, Any]:
    whole = protocol.timed == "infer"
    device = [step.device for step in steps if step.device is not None]
    return {
        "wall_s": [step.load + step.execute + step.fetch if whole else step.execute for step in steps],
        "load_s": [step.load for step in steps],
        "fetch_s": [step.fetch for step in steps],
        "device_s": device if len(device) == len(steps) else None,
    }


def _guarded(runners: list[_Runner], runner: _Runner, emit: Emit, act: Callable[[_Runner], None]) -> None:
    """A session may raise anything; the subject is then out, with what it said, and the others go on."""
    try:
        act(runner)
    except Exception as error:
        emit(_failure(runner.index, "inference", error))
        runners.remove(runner)
        runner.session.close()


def _failure(index: int, step: str, error: Exception) -> dict[str, Any]:
    text = " ".join(str(error).split()) or "no message"
    return {"event": "failed", "subject": index, "step": step, "error": f"{type(error).__name__}: {text}"}


class _QuietCollector:
    """No garbage collection between two timed inferences."""

    def __enter__(self) -> None:
        gc.collect()
        self._was = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was:
            gc.enable()


def main(job_file: str) -> None:
    """Run the pickled job; events go to what was standard output, whatever the libraries print goes to stderr."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    job: Job = pickle.loads(Path(job_file).read_bytes())

    from yoloproof.measurement.machine import thermometer_of
    from yoloproof.runtime import open_session

    def emit(event: dict[str, Any]) -> None:
        events.write(json.dumps(event, default=str) + "\n")

    devices = {subject.spec.device for subject in job.subjects.values()}
    thermometer = thermometer_of(max(devices)) if job.protocol.settle_max_s else None
    gauge = matrix_gauge(job.cores) if job.protocol.wait_max_s and devices == {"cpu"} else None
    timed_process(job, emit, clock=WallClock(), open_session=open_session, thermometer=thermometer, gauge=gauge)
    emit({"event": "end"})


if __name__ == "__main__":
    main(sys.argv[1])
