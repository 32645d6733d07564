"""The first half of the road: a case built and opened, exactly as `profile` verifies and times it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from yoloproof.artifact.stated import artifact_of_native, class_names, properties_of, stated_names
from yoloproof.detection.guests import detector_of, layout_of
from yoloproof.detection.pipeline import Detector
from yoloproof.files.native import SUFFIX
from yoloproof.names import ArtifactFormat, Progress, Runtime, no_progress
from yoloproof.records import Artifact, Case
from yoloproof.runtime import RUNTIMES, Session, SessionSpec, open_session
from yoloproof.runtime.base import NativeOptions, SessionOptions
from yoloproof.runtime.choice import candidates


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


@contextmanager
def opened_export(path: Path, like: Case) -> Iterator[OpenModel]:
    """An ONNX file in ONNX Runtime, or an engine in its own library, at the size of the case that is held to it."""
    runtime = Runtime.ONNXRUNTIME if path.suffix == ".onnx" else Runtime.AUTO
    with opened(candidates(Case(str(path), runtime, imgsz=like.imgsz, threads=like.threads))[0]) as model:
        yield model


def _built(case: Case, folder: Path | None, progress: Progress) -> Artifact:
    """A native engine's file is taken as it is, without PyTorch, which its machine need not have."""
    if Path(case.model).suffix == SUFFIX:
        return artifact_of_native(Path(case.model))
    from yoloproof.artifact.build import build

    return build(case, RUNTIMES[case.runtime].opens, folder, progress)


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
        SessionOptions(
            compile=case.compiled, cuda_graph=case.cuda_graph, throughput=case.throughput, pinned=case.sessions == 1,
            native=NativeOptions(tuning, tactics),
        ),
    )  # fmt: skip
