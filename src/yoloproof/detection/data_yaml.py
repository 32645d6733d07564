"""`data.yaml`, as YOLO trainers write it: where the images of a set lie and what its classes are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloproof.detection.coco import CocoSet, check_folder, set_of_folder, yolo_set_of_files
from yoloproof.detection.images import is_image
from yoloproof.errors import YoloproofError
from yoloproof.files.reading import check_regular

MOST_BYTES = 1 << 26  # of data.yaml, and of a list of images


def annotated_set(data: Path, names: Sequence[str]) -> CocoSet:
    """The set that `--data` names: a folder (`set_of_folder`) or a `data.yaml` (`set_of_yaml`).

    names -- the detector's classes, which a YOLO-format folder counts by. Raises YoloproofError for anything else.
    """
    return set_of_yaml(data) if data.suffix in (".yaml", ".yml") else set_of_folder(data, names)


def check_data(data: Path) -> None:
    """Refuse what `annotated_set` could not read, before any work is done. Raises YoloproofError."""
    if data.suffix in (".yaml", ".yml"):
        set_of_yaml(data)
    elif not data.is_dir():
        raise YoloproofError(
            f"{data}: no such file or folder; --data takes a data.yaml, or a folder of images and annotations"
        )
    else:
        check_folder(data)


def set_of_yaml(path: Path) -> CocoSet:
    """The validation images of a `data.yaml` with their YOLO-format labels, and the classes as the file names them.

    `path` is the root, relative to the file's own folder; `val` is a folder, a list file (.txt) or a list of these. The
    labels of …/images/…/NAME.jpg are …/labels/…/NAME.txt. Raises YoloproofError for anything that does not fit.
    """
    document = _document(path)
    places = document.get("val") or document.get("validation")
    if not places:
        raise YoloproofError(f"{path}: names no validation images; add a line such as `val: images/val`")
    names = _names(document.get("names"), document.get("nc"), path)
    roots = [path.parent / str(document.get("path") or ""), path.parent]
    files: list[Path] = []
    for place in places if isinstance(places, list) else [places]:
        files += _images(_located(str(place), roots, path))
    files = list(dict.fromkeys(files))
    if not files:
        raise YoloproofError(f"{path}: no images in {places}")
    return yolo_set_of_files(files, [_label_of(file) for file in files], names, path)


def _document(path: Path) -> dict[str, Any]:
    import yaml

    check_regular(path, MOST_BYTES)
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise yaml.YAMLError("it uses aliases, a few of which can expand to gigabytes")
        document = yaml.safe_load(text)
    except FileNotFoundError:
        raise YoloproofError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise YoloproofError(f"{path}: cannot be read as YAML ({reason[:150]})") from None
    if not isinstance(document, dict):
        raise YoloproofError(f"{path}: not a data.yaml: it needs `val` and `names`")
    return document


def _names(names: Any, count: Any, path: Path) -> tuple[str, ...]:
    if names is None and isinstance(count, int) and 0 < count <= 100_000:
        names = [f"class{i}" for i in range(count)]
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        found = {int(index): str(name) for index, name in names.items()}
        names = [found[i] for i in range(len(found))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int | float) for name in names):
        raise YoloproofError(f"{path}: its `names` are neither a list nor numbered from 0")
    return tuple(map(str, names))


def _located(place: str, roots: Sequence[Path], path: Path) -> Path:
    for root in roots:
        if (root / place).exists():
            return root / place
    raise YoloproofError(f"{path}: {roots[0] / place} does not exist; correct `path` or `val`")


def _images(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(file for file in place.rglob("*") if is_image(file) and file.is_file())
    if place.suffix != ".txt":
        return [place]
    check_regular(place, MOST_BYTES)
    listed = [line.strip() for line in place.read_text(encoding="utf-8", errors="replace").splitlines()]
    return [place.parent / line for line in listed if line]


def _label_of(image: Path) -> Path:
    """…/images/…/NAME.jpg → …/labels/…/NAME.txt by the last folder of that name; else beside the image."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")
