"""A runner that measures nothing: it answers, hangs, dies or refuses, as the model's name says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from yoloproof.errors import YoloproofError


def check(plan):
    """Every plan will do."""


def export_name(one, accelerator):
    """One artifact for all runtimes but `raw`, which needs none."""
    size = "x".join(map(str, one["imgsz"]))
    return None if one["runtime"] == "raw" else f"{one['model']}|{one['attention']}|{one['precision']}|{size}"


def export(argument, files, folder):
    """An artifact that says what it was made for; each export is noted, so that a test can count them."""
    _note(argument, f"export {argument['name']}")
    if argument["model"] == "export-refused":
        raise YoloproofError("this checkpoint holds no detector")
    path = folder / "model.onnx"
    path.write_bytes(f"onnx of {argument['name']}".encode() * 1000)
    return str(path)


def measure(argument, files, folder):
    """A result of schema 1, after whatever the model's name asks for."""
    model = argument["measurements"][0]["model"]
    _note(argument, f"measure {argument['key']} {os.getpid()} {folder}")
    first = sum(f"measure {argument['key']} " in line for line in _notes(argument)) == 1
    if model == "hangs":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        _note(argument, f"grandchild {child.pid}")
        time.sleep(600)
    if model == "dies" or (model == "dies-once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if model == "hungry":
        raise MemoryError
    if model == "refused":
        raise YoloproofError("no such model: refused")
    if model == "crashes":
        raise ZeroDivisionError("a bug")
    if model.startswith("slow"):
        time.sleep(float(argument["options"].get("slow_s", 600)) if first else 0)
    return {
        "schema": 1, "tool": {"name": "yoloproof", "version": "0"}, "created": "2026-11-23T00:00:00+00:00",
        "command": ["fake"], "ballast": "x" * int(argument["options"].get("blob_mb", 0) * 1e6),
        "quick": False, "partial": False,
        "machine": {"cpu": {"name": f"made-up {argument['accelerator']}"}}, "protocol": {"name": argument["protocol"]},
        "entries": [_entry(one, files) for one in argument["measurements"]], "warnings": [],
    }  # fmt: skip


def _entry(one, files):
    median_s = 0.01
    return {
        "model": {"name": one["model"], "family": "fake", "weights": "trained"},
        "artifact": {key: one[key] for key in ("attention", "precision", "imgsz", "batch")} | {
            "content": [path.read_text()[:60] for path in files.values()]
        },
        "runtime": {"name": one["runtime"], "niceness": os.getpriority(os.PRIO_PROCESS, 0)},
        "proof": {"passed": one["attention"] != "stripped", "checks": []},
        "processes": [{"samples_s": [median_s] * 10}],
        "summary": {"median_s": median_s, "interval_s": [median_s, median_s], "p90_s": median_s, "fps": 100.0},
        "warnings": [], "published": None, "accuracy": None,
    }  # fmt: skip


def _notes(argument):
    path = Path(argument["options"]["notes"])
    return path.read_text().splitlines() if path.exists() else []


def _note(argument, words):
    if "notes" in argument["options"]:
        with open(argument["options"]["notes"], "a") as notes:
            notes.write(words + "\n")
