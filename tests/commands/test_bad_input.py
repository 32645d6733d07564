"""Bad input: one clear line on stderr, exit status 2, nothing written, no traceback."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from yoloproof.cli import main
from yoloproof.demo import demo_checkpoint
from yoloproof.devices import gpu_count
from yoloproof.network import load_network, save_safetensors

DEMO = str(demo_checkpoint())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every broken file the cases name."""
    made = tmp_path_factory.mktemp("broken")
    whole = demo_checkpoint().read_bytes()
    (made / "empty.pt").write_bytes(b"")
    (made / "pointer.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (made / "noise.pt").write_bytes(os.urandom(512))
    (made / "cut.safetensors").write_bytes(whole[:100_000])
    (made / "cut.onnx").write_bytes(b"\x08\x0a\x12\x04" + whole[:3000])
    (made / "empty.onnx").write_bytes(b"")
    (made / "lone.engine").write_bytes(b"ftrt" + whole[:3000])
    (made / "bare.pt").write_bytes(pickle.dumps({"model": 1}))
    torch.save({"model": {"head.weight": torch.ones(2, 2)}}, made / "other.pt")
    torch.save({"optimizer": {}, "epoch": 3}, made / "training.pt")
    nan = load_network("yolov12n", random_weights=True)
    nan.model[0].conv.weight[0] = float("nan")
    save_safetensors(nan, made / "nan.safetensors")
    (made / "there.json").write_text("{}")
    (made / "there.onnx").write_bytes(b"mine")
    (made / "no-images").mkdir()
    (made / "broken-images").mkdir()
    (made / "broken-images" / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    (made / "result.json").write_text('{"schema": 99}')
    return made


# arguments → words the line must hold; {} is the folder of broken files
CASES = {
    "missing file": (["profile", "{}/gone.pt"], "no such file"),
    "unknown name": (["profile", "yolov13m"], "yolov13n"),
    "empty checkpoint": (["profile", "{}/empty.pt"], "empty file"),
    "git-lfs pointer": (["profile", "{}/pointer.pt"], "Git LFS pointer"),
    "noise": (["profile", "{}/noise.pt"], "neither"),
    "cut weights": (["profile", "{}/cut.safetensors"], "truncated"),
    "bare pickle": (["profile", "{}/bare.pt"], "bare pickle"),
    "another network": (["profile", "{}/other.pt"], "not one of the YOLOv13, YOLOv12 and YOLO12"),
    "training state": (["profile", "{}/training.pt"], "no network in it"),
    "NaN weights": (["profile", "{}/nan.safetensors"], "NaN"),
    "cut ONNX": (["profile", "{}/cut.onnx"], "truncated"),
    "empty ONNX": (["profile", "{}/empty.onnx"], "empty"),
    "engine without identity": (["profile", "{}/lone.engine", "--runtime", "tensorrt"], "lone.engine"),
    "size not a multiple of 32": (["profile", DEMO, "--imgsz", "641"], "multiples of 32"),
    "size of nonsense": (["export", DEMO, "--imgsz", "big"], "--imgsz big"),
    "unknown runtime": (["profile", DEMO, "--runtime", "caffe"], "onnxruntime"),
    "unknown attention": (["profile", DEMO, "--attention", "flash"], "fused"),
    "unknown precision": (["profile", DEMO, "--precision", "int8"], "fp16"),
    "unknown protocol": (["profile", DEMO, "--protocol", "fast", "--images", "{}"], "latency"),
    "no batch": (["profile", DEMO, "--batch", "0"], "batch"),
    "no GPU": (["profile", DEMO, "--device", "cuda", "--runtime", "pytorch"], "no NVIDIA driver"),
    "result exists": (["profile", DEMO, "--json", "{}/there.json"], "exists"),
    "artifact exists": (["export", DEMO, "-o", "{}/there.onnx"], "exists"),
    "folder missing": (["profile", DEMO, "--json", "{}/no/where.json"], "does not exist"),
    "no images": (["profile", DEMO, "--images", "{}/no-images"], "no images"),
    "broken image": (["profile", DEMO, "--images", "{}/broken-images"], "a.jpg"),
    "unknown target": (["export", DEMO, "--format", "engine", "--target", "h100", "-o", "{}/x.engine"], "h100"),
    "unknown format": (["export", DEMO, "--format", "coreml"], "coreml"),
    "foreign result": (["compare", "{}/result.json"], "schema"),
    "unknown option": (["profile", DEMO, "--fast"], "--fast"),
    "no arguments": (["verify"], "ARTIFACT"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_status_two_nothing_lost(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, words = CASES[case]
    if case == "no GPU" and gpu_count()[0]:
        pytest.skip("this machine has an NVIDIA GPU")
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["yoloproof", *(a.replace("{}", str(folder)) for a in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    errors = capfd.readouterr().err
    assert ended.value.code == 2, errors[-2000:]
    lines = errors.strip().splitlines()
    assert len(lines) == 1, errors
    assert words in lines[0]
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


WRONG_AT_ONCE = {
    "no such model": (["profile", "nothere.pt"], "nothere.pt"),
    "a second model": (["profile", DEMO, "nothere.pt"], "nothere.pt"),
    "no such device": (["val", DEMO, "--device", "gpu"], "auto, cpu, cuda"),
    "no such folder": (["profile", DEMO, "--images", "nowhere"], "nowhere"),
    "no such image": (["predict", DEMO, "nothere.jpg"], "nothere.jpg"),
    "no such artifact": (["verify", "nothere.onnx"], "nothere.onnx"),
    "no such weights": (["export", "nothere.pt"], "nothere.pt"),
    "an engine to export": (["export", "built.onnx"], "export takes weights"),
    "an output that is there": (["export", DEMO, "-o", "built.onnx"], "nothing was overwritten"),
    "images of an export": (["export", DEMO, "--images", "nowhere"], "nowhere"),
    "images of a proof": (["verify", "built.onnx", "--against", DEMO, "--images", "nowhere"], "nowhere"),
    "nothing to prove against": (["verify", "built.onnx"], "--against WEIGHTS"),
    "weights to prove against": (["profile", "built.onnx", "--against", "nothere.pt"], "nothere.pt"),
    "data": (["val", DEMO, "--data", "nowhere"], "nowhere"),
    "data of a profile": (["profile", DEMO, "--data", "nowhere"], "nowhere"),
    "a size": (["profile", DEMO, "--imgsz", "33"], "multiples of 32"),
    "a file for a folder": (["profile", DEMO, "--artifacts", "built.onnx"], "is a file, not a folder"),
    "a file to inspect": (["inspect", "nothere.onnx"], "nothere.onnx"),
    "results to compare": (["compare", "nothere.json"], "nothere.json"),
    "results to report": (["report", "nothere.json"], "nothere.json"),
    "a model to estimate": (["estimate", "nothere.onnx"], "nothere.onnx"),
    "a native file": (["doctor", "--native", "nothere.native"], "nothere.native"),
    "a plan": (["sweep", "nothere.toml"], "nothere.toml"),
    "a JSON file that is there": (["val", DEMO, "--json", "built.onnx"], "nothing was overwritten"),
}


@pytest.mark.parametrize("case", WRONG_AT_ONCE)
def test_what_a_look_shows_to_be_wrong_is_said_before_anything_heavy_is_imported(case: str, tmp_path: Path) -> None:
    """In a process of its own, as a user's is: one line, status 2, and no PyTorch, ONNX Runtime or OpenVINO loaded."""
    arguments, words = WRONG_AT_ONCE[case]
    (tmp_path / "built.onnx").write_bytes(b"mine")
    code = (
        "import sys, atexit; from yoloproof.cli import main;"
        "atexit.register(lambda: print(*({'torch', 'onnx', 'onnxruntime', 'openvino', 'scipy'} & set(sys.modules))));"
        f"sys.argv = ['yoloproof', *{arguments!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert done.stdout == "\n"


def test_a_ctrl_c_while_the_first_modules_load_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "yoloproof", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (130, "yoloproof: interrupted\n")
