"""The pipeline on one screen: weights → network → artifact → proof → measurement → result."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import yoloproof
from yoloproof.artifact.onnx import PREFIX, Artifact, export_onnx, read_artifact
from yoloproof.detection.accuracy import accuracy_of
from yoloproof.detection.coco import set_of_folder
from yoloproof.detection.letterbox import letterboxed
from yoloproof.detection.pipeline import end_to_end
from yoloproof.engine_file import read_identity
from yoloproof.errors import YoloproofError
from yoloproof.measurement.measure import measure
from yoloproof.measurement.protocol import PROTOCOLS, Protocol, quick
from yoloproof.measurement.records import Measurement, Subject
from yoloproof.network import VARIANTS, Network, load_network
from yoloproof.network.flops import flops
from yoloproof.network.simplify import DEFAULT_REWRITES, simplify
from yoloproof.proof import Verdict, verify
from yoloproof.results.published import published_for
from yoloproof.runtime import AUTO_ORDER, Session, SessionSpec, missing_part, open_session

# What pays on a CPU depends on who runs it (benchmarks/export.py); everything else gets DEFAULT_REWRITES. Both keep
# convolutions in layouts of their own that a slice breaks, and let a convolution add to a tensor, which is cheaper than
# a concatenation. OpenVINO has a grouped kernel for 8 channels and fuses the attention's transposes and the head itself.
RUNTIME_REWRITES = {
    "onnxruntime": (
        "norms", "groups", "scale", "upsampling", "branches", "edges", "queries", "halves", "sums", "head",
    ),
    "openvino": ("norms", "scale", "upsampling", "branches", "edges", "sums"),
}  # fmt: skip
# The official code as it exports itself: convolutions' norms folded, nothing else.
PUBLISHED_REWRITES = ("norms",)
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
    """One row on its way: what was made, what was proved, how it opens."""

    request: Request
    spec: SessionSpec
    network: Network | None
    artifact: dict[str, Any]
    verdict: Verdict | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, Any] | None = None
    end_to_end: dict[str, Any] | None = None


@dataclass(frozen=True)
class Settings:
    """What holds for all rows.

    imgsz -- (height, width); images -- real ones, for proof and timing; folder -- where artifacts are put
    data -- an annotated set whose AP every row gets; stages -- preprocessing, inference and suppression apart, too
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
    """The row of one request; of runtime "auto", the first runtime in the device's order that is installed and proved."""
    if request.runtime != "auto":
        row = made(request, settings, say)
        return [proved(row, settings, images, say)]
    order = AUTO_ORDER["cuda" if settings.device.startswith("cuda") else "cpu"]
    installed = [name for name in order if missing_part(name) is None]
    for name in installed:
        row = made(replace(request, runtime=name), settings, say)
        if (row := proved(row, settings, images, say)).verdict is None or row.verdict.passed:
            break
    return [row]


def made(request: Request, settings: Settings, say: Progress) -> Row:
    """Weights → network → artifact for one request; a foreign `.onnx` or an `.engine` is taken as it is."""
    path = Path(request.model)
    if path.suffix == ".onnx":
        return _row_of_file(request, settings, read_artifact(path))
    if path.suffix == ".engine":
        return _row_of_file(request, settings, engine_artifact(path))
    say(f"{request.model}: loading")
    load = partial(load_network, request.model, random_weights=settings.random_weights)
    network = load("fused")
    spec = session_spec(request, settings, None)
    if request.runtime == "pytorch":
        spec = replace(spec, network=partial(simplified_network, load, request.attention, settings.device))
        described: dict[str, Any] = {
            "path": None,
            "format": "pytorch",
            "sha256": network.sha256,
            "bytes": None,
            "opset": None,
        }
        rewrites = rewrites_for(request.runtime, settings.device, request.attention)
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
    return Row(request, spec, network, described)


def rewrites_for(runtime: str, device: str, attention: str) -> tuple[str, ...]:
    """The simplifications that pay on a runtime; for `published` and `stripped` only what the official export does."""
    if attention in ("published", "stripped"):
        return PUBLISHED_REWRITES
    return RUNTIME_REWRITES.get(runtime, DEFAULT_REWRITES) if device == "cpu" else DEFAULT_REWRITES


