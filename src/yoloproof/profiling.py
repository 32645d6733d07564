"""The pipeline on one screen: weights → network → artifact → proof → measurement → result."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import yoloproof
from yoloproof.artifact.onnx import PREFIX, Artifact, export_onnx, read_artifact
from yoloproof.choosing import precision_for, runtimes_for
from yoloproof.detection.accuracy import accuracy_of
from yoloproof.detection.coco import set_of_folder
from yoloproof.detection.letterbox import letterboxed
from yoloproof.detection.pipeline import end_to_end
from yoloproof.errors import YoloproofError
from yoloproof.files.engine import read_identity
from yoloproof.files.onnx import read_onnx_file
from yoloproof.measurement.measure import measure
from yoloproof.measurement.protocol import PROTOCOLS, Protocol, quick
from yoloproof.measurement.records import Measurement, Subject
from yoloproof.models import class_names
from yoloproof.network import VARIANTS, Network, load_network
from yoloproof.network.flops import flops
from yoloproof.proof import Reference, Verdict, verify
from yoloproof.results.published import published_for
from yoloproof.results.schema import json_from_verdict
from yoloproof.runtime import Session, SessionSpec, open_session
from yoloproof.simplify.choice import (
    RUNTIME_REWRITES,
    compile_form,
    gpu_form,
    in_proved_ways,
    rewrites_for,
    simplified_network,
)
from yoloproof.simplify.rewrites import simplify

SESSION_PRECISION = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """One row asked for: a model as one runtime runs it."""

    model: str
    runtime: str
    precision: str
    attention: str
    batch: int = 1


@dataclass
class Row:
    """One row on its way: what was made, what was proved, how it opens; `metadata` are those of a file taken as it is."""

    request: Request
    spec: SessionSpec
    reference: Reference | None
    artifact: dict[str, Any]
    verdict: Verdict | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    gpu_form: bool = False
    accuracy: dict[str, Any] | None = None
    end_to_end: dict[str, Any] | None = None

    @property
    def network(self) -> Network | None:
        return self.reference.network if self.reference else None


@dataclass(frozen=True)
class Settings:
    """What holds for all rows.

    imgsz -- (height, width); images -- real ones, for proof and timing; folder -- where artifacts are put
    random_weights -- for models that are named; a file keeps its own (`random_weights_for`)
    data -- an annotated set whose AP every row gets; stages -- preprocessing, inference and suppression apart, too
    bar -- told the name and the share of an engine's build
    """

    imgsz: tuple[int, int] = (640, 640)
    device: str = "cpu"
    threads: int | None = None
    flush_to_zero: bool = False
    random_weights: bool = False
    images: tuple[Path, ...] = ()
    folder: Path = Path()
    data: Path | None = None
    stages: bool = False
    bar: Callable[[str, float], None] | None = None

    def random_weights_for(self, model: str) -> bool:
        return self.random_weights and model in VARIANTS


def profile(
    requests: Sequence[Request], settings: Settings, protocol: str = "latency", *, fast: bool = False,
    progress: Progress | None = None, bar: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The result (schema 1 of docs/architecture.md) of making, proving and timing every requested row.

    A row whose proof fails is timed all the same and says so; what cannot be made or opened raises YoloproofError.
    """
    if protocol not in PROTOCOLS:
        raise YoloproofError(f"protocol '{protocol}' is none of {', '.join(PROTOCOLS)}")
    return timed(requests, settings, quick(PROTOCOLS[protocol]) if fast else PROTOCOLS[protocol], progress, bar)


