"""What an artifact is held to: its weights' network, another export, or what it brings along; and its AP beside the network's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yoloproof.detection.accuracy import accuracy_of
from yoloproof.detection.data_yaml import annotated_set
from yoloproof.files.native import SUFFIX
from yoloproof.names import ArtifactFormat, Attention, Precision, Progress, Runtime
from yoloproof.opening import OpenModel, opened, opened_export
from yoloproof.proof.native import verify_by_evidence
from yoloproof.records import Accuracy, Case, Verdict

if TYPE_CHECKING:
    from yoloproof.proof.reference import Reference

MADE = (".onnx", ".engine", SUFFIX)  # files that are an artifact already


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
                self._ap[key] = _measured(model, data).AP
        return self._ap[key]

    @staticmethod
    def _key(case: Case) -> object:
        """What tells two models apart, also two files that had one name one after the other."""
        path = Path(case.model)
        found = path.stat() if path.is_file() else None
        return case.model, case.random_weights, (found.st_mtime_ns, found.st_size) if found else None


def verdict_of(
    model: OpenModel, reference: Reference | None, images: NDArray[np.float32], against: str | None, say: Progress
) -> Verdict:
    """The verdict of an opened artifact: against its reference, where it has one."""
    if reference is None:
        return verdict_without_weights(model, images, against, say)
    from yoloproof.proof.verify import verify

    return verify(model.artifact.path, reference, images, session=model.session, precision=model.case.precision)


def verdict_without_weights(
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


def accuracy_held(model: OpenModel, data: Path, references: References) -> Accuracy:
    """AP of exactly this artifact, and what it lost against the float32 network (None for a foreign file)."""
    found = _measured(model, data)
    if references.of(model.case) is None:
        return found
    wanted = references.ap(model.case, data)
    lost = None if found.AP is None or wanted is None else wanted - found.AP
    return replace(found, AP_float32=wanted, AP_lost=lost)


def _measured(model: OpenModel, data: Path) -> Accuracy:
    annotated = annotated_set(data, [model.names[i] for i in sorted(model.names)])
    return accuracy_of(model.detector, model.names, annotated, imgsz=model.imgsz, identity=str(model.artifact.sha256))
