"""The road: Case → build → open → verify → benchmark → Entry.

`profile` is all of it: `_row` builds, opens (`opening.py`) and verifies (`references.py`), `benchmark` times, and `result_of`
(`entries.py`) writes down what was found. `predict` and `val` get off after `opened`, `export` before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloproof.artifact.stated import properties_of
from yoloproof.demo import demo_images
from yoloproof.detection.data_yaml import check_data
from yoloproof.detection.images import read_image
from yoloproof.detection.letterbox import letterboxed
from yoloproof.detection.pipeline import end_to_end
from yoloproof.entries import Row, model_facts, result_of
from yoloproof.errors import YoloproofError
from yoloproof.files.native import SUFFIX
from yoloproof.measurement.benchmarking import benchmark, not_begun
from yoloproof.measurement.protocol import protocol_from_name
from yoloproof.measurement.subject import Subject
from yoloproof.names import Progress, Runtime, Weights, no_progress
from yoloproof.opening import opened, session_spec
from yoloproof.records import Case, Protocol, Result
from yoloproof.references import References, accuracy_held, verdict_of
from yoloproof.results.published import architecture_of
from yoloproof.runtime.choice import candidates, check_tactics
from yoloproof.runtime.threads import physical_cores, sleeping_threads


@dataclass(frozen=True)
class Options:
    """What holds for every case of a profile.

    images -- real ones, for proof and timing; () for the bundled four
    folder -- where artifacts are kept; None for the user's cache
    data -- annotated images whose AP every row gets: a folder or a data.yaml
    stages -- preprocessing, inference, suppression apart too
    tactics -- a file of a native engine's tactics to take; None: as it opens by itself
    against -- what files made elsewhere are held to: weights, or another export
    """

    images: tuple[Path, ...] = ()
    folder: Path | None = None
    data: Path | None = None
    stages: bool = False
    tactics: Path | None = None
    against: str | None = None


def profile(
    cases: Sequence[Case], protocol: Protocol | str = "latency", options: Options | None = None,
    progress: Progress = no_progress, keep: Callable[[Result], None] = lambda result: None,
) -> Result:  # fmt: skip
    """Build, open and verify every case, then benchmark all of them side by side.

    keep -- gets what there is, marked partial, after each row's verification and each process of the benchmark
    A row whose proof fails is timed all the same and says so. Raises YoloproofError for what cannot be built or opened.
    """
    began_s = time.perf_counter()
    protocol = protocol if isinstance(protocol, Protocol) else protocol_from_name(protocol)
    options = _checked(options or Options())
    cases = [_under(protocol, case, batch) for case in cases for batch in protocol.batches or (case.batch,)]
    attempts = [candidates(case) for case in cases]  # refused before any work is done
    check_tactics(options.tactics, [case for few in attempts for case in few])
    references = References(options.against)
    rows: list[Row] = []
    subjects: list[Subject] = []
    for few in attempts:
        with nullcontext() if options.stages else sleeping_threads():  # stages are timed in this process
            row = _verified(few, options, references, progress)
        subjects.append(Subject(f"{row.case.label}, row {len(rows) + 1}", row.spec, row.case.imgsz, row.case.batch))
        rows.append(row)
        keep(result_of(rows, not_begun(subjects, protocol)))
    progress("timing", None)
    images = {subject.name: _images(options, subject.imgsz) for subject in subjects}
    taken = benchmark(
        subjects,
        protocol,
        images,
        progress=progress,
        keep=lambda so_far: keep(result_of(rows, so_far)),
        began_s=began_s,
    )
    return result_of(rows, taken)


def _row(case: Case, options: Options, references: References, progress: Progress) -> Row:
    """One case built, opened and verified, with its AP and its stages where they are asked for: all from one session."""

    def say(what: str, share: float | None = None) -> None:
        progress(f"{case.label}: {what}", share)

    with opened(case, options.folder, say, options.tactics) as model:
        reference = references.of(case)
        images = _images(options, model.imgsz)
        say("verifying", None)
        verdict = verdict_of(model, reference, images, options.against, say)
        say("AP" if options.data else "stages" if options.stages else "verified", None)
        accuracy = None if options.data is None else accuracy_held(model, options.data, references)
        stages = (
            end_to_end(model.detector, _files(options) * 5, time.perf_counter, model.imgsz) if options.stages else None
        )
        facts = model.session.facts
    spec = model.spec if facts.tuning is None else session_spec(case, model.artifact, facts.tuning)
    described = model_facts(case, model.artifact, reference)
    properties = properties_of(model.artifact)
    architecture = architecture_of(described, properties, len(model.names))
    return Row(case, model.artifact, spec, facts, described, verdict, accuracy, stages, architecture)


def _verified(few: Sequence[Case], options: Options, references: References, progress: Progress) -> Row:
    """The row of the first candidate that is verified, else of the last that could be opened; what was passed over, and
    why, stands in it. Where nothing can be opened the first reason is raised."""
    row, passed_over, errors = None, [], []
    for case in few:
        try:
            row = _row(case, options, references, progress)
        except YoloproofError as error:
            errors.append(error)
            passed_over.append(f"{case.runtime}: {error}")
            continue
        unheld = row.model.weights is Weights.FOREIGN and options.against is None
        if row.verdict.passed or unheld:
            break
        passed_over.append(f"{case.runtime}: not verified")
    if row is None:
        raise errors[0]
    return replace(row, passed_over=tuple(one for one in passed_over if not one.startswith(f"{row.case.runtime}:")))


def _under(protocol: Protocol, case: Case, batch: int) -> Case:
    """The case with what its protocol has a say in besides the clock."""
    cuda_graph = case.cuda_graph and protocol.cuda_graph
    if case.runtime is Runtime.NATIVE and not cuda_graph:
        raise YoloproofError(
            "a native engine always runs as one CUDA graph; leave out --no-cuda-graph and --protocol published"
        )
    threads = case.threads or (protocol.threads if case.runtime is Runtime.ONNXRUNTIME else None)
    sessions = 1 if protocol.server is None else protocol.server.sessions
    if protocol.server is not None and case.device == "cpu":
        threads = threads or max(1, physical_cores() // sessions)
        if case.flush_to_zero and sessions > 1:
            raise YoloproofError(
                "--flush-to-zero is a setting of the thread that opens a process's first session, and here several threads "
                "open sessions; leave it out, or serve with --sessions 1"
            )
    return replace(
        case, batch=batch, threads=threads, cuda_graph=cuda_graph, sessions=sessions,
        throughput=bool(protocol.batches) and case.runtime is Runtime.OPENVINO,
    )  # fmt: skip


def _checked(options: Options) -> Options:
    for image in options.images:
        read_image(image)
    if options.data is not None:
        check_data(options.data)
    if options.against is not None and Path(options.against).suffix == SUFFIX:
        raise YoloproofError(
            f"{options.against}: --against takes weights, an .onnx or an .engine file, not a native engine"
        )
    return options


def _files(options: Options) -> list[Path]:
    return list(options.images or demo_images())


def _images(options: Options, imgsz: tuple[int, int]) -> NDArray[np.float32]:
    return letterboxed(_files(options), imgsz)