def timed(
    requests: Sequence[Request], settings: Settings, protocol: Protocol, progress: Progress | None = None,
    bar: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`profile` under any protocol: weights → artifact → proof, row by row; then all rows side by side against the clock."""
    say = progress or (lambda step: None)
    if settings.data is not None and not settings.data.is_dir():
        raise YoloproofError(f"{settings.data}: no such folder; --data names one with images and their annotations")
    settings = replace(settings, bar=bar)
    for request in requests:
        runtimes_for(request.model, request.runtime, settings.device)
    images = letterboxed(settings.images, settings.imgsz)
    rows: list[Row] = []
    for request in requests:
        for batch in protocol.batches or (request.batch,):
            rows += made_and_proved(replace(request, batch=batch), settings, images, say)
    say("timing")
    subjects = [
        Subject(
            f"{i} {r.request.model} {r.request.runtime} {r.request.attention}", r.spec, settings.imgsz, r.request.batch
        )
        for i, r in enumerate(rows)
    ]
    return result_from_rows(rows, measure(subjects, protocol, images, progress=bar), settings)


def made_and_proved(request: Request, settings: Settings, images: NDArray[np.float32], say: Progress) -> list[Row]:
    """The row of one request; of runtime "auto", the first runtime in the device's order that is installed and proved.

    What "auto" passed over, and why, stands in the row's facts; where nothing can be opened the first reason is raised.
    """
    row, passed_over, errors = None, [], []
    for name in runtimes_for(request.model, request.runtime, settings.device):
        chosen = replace(request, runtime=name, precision=precision_for(request.model, name, request.precision))
        try:
            row = proved(made(chosen, settings, say), settings, images, say)
        except YoloproofError as error:
            errors.append(error)
            passed_over.append(f"{name}: {error}")
            continue
        if row.verdict is None or row.verdict.passed:
            break
        passed_over.append(f"{name}: not proved")
    if row is None:
        raise errors[0]
    if passed_over:
        row.facts["passed_over"] = passed_over
    return [row]


def made(request: Request, settings: Settings, say: Progress) -> Row:
    """Weights → network → artifact for one request; a foreign `.onnx` or an `.engine` is taken as it is."""
    path = Path(request.model)
    if path.suffix == ".onnx" and request.runtime.startswith("tensorrt"):
        say(f"{request.model}: building for {request.runtime}")
        engine = engine_of(path, request, settings)
        return _row_of_file(request, settings, engine, read_identity(engine.path).onnx_metadata)
    if path.suffix == ".onnx":
        return _row_of_file(request, settings, read_artifact(path), read_onnx_file(path).metadata)
    if path.suffix == ".engine":
        return _row_of_file(request, settings, engine_artifact(path), read_identity(path).onnx_metadata)
    say(f"{request.model}: loading")
    random_weights = settings.random_weights_for(request.model)
    load = partial(load_network, request.model, random_weights=random_weights)
    reference = reference_of(request.model, random_weights, _stamp(path))
    network = reference.network
    spec = session_spec(request, settings, None)
    form = gpu_form(request.runtime, request.precision, request.attention, settings.device)
    if request.runtime == "pytorch":
        build = partial(simplified_network, load, request.attention, settings.device, form)
        spec = replace(spec, network=build)
        if form:
            say(f"{request.model}: compiling kernels for the GPU")
            compile_form(build(), request.batch, settings.imgsz)
        described: dict[str, Any] = {
            "path": None,
            "format": "pytorch",
            "sha256": network.sha256,
            "bytes": None,
            "opset": None,
        }
        rewrites = (
            *rewrites_for(request.runtime, settings.device, request.attention),
            *(("gpu form",) if form else ()),
        )
    else:
        say(f"{request.model}: exporting for {request.runtime}")
        artifact = exported(network, request, settings)
        spec = replace(spec, path=artifact.path)
        described = described_artifact(artifact)
        rewrites = tuple(artifact.metadata.get("rewrites", ()))
    described |= {
        "precision": request.precision, "attention": request.attention, "simplified": list(rewrites),
        "imgsz": list(settings.imgsz), "batch": request.batch, "checkpoint_sha256": network.sha256,
    }  # fmt: skip
    return Row(request, spec, reference, described, gpu_form=form)


@lru_cache(maxsize=1)
def reference_of(model: str, random_weights: bool, stamp: tuple[int, int] | None) -> Reference:
    """The network that a model's rows, which come one after the other, are held against; `stamp` tells two files of the
    same name apart."""
    return Reference(load_network(model, random_weights=random_weights))


def _stamp(path: Path) -> tuple[int, int] | None:
    found = path.stat() if path.is_file() else None
    return (found.st_mtime_ns, found.st_size) if found else None


def exported(network: Network, request: Request, settings: Settings) -> Artifact:
    """The ONNX file, and from it the engine where the runtime needs one; made once per folder.

    Its name holds all that it depends on, so that what lies in a kept folder is never taken for something else.
    """
    rewrites = rewrites_for(request.runtime, settings.device, request.attention)
    target = request.runtime if rewrites in RUNTIME_REWRITES.values() else "any"
    precision = "fp32" if request.precision == "bf16" else request.precision  # bf16 is the runtime's doing
    weights = f"{Path(request.model).stem}-{network.sha256[:12] if network.sha256 else 'random'}"
    size = f"{settings.imgsz[0]}x{settings.imgsz[1]}-b{request.batch}"
    path = settings.folder / f"{weights}-{request.attention}-{precision}-{target}-{size}.onnx"
    if not path.exists():
        network = _with_attention(network, request.attention)
        export_onnx(simplify(network, rewrites), path, imgsz=settings.imgsz, batch=request.batch, precision=precision)
    return engine_of(path, request, settings) if request.runtime.startswith("tensorrt") else read_artifact(path)


def engine_of(onnx: Path, request: Request, settings: Settings) -> Artifact:
    """The engine of an ONNX file for the GPU here; one that lies in the folder is used only if it is the very one."""
    from yoloproof.artifact.engine import engine_for_machine
    from yoloproof.artifact.tensorrt import EngineOptions

    engine = settings.folder / f"{onnx.stem}.{request.runtime}.engine"
    device = settings.device if settings.device.startswith("cuda") else "cuda"
    fused = request.attention == "fused" and Path(request.model).suffix != ".onnx"  # a foreign file need not fuse
    options = EngineOptions(request.runtime, "current", require_fused=fused, device=device)
    bar = settings.bar
    engine_for_machine(onnx, engine, options, None if bar is None else lambda share, phase: bar(phase, share))
    return engine_artifact(engine)


def engine_artifact(path: Path) -> Artifact:
    """Identity of an engine file, held to its sidecar."""
    identity = read_identity(path)
    stated = {
        key.removeprefix(PREFIX): json.loads(value)
        for key, value in identity.onnx_metadata.items()
        if key.startswith(PREFIX)
    }
    built = {"onnx_sha256": identity.onnx_sha256, "target": identity.target, "version": identity.version}
    return Artifact(path, "engine", identity.engine_sha256, identity.engine_bytes, {**stated, **built})


def _with_attention(network: Network, attention: str) -> Network:
    for module in network.modules():
        if hasattr(module, "attention"):
            setattr(module, "attention", attention)  # noqa: B010 - torch types attributes as modules
    return network


def session_spec(request: Request, settings: Settings, path: Path | None) -> SessionSpec:
    """How a row's session opens; precision is always stated, so that no runtime chooses one silently."""
    return SessionSpec(
        request.runtime, path, settings.device, settings.threads, SESSION_PRECISION.get(request.precision),
        settings.flush_to_zero,
    )  # fmt: skip


def described_artifact(artifact: Artifact) -> dict[str, Any]:
    return {
        "path": str(artifact.path), "format": artifact.format, "sha256": artifact.sha256, "bytes": artifact.bytes,
        "opset": artifact.metadata.get("opset"), "made": artifact.metadata,
    }  # fmt: skip


def _row_of_file(request: Request, settings: Settings, artifact: Artifact, metadata: Mapping[str, str]) -> Row:
    stated = artifact.metadata
    described = described_artifact(artifact) | {
        "precision": stated.get("precision", "unknown"), "attention": stated.get("attention", "unknown"),
        "simplified": stated.get("rewrites", []), "imgsz": stated.get("imgsz", list(settings.imgsz)),
        "batch": request.batch, "checkpoint_sha256": stated.get("checkpoint_sha256"),
    }  # fmt: skip
    return Row(request, session_spec(request, settings, artifact.path), None, described, metadata=metadata)


def proved(row: Row, settings: Settings, images: NDArray[np.float32], say: Progress) -> Row:
    """The row with its verdict, and on demand its AP and its stages: all from one opening of the artifact."""
    with open_session(row.spec) as session:
        row.facts = dict(session.facts)
        what = f"{row.request.model}, {row.request.runtime} {row.request.precision} {row.request.attention}"
        if row.reference is None or row.network is None:
            # a foreign file is shown to run; there is nothing to prove it by
            session.infer(images[: row.request.batch])
        else:
            say(f"{what}: proving")
            _with_attention(row.network, "fused")
            row.verdict = verify(row.spec.path, row.reference, images, session=session, precision=row.request.precision)
        if settings.data is not None:
            say(f"{what}: AP")
            row.accuracy = row_accuracy(session, row, settings.data, settings)
        if settings.stages:
            say(f"{what}: stages")
            row.end_to_end = stage_figures(session, settings)
    if row.gpu_form:
        row.spec = in_proved_ways(row.spec)
    return row


def row_accuracy(session: Session, row: Row, folder: Path, settings: Settings) -> dict[str, Any]:
    """AP of exactly this artifact on the set in `folder`, and what it lost against the float32 network (AP_lost; None for
    a foreign file, which has no network to lose against)."""
    names = row.network.names if row.network else class_names(row.metadata, session)
    data = set_of_folder(folder, [names[i] for i in sorted(names)])
    found = accuracy_of(session, names, data, imgsz=settings.imgsz, identity=str(row.artifact["sha256"]))
    wanted = None if row.network is None else float32_ap(row.request.model, folder, settings)
    lost = None if found["AP"] is None or wanted is None else wanted - found["AP"]
    return {**found, "AP_float32": wanted, "AP_lost": lost}


@cache
def float32_ap(model: str, folder: Path, settings: Settings) -> float | None:
    """AP of the network itself, in float32 on the CPU: once per model, however many rows are held against it."""
    load = partial(load_network, model, random_weights=settings.random_weights_for(model))
    plain = SessionSpec(
        "pytorch", None, "cpu", settings.threads, "float32", network=partial(simplified_network, load, "fused", "cpu")
    )
    names = load().names
    with open_session(plain) as session:
        data = set_of_folder(folder, [names[i] for i in sorted(names)])
        ap: float | None = accuracy_of(session, names, data, imgsz=settings.imgsz)["AP"]
    return ap


def stage_figures(session: Session, settings: Settings) -> dict[str, Any]:
    """Medians and samples of preprocessing, inference, suppression and their sum, one after the other, in this process."""
    samples = end_to_end(session, list(settings.images) * 5, time.perf_counter, settings.imgsz)
    return {**{stage: float(np.median(values)) for stage, values in samples.items()}, "samples": samples}


def result_from_rows(rows: Sequence[Row], measurements: Sequence[Measurement], settings: Settings) -> dict[str, Any]:
    """Schema 1."""
    run = measurements[0].run
    entries = []
    for row, taken in zip(rows, measurements, strict=True):
        published = published_for(row.network.variant.name if row.network else Path(row.request.model).stem)
        entries.append(
            {
                "model": described_model(row, settings),
                "artifact": row.artifact,
                "proof": json_from_verdict(row.verdict) if row.verdict else {"passed": None, "checks": []},
                "accuracy": row.accuracy,
                "end_to_end": row.end_to_end,
                "published": published[0] if published else None,
                **taken.as_entry(),
                "runtime": {**row.facts, **taken.facts},
            }
        )
    return {
        "schema": 1,
        "tool": {"name": "yoloproof", "version": yoloproof.__version__},
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "quick": bool(run.protocol.get("quick")),
        "interrupted": run.interrupted,
        "partial": run.interrupted or any(m.partial for m in measurements),
        "machine": run.machine,
        "protocol": run.protocol,
        "entries": entries,
        "warnings": [warning.as_dict() for warning in run.warnings],
    }


def described_model(row: Row, settings: Settings) -> dict[str, Any]:
    network = row.network
    if network is None:
        name = Path(row.request.model).stem
        return {"name": name, "family": None, "scale": None, "classes": None, "parameters": None, "flops": None,
                "weights": "foreign", "source": row.request.model, "sha256": row.artifact["sha256"]}  # fmt: skip
    label = row.request.model if row.request.model in VARIANTS else Path(row.request.model).stem
    return {
        "name": label, "family": network.variant.family, "scale": network.variant.scale, "classes": network.classes,
        "parameters": sum(p.numel() for p in network.parameters()), "flops": flops(network, settings.imgsz),
        "weights": "trained" if network.sha256 else "random", "source": network.source, "sha256": network.sha256,
    }  # fmt: skip
