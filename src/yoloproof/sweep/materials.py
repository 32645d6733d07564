"""The files a sweep's cells need: checkpoints and exported artifacts, each sent through Ray's object store by its hash.

An artifact is exported once, wherever there is a node for it, and measured everywhere. Engines are not sent: they are
built where they run.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yoloproof.sweep.plan import Cell, Measurement, Plan


@dataclass(frozen=True)
class Runner:
    """The module that does the work, named so that every node can import it.

    `check(plan)` refuses a plan before it is begun. `export_name(measurement, accelerator)` names the artifact that a
    measurement needs, or None; measurements with the same name share it. `export(argument, files, folder)` makes it and
    returns its path. `measure(argument, files, folder)` returns a schema-1 result. `files` maps a model's name to its
    checkpoint, an export's name to its artifact.
    """

    module: str = "yoloproof.sweep.measure"


@dataclass(frozen=True)
class Sent:
    """A file in the object store: its name, SHA-256, and reference."""

    name: str
    sha256: str
    ref: Any


class Materials:
    """The files of one sweep that are in the object store now."""

    def __init__(self, plan: Plan, runner: Runner) -> None:
        self.plan, self.runner = plan, runner
        self.models: dict[str, Sent] = {}
        self.exports: dict[str, Sent] = {}
        self.names: dict[str, dict[str, Measurement]] = {}

    def export_names(self, cell: Cell) -> dict[str, Measurement]:
        """The artifacts a cell needs, by name, each with a measurement that needs it."""
        if cell.key not in self.names:
            naming = importlib.import_module(self.runner.module).export_name
            named = [(naming(asdict(one), cell.accelerator), one) for one in cell.measurements]
            self.names[cell.key] = {name: one for name, one in named if name is not None}
        return self.names[cell.key]

    def missing(self, cell: Cell) -> list[str]:
        """The names of the cell's artifacts that are yet to be exported."""
        return [name for name in self.export_names(cell) if name not in self.exports]

    def export_argument(self, name: str, cell: Cell) -> dict[str, Any]:
        """What `export` is called with."""
        one = asdict(self.export_names(cell)[name])
        return {**one, "name": name, "accelerator": cell.accelerator, "options": dict(self.plan.options)}

    def model_files(self, models: Sequence[str]) -> list[tuple[str, str, str, Any]]:
        """(key, file name, SHA-256, reference) of those models that are files."""
        files = [self._sent_model(model) for model in dict.fromkeys(models) if Path(model).suffix]
        return [(model, sent.name, sent.sha256, sent.ref) for model, sent in files]

    def cell_files(self, cell: Cell) -> list[tuple[str, str, str, Any]]:
        """(key, file name, SHA-256, reference) of everything the cell needs."""
        artifacts = {name: self.exports[name] for name in self.export_names(cell)}
        return self.model_files([one.model for one in cell.measurements]) + [
            (name, sent.name, sent.sha256, sent.ref) for name, sent in artifacts.items()
        ]

    def keep_only(self, cells: Sequence[Cell]) -> None:
        """Let go of what none of these cells needs; Ray then frees it."""
        exports = {name for cell in cells for name in self.export_names(cell)}
        models = {one.model for cell in cells for one in cell.measurements}
        self.exports = {name: sent for name, sent in self.exports.items() if name in exports}
        self.models = {model: sent for model, sent in self.models.items() if model in models}

    def _sent_model(self, model: str) -> tuple[str, Sent]:
        import ray

        if model not in self.models:
            content = Path(model).read_bytes()
            self.models[model] = Sent(Path(model).name, hashlib.sha256(content).hexdigest(), ray.put(content))
        return model, self.models[model]
