"""Annotated sets of images and the COCO accuracy of detections on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from yoloproof.detection.images import DAMAGED, is_image, open_image
from yoloproof.errors import YoloproofError
from yoloproof.files.reading import MOST_JSON_BYTES, check_regular
from yoloproof.records import Accuracy, AccuracyProtocol

LARGEST_ID = 2**53
MOST_LABEL_BYTES = 1 << 26


@dataclass(frozen=True)
class CocoBox:
    """An annotated box, by COCO's ids. bbox -- x, y, width, height in image px; crowd -- it stands for many objects: found
    or not, it does not count"""

    image: int
    category: int
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool = False


@dataclass(frozen=True)
class CocoSet:
    """Annotated images.

    files -- the images, in the annotations' order; ids -- their COCO ids, one for one
    categories -- COCO category ids in the order of the detector's class indices; names -- theirs
    boxes -- the annotations
    """

    files: tuple[Path, ...]
    ids: tuple[int, ...]
    categories: tuple[int, ...]
    names: tuple[str, ...]
    boxes: tuple[CocoBox, ...]

    def annotations(self) -> list[dict[str, object]]:
        """The boxes as a COCO document's list `annotations`."""
        return [
            {
                "id": number,
                "image_id": box.image,
                "category_id": box.category,
                "bbox": list(box.bbox),
                "area": box.area,
                "iscrowd": int(box.crowd),
                "ignore": int(box.crowd),
            }
            for number, box in enumerate(self.boxes, 1)
        ]


