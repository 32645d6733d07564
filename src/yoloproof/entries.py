"""From what was found and measured to the records of a result."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yoloproof
from yoloproof.measurement.benchmarking import Benchmark, Measurement
from yoloproof.names import VARIANT_NAMES, Weights
from yoloproof.records import (
    Accuracy,
    Artifact,
    Case,
    Entry,
    ModelFacts,
    Result,
    Run,
    SessionFacts,
    StageTimes,
    Tool,
    Verdict,
)
from yoloproof.results.published import published_for
from yoloproof.runtime import SessionSpec

if TYPE_CHECKING:
    from yoloproof.proof.reference import Reference


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


def result_of(rows: Sequence[Row], taken: Benchmark) -> Result:
    """The result of rows and what was measured of each."""
    entries = tuple(_entry(row, one) for row, one in zip(rows, taken.measurements, strict=True))
    run = _run(taken)
    return Result(tool=run.tool, created=run.created, command=run.command, runs=(run,), entries=entries)


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


def model_facts(case: Case, artifact: Artifact, reference: Reference | None) -> ModelFacts:
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
