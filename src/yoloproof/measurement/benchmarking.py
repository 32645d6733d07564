"""`benchmark`: artifacts in, measurements out; several fresh processes, all artifacts side by side in each.

    subjects → for each process: a worker (worker.py) → events → samples → summary, warnings

Nothing is printed. What was measured before a Ctrl-C, a crash or an exception is kept and marked partial.
"""

from __future__ import annotations

import math
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.measurement.clock import Clock, WallClock
from yoloproof.measurement.collect import Collector
from yoloproof.measurement.cpu import usable_cores
from yoloproof.measurement.gauge import gauge_size
from yoloproof.measurement.machine import Watcher, changing_facts, machine_facts
from yoloproof.measurement.processes import Executor, WorkerDied, no_room, run_worker
from yoloproof.measurement.selection import processes_to_set_aside, with_reason_set_aside
from yoloproof.measurement.stability import machine_warnings, subject_warnings
from yoloproof.measurement.statistics import summarize
from yoloproof.measurement.subject import Progress, Subject
from yoloproof.measurement.worker import WorkerJob
from yoloproof.records import Machine, Process, Protocol, RunWarning, SessionFacts, Summary

Images = NDArray[np.float32] | Mapping[str, NDArray[np.float32]]
# What a process takes besides warm-up and samples, on a busy host, before one was seen: Python, libraries, the artifact.
START_S = 5.0
# With more of the host's cores kept busy by other programs, a run that is late leaves out processes.
CROWDED = 0.5


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One subject's samples and what they come to.

    facts -- the session's own account of how it ran; None where it never opened
    processes -- those the summary stands on; set_aside -- those that the host slowed, where enough others are left
    summary -- None where there is not one sample
    partial -- not every process ran to the end; `error` says why where an inference or a process failed
    """

    subject: Subject
    facts: SessionFacts | None
    processes: tuple[Process, ...]
    set_aside: tuple[Process, ...]
    summary: Summary | None
    warnings: tuple[RunWarning, ...]
    partial: bool
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What `benchmark` measured.

    protocol -- with the seed of the order of turns; warnings -- those that hold for every subject
    interrupted -- by Ctrl-C; gauge_best_s -- the quickest reading of the host's speed, on a CPU, without `quick`;
    gauge_size -- side of the larger matrix it was read with
    measurements -- one of each subject, in their order
    """

    protocol: Protocol
    machine: Machine
    warnings: tuple[RunWarning, ...]
    interrupted: bool
    gauge_best_s: float | None
    gauge_size: int | None
    measurements: tuple[Measurement, ...]


def benchmark(
    subjects: Sequence[Subject],
    protocol: Protocol,
    images: Images,
    *,
    progress: Progress | None = None,
    seed: int | None = None,
    executor: Executor = run_worker,
    watch: Callable[[str], Watcher] = Watcher,
    keep: Callable[[Benchmark], None] = lambda so_far: None,
    clock: Clock | None = None,
    began_s: float | None = None,
) -> Benchmark:
    """Time `subjects` side by side under `protocol`.

    images -- [n, 3, H, W] float32 RGB in 0…1 for all, or one such array per subject name
    seed -- of the order of turns; chosen and recorded where it is None
    executor -- runs one process's job and hands its events back; a test brings its own
    keep -- gets what there is after each process, marked interrupted, so that even a kill leaves it
    clock -- that of the workers; began_s -- what it said when the run began, with building and proof; None: it begins now

    Where the protocol waits for a host that others slow (gauge.py), slowed processes are replaced, by as many at most. Both
    end in time for `row_max_s` a row, and so does a run on a host of which other programs hold more than half, which is partial.
    A Ctrl-C ends the run early: it is marked interrupted and the measurements partial; where there was nothing yet,
    KeyboardInterrupt goes on. YoloproofError for subjects or images that do not fit together, and for a temporary
    folder without room for the images.
    """
    arrays = _arrays(subjects, protocol, images)
    protocol = replace(protocol, seed=secrets.randbits(32) if seed is None else seed)
    device = max(subject.spec.device for subject in subjects)  # "cuda" before "cpu"
    clock = clock or WallClock()
    end_s = (clock.now() if began_s is None else began_s) + (protocol.row_max_s * len(subjects) or math.inf)
    before = machine_facts(device)
    cores = usable_cores(before.cpu)
    zero = [not array.any() for array in arrays]
    with _image_files(arrays) as files, watch(device) as watcher:
        collector = Collector(subjects, protocol, progress, clock.now())  # the axis of the watcher's readings, too

        def so_far(interrupted: bool) -> Benchmark:
            machine = replace(before, during=watcher.readings(), after=changing_facts(device))
            return _benchmark(collector, protocol, machine, zero, cores, interrupted)

        crowded = CROWDED * (before.cpu.logical_cores or cores)
        interrupted = _run_processes(
            collector, protocol, files, cores, executor, lambda: keep(so_far(True)), clock, end_s, crowded
        )
        return so_far(interrupted)


