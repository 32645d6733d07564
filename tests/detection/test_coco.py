"""Accuracy: hand-made sets whose AP is known, the reference's, YOLO folders, resumed runs, broken sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from yoloproof.detection.accuracy import accuracy_of
from yoloproof.detection.coco import CocoSet, categories_of, coco_set, evaluate, set_of_folder, yolo_set
from yoloproof.errors import YoloproofError
from yoloproof.records import Accuracy, AccuracyProtocol

NAMES = ("cat", "dog", "traffic light")
BOXES = {0: [(1, (10, 10, 40, 30)), (2, (50, 20, 20, 20))], 1: [(0, (5, 5, 60, 50))], 2: []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of 100 x 80 as a COCO set (categories 3, 7, 90) and as a YOLO-format folder."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index, boxes in BOXES.items():
        Image.fromarray(rng.integers(0, 255, (80, 100, 3), dtype=np.uint8)).save(tmp_path / f"images/{index}.png")
        images.append({"id": 100 + index, "file_name": f"{index}.png", "height": 80, "width": 100})
        lines = []
        for kind, (x, y, w, h) in boxes:
            category = (3, 7, 90)[kind]
            annotations.append(
                {"id": len(annotations) + 5, "image_id": 100 + index, "category_id": category, "bbox": [x, y, w, h],
                 "area": w * h, "iscrowd": 0}
            )  # fmt: skip
            lines.append(f"{kind} {(x + w / 2) / 100} {(y + h / 2) / 80} {w / 100} {h / 80}\n")
        if boxes:
            (tmp_path / f"labels/{index}.txt").write_text("".join(lines))
    categories = [{"id": i, "name": n} for i, n in zip((3, 7, 90), NAMES, strict=True)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "instances.json").write_text(json.dumps(document))
    return tmp_path


def scored(data: CocoSet, found: dict[int, NDArray[np.float32]]) -> Accuracy:
    protocol = AccuracyProtocol("COCO bbox", "letterbox", (640, 640), 0.001, 0.7, 300, "best class", "outside")
    return evaluate(data, found, data.categories, protocol)


def rows(*found: Sequence[float]) -> NDArray[np.float32]:
    return np.array(found, np.float32).reshape(-1, 6)


def perfect() -> dict[int, NDArray[np.float32]]:
    return {
        100 + i: rows(*((x, y, x + w, y + h, 0.9, kind) for kind, (x, y, w, h) in boxes)) for i, boxes in BOXES.items()
    }


def test_perfect_detections_have_ap_1(folder: Path) -> None:
    accuracy = scored(set_of_folder(folder, NAMES), perfect())
    assert pytest.approx((1, 1, 1)) == (accuracy.AP, accuracy.AP50, accuracy.AP75)
    assert accuracy.per_class == pytest.approx(dict.fromkeys(NAMES, 1.0))
    assert accuracy.APsmall == pytest.approx(1)
    assert accuracy.APmedium == pytest.approx(1)
    assert accuracy.APlarge is None  # no such box in the set


def test_each_kind_of_error_costs_what_it_should(folder: Path) -> None:
    data = set_of_folder(folder, NAMES)
    missed = perfect() | {101: rows()}
    assert pytest.approx(2 / 3) == scored(data, missed).AP
    confused = perfect() | {101: rows((5, 5, 65, 55, 0.9, 1))}
    assert scored(data, confused).per_class["cat"] == pytest.approx(0)
    # IoU 50 / 60: right at 0.50 … 0.80, wrong at 0.85, 0.90, 0.95
    loose = perfect() | {101: rows((5, 5, 55, 55, 0.9, 0))}
    assert scored(data, loose).per_class["cat"] == pytest.approx(0.7)
    assert pytest.approx(0) == scored(data, {i: rows() for i in perfect()}).AP


def test_yolo_folder_is_the_same_set(folder: Path) -> None:
    data = yolo_set(folder, NAMES)
    found = dict(zip(data.ids, perfect().values(), strict=True))
    assert pytest.approx(1) == scored(data, found).AP
    boxes = [box.bbox for box in data.boxes]
    np.testing.assert_allclose(boxes, [(10, 10, 40, 30), (50, 20, 20, 20), (5, 5, 60, 50)])


def test_yolo_polygons_count_by_their_box(folder: Path) -> None:
    (folder / "labels/2.txt").write_text("1 0.1 0.1 0.5 0.2 0.3 0.6\n\n")
    box = yolo_set(folder, NAMES).boxes[-1].bbox
    np.testing.assert_allclose(box, (10, 8, 40, 40))


@pytest.mark.parametrize(
    "line", ["3 0.5 0.5 0.1 0.1", "-1 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1", "cat 0 0 1 1", "0.5 0 0 1 1", "nan 0 0 1 1"]
)
def test_a_garbled_label_is_named_by_its_line(folder: Path, line: str) -> None:
    (folder / "labels/1.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(YoloproofError, match=r"1\.txt:2"):
        yolo_set(folder, NAMES)


def test_classes_go_by_name_else_by_order(folder: Path) -> None:
    data = set_of_folder(folder, NAMES)
    assert categories_of(data, ["dog", "bird", "Traffic-Light", "cat"]) == (7, None, 90, 3)
    assert categories_of(data, ["a", "b", "c"]) == (3, 7, 90)
    with pytest.raises(YoloproofError, match="this set is not for"):
        categories_of(data, ["a", "b"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("images"), "instances format"),
        (lambda d: d.update(images=[]), "no images"),
        (lambda d: d["annotations"][0].pop("bbox"), "bbox"),
        (lambda d: d["annotations"][0].update(category_id=4), "category that is not in the file"),
        (lambda d: d["images"][0].update(file_name="gone.png"), "not there"),
        (lambda d: d["images"][0].update(id=101), "twice"),
    ],
)
def test_a_broken_annotation_file_is_refused(folder: Path, change: Any, words: str) -> None:
    document = json.loads((folder / "instances.json").read_text())
    change(document)
    (folder / "instances.json").write_text(json.dumps(document))
    with pytest.raises(YoloproofError, match=words):
        coco_set(folder / "images", folder / "instances.json")


class Oracle:
    """A session that answers with what is asked of it: each image's true boxes, as raw output [1, 4 + 3, 12]."""

    inputs = (SimpleNamespace(name="images", shape=(1, 3, 160, 160)),)
    outputs = (SimpleNamespace(name="output0", shape=(1, 7, 12)),)

    def __init__(self) -> None:
        self.runs = 0

    def infer(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        output = np.zeros((1, 7, 12), np.float32)
        for anchor, (kind, (x, y, w, h)) in enumerate(BOXES[self.runs % 3]):
            # 100 x 80 in 160 x 160: scale 1.6, 16 rows of border above
            output[0, :4, anchor] = ((x + w / 2) * 1.6, (y + h / 2) * 1.6 + 16, w * 1.6, h * 1.6)
            output[0, 4 + kind, anchor] = 0.9
        self.runs += 1
        return (output,)


def names() -> dict[int, str]:
    return dict(enumerate(NAMES))


def accuracy_with(data: CocoSet, session: Any, **given: Any) -> Accuracy:
    return accuracy_of(session, names(), data, imgsz=(160, 160), **given)


def test_the_whole_way_through_a_session(folder: Path) -> None:
    done: list[tuple[int, int]] = []
    accuracy = accuracy_with(set_of_folder(folder, NAMES), Oracle(), progress=lambda *at: done.append(at))
    assert pytest.approx(1) == accuracy.AP
    assert accuracy.protocol.confidence == 0.001
    assert accuracy.AP_float32 is accuracy.AP_lost is None
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_an_interrupted_run_goes_on_and_ends_the_same(folder: Path, tmp_path: Path) -> None:
    data, session, file = set_of_folder(folder, NAMES), Oracle(), tmp_path / "run.jsonl"
    whole = accuracy_with(data, session, resume=file, identity="a")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3]) + lines[3][:9])  # the machine went down while the third was written
    session.runs = 2
    assert accuracy_with(data, session, resume=file, identity="a") == whole
    assert session.runs == 3
    assert file.read_text().splitlines(keepends=True) == lines
    with pytest.raises(YoloproofError, match="another artifact"):
        accuracy_with(data, session, resume=file, identity="b")
    file.write_text("no lines of ours\n")
    with pytest.raises(YoloproofError, match="no --resume file at all"):
        accuracy_with(data, session, resume=file)
    file.write_text(lines[0] + '{"image": 100}\n')
    with pytest.raises(YoloproofError, match="not a file of detections"):
        accuracy_with(data, session, resume=file, identity="a")


