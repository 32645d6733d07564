"""`data.yaml` as YOLO trainers write it, in each of the spellings that they take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yoloproof.detection.data_yaml import annotated_set
from yoloproof.errors import YoloproofError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 100×80 px in images/val and images/more, with one label each."""
    for name, line in (("val/a", "0 0.5 0.5 0.2 0.25"), ("more/b", "1 0.3 0.25 0.4 0.5")):
        for kind, suffix in (("images", ".png"), ("labels", ".txt")):
            (tmp_path / f"{kind}/{name}").parent.mkdir(parents=True, exist_ok=True)
            file = tmp_path / f"{kind}/{name}{suffix}"
            file.write_text(line) if kind == "labels" else Image.new("RGB", (100, 80)).save(file)
    (tmp_path / "list.txt").write_text("./images/val/a.png\nimages/more/b.png\n")
    return tmp_path


@pytest.mark.parametrize(
    ("places", "images"),
    [("val: images/val", 1), ("val: [images/val, images/more]", 2), ("val: list.txt", 2), ("path: .\nval: images", 2),
     ("path: ../elsewhere\nval: images/val", 1)],
)  # fmt: skip
@pytest.mark.parametrize("names", ["names: [cat, dog]", "names:\n  0: cat\n  1: dog", "nc: 2"])
def test_every_spelling_is_one_set(folder: Path, places: str, images: int, names: str) -> None:
    (folder / "data.yaml").write_text(f"train: images/train\n{places}\n{names}\n")
    data = annotated_set(folder / "data.yaml", ["whatever", "the detector", "says"])
    assert len(data.files) == images
    assert data.names == (("class0", "class1") if names == "nc: 2" else ("cat", "dog"))
    box = next(box for box in data.boxes if box.category == 0)
    np.testing.assert_allclose(box.bbox, (40, 30, 20, 20))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: images/train\nnames: [cat, dog]", "names no validation images"),
        ("val: images/nothere\nnames: [cat, dog]", "images/nothere does not exist"),
        ("val: images/val\nnames: {3: cat}", "neither a list nor numbered"),
        ("val: images/val\nnames: {0: cat, '0': dog}", "neither a list nor numbered"),
        ("val: images/more\nnames: [cat]", r"b\.txt:1.*class below 1"),
        ("- a\n- b", "not a data.yaml"),
        ("val: [images/val", "cannot be read as YAML"),
        ("val: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
    ],
)
def test_what_is_wrong_is_one_line(folder: Path, text: str, said: str) -> None:
    (folder / "data.yaml").write_text(text)
    with pytest.raises(YoloproofError, match=said) as raised:
        annotated_set(folder / "data.yaml", ["cat", "dog"])
    assert "\n" not in str(raised.value)
