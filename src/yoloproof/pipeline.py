"""The road: Case → build → open → verify → benchmark → Entry.

`profile` is all of it; `opened` gets off before the proof (`predict`, `val`), `exported` before the session (`export`).
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import yoloproof
from yoloproof.artifact.stated import artifact_of_native, class_names, properties_of, stated_names
from yoloproof.demo import demo_images
from yoloproof.detection.accuracy import accuracy_of
from yoloproof.detection.data_yaml import annotated_set, check_data
from yoloproof.detection.guests import detector_of, layout_of
from yoloproof.detection.letterbox import letterboxed
from yoloproof.detection.pipeline import Detector, end_to_end
from yoloproof.errors import YoloproofError
from yoloproof.files.native import SUFFIX
from yoloproof.measurement.benchmarking import Benchmark, Measurement, benchmark, not_begun
from yoloproof.measurement.protocol import protocol_from_name
from yoloproof.measurement.subject import Subject
from yoloproof.names import VARIANT_NAMES, ArtifactFormat, Attention, Precision, Progress, Runtime, Weights, no_progress
from yoloproof.proof.native import verify_by_evidence
from yoloproof.records import (
    Accuracy,
    Artifact,
    Case,
    Entry,
    ModelFacts,
    Protocol,
    Result,
    Run,
    SessionFacts,
    StageTimes,
    Tool,
    Verdict,
)
from yoloproof.results.published import architecture_of, published_for
from yoloproof.runtime import RUNTIMES, Session, SessionSpec, open_session
from yoloproof.runtime.base import NativeOptions, SessionOptions
from yoloproof.runtime.choice import candidates, check_tactics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yoloproof.proof.reference import Reference

MADE = (".onnx", ".engine", SUFFIX)  # files that are an artifact already


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


@dataclass(frozen=True)
class OpenModel:
    """A case built and opened.

    detector -- the session with its outputs as detections are read from them; names -- classes by index
    imgsz -- (height, width) that the artifact is to be fed with
    """

    case: Case
    artifact: Artifact
    spec: SessionSpec
    session: Session
    detector: Detector
    names: Mapping[int, str]
    imgsz: tuple[int, int]


@dataclass(frozen=True)
class Row:
    """A case on its way to its Entry: everything but the samples. architecture -- see `architecture_of`"""

    case: Case
    artifact: Artifact
    spec: SessionSpec
    facts: SessionFacts
    model: ModelFacts
    verdict: Verdict
    accuracy: Accuracy | None
    stages: StageTimes | None
    architecture: str | None = None
    passed_over: tuple[str, ...] = ()


def profile(
    cases: Sequence[Case], protocol: Protocol | str = "latency", options: Options | None = None,
    progress: Progress = no_progress, keep: Callable[[Result], None] = lambda result: None,
) -> Result:  # fmt: skip
    """Build, open and verify every case, then benchmark all of them side by side.

    keep -- gets what there is, marked partial, after each row's verification and each process of the benchmark
    A row whose proof fails is timed all the same and says so. Raises YoloproofError for what cannot be built or opened.
    """
    protocol = protocol if isinstance(protocol, Protocol) else protocol_from_name(protocol)
    options = _checked(options or Options())
    cases = [_under(protocol, case, batch) for case in cases for batch in protocol.batches or (case.batch,)]
    attempts = [candidates(case) for case in cases]  # refused before any work is done
    check_tactics(options.tactics, [case for few in attempts for case in few])
    references = References(options.against)
    rows: list[Row] = []
    subjects: list[Subject] = []
    for few in attempts:
        row = _verified(few, options, references, progress)
        subjects.append(Subject(f"{len(rows)} {row.case.label}", row.spec, row.case.imgsz, row.case.batch))
        rows.append(row)
        keep(_result(rows, not_begun(subjects, protocol)))
    progress("timing", None)
    images = {subject.name: _images(options, subject.imgsz) for subject in subjects}
    return _result(
        rows,
        benchmark(subjects, protocol, images, progress=progress, keep=lambda so_far: keep(_result(rows, so_far))),
    )


def _result(rows: Sequence[Row], taken: Benchmark) -> Result:
    entries = tuple(_entry(row, one) for row, one in zip(rows, taken.measurements, strict=True))
    run = _run(taken)
    return Result(tool=run.tool, created=run.created, command=run.command, runs=(run,), entries=entries)


def _under(protocol: Protocol, case: Case, batch: int) -> Case:
    """The case with what its protocol has a say in besides the clock."""
    cuda_graph = case.cuda_graph and protocol.cuda_graph
    if case.runtime is Runtime.NATIVE and not cuda_graph:
        raise YoloproofError(
            "the native engine is one CUDA graph and has no time without; leave out --no-cuda-graph and --protocol published"
        )
    threads = case.threads or (protocol.threads if case.runtime is Runtime.ONNXRUNTIME else None)
    return replace(case, batch=batch, threads=threads, cuda_graph=cuda_graph)


@contextmanager
def opened(
    case: Case, folder: Path | None = None, progress: Progress = no_progress, tactics: Path | None = None
) -> Iterator[OpenModel]:
    """Build and open a case whose runtime is named: exactly what `profile` verifies and times.

    tactics -- a file of a native engine's tactics to take
    """
    artifact = _built(case, folder, progress)
    spec = session_spec(case, artifact, tactics=tactics)
    with open_session(spec) as session:
        properties = properties_of(artifact)
        stated = stated_names(properties)
        layout = layout_of(session.outputs, properties, len(stated) or None)
        names = class_names(stated, layout, session.outputs)
        yield OpenModel(case, artifact, spec, session, detector_of(session, layout), names, case.imgsz)


def _built(case: Case, folder: Path | None, progress: Progress) -> Artifact:
    """A native engine's file is taken as it is, without PyTorch, which its machine need not have."""
    if Path(case.model).suffix == SUFFIX:
        return artifact_of_native(Path(case.model))
    from yoloproof.artifact.build import build

    return build(case, RUNTIMES[case.runtime].opens, folder, progress)


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


