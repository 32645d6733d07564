"""Three strangers' first hour on the real command line: an engineer with a T4, an owner of custom weights, a reviewer.

Every command is a process of its own, in a pipe or on a terminal of 80 columns.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from terminal import on_a_terminal
from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.network import load_network, network_from_variant, save_safetensors, variant_from_name

DEMO = str(demo_checkpoint())
SMALL = ("--imgsz", "160", "--threads", "2")


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "yoloproof", *map(str, words)]


def piped(folder: Path, *words: str | Path, status: int = 0) -> str:
    """What a command prints into a pipe; it may not end otherwise than with `status`, nor with a traceback."""
    done = subprocess.run(command(*words), capture_output=True, text=True, cwd=folder, timeout=300, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == status, said[-3000:]
    assert "Traceback" not in said
    assert "\x1b" not in said, "no colours and no bar in a pipe"
    return said


def test_an_engineer_with_a_t4(tmp_path: Path) -> None:
    """What is this machine, what may a T4 take, a float16 file for it, is that file right, and what is it?"""
    assert "profile on the CPU" in piped(tmp_path, "doctor")
    assert "ESTIMATE, not a measurement: yolov13n on Tesla T4" in piped(tmp_path, "estimate", "yolov13n", "--gpu", "t4")
    said = piped(tmp_path, "export", DEMO, "--precision", "fp16", "--imgsz", "320", "-o", "right.onnx")
    assert "next: yoloproof verify" in said
    piped(tmp_path, "export", DEMO, "--attention", "stripped", "--imgsz", "320", "-o", "lost.onnx")
    verdict = piped(tmp_path, "verify", "lost.onnx", "--against", DEMO, status=1)
    assert "attention" in verdict
    assert "NOT the same detector" in verdict
    seen = piped(tmp_path, "inspect", "right.onnx")
    assert "float16" in seen or "fp16" in seen
    assert re.search(r"no NVIDIA", piped(tmp_path, "profile", DEMO, "--device", "cuda", status=2)) or os.path.exists(
        "/dev/nvidia0"
    )


def test_an_owner_of_custom_weights(tmp_path: Path) -> None:
    """Three classes, none of which the bundled street scenes show: exported, verified, inspected, timed in one row."""
    network = network_from_variant(variant_from_name("yolov13n"), 3)
    network.names = {0: "bolt", 1: "nut", 2: "washer"}
    demo = load_network(DEMO)
    state = {k: v for k, v in demo.state_dict().items() if v.shape == network.state_dict()[k].shape}
    network.load_state_dict({**network.state_dict(), **state})
    save_safetensors(network, tmp_path / "best.safetensors")
    piped(tmp_path, "export", "best.safetensors", "--imgsz", "320", "-o", "best.onnx")
    verdict = piped(tmp_path, "verify", "best.onnx", "--against", "best.safetensors")
    assert "verified: the same detector" in verdict
    assert "bolt" in piped(tmp_path, "inspect", "best.onnx")
    said = piped(
        tmp_path, "profile", "best.onnx", "--against", "best.safetensors", "--runtime", "onnxruntime", "--quick",
        "--threads", "2",
    )  # fmt: skip
    assert "✓" in said
    assert "reported for" not in said, "nobody reported a figure for three classes"


def test_a_reviewer(tmp_path: Path) -> None:
    """Two runtimes side by side on a terminal, the ratio with what it can tell, the page, AP, and the wrong file."""
    words = (
        "profile", DEMO, "--runtime", "onnxruntime", "--runtime", "openvino", "--quick", *SMALL,
        "--json", "a.json",
    )  # fmt: skip
    status, screen = on_a_terminal(command(*words), tmp_path)
    assert status == 0, screen
    table = [line for line in screen if re.search(r"(onnxruntime|openvino) .*✓", line)]
    assert len(table) == 2, screen
    assert all(len(line) <= 80 for line in table), "one line a row"
    assert "%" not in "".join(table)
    assert json.loads((tmp_path / "a.json").read_text())["quick"]
    said = piped(tmp_path, "compare", "a.json", "--allow", "quick")
    assert "openvino" in said
    piped(tmp_path, "report", "a.json", "-o", "a.html")
    assert (tmp_path / "a.html").stat().st_size > 20_000
    piped(tmp_path, "val", DEMO, *SMALL, "--runtime", "onnxruntime", "--json", "val.json")
    assert "a file of `yoloproof val`" in piped(tmp_path, "compare", "val.json", status=2)


def test_make_profile_in_a_pipe_is_a_line_a_row_and_two_notes(tmp_path: Path) -> None:
    """Its command line, but quick and small. Warnings come on top: ⚠, and ~ for a quick run's intervals."""
    said = piped(tmp_path, "profile", DEMO, "--runtime", "onnxruntime", "--runtime", "openvino", "--quick", *SMALL)
    _, *table = said.splitlines()[:5]
    assert [line.split()[1] for line in table[2:]] == ["onnxruntime", "openvino"], said
    assert all(len(line) <= 80 for line in table)
    notes = [line for line in said.splitlines()[5:] if not line.startswith(("⚠", "~"))]
    assert [line.split()[0] for line in notes] == ["reported", "fastest"], said
    assert "ANOTHER MACHINE" in notes[0]
    assert "an estimate, not a measurement: TensorRT FP16" in notes[0]


def test_json_on_standard_output_is_all_that_is_there(tmp_path: Path) -> None:
    """What people read goes to standard error then: `yoloproof … --json - | jq` works for every command."""
    commands = {
        "nodes": ("export", DEMO, "--imgsz", "160", "-o", "m.onnx"),
        "images": ("predict", "m.onnx", demo_images()[0], "--threads", "2"),
        "accuracy": ("val", "m.onnx", "--threads", "2"),
        "entries": ("profile", "m.onnx", "--runtime", "onnxruntime", "--quick", "--threads", "2"),
        "checks": ("verify", "m.onnx", "--against", "m.onnx"),
        "attention": ("inspect", "m.onnx"),
        "findings": ("doctor",),
        "estimates": ("estimate", "yolov13n.pt"),
        "rows": ("compare", "one.json", "one.json", "--allow", "quick", "--allow", "unproved"),
    }
    for key, words in commands.items():
        done = subprocess.run(
            command(*words, "--json", "-"), capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False
        )
        assert done.returncode == 0, (key, done.stderr[-2000:])
        assert key in json.loads(done.stdout), key
        if key == "entries":
            (tmp_path / "one.json").write_text(done.stdout)
        assert done.stderr.strip(), "and a person still reads something"


def test_images_of_ones_own_reach_the_proof_of_an_export(tmp_path: Path) -> None:
    """The verdict in a Triton entry says how many images it was made with."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for image in demo_images()[:2]:
        (mine / image.name).write_bytes(image.read_bytes())
    words = ("--format", "triton", "--precision", "fp32", "--imgsz", "160", "--images", "mine", "-o", "models")
    piped(tmp_path, "export", DEMO, *words)
    (proof,) = (tmp_path / "models").rglob("yoloproof.json")
    assert "2 real images" in proof.read_text()
