"""The runner of a real sweep: `pipeline.profile` on the node that a cell was given to.

A runner is a module of these three functions, named so that every node can import it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import yoloproof
from yoloproof.demo import FOLDER as DEMO_FOLDER
from yoloproof.names import ArtifactFormat, Precision, Runtime
from yoloproof.records import Case, Entry, Result, RunWarning
from yoloproof.sweep.plan import Cell


def exported_case(case: Case) -> Case | None:
    """The case whose ONNX file this one runs, or builds its engine of; None where it needs none.

    Cases that run one and the same file come to the same case: it has all that decides what is in the file, nothing else.
    """
    from yoloproof.artifact.build import rewrites_of

    built_there = case.runtime in (Runtime.PYTORCH, Runtime.NATIVE)
    if built_there or Path(case.model).suffix in (".onnx", ".engine", ".native"):
        return None
    precision = Precision.FP32 if case.precision is Precision.BF16 else case.precision
    return Case(
        case.model, Runtime.ONNXRUNTIME, precision, case.attention, case.imgsz, case.batch,
        random_weights=case.random_weights, rewrites=rewrites_of(case),
    )  # fmt: skip


def export(case: Case, models: Mapping[str, Path], folder: Path) -> Path:
    """The ONNX file of a case of `exported_case`, written into `folder`. models -- where files of the plan lie here."""
    from yoloproof.artifact.build import build

    artifact = build(_here(case, models), ArtifactFormat.ONNX, folder)
    assert artifact.path is not None
    return artifact.path


def measure(cell: Cell, models: Mapping[str, Path], folder: Path) -> Result:
    """A cell's cases built, verified and timed side by side; what was exported before is found in `folder`."""
    from yoloproof.pipeline import Options, profile

    options = Options(tuple(map(Path, cell.options.images)), folder, _data(cell))
    result = profile([_here(case, models) for case in cell.cases], cell.timing, options)
    names = {str(path): name for name, path in models.items()}
    (run,) = result.runs
    command = profile_command(cell)
    run = replace(run, command=command, warnings=(*run.warnings, *_niceness_warning()))
    entries = tuple(_as_planned(entry, names) for entry in result.entries)
    return replace(result, command=command, runs=(run,), entries=entries)


def profile_command(cell: Cell) -> tuple[str, ...]:
    """The `profile` command that measures what this cell does."""
    first, options = cell.cases[0], cell.options
    words = ["yoloproof", "profile", *dict.fromkeys(case.model for case in cell.cases)]
    for axis in ("runtime", "attention", "precision"):
        for value in dict.fromkeys(str(getattr(case, axis)) for case in cell.cases):
            words += [f"--{axis}", value]
    words += ["--imgsz", "x".join(map(str, dict.fromkeys(first.imgsz))), "--batch", str(first.batch)]
    words += ["--device", first.device, "--protocol", cell.protocol]
    words += ["--threads", str(options.threads)] if options.threads else []
    if (data := _data(cell)) is not None:
        # Of what is ours only the part that is the same everywhere: results get published.
        ours = Path(yoloproof.__file__).parents[2]
        words += ["--data", str(data.relative_to(ours) if data.is_relative_to(ours) else data)]
    flags = [one.name for one in fields(options) if getattr(options, one.name) is True]
    return (*words, *(f"--{flag.replace('_', '-')}" for flag in flags))


def _here(case: Case, models: Mapping[str, Path]) -> Case:
    return replace(case, model=str(models.get(case.model, case.model)))


def _as_planned(entry: Entry, names: Mapping[str, str]) -> Entry:
    """An entry with the plan's own name of a model that is a file, and no folder of this node."""
    model = names.get(entry.case.model)
    if model is not None:
        entry = replace(entry, case=replace(entry.case, model=model), model=replace(entry.model, source=model))
    path = entry.artifact.path
    if path is None:
        return entry
    return replace(entry, artifact=replace(entry.artifact, path=Path(names.get(str(path), path.name))))


def _data(cell: Cell) -> Path | None:
    named = cell.options.data
    return None if named is None else DEMO_FOLDER if named == "demo" else Path(named)


def _niceness_warning() -> tuple[RunWarning, ...]:
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness <= 0:
        return ()
    return (
        RunWarning(
            "niceness",
            f"measured at niceness {niceness}, behind everything else on the machine",
            "start the Ray node with RAY_worker_niceness=0, and the sweep without nice",
        ),
    )