def _row(case: Case, options: Options, references: References, progress: Progress) -> Row:
    """One case built, opened and verified, with its AP and its stages where they are asked for: all from one session."""

    def say(what: str, share: float | None = None) -> None:
        progress(f"{case.label}: {what}", share)

    with opened(case, options.folder, say, options.tactics) as model:
        reference = references.of(case)
        images = _images(options, model.imgsz)
        say("verifying", None)
        if reference is None:
            verdict = _verdict_without_weights(model, images, options.against, say)
        else:
            from yoloproof.proof.verify import verify

            verdict = verify(model.artifact.path, reference, images, session=model.session, precision=case.precision)
        accuracy = None if options.data is None else _accuracy(model, options.data, references, say)
        stages = (
            end_to_end(model.detector, _files(options) * 5, time.perf_counter, model.imgsz) if options.stages else None
        )
        facts = model.session.facts
    spec = model.spec if facts.tuning is None else session_spec(case, model.artifact, facts.tuning)
    described = _model(case, model.artifact, reference)
    properties = properties_of(model.artifact)
    architecture = architecture_of(described, properties, len(model.names))
    return Row(case, model.artifact, spec, facts, described, verdict, accuracy, stages, architecture)


def _verdict_without_weights(
    model: OpenModel, images: NDArray[np.float32], against: str | None, say: Progress
) -> Verdict:
    """A native engine brings its evidence along; another foreign file is held to another export, where one is named, else
    it is shown to run and its graph is looked at."""
    path = model.artifact.path
    assert path is not None
    if model.artifact.format is ArtifactFormat.NATIVE:
        return verify_by_evidence(path, model.session)
    from yoloproof.proof.guests import graph_alone, verify_guest

    if against is not None:
        with opened_export(Path(against), model.case) as other:
            return verify_guest(path, model.session, Path(against), other.session, images, None, say)
    model.session.infer(images[: model.case.batch])
    return Verdict((graph_alone(path, Path(model.case.model)),))


@contextmanager
def opened_export(path: Path, like: Case) -> Iterator[OpenModel]:
    """An ONNX file in ONNX Runtime, or an engine in its own library, at the size of the case that is held to it."""
    runtime = Runtime.ONNXRUNTIME if path.suffix == ".onnx" else Runtime.AUTO
    with opened(candidates(Case(str(path), runtime, imgsz=like.imgsz, threads=like.threads))[0]) as model:
        yield model


def session_spec(
    case: Case, artifact: Artifact, tuning: Mapping[str, str] | None = None, tactics: Path | None = None
) -> SessionSpec:
    """How a case's session opens. Precision is always stated, so that no runtime chooses one silently; `tuning` are the
    launch configurations of our kernels that were verified, which every process is to take, `tactics` a file of such."""
    network = None
    if artifact.format is ArtifactFormat.PYTORCH:
        from yoloproof.artifact.build import network_for_session

        network = partial(network_for_session, case, tuning)
    return SessionSpec(
        case.runtime, artifact.path, case.device, case.threads, case.precision, case.flush_to_zero, network,
        SessionOptions(compile=case.compiled, cuda_graph=case.cuda_graph, native=NativeOptions(tuning, tactics)),
    )  # fmt: skip


