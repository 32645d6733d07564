"""The runner of a real sweep: what it asks `profile` for, and which plans it refuses."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from yoloproof.errors import YoloproofError
from yoloproof.files.onnx import load_onnx
from yoloproof.network import load_network, save_safetensors
from yoloproof.sweep import measure
from yoloproof.sweep.plan import read_plan

profiling = pytest.importorskip("yoloproof.profiling")


def plan(tmp_path, words):
    path = tmp_path / "plan.toml"
    path.write_text(words)
    return read_plan(path)


FOUR = 'models = ["yolov13n"]\nattentions = ["fused", "stripped"]\nruntimes = ["onnxruntime", "openvino"]\n'


def test_runtimes_that_take_the_same_file_share_its_export(tmp_path):
    cells = plan(tmp_path, FOUR).cells
    names = [measure.export_name(asdict(one), cell.accelerator) for cell in cells for one in cell.measurements]
    assert len(names) == 4
    assert len(set(names)) == 3, "stripped for both, fused for each in its own form"
    fused = asdict(cells[0].measurements[0])
    assert measure.export_name({**fused, "runtime": "pytorch"}, "cpu") is None
    assert measure.export_name({**fused, "model": "other.onnx"}, "cpu") is None
    assert measure.export_name({**fused, "batch": 2}, "cpu") not in names
    assert measure.export_name({**fused, "runtime": "tensorrt"}, "T4") != names[0], "a GPU's rewrites are others"


def test_a_cell_is_one_call_of_profile_with_its_files_in_place(tmp_path, monkeypatch):
    (cell, _) = plan(tmp_path, FOUR + "[options]\nthreads = 2\nrandom_weights = true\nquick = true\n").cells
    asked = {}

    def profiled(requests, settings, protocol, *, fast):
        asked.update(requests=requests, settings=settings, protocol=protocol, fast=fast)
        asked["there"] = (settings.folder / "made.onnx").read_text()
        return {"entries": [{"model": {"source": "/tmp/x"}} for _ in requests], "warnings": [], "command": ["child.py"]}

    monkeypatch.setattr(profiling, "profile", profiled)
    monkeypatch.setattr(os, "getpriority", lambda which, who: 15)
    sent, folder = tmp_path / "made.onnx", tmp_path / "work"
    sent.write_text("an artifact that came by Ray")
    folder.mkdir()
    options = {"threads": 2, "random_weights": True, "quick": True}
    result = measure.measure({**asdict(cell), "options": options}, {"name": sent}, folder)
    assert [(one.runtime, one.attention) for one in asked["requests"]] == [
        ("onnxruntime", "fused"),
        ("onnxruntime", "stripped"),
    ]
    assert (asked["protocol"], asked["fast"], asked["there"]) == ("latency", True, "an artifact that came by Ray")
    assert (asked["settings"].threads, asked["settings"].random_weights, asked["settings"].device) == (2, True, "cpu")
    assert [entry["model"]["source"] for entry in result["entries"]] == ["yolov13n"] * 2
    assert " ".join(result["command"]) == (
        "yoloproof profile yolov13n --runtime onnxruntime --attention fused --attention stripped --precision fp32 "
        "--imgsz 640 --batch 1 --device cpu --protocol latency --threads 2 --quick --random-weights"
    )
    assert [warning["code"] for warning in result["warnings"]] == ["niceness"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ('runtimes = ["tensorflow"]', "runtime tensorflow: there are pytorch, onnxruntime"),
        ('attentions = ["flash"]', "attention flash: there are fused, explicit"),
        ('precisions = ["int8"]', "precision int8: there are fp32"),
        ('protocols = ["fast"]', "protocol fast: there are latency"),
        ("[options]\nspeed = 3", "hold speed; known are threads"),
        ('[options]\nimages = ["here"]', "images must be a list of absolute paths"),
        ('[options]\ndata = "here"', "data is 'here'; demo, or a folder's absolute path"),
        ("[options]\nthreads = 0", "threads is 0; a whole number above 0"),
        ('[options]\nquick = "no"', "quick is 'no'; true or false"),
        ("imgsz = [641]", "both sides must be multiples of 32"),
        ('runtimes = ["tensorrt"]', "runtime tensorrt needs a GPU"),
    ],
)
def test_words_that_profile_does_not_know_are_refused_at_the_start(tmp_path, words, said):
    with pytest.raises(YoloproofError, match=said):
        measure.check(plan(tmp_path, f'models = ["yolov13n"]\n{words}\n'))


def test_a_model_that_nobody_knows_is_refused_at_the_start(tmp_path):
    with pytest.raises(YoloproofError, match=r"model yolov99n: a file .* or one of .*yolov12n"):
        measure.check(plan(tmp_path, 'models = ["yolov99n"]'))


def test_random_weights_are_for_named_models_a_file_keeps_its_own(tmp_path):
    """In one cell, too, with files and names side by side; and in the files that are exported for it."""
    own = tmp_path / "own.safetensors"
    save_safetensors(load_network("yolov12n", random_weights=True, classes=3), own)
    words = 'models = ["{}", "yolov12n"]\nimgsz = [64]\ninterleave = ["model"]\n[options]\nrandom_weights = true\n'
    made = plan(tmp_path, words.format(own))
    measure.check(made)
    (cell,) = made.cells
    arguments = [{**asdict(one), "accelerator": "cpu", "options": dict(made.options)} for one in cell.measurements]
    made_files = [load_onnx(Path(measure.export(each, {}, tmp_path))) for each in arguments]
    outputs = [file.graph.output[0].type.tensor_type.shape.dim[1].dim_value for file in made_files]
    assert outputs == [4 + 3, 4 + 80]
    assert {"--random-weights", str(own)} <= set(measure.profile_command({**asdict(cell), "options": made.options}))