def simplified_network(load: Callable[[str], Network], attention: str, device: str) -> Network:
    """For the PyTorch runtime, called in the process that runs it."""
    return simplify(load(attention), rewrites_for("pytorch", device, attention))


def exported(network: Network, request: Request, settings: Settings) -> Artifact:
    """The ONNX file, and from it the engine where the runtime needs one; made once per folder."""
    rewrites = rewrites_for(request.runtime, settings.device, request.attention)
    target = request.runtime if rewrites in RUNTIME_REWRITES.values() else "any"
    precision = "fp32" if request.precision == "bf16" else request.precision  # bf16 is the runtime's doing
    stem = f"{network.variant.name}-{request.attention}-{precision}-{target}-b{request.batch}"
    path = settings.folder / f"{stem}-{Path(request.model).stem}.onnx"
    if not path.exists():
        network = _with_attention(network, request.attention)
        export_onnx(simplify(network, rewrites), path, imgsz=settings.imgsz, batch=request.batch, precision=precision)
    if not request.runtime.startswith("tensorrt"):
        return read_artifact(path)
    from yoloproof.artifact.engine import engine_from_onnx
    from yoloproof.artifact.tensorrt import EngineOptions

    engine = path.with_suffix(f".{request.runtime}.engine")
    options = EngineOptions(request.runtime, "current", require_fused=request.attention == "fused")
    return engine_artifact(engine_from_onnx(path, engine, options).path)


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


def _row_of_file(request: Request, settings: Settings, artifact: Artifact) -> Row:
    metadata = artifact.metadata
    described = described_artifact(artifact) | {
        "precision": metadata.get("precision", "unknown"), "attention": metadata.get("attention", "unknown"),
        "simplified": metadata.get("rewrites", []), "imgsz": metadata.get("imgsz", list(settings.imgsz)),
        "batch": request.batch, "checkpoint_sha256": metadata.get("checkpoint_sha256"),
    }  # fmt: skip
    return Row(request, session_spec(request, settings, artifact.path), None, described)


def proved(row: Row, settings: Settings, images: NDArray[np.float32], say: Progress) -> Row:
    """The row with its verdict, and on demand its AP and its stages: all from one opening of the artifact."""
    with open_session(row.spec) as session:
        row.facts = dict(session.facts)
        if row.network is None:
            session.infer(
                images[: row.request.batch]
            )  # a foreign file is shown to run; there is nothing to prove it by
            return row
        what = f"{row.request.model}, {row.request.runtime} {row.request.precision} {row.request.attention}"
        say(f"{what}: proving")
        network = _with_attention(row.network, "fused")
        row.verdict = verify(row.spec.path, network, images, session=session, precision=row.request.precision)
        if settings.data is not None:
            say(f"{what}: AP")
            row.accuracy = accuracy_against_float32(session, row, settings)
        if settings.stages:
            say(f"{what}: stages")
            row.end_to_end = stage_figures(session, settings)
    return row


def accuracy_against_float32(session: Session, row: Row, settings: Settings) -> dict[str, Any]:
    """AP of exactly this artifact on `settings.data`, and what it lost against the float32 network (AP_lost)."""
    assert row.network is not None
    assert settings.data is not None
    names = row.network.names
    data = set_of_folder(settings.data, [names[i] for i in sorted(names)])
    found = accuracy_of(session, names, data, imgsz=settings.imgsz, identity=str(row.artifact["sha256"]))
    load = partial(load_network, row.request.model, random_weights=settings.random_weights)
    plain = SessionSpec(
        "pytorch", None, "cpu", settings.threads, "float32", network=partial(simplified_network, load, "fused", "cpu")
    )
    with open_session(plain) as reference:
        wanted = accuracy_of(reference, names, data, imgsz=settings.imgsz)
    lost = None if found["AP"] is None or wanted["AP"] is None else wanted["AP"] - found["AP"]
    return {**found, "AP_float32": wanted["AP"], "AP_lost": lost}


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
                "proof": row.verdict.as_dict() if row.verdict else {"passed": None, "checks": []},
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
