"""What an artifact states of itself in its metadata: class names and image size. Stated is not shown: the proof checks it."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.files.engine import read_identity
from yoloproof.files.native import read_native
from yoloproof.files.onnx import read_onnx_file
from yoloproof.names import ArtifactFormat
from yoloproof.network.variants import MOST_CLASSES
from yoloproof.records import Artifact

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


def class_names(metadata: Mapping[str, str], output: Sequence[int | str]) -> dict[int, str]:
    """A name for every class of an output [B, 4 + classes, A]: as stated, `class7` where nothing is."""
    names = stated_names(metadata)
    rows = output[1] if len(output) == 3 else None
    count = max(rows - 4 if isinstance(rows, int) else 0, max(names, default=-1) + 1)
    return {i: names.get(i, f"class{i}") for i in range(count)}


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
            f"{model}: says that it is for images of {height}x{width}; sides go from 1 to {MOST_SIDE}: name --imgsz"
        )
    return height, width


def properties_of(artifact: Artifact) -> Mapping[str, str]:
    """The metadata of an artifact's file as they stand in it; those of a network that PyTorch builds are its record's."""
    if artifact.format is ArtifactFormat.ENGINE and artifact.path is not None:
        return dict(read_identity(artifact.path).onnx_metadata)
    if artifact.format is ArtifactFormat.ONNX and artifact.path is not None:
        return read_onnx_file(artifact.path).metadata
    if artifact.format is ArtifactFormat.NATIVE and artifact.path is not None:
        return read_native(artifact.path).properties
    return {f"yoloproof.{key}": json.dumps(value) for key, value in artifact.metadata.items()}