def test_a_broken_image_stops_the_evaluation(folder: Path) -> None:
    (folder / "images/1.png").write_bytes(b"\x89PNG")
    with pytest.raises(YoloproofError, match=r"1\.png"):
        accuracy_with(coco_set(folder / "images", folder / "instances.json"), Oracle())


def test_reference_ap(shared: Path) -> None:
    """The reference's own detections (above 0.25) evaluated by faster-coco-eval and, where installed, pycocotools."""
    from faster_coco_eval import COCO, COCOeval_faster

    data = coco_set(shared / "coco128" / "images", shared / "coco128" / "instances.json")
    reference = json.loads((shared / "reference" / "yolov13n-coco128.detections.json").read_text())["detections"]
    found = {i: rows(*reference.get(file.name, ())) for i, file in zip(data.ids, data.files, strict=True)}
    accuracy = scored(data, found)
    truth = COCO(json.loads((shared / "coco128" / "instances.json").read_text()))
    results = [
        {"image_id": i, "category_id": data.categories[int(c)], "bbox": [x1, y1, x2 - x1, y2 - y1], "score": s}
        for i, detections in found.items()
        for x1, y1, x2, y2, s, c in detections.astype(float).tolist()
    ]
    theirs = COCOeval_faster(truth, truth.loadRes(results), "bbox", print_function=lambda *_: None)
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    ours = [accuracy.AP, accuracy.AP50, accuracy.AP75, accuracy.APsmall, accuracy.APmedium, accuracy.APlarge]
    np.testing.assert_allclose(ours, theirs.stats[:6], atol=1e-9)
    assert accuracy.AP is not None
    assert accuracy.AP > 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [1, 1, float("nan"), 5]},
        {"bbox": [1, 1, -3, 5]},
        {"bbox": [1, float("inf"), 3, 5]},
        {"area": -1},
        {"area": float("inf")},
    ],
)
def test_a_box_that_is_none_is_refused_with_its_id(folder: Path, change: dict[str, Any]) -> None:
    document = json.loads((folder / "instances.json").read_text())
    document["annotations"][1] |= {"id": 4711, **change}
    (folder / "instances.json").write_text(json.dumps(document))
    with pytest.raises(YoloproofError, match="annotation 4711 has the box"):
        coco_set(folder / "images", folder / "instances.json")


@pytest.mark.parametrize(
    "line", ["0 nan 0.5 0.1 0.1", "0 0.5 0.5 -0.1 0.1", "0 1e300 0.5 0.1 0.1", "0 inf 0.5 0.1 0.1"]
)
def test_a_label_that_is_no_box_is_refused_with_its_line(folder: Path, line: str) -> None:
    (folder / "labels" / "0.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(YoloproofError, match=r"0\.txt:2: not 'class cx cy w h'"):
        yolo_set(folder, NAMES)
