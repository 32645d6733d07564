"""The files a sweep's cells need: models and exported ONNX files, each sent through Ray's object store by its hash.

An ONNX file is exported once, wherever there is a node for it, and measured everywhere. Engines are not sent: they are
built where they run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from yoloproof.records import Case
from yoloproof.sweep.plan import MODEL_FILES, Cell
from yoloproof.sweep.worker import SentFile


class Materials:
    """The files of one sweep that are in the object store now. exported_case -- the runner's."""

    def __init__(self, exported_case: Callable[[Case], Case | None]) -> None:
        self.models: dict[str, SentFile] = {}
        self.artifacts: dict[Case, SentFile] = {}
        self._exported_case = exported_case
        self._exports: dict[str, tuple[Case, ...]] = {}

    def exports_of(self, cell: Cell) -> tuple[Case, ...]:
        """The cases whose ONNX files a cell needs."""
        if cell.key not in self._exports:
            found = map(self._exported_case, cell.cases)
            self._exports[cell.key] = tuple(dict.fromkeys(case for case in found if case is not None))
        return self._exports[cell.key]

    def missing(self, cell: Cell) -> list[Case]:
        """Those that are yet to be exported."""
        return [case for case in self.exports_of(cell) if case not in self.artifacts]

    def artifacts_of(self, cell: Cell) -> tuple[SentFile, ...]:
        """The exported files a cell needs."""
        return tuple(self.artifacts[case] for case in self.exports_of(cell))

    def models_of(self, cases: Iterable[Case]) -> dict[str, SentFile]:
        """The models of some cases that are files, by their name in the plan."""
        files = dict.fromkeys(case.model for case in cases if Path(case.model).suffix in MODEL_FILES)
        return {model: self._sent_model(model) for model in files}

    def forget_artifacts(self, cell: Cell) -> None:
        """What a cell needs is exported anew: the files may have been lost with a node."""
        for case in self.exports_of(cell):
            self.artifacts.pop(case, None)

    def keep_only(self, cells: Sequence[Cell]) -> None:
        """Let go of what none of these cells needs; Ray then frees it."""
        exports = {case for cell in cells for case in self.exports_of(cell)}
        models = {case.model for cell in cells for case in cell.cases}
        self.artifacts = {case: sent for case, sent in self.artifacts.items() if case in exports}
        self.models = {model: sent for model, sent in self.models.items() if model in models}

    def _sent_model(self, model: str) -> SentFile:
        import ray

        if model not in self.models:
            content = Path(model).read_bytes()
            self.models[model] = SentFile(Path(model).name, hashlib.sha256(content).hexdigest(), ray.put(content))
        return self.models[model]
