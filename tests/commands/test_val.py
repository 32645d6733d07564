"""`val` from the command line, of weights and of ONNX files with and without suppression inside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from yoloproof.artifact.stated import stated_names
from yoloproof.cli import app
from yoloproof.demo import demo_annotations, demo_checkpoint, demo_images
from yoloproof.detection.pipeline import end_to_end
from yoloproof.errors import YoloproofError
from yoloproof.opening import opened
from yoloproof.records import Case
from yoloproof.runtime.choice import candidates

MODEL = str(demo_checkpoint())


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["val", *map(str, arguments), "--threads", "1"])


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "demo.onnx"
    made = CliRunner().invoke(app, ["export", MODEL, "-o", str(path)])
    assert made.exit_code == 0, made.output
    return path


def test_weights_and_artifacts_have_one_ap(onnx_file: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside.onnx"
    from yoloproof.artifact.nms import NmsOptions, add_nms

    add_nms(onnx_file, inside, NmsOptions(score=0.001, candidates=1024, rounds=32))
    accuracies = []
    for model, more in ((MODEL, ()), (onnx_file, ()), (inside, ())):
        document = tmp_path / f"{Path(model).stem}-{len(accuracies)}.json"
        result = run(model, *more, "--json", document)
        assert result.exit_code == 0, result.output
        accuracies.append(json.loads(document.read_text())["accuracy"])
        assert ("dropped detections first (score > 0.001, IoU 0.7, at most 300" in result.output) is (model == inside)
    weights, artifact, with_nms = accuracies
    assert weights["images"] == 4
    assert weights["AP50"] > 0.3
    assert artifact["AP"] == pytest.approx(weights["AP"], abs=0.002)
    assert with_nms["AP"] == pytest.approx(weights["AP"], abs=0.002)
    assert "outside" in artifact["protocol"]["nms"]
    assert "in the artifact" in with_nms["protocol"]["nms"]


def test_resumed_and_per_class(onnx_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    given = (onnx_file, "--images", demo_annotations().parent, "--annotations", demo_annotations(), "--resume", file)
    first, second = run(*given, "--per-class"), run(*given)
    assert first.exit_code == second.exit_code == 0, first.output
    assert "airplane" in first.output
    assert len(file.read_text().splitlines()) == 5
    other = run(*given, "--iou", "0.6")
    assert isinstance(other.exception, YoloproofError)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--images", "."), "go together"),
        (("--data", "nowhere"), "no such file or folder"),
        (("--images", ".", "--annotations", "none.json"), "no such file"),
        (("--imgsz", "320"), "640x640 only"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], words: str, onnx_file: Path) -> None:
    result = run(onnx_file, *arguments)
    assert isinstance(result.exception, YoloproofError)
    assert words in str(result.exception)


def test_stages_add_up_behind_a_clock_that_counts(onnx_file: Path) -> None:
    ticks = iter(range(1000))
    with opened(candidates(Case(str(onnx_file), threads=1))[0]) as model:
        stages = end_to_end(model.session, demo_images()[:2], lambda: float(next(ticks)), model.imgsz)
    assert stages.samples == {"preprocess_s": (1, 1), "inference_s": (1, 1), "nms_s": (1, 1), "total_s": (3, 3)}
    assert (stages.preprocess_s, stages.inference_s, stages.nms_s, stages.total_s) == (1, 1, 1, 3)


def test_names_of_other_exporters() -> None:
    assert stated_names({"names": "{0: 'cat', 1: \"dog's\"}"}) == {0: "cat", 1: "dog's"}
    assert stated_names({"names": "['cat', 'dog']"}) == {0: "cat", 1: "dog"}
    assert stated_names({}) == {}
    with pytest.raises(YoloproofError, match="cannot be read"):
        stated_names({"names": "__import__('os')"})


@pytest.mark.slow
def test_yolo12_has_one_ap_on_every_runtime(reference: Path, shared: Path, tmp_path: Path) -> None:
    """A checkpoint as ultralytics 8.4 trains and saves it, on 8 of the images that it was trained on."""
    document = json.loads((shared / "coco128/instances.json").read_text())
    document["images"] = document["images"][:8]
    kept = {record["id"] for record in document["images"]}
    document["annotations"] = [box for box in document["annotations"] if box["image_id"] in kept]
    (tmp_path / "instances.json").write_text(json.dumps(document))
    found = {}
    for runtime in ("pytorch", "onnxruntime", "openvino"):
        result = run(
            reference / "yolo12n-coco128.pt", "--images", shared / "coco128/images", "--annotations",
            tmp_path / "instances.json", "--runtime", runtime, "--json", tmp_path / f"{runtime}.json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        found[runtime] = json.loads((tmp_path / f"{runtime}.json").read_text())["accuracy"]
    assert found["pytorch"]["AP"] > 0.4
    for runtime in ("onnxruntime", "openvino"):
        assert found[runtime]["AP"] == pytest.approx(found["pytorch"]["AP"], abs=0.0005)
        assert found[runtime]["AP50"] == pytest.approx(found["pytorch"]["AP50"], abs=0.0005)
