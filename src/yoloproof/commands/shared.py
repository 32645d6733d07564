"""What several commands ask for: sizes, image folders, progress on a terminal, JSON that overwrites nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yoloproof.errors import YoloproofError

if TYPE_CHECKING:
    from yoloproof.records import Result


def imgsz_from_text(text: str) -> tuple[int, int]:
    """ "640" → (640, 640), "384x640" → (384, 640): height, width. YoloproofError for anything but multiples of 32."""
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(p.isdigit() for p in parts):
        raise YoloproofError(f"--imgsz {text}: give one side or HEIGHTxWIDTH, like 640 or 384x640")
    height, width = int(parts[0]), int(parts[-1])
    if any(side < 64 or side % 32 or side > 4096 for side in (height, width)):
        raise YoloproofError(f"--imgsz {text}: both sides must be multiples of 32 from 64 to 4096")
    return height, width


def image_files(folder: Path | None, most: int = 8) -> tuple[Path, ...]:
    """The images of `folder` (at most `most`), or the bundled demo's four."""
    from yoloproof.demo import demo_images
    from yoloproof.detection.images import find_images

    if folder is None:
        return tuple(demo_images())
    if not folder.exists():
        raise YoloproofError(f"{folder}: no such folder")
    found = find_images([str(folder)])
    if not found:
        raise YoloproofError(f"{folder}: no images in it")
    return tuple(found[:most])


def check_new(path: Path | None) -> None:
    """Refuse an output that exists or has nowhere to go, before any work is done."""
    if path is None:
        return
    folder = path.absolute().parent
    if os.path.lexists(path):
        raise YoloproofError(f"{path} exists; nothing was overwritten. Name another file or remove it")
    if not folder.is_dir():
        raise YoloproofError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise YoloproofError(f"{path}: the folder {path.parent} cannot be written to; choose another place")


def new_folder(path: Path) -> Path:
    """The folder, made where it is not there yet. YoloproofError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise YoloproofError(f"{path}: cannot be a folder ({error.strerror}); name another") from None
    return path


def write_json(document: Any, path: Path) -> None:
    """Write a new JSON file, whole or not at all. YoloproofError when it exists or cannot be written."""
    from yoloproof.files.new import write_new

    write_new(json.dumps(document, indent=1, default=str) + "\n", path)


@contextmanager
def steps() -> Iterator[tuple[Callable[[str], None], Callable[[str, float], None]]]:
    """Two callbacks for progress on a terminal's stderr (nothing in a pipe): a step's name; a bar's name and share 0…1."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def say(step: str) -> None:
            progress.update(task, description=step, total=None)

        def bar(step: str, share: float) -> None:
            progress.update(task, description=step, total=1.0, completed=share)

        yield say, bar


def t4_estimates(results: Sequence[tuple[str, Result]]) -> list[str]:
    """What a T4 would take, one marked line for each of our variants in (file name, result) pairs; none where a T4 was
    measured."""
    from yoloproof.estimate import estimate_line
    from yoloproof.estimate.shapes import layer_shapes
    from yoloproof.names import Weights
    from yoloproof.results.labels import gpu_name
    from yoloproof.results.published import same_gpu, variant_name

    if any(same_gpu("Tesla T4", gpu_name(run)) for _, result in results for run in result.runs):
        return []
    ours = [one for _, result in results for one in result.entries if one.model.weights is not Weights.FOREIGN]
    return [estimate_line(name) for name in dict.fromkeys(map(variant_name, ours)) if name in layer_shapes()]
