"""`yoloproof inspect`: what a model file is, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zipfile import is_zipfile

import typer

from yoloproof.commands.shared import ARTIFACTS, JsonFile, check_new, console_beside, write_json
from yoloproof.errors import YoloproofError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from yoloproof.inspection import Inspection

DECIDING = ("score", "iou", "max_detections", "layout")
SHOWN = (
    "variant", "weights", "checkpoint_sha256", "attention", "rewrites", "input", "frames", "description", "task", "args",
)  # fmt: skip


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="an .onnx, .engine, .native, .pt or .safetensors file")],
    json_file: JsonFile = None,
) -> None:
    """Say what FILE is: inputs, outputs and their meaning, thresholds, precision, attention block by block, classes, maker.

    Example: `yoloproof inspect yolo11n.onnx`
    """
    check_new(json_file)
    if not file.is_file():
        raise YoloproofError(f"{file}: no such file")
    if file.suffix not in (*ARTIFACTS, ".safetensors") and not is_zipfile(file):
        raise YoloproofError(f"{file}: not an .onnx, .engine, .native, .pt or .safetensors file")
    from rich.text import Text

    from yoloproof.inspection import inspect as inspected
    from yoloproof.results.schema import plain

    found = inspected(file)
    if json_file is not None:
        write_json(plain(found), json_file)
    console = console_beside(json_file)
    for name, words in _lines(found):
        console.print(Text.assemble((f"{name:<12}", "bold"), _printable(words)), soft_wrap=True)


def _printable(words: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def _lines(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "file", f"{found.path}: {found.kind}, {found.bytes} bytes"
    yield "sha256", found.sha256
    if found.made_by:
        yield "made by", found.made_by
    yield "precision", found.precision
    for side, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            yield side, f"{tensor.name} [{', '.join(map(str, tensor.shape))}] {tensor.dtype}"
    if found.outputs:
        yield "detections", found.reading or "unknown: its shapes, names and metadata do not say how to read them"
    if found.suppression:
        yield "suppression", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in _shown(found.suppression))
    whole = sum(block.spelling is not None for block in found.attention)
    lost = len(found.attention) - whole
    yield "attention", f"{whole} whole, {lost} lost" if found.attention else "unknown: none was found in the file"
    for block in found.attention:
        yield "", f"{block.name}: {block.spelling or f'LOST: {block.detail}'}"
    names = list(found.names.values())
    more = f", … {names[-1]}" if len(names) > 6 else ""
    yield "classes", f"{len(names)}: {', '.join(names[:6])}{more}" if names else "not named"
    for name in SHOWN:
        if name in found.states:
            yield "states", f"{name} {found.states[name].strip(chr(34))[:200]}"


def _shown(suppression: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """What decides which boxes are left, not how it is computed; all of a file that states something else."""
    deciding = {name: suppression[name] for name in DECIDING if name in suppression}
    yield from (deciding or suppression).items()