def coco_set(images: Path, annotations: Path) -> CocoSet:
    """A COCO instances file and the folder its images lie in.

    Classes are the categories in the order of their ids. Raises YoloproofError for a file that is no such document, an
    image that is not there, or a box of an unknown image or category.
    """
    document = _document(annotations)
    records = document["images"]
    try:
        files = tuple(_located(images, record["file_name"], annotations) for record in records)
        ids = tuple(int(record["id"]) for record in records)
        categories = {int(c["id"]): str(c.get("name", c["id"])) for c in document["categories"]}
        boxes = tuple(_box(given) for given in document["annotations"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise YoloproofError(f"{annotations}: an entry has no valid {error}; is it COCO's instances format?") from None
    if not files or not categories:
        raise YoloproofError(f"{annotations}: it holds no images or no categories")
    if len(set(ids)) != len(ids):
        raise YoloproofError(f"{annotations}: an image id occurs twice")
    if max(map(abs, (*ids, *categories))) > LARGEST_ID:
        raise YoloproofError(f"{annotations}: an id above {LARGEST_ID}; number images and categories from 1")
    known = set(ids)
    for number, box in enumerate(boxes, 1):
        if not np.isfinite((*box.bbox, box.area)).all() or min(*box.bbox[2:], box.area) < 0:
            name = str(document["annotations"][number - 1].get("id", number))[:40]
            sides = ", ".join(f"{side:g}" for side in (*box.bbox, box.area))
            raise YoloproofError(
                f"{annotations}: annotation {name} has the box and area {sides}: they must be finite, sizes not negative"
            )
        if box.image not in known or box.category not in categories:
            raise YoloproofError(
                f"{annotations}: annotation {number} belongs to an image or category that is not in the file"
            )
    order = tuple(sorted(categories))
    return CocoSet(files, ids, order, tuple(categories[i] for i in order), boxes)


def _document(path: Path) -> dict[str, Any]:
    check_regular(path, MOST_JSON_BYTES)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise YoloproofError(f"{path}: no such file; --annotations names COCO's instances_….json") from None
    except IsADirectoryError:
        raise YoloproofError(f"{path}: a folder; --annotations names COCO's instances_….json") from None
    except (OSError, ValueError, RecursionError) as error:
        raise YoloproofError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(document, dict) or any(
        not isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise YoloproofError(f"{path}: not COCO's instances format: it needs lists images, annotations and categories")
    return document


def _located(folder: Path, name: str, annotations: Path) -> Path:
    # Some sets keep val2017/… in file_name, some keep the images one folder down from it.
    for path in (folder / name, folder / Path(name).name):
        if path.is_file():
            return path
    raise YoloproofError(
        f"{folder / name}: not there, though {annotations.name} lists it; does --images name the right folder?"
    )


def _box(given: Mapping[str, Any]) -> CocoBox:
    x, y, width, height = (float(value) for value in given["bbox"])
    return CocoBox(
        image=int(given["image_id"]),
        category=int(given["category_id"]),
        bbox=(x, y, width, height),
        area=float(given.get("area", width * height)),
        crowd=bool(int(given.get("iscrowd", 0))),
    )


def set_of_folder(folder: Path, names: Sequence[str]) -> CocoSet:
    """The set in a folder: COCO's where it holds one annotation file, else YOLO's.

    An annotation file is instances.json, annotations.json or annotations/instances….json.

    names -- the detector's classes, which a YOLO-format folder counts by. Raises YoloproofError where it is neither.
    """
    file = _annotation_file(folder)
    if file is None:
        return yolo_set(folder, names)
    return coco_set(folder / "images" if (folder / "images").is_dir() else folder, file)


def check_folder(folder: Path) -> None:
    """Raise YoloproofError for a folder in which `set_of_folder` would find no images or no annotations."""
    if _annotation_file(folder) is None:
        _yolo_files(folder)


def _annotation_file(folder: Path) -> Path | None:
    """COCO's annotation file in a folder; None where there is none."""
    if not folder.is_dir():
        raise YoloproofError(f"{folder}: no such folder")
    found = [
        folder / "instances.json",
        folder / "annotations.json",
        *sorted(folder.glob("annotations/instances*.json")),
    ]
    found = [path for path in found if path.is_file()]
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise YoloproofError(f"{folder}: several annotation files ({listed}); choose with --images and --annotations")
    return found[0] if found else None


def yolo_set(folder: Path, names: Sequence[str]) -> CocoSet:
    """A YOLO-format folder: `images/…` with `labels/…/NAME.txt` beside it (or both kinds of file in one folder).

    A line is `class cx cy w h` in shares of the image; polygons (`class x y x y …`) count by their box. An image without
    a label file holds nothing. `names` are the classes in order. Raises YoloproofError for a garbled line, naming it.
    """
    return yolo_set_of_files(*_yolo_files(folder), names, folder)


def _yolo_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images of a YOLO-format folder and their label files, one for one; some of the latter need not be there."""
    pictures = folder / "images" if (folder / "images").is_dir() else folder
    files = sorted(f for f in pictures.rglob("*") if is_image(f) and f.is_file())
    if not files:
        raise YoloproofError(f"{folder}: no images; a YOLO-format folder holds images/ and labels/")
    labels = [_label_file(file, folder, pictures) for file in files]
    _check_labels(labels, folder)
    return files, labels


def _check_labels(labels: Sequence[Path], source: Path) -> None:
    if not any(label.is_file() for label in labels):
        raise YoloproofError(
            f"{source}: no label files beside its images; a YOLO-format folder holds images/ and labels/"
        )


def yolo_set_of_files(files: Sequence[Path], labels: Sequence[Path], names: Sequence[str], source: Path) -> CocoSet:
    """Images and their label files, one for one, as `yolo_set` reads them; `source` is what an error names."""
    _check_labels(labels, source)
    boxes = []
    for number, (file, label) in enumerate(zip(files, labels, strict=True), 1):
        for index, bbox in _label_boxes(label, *_upright_size(file), len(names)):
            boxes.append(CocoBox(number, index, bbox, area=bbox[2] * bbox[3]))
    return CocoSet(tuple(files), tuple(range(1, len(files) + 1)), tuple(range(len(names))), tuple(names), tuple(boxes))


def _label_file(image: Path, folder: Path, pictures: Path) -> Path:
    if pictures == folder:
        return image.with_suffix(".txt")
    return folder / "labels" / image.relative_to(pictures).with_suffix(".txt")


def _upright_size(path: Path) -> tuple[int, int]:
    try:
        with open_image(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (*DAMAGED, UnidentifiedImageError) as error:
        raise YoloproofError(
            f"{path}: its size cannot be read ({error}); take it out of the set or fetch it again"
        ) from None
    return (height, width) if turned else (width, height)


def _label_boxes(
    path: Path, width: int, height: int, classes: int
) -> list[tuple[int, tuple[float, float, float, float]]]:
    if not path.is_file():
        return []
    check_regular(path, MOST_LABEL_BYTES)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise YoloproofError(f"{path}: cannot be read ({error.strerror})") from None
    boxes = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            index, *shares = (float(word) for word in line.split())
        except ValueError:
            shares, index = [], -1.0
        fits = len(shares) == 4 or (len(shares) >= 6 and len(shares) % 2 == 0)
        fits = fits and bool(np.isfinite(shares).all()) and max(map(abs, shares)) < 1e6
        fits = fits and (len(shares) > 4 or min(shares[2:]) >= 0)
        if not fits or index not in range(classes):
            raise YoloproofError(
                f"{path}:{number}: not 'class cx cy w h' with a class below {classes}: {line.strip()[:60]}"
            )
        if len(shares) == 4:
            cx, cy, w, h = shares
            x, y = cx - w / 2, cy - h / 2
        else:
            x, y = min(shares[::2]), min(shares[1::2])
            w, h = max(shares[::2]) - x, max(shares[1::2]) - y
        boxes.append((int(index), (x * width, y * height, w * width, h * height)))
    return boxes


def categories_of(data: CocoSet, names: Sequence[str]) -> tuple[int | None, ...]:
    """The set's category id of each class of a detector, in class order; None where the set has no such category.

    By name where the set's names are all among the detector's (spaces, case and punctuation aside), else by order where
    both have as many. Raises YoloproofError otherwise.
    """
    index = {_plain(name): category for name, category in zip(data.names, data.categories, strict=True)}
    plain = [_plain(name) for name in names]
    if set(index) <= set(plain):
        return tuple(index.get(name) for name in plain)
    if len(names) == len(data.names):
        return data.categories
    strange = next(name for name in data.names if _plain(name) not in plain)
    raise YoloproofError(
        f"the detector has {len(names)} classes, the set {len(data.names)}, and the detector does not know '{strange}':"
        " this set is not for this detector"
    )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def evaluate(
    data: CocoSet, detections: Mapping[int, NDArray[np.float32]], categories: Sequence[int | None],
    protocol: AccuracyProtocol,
) -> Accuracy:  # fmt: skip
    """COCO accuracy of detections [n, 6] in image pixels, by image id; only those images count.

    categories -- the category id of each class index; None: a class that the set lacks, which does not count
    protocol -- how the detections were taken
    AP over IoU 0.50:0.95 and at most 100 detections an image, as the COCO evaluation has it.
    Raises YoloproofError for a class index beyond the categories.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    ids = [i for i in data.ids if i in detections]
    wanted = set(ids)
    truth = COCO(
        {
            "images": [{"id": image} for image in ids],
            "annotations": [annotation for annotation in data.annotations() if annotation["image_id"] in wanted],
            "categories": [
                {"id": one, "name": name} for one, name in sorted(zip(data.categories, data.names, strict=True))
            ],
        }
    )
    found = [row for i in ids for row in _results(categories, i, detections[i])]
    evaluation = COCOeval_faster(truth, truth.loadRes(found), "bbox", print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])  # [IoU, recall, class, area, most detections]
    every = precision[..., 0, -1]
    small, medium, large = (_mean(precision[..., area, -1]) for area in (1, 2, 3))
    return Accuracy(
        AP=_mean(every),
        AP50=_mean(every[0]),
        AP75=_mean(every[5]),
        APsmall=small,
        APmedium=medium,
        APlarge=large,
        per_class={name: _mean(every[..., k]) for k, name in enumerate(data.names)},
        images=len(ids),
        detections=len(found),
        protocol=protocol,
    )


def _results(categories: Sequence[int | None], image: int, detections: NDArray[np.float32]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for x1, y1, x2, y2, score, index in detections.astype(np.float64).tolist():
        if not 0 <= index < len(categories):
            raise YoloproofError(
                f"the detector found class {int(index)}, but the set has only {len(categories)} classes: this set is not for it"
            )
        category = categories[int(index)]
        if category is not None:
            box = [x1, y1, x2 - x1, y2 - y1]
            rows.append({"image_id": image, "category_id": category, "bbox": box, "score": score})
    return rows


def _mean(precision: NDArray[np.float64]) -> float | None:
    """Mean over what the evaluation could compute (it marks the rest −1)."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None
