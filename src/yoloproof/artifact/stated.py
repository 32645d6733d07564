"""What an artifact states of itself in its metadata. Stated is not shown: the proof checks it. No framework is imported."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from yoloproof.detection.guests import Layout, Spec
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import read_identity
from yoloproof.files.native import SUFFIX, read_native
from yoloproof.files.onnx import read_onnx_file
from yoloproof.names import MOST_CLASSES, ArtifactFormat, Attention, Precision
from yoloproof.records import Artifact

PREFIX = "yoloproof."
MOST_SIDE = 8192  # pixels
MOST_LETTERS = 1 << 22  # of class names


def stated_names(metadata: Mapping[str, str]) -> dict[int, str]:
    """Class names by index: ours as JSON, other exporters' as a Python literal; {} where none are stated.

    Raises YoloproofError where they cannot be read.
    """
    try:
        ours = metadata.get("yoloproof.names")
        if len(ours or metadata.get("names", "")) > MOST_LETTERS:
            raise ValueError(f"over {MOST_LETTERS:,} letters")
        names = json.loads(ours) if ours is not None else ast.literal_eval(metadata.get("names", "{}"))
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        named = {int(index): str(name) for index, name in pairs}
    except (ValueError, SyntaxError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise YoloproofError(f"class names in the file's metadata cannot be read ({reason}); export it again") from None
    if named and not 0 <= min(named) <= max(named) < MOST_CLASSES:
        raise YoloproofError(
            f"the file's metadata name a class {min(named)} and a class {max(named)}; classes go from 0 to {MOST_CLASSES - 1}"
        )
    return named


def class_names(names: Mapping[int, str], layout: Layout | None, outputs: Sequence[Spec]) -> dict[int, str]:
    """A name for every class that the outputs' shapes show or `names` states: as stated, `class7` where nothing is."""
    sides: list[int | str] = []
    if layout is Layout.RAW and len(outputs[0].shape) == 3:
        sides = [outputs[0].shape[1]]
    elif layout is Layout.QUERIES:
        sides = [outputs[0].shape[2]]
    shown = max((side - 4 for side in sides if isinstance(side, int)), default=0)
    return {i: names.get(i, f"class{i}") for i in range(max(shown, max(names, default=-1) + 1))}


def stated_size(model: str) -> tuple[int, int] | None:
    """(height, width) that an ONNX file states it was made for; None for other models, or where none is stated."""
    if not model.endswith(".onnx"):
        return None
    metadata = read_onnx_file(Path(model)).metadata
    try:
        height, width = (
            int(side) for side in json.loads(metadata.get("yoloproof.imgsz", metadata.get("imgsz", "null")))
        )
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    if not all(1 <= side <= MOST_SIDE for side in (height, width)):
        raise YoloproofError(
            f"{model}: states images of {height}x{width}; sides go from 1 to {MOST_SIDE}: name --imgsz"
        )
    return height, width


def properties_of(artifact: Artifact) -> Mapping[str, str]:
    """The metadata of an artifact's file as they stand in it; those of a network that PyTorch builds are its record's."""
    if artifact.format is not ArtifactFormat.PYTORCH and artifact.path is not None:
        return properties_of_file(artifact.path)
    return {f"yoloproof.{key}": json.dumps(value) for key, value in artifact.metadata.items()}


def properties_of_file(path: Path) -> Mapping[str, str]:
    """The metadata of an ONNX file, an engine (of the file it was built from) or a native engine."""
    if path.suffix == ".engine":
        return dict(read_identity(path).onnx_metadata)
    return read_native(path).properties if path.suffix == SUFFIX else read_onnx_file(path).metadata


def artifact_of_native(path: Path) -> Artifact:
    """A native engine's file, held to its own hashes."""
    engine = read_native(path)
    return artifact_from_metadata(
        path, ArtifactFormat.NATIVE, sha256_of(path), path.stat().st_size, engine.properties, engine.built,
        Precision.FP16,
    )  # fmt: skip


def artifact_of_engine(path: Path) -> Artifact:
    """An engine file, held to its sidecar."""
    identity = read_identity(path)
    built = {"onnx_sha256": identity.onnx_sha256, "target": identity.target, "version": identity.version}
    return artifact_from_metadata(
        path, ArtifactFormat.ENGINE, identity.engine_sha256, identity.engine_bytes, identity.onnx_metadata, built,
        Precision.of_dtype(identity.precision),
    )  # fmt: skip


def artifact_from_metadata(
    path: Path, format: ArtifactFormat, sha256: str, size: int, properties: Mapping[str, str],
    built: Mapping[str, object], precision: Precision | None, opset: int | None = None,
) -> Artifact:  # fmt: skip
    """The record of a file from what it states under `yoloproof.`; precision and opset are the file's own."""
    stated = metadata_from(properties, path)
    attention, imgsz, batch, rewrites = (stated.get(key) for key in ("attention", "imgsz", "batch", "rewrites"))
    checkpoint = stated.get("checkpoint_sha256")
    return Artifact(
        path=path, format=format, sha256=sha256, bytes=size, opset=opset, precision=precision,
        attention=Attention(attention) if attention in list(Attention) else None,
        simplified=tuple(map(str, rewrites)) if isinstance(rewrites, list) else (),
        imgsz=_size(imgsz), batch=batch if _is_count(batch) else 1,
        checkpoint_sha256=checkpoint if isinstance(checkpoint, str) and checkpoint else None,
        metadata={**stated, **built},
    )  # fmt: skip


def _size(value: object) -> tuple[int, int] | None:
    """(height, width) where that is what is stated."""
    fits = isinstance(value, list) and len(value) == 2 and all(map(_is_count, value))
    return (value[0], value[1]) if fits and isinstance(value, list) else None


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value < 2**31


def metadata_from(properties: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Our keys of a file's properties without their prefix, their JSON read. YoloproofError where it is none."""
    try:
        stated = {k.removeprefix(PREFIX): json.loads(v) for k, v in properties.items() if k.startswith(PREFIX)}
    except (ValueError, RecursionError):
        stated = None
    if stated is None or not _is_shallow(stated):
        raise YoloproofError(f"{path}: what its metadata say under {PREFIX} is not plain JSON; export it again")
    return stated


def _is_shallow(value: object, levels: int = 8) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)
