"""A script as people wrote it for ultralytics 8.4 runs unchanged after its import line; so do older ones' arguments."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from yoloproof import ProfileModels, YoloproofError, benchmark
from yoloproof.demo import demo_annotations, demo_checkpoint
from yoloproof.detection.coco import coco_set
from yoloproof.format_benchmark import COLUMNS, _cases
from yoloproof.profile_models import wants_float16

THEIRS = "from ultralytics.utils.benchmarks import ProfileModels, benchmark"
OURS = "from yoloproof import ProfileModels, benchmark"
SCRIPT = f"""{THEIRS}
import json

rows = ProfileModels(
    ["yolo.safetensors"], num_timed_runs=5, num_warmup_runs=2, min_time=1, imgsz=320, quantize=16, trt=True, device="cpu"
).run()
print("ROWS " + json.dumps([{{k: v for k, v in row.items() if k != "model/result"}} for row in rows]))

table = benchmark(
    model="yolo.safetensors", data="data.yaml", imgsz=480, quantize=None, device="cpu", verbose=0.2, eps=1e-3,
    format="onnx", opset=19,
)
print("TABLE " + json.dumps(table.to_dicts()))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo checkpoint as yolo.safetensors, and its images as a `data.yaml` with labels in YOLO's format."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "yolo.safetensors").symlink_to(demo_checkpoint())
    data = coco_set(demo_annotations().parent, demo_annotations())
    sizes = {record["id"]: record for record in json.loads(demo_annotations().read_text())["images"]}
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number, file in zip(data.ids, data.files, strict=True):
        (folder / "images" / file.name).symlink_to(file)
        width, height = sizes[number]["width"], sizes[number]["height"]
        lines = []
        for box in (box for box in data.boxes if box.image == number):
            x, y, w, h = box.bbox
            values = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
            lines.append(f"{data.categories.index(box.category)} " + " ".join(map(str, values)))
        (folder / "labels" / file.with_suffix(".txt").name).write_text("\n".join(lines))
    names = "\n".join(f"  {i}: {name}" for i, name in enumerate(data.names))
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames:\n{names}\n")
    return folder


@pytest.mark.slow
def test_a_script_runs_unchanged_after_its_import_line(folder: Path) -> None:
    script = folder / "bench.py"  # as users write it: no guard around it
    script.write_text(SCRIPT.replace(THEIRS, OURS))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=folder, timeout=500)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout.split("ROWS ")[1].split("\n")[0])
    assert row["model/name"] == "yolo"
    assert row["model/parameters"] == 2_494_151
    assert row["model/GFLOPs"] > 0
    assert row["model/speed_ONNX(ms)"] > 0
    assert row["model/speed_TensorRT(ms)"] == 0.0
    assert row["model/proved"] is True
    (row,) = json.loads(done.stdout.split("TABLE ")[1])
    assert tuple(row) == COLUMNS
    assert (row["Format"], row["Status❔"]) == ("ONNX", "✅")
    assert 0.2 < float(row["metrics/mAP50-95(B)"]) < 1
    assert float(row["FPS"]) == pytest.approx(1000 / float(row["Inference time (ms/im)"]), rel=0.01)
    assert "benchmark: ignored by yoloproof: opset=19" in done.stderr


def test_a_failed_format_keeps_its_row_or_raises(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.pt").write_bytes(b"no checkpoint")
    table = benchmark(folder / "broken.pt", folder / "data.yaml", format="onnx")
    assert table.rows() == [("1", "ONNX", "❌", "-", "-", "-", "-")]
    assert table["Status❔"] == ["❌"]
    assert "neither a PyTorch zip" in capsys.readouterr().out
    table.write_csv(folder / "table.csv")
    assert (folder / "table.csv").read_text().splitlines()[1] == "1,ONNX,❌,-,-,-,-"
    with pytest.raises(YoloproofError, match="neither a PyTorch zip"):
        benchmark(folder / "broken.pt", folder / "data.yaml", format="onnx", verbose=True)


def test_every_format_of_a_device() -> None:
    def formats(model: str, format: str, device: str) -> list[str]:
        return [f"{name} {case.runtime} {case.precision}" for name, case in _cases(model, format, 160, device, True)]

    assert formats("yolov13n.pt", "", "cpu") == [
        "PyTorch pytorch fp32",
        "ONNX onnxruntime fp32",
        "OpenVINO openvino fp32",
    ]
    assert formats("a.onnx", "", "cpu") == ["ONNX onnxruntime fp32", "OpenVINO openvino fp32"]
    assert [one.split()[0] for one in formats("yolov13n", "", "cuda")] == ["PyTorch", "ONNX", "TensorRT"]
    assert formats("a.pt", "-", "cuda:1") == ["PyTorch pytorch fp16"]
    assert formats("a.pt", "engine", "cuda")[0].endswith("fp16")
    with pytest.raises(YoloproofError, match="format 'coreml': choose from -, onnx, openvino, engine"):
        _cases("a.pt", "coreml", 160, "cpu", False)


@pytest.mark.parametrize(
    ("quantize", "half", "int8", "float16"),
    [(16, None, None, True), ("fp16", None, None, True), (True, None, None, True), (None, None, None, False),
     (32, None, None, False), (False, None, None, False), (16, False, None, False), (None, True, False, True)],
)  # fmt: skip
def test_precision_in_every_versions_words(
    quantize: int | str | bool | None, half: bool | None, int8: bool | None, float16: bool
) -> None:
    assert wants_float16(quantize, half, int8) is float16


def test_int8_and_unknown_arguments_are_named() -> None:
    for arguments in ((8, None, None), ("w8a16", None, None), (16, True, True)):
        with pytest.warns(UserWarning, match="no INT8"):
            wants_float16(*arguments)  # type: ignore[arg-type]
    with pytest.raises(YoloproofError, match="quantize='fp4'"):
        wants_float16("fp4", None, None)
    with pytest.warns(UserWarning, match="ProfileModels: ignored by yoloproof: workspace=4, simplify=True"):
        ProfileModels(["yolov13n.pt"], workspace=4, simplify=True, device="cpu")


def test_a_yaml_name_is_the_network_with_random_weights(tmp_path: Path) -> None:
    (case,) = ProfileModels(["yolov13n.yaml"], device="cpu")._cases()["cpu"]
    assert (case.model, case.random_weights) == ("yolov13n", True)
    (tmp_path / "own.yaml").touch()
    with pytest.raises(YoloproofError, match="only official names can be built"):
        ProfileModels([tmp_path / "own.yaml"], device="cpu")._cases()
