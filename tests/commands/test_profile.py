"""The main job from the command line and from Python, on the bundled checkpoint and images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from yoloproof.demo import demo_checkpoint
from yoloproof.simplify.rewrites import simplify

DEMO = str(demo_checkpoint())


def yoloproof(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "yoloproof", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=500)


def test_profile_proves_times_and_records(tmp_path: Path) -> None:
    done = yoloproof(
        "profile",
        DEMO,
        "--runtime",
        "onnxruntime",
        "--quick",
        "--imgsz",
        "320",
        "--stages",
        "--artifacts",
        "kept",
        "--data",
        str(demo_checkpoint().parent),
        "--json",
        "r.json",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "✓" in done.stdout
    assert "ANOTHER MACHINE" in done.stdout  # the published figure is marked
    assert "estimate, not a measurement" in done.stdout
    assert "end to end" in done.stdout
    result = json.loads((tmp_path / "r.json").read_text())
    (entry,) = result["entries"]
    assert result["schema"] == 2
    assert result["quick"] is True
    assert abs(entry["accuracy"]["AP_lost"]) < 0.002
    # a kept artifact's name tells it from those of other weights and sizes
    (kept,) = (tmp_path / "kept").iterdir()
    assert entry["model"]["sha256"][:12] in kept.name
    assert "320x320" in kept.name
    assert entry["proof"]["passed"] is True
    assert entry["runtime"]["threads"] >= 1
    assert entry["model"]["parameters"] == 2_494_151
    assert all(0 < s < 60 for process in entry["processes"] for s in process["samples_s"])
    assert all(process["warmup_s"] for process in entry["processes"])
    again = yoloproof("profile", DEMO, "--quick", "--json", "r.json", folder=tmp_path)
    assert again.returncode == 2
    assert json.loads((tmp_path / "r.json").read_text()) == result


def test_a_failed_proof_is_said_and_exits_one(tmp_path: Path) -> None:
    done = yoloproof(
        "profile",
        DEMO,
        "--runtime",
        "onnxruntime",
        "--attention",
        "stripped",
        "--quick",
        "--imgsz",
        "320",
        folder=tmp_path,
    )
    assert done.returncode == 1, done.stderr
    assert "✗" in done.stdout
    assert "its q and k weights are not in the file" in " ".join(done.stdout.split())


def test_random_weights_are_said(tmp_path: Path) -> None:
    done = yoloproof(
        "profile",
        "yolov12n",
        "--random-weights",
        "--runtime",
        "onnxruntime",
        "--quick",
        "--imgsz",
        "320",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "random" in done.stdout


def test_a_foreign_onnx_file_is_timed_and_its_ap_measured(tmp_path: Path) -> None:
    from yoloproof.artifact.onnx import export_onnx
    from yoloproof.network import load_network

    export_onnx(simplify(load_network(DEMO)), tmp_path / "ours.onnx", imgsz=(320, 320))
    import onnx

    model = onnx.load(tmp_path / "ours.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    more = (
        "--runtime",
        "onnxruntime",
        "--quick",
        "--imgsz",
        "320",
        "--data",
        str(demo_checkpoint().parent),
        "--stages",
    )
    done = yoloproof("profile", "foreign.onnx", *more, "--json", "r.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "foreign" in done.stdout
    assert "AP50" in done.stdout
    (entry,) = json.loads((tmp_path / "r.json").read_text())["entries"]
    assert entry["accuracy"]["AP"] > 0
    assert entry["accuracy"]["images"] == 4
    assert entry["accuracy"]["AP_lost"] is None
    assert entry["end_to_end"]["total_s"] > 0
    assert "✓" not in done.stdout  # nothing to prove it by
    assert "8 whole in the graph; not compared with its weights; add `--against WEIGHTS`" in done.stdout
    assert "reported for" not in done.stdout  # nothing says what architecture it is

    done = yoloproof("profile", "ours.onnx", *more[:5], "--against", DEMO, "--json", "p.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "✓" in done.stdout
    assert "reported for the architecture yolov13n: 1.97 ms" in done.stdout
    (entry,) = json.loads((tmp_path / "p.json").read_text())["entries"]
    assert entry["model"]["weights"] == "trained"
    assert entry["model"]["parameters"] == 2_494_151


def test_profile_models_refuses_nothing_at_all() -> None:
    from yoloproof import ProfileModels, YoloproofError

    with pytest.raises(YoloproofError, match="at least one model"):
        ProfileModels([])


def test_profile_models_finds_what_users_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders, patterns, official file names; on a GPU machine without onnxruntime-gpu the ONNX row is the CPU's."""
    import torch

    from yoloproof import ProfileModels, profile_models
    from yoloproof.names import Runtime

    for name in ("b.pt", "a.safetensors", "c.onnx", "c.engine", "c.native", "notes.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    asked = ProfileModels([tmp_path, "*.pt", "yolov13n.pt", "yolov12s"], device="cpu")._cases()
    models = ["a.safetensors", "b.pt", "c.onnx"]
    expected = [*(str(tmp_path / name) for name in models), "b.pt", "yolov13n", "yolov12s"]
    assert [request.model for request in asked["cpu"]] == expected
    assert {request.precision for request in asked["cpu"]} == {"fp32"}

    monkeypatch.setattr(profile_models, "_onnx_runs_on_gpu", lambda: False)
    monkeypatch.setattr(profile_models, "_tensorrt", lambda: Runtime.TENSORRT_RTX)
    asked = ProfileModels(["yolov13n.pt", "c.onnx"], device=torch.device("cuda:1"))._cases()
    assert [(r.model, r.runtime, r.precision) for r in asked["cpu"]] == [
        ("yolov13n", "onnxruntime", "fp32"), ("c.onnx", "onnxruntime", "fp32"),
    ]  # fmt: skip
    assert [(r.model, r.runtime, r.precision) for r in asked["cuda:1"]] == [("yolov13n", "tensorrt-rtx", "fp16")]
    asked = ProfileModels(["yolov13n.pt", "c.onnx", "c.native"], device="cuda", half=False, native=True)._cases()
    assert [(r.model, r.runtime, r.precision) for r in asked["cuda"]] == [
        ("yolov13n", "tensorrt-rtx", "fp32"), ("yolov13n", "native", "fp16"), ("c.native", "native", "fp16"),
    ]  # fmt: skip
    assert not [
        r for r in ProfileModels(["yolov13n"], device="cpu", native=True)._cases()["cpu"] if r.runtime == "native"
    ]