def not_begun(subjects: Sequence[Subject], protocol: Protocol) -> Benchmark:
    """The benchmark of subjects before its first process, marked interrupted."""
    machine = machine_facts(max(subject.spec.device for subject in subjects))
    cores = usable_cores(machine.cpu)
    return _benchmark(Collector(subjects, protocol), protocol, machine, [False] * len(subjects), cores, True)


def _benchmark(
    collector: Collector, protocol: Protocol, machine: Machine, zero: Sequence[bool], cores: float, interrupted: bool
) -> Benchmark:
    """What was collected. zero -- per subject, whether its images are all black"""
    aside = processes_to_set_aside(collector.samples, protocol, collector.best_s)
    measurements = [
        _measurement(
            i,
            collector,
            protocol,
            zero_input=black,
            cores=machine.cpu.logical_cores or cores,
            usable=cores,
            aside=aside,
        )
        for i, black in enumerate(zero)
    ]
    return Benchmark(
        protocol=protocol,
        machine=machine,
        warnings=tuple(machine_warnings(machine)),
        interrupted=interrupted,
        gauge_best_s=collector.best_s,
        gauge_size=None if collector.best_s is None else gauge_size(cores),
        measurements=tuple(measurements),
    )


def _run_processes(
    collector: Collector, protocol: Protocol, files: Sequence[Path], cores: float, executor: Executor,
    keep: Callable[[], None], clock: Clock, end_s: float, crowded: float,
) -> bool:  # fmt: skip
    """All processes of the run, `keep` called after each; True where Ctrl-C ended them. Waiting and repeating leave what the
    planned processes will take until `end_s`, as far as the longest so far tells. Where other programs keep more than `crowded`
    cores busy, a figure is of little use: then no process begins that would end later, except the first. Rows that were opened
    first in none have a process of their own at the end, for cold start and memory, while there is time."""
    longest_s = START_S + len(collector.subjects) * (protocol.warmup_s + protocol.seconds)
    try:
        for process in range(2 * protocol.processes):
            planned = protocol.processes - process
            late = process > 0 and clock.now() + longest_s > end_s
            collector.crowded_out = late and planned > 0 and collector.others_cores() > crowded
            if planned <= -len(collector.slowed()) or (late and planned <= 0) or collector.crowded_out:
                break
            began_s, waited_s = clock.now(), collector.waited_s
            for company in _companies(collector.subjects, collector.failed):
                left_s = end_s - clock.now() - max(planned, 1) * longest_s
                job = WorkerJob(
                    process,
                    company,
                    {i: files[i] for i in company},
                    protocol,
                    best_s=collector.best_s,
                    wait_s=max(0.0, min(protocol.wait_max_s - collector.waited_s, left_s)),
                    cores=cores,
                    rated=dict(collector.rated),
                )
                _run_process(collector, job, executor)
                keep()
            longest_s = max(longest_s, clock.now() - began_s - (collector.waited_s - waited_s))
        for index in [] if protocol.quick else collector.never_first():
            if clock.now() + START_S > end_s:
                break
            process, alone = collector.process + 1, {index: collector.subjects[index]}
            job = WorkerJob(process, alone, {index: files[index]}, protocol, cores=cores, open_only=True)
            _run_process(collector, job, executor)
            keep()
    except KeyboardInterrupt:
        if not collector.any_samples():
            raise
        keep()  # at once: a second Ctrl-C ends the process
        return True
    return False


