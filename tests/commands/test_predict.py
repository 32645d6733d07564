"""`predict` from the command line: real weights, pictures, videos, broken files; nothing is overwritten."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from terminal import on_a_terminal
from yoloproof.cli import app
from yoloproof.commands.shared import ProgressBar
from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection import prediction
from yoloproof.detection.video import Frame
from yoloproof.errors import YoloproofError
from yoloproof.network import load_network, network_from_variant, save_safetensors, variant_from_name

MODEL = str(demo_checkpoint())
CAT = demo_images()[3]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments), "--threads", "1"])


def test_every_output_says_the_same(tmp_path: Path) -> None:
    drawn, labels, table, document = (tmp_path / n for n in ("drawn", "labels", "a.csv", "a.json"))
    result = run(MODEL, CAT, "--save", drawn, "--txt", labels, "--csv", table, "--json", document)
    assert result.exit_code == 0, result.output
    found = json.loads(document.read_text())["images"][0]["detections"]
    assert {"cat", "couch"} <= {row["name"] for row in found}
    assert "1 cat" in result.output
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], float(row["x1"])) for row in rows] == [(row["name"], row["box"][0]) for row in found]
    lines = (labels / f"{CAT.stem}.txt").read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == [row["class"] for row in found]
    width, height = Image.open(CAT).size
    cx, _, w, _ = (float(word) for word in lines[0].split()[1:5])
    np.testing.assert_allclose((cx - w / 2) * width, found[0]["box"][0], atol=0.02)
    picture = np.asarray(Image.open(drawn / f"{CAT.stem}.jpg"))
    assert picture.shape == (height, width, 3)
    assert np.abs(picture.astype(int) - np.asarray(Image.open(CAT))).max() > 100


def test_what_is_done_is_cut_before_the_times_beside_it() -> None:
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(width=80))
    task = bar.add_task("", total=None)
    ProgressBar(bar, task)("process 3/3, yolov13n-coco128 fused fp32 openvino: sample after sample", 0.5)
    shown = bar.tasks[0].description
    assert shown.startswith("process 3/3, yolov13n")
    assert len(shown) == 40
    assert shown.endswith("…")


def test_on_a_terminal_the_bar_breaks_no_line(tmp_path: Path) -> None:
    """80 columns, in a process of its own: every image's line stands whole in a line of the screen's."""
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(CAT.read_bytes())
    words = (sys.executable, "-m", "yoloproof", "predict", MODEL, str(tmp_path), "--threads", "1", "--imgsz", "320")
    status, lines = on_a_terminal(words, tmp_path)
    assert status == 0, lines
    assert sum(line.startswith(str(tmp_path)) and line.endswith("nothing") for line in lines) == 3, lines


def test_a_broken_image_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    (tmp_path / "b.jpg").write_bytes(CAT.read_bytes())
    document = tmp_path / "out.json"
    result = run(MODEL, tmp_path, "--json", document)
    assert result.exit_code == 1
    assert "a.jpg" in result.stderr
    images = json.loads(document.read_text())["images"]
    assert "error" in images[0]
    assert images[1]["detections"]


def test_a_broken_video_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"no video")
    document = tmp_path / "out.json"
    result = run(MODEL, tmp_path / "empty.mp4", CAT, "--json", document)
    assert result.exit_code == 1
    assert "empty.mp4" in result.stderr
    broken, cat = json.loads(document.read_text())["images"]
    assert "OpenCV" in broken["error"]
    assert cat["detections"]


def test_ctrl_c_ends_a_camera_and_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_and_then_the_user_has_enough(source: str, most: int | None) -> Iterator[Frame]:
        pixels = np.asarray(Image.open(CAT))
        yield Frame(source, 0, pixels)
        yield from (Frame(source, number, pixels) for number in range(1, 12))
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "frames", two_and_then_the_user_has_enough)
    result = run(MODEL, "0", "--json", tmp_path / "a.json")
    assert isinstance(result.exception, typer.Abort) or result.exit_code == 1
    images = json.loads((tmp_path / "a.json").read_text())["images"]
    assert images
    assert all(image["detections"] for image in images)


def test_a_picture_longer_than_jpeg_allows_is_kept_as_png(tmp_path: Path) -> None:
    Image.new("RGB", (70_000, 2)).save(tmp_path / "a.png")
    result = run(MODEL, tmp_path / "a.png", "--save", tmp_path / "drawn")
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "drawn" / "a.png").size == (70_000, 2)


def test_video_frames(tmp_path: Path) -> None:
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 407))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG video")
    for _ in range(4):
        writer.write(cv2.imread(str(CAT)))
    writer.release()
    result = run(MODEL, video, "--frames", "3", "--json", tmp_path / "a.json", "--save", tmp_path / "drawn")
    assert result.exit_code == 0, result.output
    images = json.loads((tmp_path / "a.json").read_text())["images"]
    assert [image["frame"] for image in images] == [0, 1, 2]
    assert all("cat" in {row["name"] for row in image["detections"]} for image in images)
    capture = cv2.VideoCapture(str(tmp_path / "drawn" / "clip.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.jpg",), "no such file"),
        (("none.mp4",), "no such file"),
        (("{cat}", "--confidence", "1.5"), "confidence"),
        (("{cat}", "--imgsz", "100"), "multiples of 32"),
        (("{cat}", "--save", "{full}"), "not empty"),
        (("{cat}", "--csv", "{full}/a.csv"), "exists"),
        (("{cat}", "--runtime", "tensorrt"), "tensorrt"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "a.csv").write_text("kept")
    (full / "empty.mp4").write_bytes(b"no video")
    result = run(MODEL, *(argument.format(cat=CAT, full=full) for argument in arguments))
    assert isinstance(result.exception, YoloproofError)
    assert words in str(result.exception)
    assert (full / "a.csv").read_text() == "kept"


def test_a_model_of_three_classes_goes_the_whole_way(reference: Path, tmp_path: Path) -> None:
    """Own names, own class count, a size that is not square: weights → safetensors → ONNX → detections."""
    from seeded_weights import seeded_state_dict

    network = network_from_variant(variant_from_name("yolov13n"), 3)
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    tensors = seeded_state_dict(shapes, 13)
    network.load_state_dict({name: torch.from_numpy(np.asarray(array)) for name, array in tensors.items()})
    network.names = {0: "bolt", 1: "nut", 2: "washer"}
    weights, exported = tmp_path / "parts.safetensors", tmp_path / "parts.onnx"
    save_safetensors(network, weights)
    assert load_network(weights).names == network.names
    made = CliRunner().invoke(app, ["export", str(weights), "--imgsz", "160x224", "-o", str(exported)])
    assert made.exit_code == 0, made.output
    found = []
    for number, model in enumerate((weights, exported)):
        document = tmp_path / f"{number}.json"
        size = () if model == exported else ("--imgsz", "160x224")
        result = run(model, CAT, *size, "--confidence", "0.5", "--max-detections", "20", "--json", document)
        assert result.exit_code == 0, result.output
        read = json.loads(document.read_text())
        assert read["imgsz"] == [160, 224]
        assert set(read["names"].values()) == {"bolt", "nut", "washer"}
        found.append(read["images"][0]["detections"])
    assert found[0]
    assert [row["name"] for row in found[0]] == [row["name"] for row in found[1]]
    np.testing.assert_allclose([row["box"] for row in found[0]], [row["box"] for row in found[1]], atol=0.1)
