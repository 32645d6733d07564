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
    found = piped(tmp_path, "predict", DEMO, demo_images()[0], *SMALL, "--json", "-")
    assert json.loads(found[found.index("{") : found.rindex("}") + 1])["images"]