def _run_process(collector: Collector, job: WorkerJob, executor: Executor) -> None:
    collector.begin(job)
    try:
        executor(job, collector.take)
    except WorkerDied as death:
        collector.died(death)


def _measurement(
    index: int,
    collector: Collector,
    protocol: Protocol,
    *,
    zero_input: bool,
    cores: float,
    usable: float,
    aside: set[int],
) -> Measurement:
    subject, error = collector.subjects[index], collector.failed.get(index)
    taken = collector.samples[index]
    processes = tuple(process for process in taken if process.process not in aside)
    set_aside = tuple(with_reason_set_aside(process) for process in taken if process.process in aside)
    facts = collector.facts[index]
    at_once = subject.batch * (facts.requests or 1 if facts is not None else 1)
    summary = summarize(processes, protocol, at_once, subject.spec.runtime, set_aside)
    warnings = subject_warnings(
        processes, summary, protocol, error, timed=protocol.timed_of(subject.spec.runtime),
        zero_input=zero_input, cores=cores, usable_cores=usable, set_aside=set_aside, best_s=collector.best_s,
        crowded_out=collector.crowded_out, cuda_graph=facts is not None and facts.cuda_graph is True,
    )  # fmt: skip
    return Measurement(
        subject=subject,
        facts=facts,
        processes=processes,
        set_aside=set_aside,
        summary=summary,
        warnings=tuple(warnings),
        partial=sum(process.complete for process in taken) < protocol.processes,
        error=error,
    )


def _companies(subjects: Sequence[Subject], failed: Mapping[int, str]) -> Iterator[dict[int, Subject]]:
    """The subjects that may share a process, company by company, less those that have failed.

    ONNX Runtime sets flush-to-zero on the calling thread with a process's first session and never again
    (microsoft/onnxruntime#5391), so subjects that differ in it do not meet in one process.
    """
    for flush in dict.fromkeys(subject.spec.flush_to_zero for subject in subjects):
        company = {
            i: subject for i, subject in enumerate(subjects) if subject.spec.flush_to_zero is flush and i not in failed
        }
        if company:
            yield company


def _arrays(subjects: Sequence[Subject], protocol: Protocol, images: Images) -> list[NDArray[np.float32]]:
    if not subjects:
        raise YoloproofError("nothing to measure: give at least one subject")
    names = [subject.name for subject in subjects]
    for name in names:
        if names.count(name) > 1:
            raise YoloproofError(f"two subjects are named {name!r}; a name stands for one row")
    arrays = []
    for subject in subjects:
        if isinstance(images, Mapping) and subject.name not in images:
            raise YoloproofError(f"no images for {subject.name!r}; there are some for {', '.join(images)}")
        array = images[subject.name] if isinstance(images, Mapping) else images
        source, shape = protocol.images_of(subject.spec.runtime), (subject.batch, 3, *subject.imgsz)
        if source == "zeros":
            array = np.zeros(shape, np.float32)
        elif source == "noise":
            array = np.random.default_rng(protocol.seed).random(shape, np.float32)
        if array.ndim != 4 or array.shape[1:] != (3, *subject.imgsz) or not len(array):
            raise YoloproofError(
                f"{subject.name}: images of shape {list(array.shape)} do not fit an input of "
                f"[n, 3, {subject.imgsz[0]}, {subject.imgsz[1]}]; letterbox them to its size"
            )
        arrays.append(np.ascontiguousarray(array, np.float32))
    return arrays


@contextmanager
def _image_files(arrays: Sequence[NDArray[np.float32]]) -> Iterator[list[Path]]:
    """The arrays as files for the workers, equal ones once."""
    with tempfile.TemporaryDirectory(prefix="yoloproof-images-") as folder:
        files: list[Path] = []
        for index, array in enumerate(arrays):
            twin = next((j for j in range(index) if arrays[j] is array or np.array_equal(arrays[j], array)), None)
            if twin is None:
                file = Path(folder) / f"{index}.npy"
                try:
                    np.save(file, array)
                except OSError as error:
                    raise no_room(folder, error) from None
                files.append(file)
            else:
                files.append(files[twin])
        yield files
