"""Any MODEL of the command line, opened: weights, an official name, an ONNX file or an engine."""

from __future__ import annotations

import ast
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from yoloproof.errors import YoloproofError
from yoloproof.files.engine import read_identity
from yoloproof.files.onnx import read_onnx_file
from yoloproof.runtime import Session, SessionSpec, missing_part, open_session

if TYPE_CHECKING:
    from yoloproof.network import Network

SIZE = (640, 640)


@dataclass(frozen=True)
class OpenModel:
    """An opened model.

    names -- classes by index; imgsz -- (height, width) it is to be fed with; sha256 -- of the artifact (of the weights
    where PyTorch runs these); network -- where MODEL was weights (that which PyTorch runs, if it does)
    """

    session: Session
    names: Mapping[int, str]
    imgsz: tuple[int, int]
    sha256: str
    network: Network | None = None


@contextmanager
def open_model(
    model: str | Path,
    *,
    runtime: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    imgsz: tuple[int, int] | None = None,
    precision: str = "fp32",
    attention: str = "fused",
    random_weights: bool = False,
) -> Iterator[OpenModel]:
    """Open MODEL for inference (context manager).

    runtime "auto": PyTorch for weights, ONNX Runtime for `.onnx`, what built it for an `.engine`. Weights opened by
    another runtime are exported for it on the way; precision and attention apply to weights only.
    Raises YoloproofError for whatever cannot be opened, or a size that the artifact does not take.
    """
    path = Path(model)
    if path.suffix == ".onnx":
        with _open_onnx(path, "onnxruntime" if runtime == "auto" else runtime, device, threads, imgsz) as opened:
            yield opened
    elif path.suffix == ".engine":
        with _open_engine(path, runtime, device, imgsz) as opened:
            yield opened
    else:
        from yoloproof.network import load_network

        load = partial(load_network, str(model), random_weights=random_weights)
        with _open_weights(load, runtime, device, threads, imgsz or SIZE, precision, attention) as opened:
            yield opened


@contextmanager
def _open_weights(
    load: partial[Network],
    runtime: str,
    device: str,
    threads: int | None,
    imgsz: tuple[int, int],
    precision: str,
    attention: str,
) -> Iterator[OpenModel]:
    name = "pytorch" if runtime == "auto" else runtime
    network = load(attention)
    if name == "pytorch":
        spec = SessionSpec(name, None, device, threads, precision, network=lambda: network)
        with open_session(spec) as session:
            yield OpenModel(session, network.names, imgsz, network.sha256 or "", network)
        return
    if name.startswith("tensorrt"):
        raise YoloproofError(
            f"{name} opens engines: make one with `yoloproof export MODEL --format engine --runtime {name}`"
        )
    _demand(name)
    from yoloproof.artifact.onnx import export_onnx
    from yoloproof.simplify.choice import rewrites_for
    from yoloproof.simplify.rewrites import simplify

    with tempfile.TemporaryDirectory(prefix="yoloproof-") as folder:
        path = Path(folder) / f"{network.variant.name}.onnx"
        simpler = simplify(network, rewrites_for(name, device, attention))
        artifact = export_onnx(simpler, path, imgsz=imgsz, precision=precision)
        with open_session(SessionSpec(name, path, device, threads)) as session:
            yield OpenModel(session, network.names, imgsz, artifact.sha256, network)


def _demand(runtime: str) -> None:
    lacking = missing_part(runtime)
    if lacking is not None:
        raise YoloproofError(f"--runtime {runtime}: {lacking}")


@contextmanager
def _open_onnx(
    path: Path, runtime: str, device: str, threads: int | None, imgsz: tuple[int, int] | None
) -> Iterator[OpenModel]:
    from yoloproof.files.digest import sha256_of

    _demand(runtime)
    metadata = read_onnx_file(path).metadata
    with open_session(SessionSpec(runtime, path, device, threads)) as session:
        stated = _size_in(metadata)
        yield OpenModel(session, class_names(metadata, session), _size(session, imgsz, stated, path), sha256_of(path))


@contextmanager
def _open_engine(path: Path, runtime: str, device: str, imgsz: tuple[int, int] | None) -> Iterator[OpenModel]:
    identity = read_identity(path)
    name = identity.runtime if runtime == "auto" else runtime
    _demand(name)
    with open_session(SessionSpec(name, path, "cuda" if device == "cpu" else device)) as session:
        size = _size(session, imgsz, _size_in(identity.onnx_metadata), path)
        yield OpenModel(session, class_names(identity.onnx_metadata, session), size, identity.engine_sha256)


def names_in(metadata: Mapping[str, str]) -> dict[int, str]:
    """Class names an ONNX file's metadata state: ours as JSON, other exporters' as a Python literal; {} where none."""
    try:
        ours = metadata.get("yoloproof.names")
        names = json.loads(ours) if ours is not None else ast.literal_eval(metadata.get("names", "{}"))
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(index): str(name) for index, name in pairs}
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise YoloproofError(f"class names in the file's metadata cannot be read ({error}); export it again") from None


def _size_in(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    try:
        height, width = json.loads(metadata.get("yoloproof.imgsz", metadata.get("imgsz", "null")))
        return int(height), int(width)
    except (ValueError, TypeError):
        return None


def _size(
    session: Session, asked: tuple[int, int] | None, stated: tuple[int, int] | None, path: Path
) -> tuple[int, int]:
    """The artifact's fixed size; else the one asked for, the one it says it was made for, or 640."""
    height, width = session.inputs[0].shape[2:]
    if not (isinstance(height, int) and isinstance(width, int)):
        return asked or stated or SIZE
    if asked not in (None, (height, width)):
        raise YoloproofError(f"{path}: takes {height}x{width} only; leave --imgsz out or export it for that size")
    return height, width


def class_names(metadata: Mapping[str, str], session: Session) -> dict[int, str]:
    """A name for every class of an opened artifact's output: from its metadata, `class7` where these state none."""
    names = names_in(metadata)
    shape = session.outputs[0].shape
    rows = shape[1] if len(shape) == 3 else None
    count = max(rows - 4 if isinstance(rows, int) else 0, max(names, default=-1) + 1)
    return {i: names.get(i, f"class{i}") for i in range(count)}
