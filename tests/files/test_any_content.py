"""Property tests: whatever stands in metadata, sidecars, annotations and labels is read or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from made_results import made_entry, made_result
from tiny_onnx import tiny_detector
from yoloproof.artifact.onnx import read_artifact
from yoloproof.artifact.stated import stated_size
from yoloproof.demo import demo_images
from yoloproof.detection.accuracy import _resumed
from yoloproof.detection.coco import coco_set, yolo_set
from yoloproof.errors import YoloproofError
from yoloproof.inspection import inspect
from yoloproof.results.schema import json_from_result, result_from_json

PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
NUMBERS = [float("nan"), float("inf"), -float("inf"), 1e308, 10**400, 2**63, -1, 0, -0.5, 1e-320]
WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(NUMBERS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
DEEP = "[" * 100_000
KEYS = (
    "names", "imgsz", "batch", "rewrites", "attention", "precision", "variant", "checkpoint_sha256", "input", "nms", "weights",
)  # fmt: skip


def one_line(read: Callable[[], object]) -> None:
    said = ""
    try:
        read()
    except YoloproofError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 2000


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detector(tmp_path_factory.mktemp("any") / "a.onnx")


@PROPERTY
@given(
    st.dictionaries(
        st.sampled_from(KEYS), WILD.map(lambda v: json.dumps(v)) | st.text(max_size=9) | st.just(DEEP), max_size=4
    )
)
def test_metadata_of_an_onnx_file(detector: Path, properties: dict[str, str]) -> None:
    model = onnx.load(str(detector))
    for prefix in ("yoloproof.", ""):
        path = detector.with_name("any.onnx")
        del model.metadata_props[:]
        onnx.helper.set_model_props(
            model, {prefix + k: v.encode(errors="replace").decode() for k, v in properties.items()}
        )
        onnx.save(model, str(path))
        one_line(partial(kept, path))
        one_line(partial(inspect, path))
        one_line(partial(stated_size, str(path)))


def kept(path: Path) -> None:
    """What a file states of itself does not make a result unreadable."""
    entry = replace(made_entry(samples=1), artifact=replace(read_artifact(path), path=Path("\udcff.onnx")))
    document = json.loads(json.dumps(json_from_result(made_result([entry])), allow_nan=False))
    result_from_json(document, "it")


def documents() -> st.SearchStrategy[dict[str, Any]]:
    """COCO documents in which some values are anything."""
    ids = st.integers(1, 2) | WILD
    image = st.fixed_dictionaries({"id": ids, "file_name": st.just("a.jpg") | WILD})
    category = st.fixed_dictionaries({"id": ids, "name": st.text(max_size=5) | WILD})
    box = st.fixed_dictionaries(
        {
            "id": ids,
            "image_id": ids,
            "category_id": ids,
            "bbox": st.lists(st.floats() | st.integers(0, 99), max_size=5) | WILD,
        },
        optional={"area": WILD, "iscrowd": WILD},
    )
    parts = {name: st.lists(part | WILD, max_size=3) | WILD
             for name, part in (("images", image), ("categories", category), ("annotations", box))}  # fmt: skip
    return st.fixed_dictionaries(parts)


@PROPERTY
@given(documents() | WILD)
def test_annotations(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "a.jpg").touch()
    (folder / "a.json").write_text(json.dumps(document))
    one_line(lambda: coco_set(folder, folder / "a.json"))
    (folder / "a.json").write_text(DEEP)
    one_line(lambda: coco_set(folder, folder / "a.json"))


@PROPERTY
@given(
    st.lists(st.lists(st.floats().map(str) | st.integers(-1, 3).map(str) | st.text(max_size=4), max_size=8), max_size=3)
)
def test_label_files(tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]]) -> None:
    folder = tmp_path_factory.getbasetemp() / "labels-of-anything"
    folder.mkdir(exist_ok=True)
    with suppress(FileExistsError):
        (folder / "a.jpg").symlink_to(demo_images()[0])
    (folder / "a.txt").write_text("\n".join(" ".join(words) for words in lines), encoding="utf-8", errors="replace")
    one_line(lambda: yolo_set(folder, ["cat", "dog"]))


@PROPERTY
@given(st.lists(st.fixed_dictionaries({"image": st.integers(1, 2) | WILD, "detections": WILD}) | WILD, max_size=3))
def test_files_to_resume_from(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "resumed.jsonl"
    path.write_text("\n".join(["run", *map(json.dumps, rows), DEEP, ""]))
    one_line(lambda: _resumed(path, "run", {1, 2}))
