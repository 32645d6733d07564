"""A runner that measures nothing: it answers, hangs, dies or refuses, as the name of the model's file says.

`python fake_runner.py PLAN.toml …` is `yoloproof sweep` with this runner. A model's file holds the path of the file for its
notes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.names import ArtifactFormat, Attention, Runtime, Weights
from yoloproof.records import (
    Artifact,
    Case,
    Check,
    Cpu,
    Entry,
    Machine,
    ModelFacts,
    Process,
    Protocol,
    Result,
    Run,
    SessionFacts,
    Summary,
    Tool,
    Verdict,
)

TOOL, CREATED, MEDIAN_S = Tool("yoloproof", "0"), "2026-11-23T00:00:00+00:00", 0.01


def exported_case(case):
    """One artifact for all runtimes but PyTorch, which needs none."""
    return None if case.runtime is Runtime.PYTORCH else replace(case, runtime=Runtime.ONNXRUNTIME, device="cpu")


def export(case, models, folder):
    """An artifact that says what it was made for; each export is noted, so that a test can count them."""
    name = Path(case.model).stem
    _note(models[case.model], f"export {name} {case.attention}")
    if name == "export-refused":
        raise YoloproofError("this checkpoint holds no detector")
    path = folder / f"{name}-{case.attention}.onnx"
    path.write_bytes(f"onnx of {name} {case.attention}".encode() * 1000)
    return path


def measure(cell, models, folder):
    """A result, after whatever the model's name asks for."""
    model = cell.cases[0].model
    name, local = Path(model).stem, models[model]
    notes = _note(local, f"measure {cell.key} {os.getpid()} {folder}")
    first = sum(f"measure {cell.key} " in line for line in notes) == 1
    if name == "hangs":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        _note(local, f"grandchild {child.pid}")
        time.sleep(600)
    if name == "dies" or (name == "dies-once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hungry":
        raise MemoryError
    if name == "refused":
        raise YoloproofError("no such model: refused")
    if name == "crashes":
        raise ZeroDivisionError("a bug")
    if name == "imports":
        import psutil

        _note(local, f"imported {psutil.__file__}")
    if name.startswith("slow"):
        time.sleep(600 if first else 0)
    machine = Machine(cpu=Cpu(model=f"made-up {cell.accelerator}", niceness=os.getpriority(os.PRIO_PROCESS, 0)))
    ballast = ("x" * 1_000_000,) if name.startswith("large") else ()
    protocol = Protocol(name=cell.protocol, quick=cell.options.quick)
    run = Run(tool=TOOL, created=CREATED, command=("fake", *ballast), protocol=protocol, machine=machine)
    entries = tuple(_entry(case, local.read_text(), folder) for case in cell.cases)
    return Result(tool=TOOL, created=CREATED, command=("fake",), runs=(run,), entries=entries)


def _entry(case: Case, checkpoint: str, folder: Path) -> Entry:
    found = {path.name: path.read_text()[:60] for path in folder.glob("*.onnx")}
    summary = Summary(
        median_s=MEDIAN_S, mean_s=MEDIAN_S, min_s=MEDIAN_S, fps=1 / MEDIAN_S, samples=10, processes=1,
        process_medians_s=(MEDIAN_S,),
    )  # fmt: skip
    return Entry(
        case=case, model=ModelFacts(name=Path(case.model).stem, weights=Weights.TRAINED),
        artifact=Artifact(
            format=ArtifactFormat.ONNX, precision=case.precision, attention=case.attention, imgsz=case.imgsz,
            batch=case.batch, metadata={"artifacts": found, "checkpoint": checkpoint},
        ),
        runtime=SessionFacts(name=case.runtime),
        proof=Verdict((Check("fake", case.attention is not Attention.STRIPPED, {}, ""),)),
        processes=(Process(process=0, samples_s=(MEDIAN_S,) * 10),), summary=summary,
    )  # fmt: skip


def _note(checkpoint: Path, words: str) -> list[str]:
    """Write down what is done, in the file that the checkpoint names; the notes so far."""
    notes = Path(checkpoint.read_text())
    with notes.open("a") as file:
        file.write(words + "\n")
    return notes.read_text().splitlines()


if __name__ == "__main__":
    from yoloproof import cli
    from yoloproof.sweep import dispatch

    dispatch.RUNNER = "fake_runner"
    sys.argv.insert(1, "sweep")
    cli.main()