class References:
    """The networks that artifacts are held to, float32 on the CPU, as published; the last one is kept, since a model's
    cases follow each other. A network is only read after it was loaded.

    against -- the weights that artifacts made elsewhere are held to; None, or another export: they have no reference
    """

    def __init__(self, against: str | None = None) -> None:
        self._against = None if against is None or Path(against).suffix in MADE else against
        self._last: tuple[object, Reference] | None = None
        self._ap: dict[tuple[object, Path, tuple[int, int]], float | None] = {}

    def of(self, case: Case) -> Reference | None:
        """The reference of a case's weights; None for an artifact that was made elsewhere and is held to no weights."""
        if Path(case.model).suffix in MADE:
            if self._against is None:
                return None
            case = replace(case, model=self._against)
        key = self._key(case)
        if self._last is None or self._last[0] != key:
            from yoloproof.artifact.build import published_network
            from yoloproof.proof.reference import Reference

            self._last = key, Reference(published_network(replace(case, attention=Attention.FUSED)))
        return self._last[1]

    def ap(self, case: Case, data: Path) -> float | None:
        """AP of the network itself, in float32 on the CPU: once per model, set and size."""
        if self._against is not None and Path(case.model).suffix in MADE:
            case = replace(case, model=self._against)
        key = self._key(case), data, case.imgsz
        if key not in self._ap:
            plain = Case(
                case.model, Runtime.PYTORCH, Precision.FP32, imgsz=case.imgsz, threads=case.threads,
                random_weights=case.random_weights,
            )  # fmt: skip
            with opened(plain) as model:
                self._ap[key] = _measured_accuracy(model, data).AP
        return self._ap[key]

    @staticmethod
    def _key(case: Case) -> object:
        """What tells two models apart, also two files that had one name one after the other."""
        path = Path(case.model)
        found = path.stat() if path.is_file() else None
        return case.model, case.random_weights, (found.st_mtime_ns, found.st_size) if found else None


def _accuracy(model: OpenModel, data: Path, references: References, say: Progress) -> Accuracy:
    """AP of exactly this artifact, and what it lost against the float32 network (None for a foreign file)."""
    say("AP", None)
    found = _measured_accuracy(model, data)
    if references.of(model.case) is None:
        return found
    wanted = references.ap(model.case, data)
    lost = None if found.AP is None or wanted is None else wanted - found.AP
    return replace(found, AP_float32=wanted, AP_lost=lost)


def _measured_accuracy(model: OpenModel, data: Path) -> Accuracy:
    annotated = annotated_set(data, [model.names[i] for i in sorted(model.names)])
    return accuracy_of(model.detector, model.names, annotated, imgsz=model.imgsz, identity=str(model.artifact.sha256))


def _entry(row: Row, taken: Measurement) -> Entry:
    published = published_for(row.architecture) if row.architecture is not None else ()
    return Entry(
        case=row.case, model=row.model, artifact=row.artifact, runtime=taken.facts or row.facts, proof=row.verdict,
        accuracy=row.accuracy, end_to_end=row.stages, published=published[0] if published else None,
        processes=taken.processes, processes_set_aside=taken.set_aside, summary=taken.summary, warnings=taken.warnings,
        partial=taken.partial, error=taken.error, passed_over=row.passed_over,
    )  # fmt: skip


def _run(taken: Benchmark) -> Run:
    return Run(
        tool=Tool("yoloproof", yoloproof.__version__),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        command=tuple(sys.argv), protocol=taken.protocol, machine=taken.machine, gauge_best_s=taken.gauge_best_s,
        gauge_size=taken.gauge_size,
        interrupted=taken.interrupted, partial=taken.interrupted or any(one.partial for one in taken.measurements),
        warnings=taken.warnings,
    )  # fmt: skip


def _model(case: Case, artifact: Artifact, reference: Reference | None) -> ModelFacts:
    name = case.model if case.model in VARIANT_NAMES else Path(case.model).stem
    if reference is None:
        return ModelFacts(name=name, weights=Weights.FOREIGN, source=case.model, sha256=artifact.sha256)
    from yoloproof.network.flops import flops

    network = reference.network
    return ModelFacts(
        name=name, family=network.variant.family, scale=network.variant.scale, classes=network.classes,
        parameters=sum(p.numel() for p in network.parameters()), flops=flops(network, case.imgsz),
        weights=Weights.TRAINED if network.sha256 else Weights.RANDOM, source=network.source, sha256=network.sha256,
    )  # fmt: skip


def _checked(options: Options) -> Options:
    if options.data is not None:
        check_data(options.data)
    if options.against is not None and Path(options.against).suffix == SUFFIX:
        raise YoloproofError(f"{options.against}: a native engine; name weights, or an .onnx or .engine file")
    return options


def _files(options: Options) -> list[Path]:
    return list(options.images or demo_images())


def _images(options: Options, imgsz: tuple[int, int]) -> NDArray[np.float32]:
    return letterboxed(_files(options), imgsz)
