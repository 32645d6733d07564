"""`measure`: artifacts in, measurements out; several fresh processes, all artifacts side by side in each.

    subjects → for each process: a worker (worker.py) → events → samples → summary, warnings

Nothing is printed. What was measured before a Ctrl-C, a crash or an exception is kept and marked partial.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.intervals import LEAST_FOR_INTERVAL
from yoloproof.measurement.collect import Collector
from yoloproof.measurement.machine import Watcher, changing_facts, machine_facts, usable_cores
from yoloproof.measurement.processes import Executor, WorkerDied, no_room, run_worker
from yoloproof.measurement.protocol import Protocol
from yoloproof.measurement.records import Measurement, Progress, Run, Subject
from yoloproof.measurement.stability import machine_warnings, subject_warnings
from yoloproof.measurement.statistics import summarize
from yoloproof.measurement.worker import Job

Images = NDArray[np.float32] | Mapping[str, NDArray[np.float32]]


def measure(
    subjects: Sequence[Subject],
    protocol: Protocol,
    images: Images,
    *,
    progress: Progress | None = None,
    seed: int | None = None,
    executor: Executor = run_worker,
    watch: Callable[[str], Watcher] = Watcher,
) -> list[Measurement]:
    """Time `subjects` side by side under `protocol`; one `Measurement` each, in their order.

    images -- [n, 3, H, W] float32 RGB in 0…1 for all, or one such array per subject name
    seed -- of the order of turns; chosen and recorded where it is None
    executor -- runs one process's job and hands its events back; a test brings its own

    Where the protocol waits for a host that others slow (gauge.py), slowed processes are replaced, by as many at most.
    A Ctrl-C ends the run early: `Measurement.run.interrupted` is set and the measurements are partial; where there
    was nothing yet, KeyboardInterrupt goes on. YoloproofError for subjects or images that do not fit together, and for
    a temporary folder without room for the images.
    """
    arrays = _arrays(subjects, protocol, images)
    seed = secrets.randbits(32) if seed is None else seed
    device = max(subject.spec.device for subject in subjects)  # "cuda" before "cpu"
    collector = Collector(subjects, protocol, progress)
    interrupted = False
    zero = [not array.any() for array in arrays]
    before = machine_facts(device)
    cores = usable_cores(before["cpu"])
    with _image_files(arrays) as files, watch(device) as watcher:
        try:
            for process in range(2 * protocol.processes):
                if process - len(collector.slowed()) >= protocol.processes:
                    break
                for company in _companies(subjects, collector.failed):
                    wait_s = max(0.0, protocol.wait_max_s - collector.waited_s)
                    job = Job(
                        process,
                        company,
                        {i: files[i] for i in company},
                        protocol,
                        seed,
                        collector.best_s,
                        wait_s,
                        cores,
                    )
                    _run_process(executor, job, collector)
        except KeyboardInterrupt:
            if not collector.any_samples():
                raise
            interrupted = True
    machine = {**before, "device": device, "during": watcher.readings(), "after": changing_facts(device)}
    run = Run({**protocol.as_dict(), "seed": seed}, machine, machine_warnings(machine), interrupted)
    aside = _to_set_aside(collector, protocol)
    return [_measurement(subject, collector, i, zero[i], protocol, run, aside) for i, subject in enumerate(subjects)]


def _to_set_aside(collector: Collector, protocol: Protocol) -> set[int]:
    """Processes that the host slowed, where so many others are left that they carry an interval, or as many as planned;
    else none, and the warning `host_slowed` says what that means."""
    slowed = collector.slowed()
    left = max((len({r.process for r in records if r.complete} - slowed) for records in collector.samples), default=0)
    return slowed if left >= min(LEAST_FOR_INTERVAL, protocol.processes) else set()


def _run_process(executor: Executor, job: Job, collector: Collector) -> None:
    """One worker's whole life; its death is put on the subject whose turn it was."""
    collector.begin(job)
    try:
        executor(job, collector.take)
    except WorkerDied as death:
        collector.died(death)


def _measurement(
    subject: Subject,
    collector: Collector,
    index: int,
    zero: bool,
    protocol: Protocol,
    run: Run,
    aside: set[int],
) -> Measurement:
    taken, facts, error = collector.samples[index], collector.facts[index], collector.failed.get(index)
    processes = [process for process in taken if process.process not in aside]
    set_aside = [process for process in taken if process.process in aside]
    partial = sum(process.complete for process in taken) < protocol.processes
    summary = summarize(processes, protocol, subject.batch, subject.spec.runtime)
    cores = usable_cores(run.machine["cpu"])
    warnings = subject_warnings(
        processes, summary, protocol, error, zero_input=zero, cores=cores, set_aside=set_aside, best_s=collector.best_s
    )
    return Measurement(subject, processes, facts, summary, warnings, partial, error, run, set_aside)


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
        if protocol.images == "zeros":
            array = np.zeros((subject.batch, 3, *subject.imgsz), np.float32)
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
