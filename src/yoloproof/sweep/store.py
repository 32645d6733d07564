"""A sweep on disk: one file per finished cell, written as it ends; and the one result file they come to.

`cells/KEY.json` is a whole result file; `cells/KEY.failed.json` says what became of a cell that could not be measured, and
`cells/KEY.wall_s` how long one took. A repeated sweep measures what has no readable KEY.json.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yoloproof
from yoloproof.errors import YoloproofError
from yoloproof.files.new import write_over
from yoloproof.names import ArtifactFormat, Attention, Runtime, Weights
from yoloproof.records import Artifact, Case, Entry, ModelFacts, Result, Run, SessionFacts, Tool
from yoloproof.results.file import read_result
from yoloproof.results.merge import merged
from yoloproof.sweep.plan import Cell


@dataclass(frozen=True)
class Store:
    """The folder of one sweep."""

    folder: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second sweep out of the folder. Raises YoloproofError where one is at work, or it cannot be made."""
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / ".lock", "w")  # noqa: SIM115 - held below
        except OSError as error:
            raise YoloproofError(f"{self.folder}: {error.strerror}; give another folder with -o") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise YoloproofError(
                    f"another sweep is at work in {self.folder}; wait for it, or give another -o"
                ) from error
            yield

    @property
    def cells(self) -> Path:
        """Where the cells' files lie."""
        return self.folder / "cells"

    def result(self, cell: Cell) -> Result | None:
        """The cell's result, or None where there is none. YoloproofError for one that is damaged."""
        path = self.cells / f"{cell.key}.json"
        if not path.is_file():
            return None
        result = read_result(path)
        counts = len(result.runs), len(result.entries), len(cell.cases)
        if counts[0] != 1 or not counts[1] or counts[1] % counts[2]:
            raise YoloproofError(f"{path} is damaged: {counts[0]} runs, {counts[1]} entries of {counts[2]} cases")
        return result

    def missing(self, cells: Sequence[Cell]) -> dict[Cell, str | None]:
        """The cells without a readable result, each with what is wrong with the file that should hold it, if there is one."""
        found: dict[Cell, str | None] = {}
        for cell in cells:
            try:
                if self.result(cell) is None:
                    found[cell] = None
            except YoloproofError as error:
                found[cell] = str(error)
        return found

    def keep(self, cell: Cell, result: bytes, wall_s: float) -> None:
        """Write the result of a cell and the seconds it took in all. A damaged one is set aside; what said that the cell
        failed goes."""
        path = self.cells / f"{cell.key}.json"
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_suffix(".damaged"))
        write_over(f"{wall_s:.3f}\n", self.cells / f"{cell.key}.wall_s")
        write_over(result, path)
        (self.cells / f"{cell.key}.failed.json").unlink(missing_ok=True)

    def keep_failure(self, cell: Cell, reasons: Sequence[str]) -> None:
        """Write why a cell could not be measured, attempt by attempt."""
        words = json.dumps({"cell": cell.label, "reasons": list(reasons)}, indent=1)
        write_over(words, self.cells / f"{cell.key}.failed.json")

    def wall_s(self, cell: Cell) -> float | None:
        """The seconds a finished cell took in all, or None where that cannot be read."""
        try:
            seconds = float((self.cells / f"{cell.key}.wall_s").read_text())
        except (OSError, ValueError):
            return None
        return seconds if 0 <= seconds < math.inf else None

    def failure(self, cell: Cell) -> str | None:
        """Why the cell failed, or None."""
        path = self.cells / f"{cell.key}.failed.json"
        if not path.is_file():
            return None
        try:
            reasons = json.loads(path.read_bytes())["reasons"]
            return "; then ".join(reasons)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return f"{path} cannot be read"

    def next_result_path(self) -> Path:
        """`result-1.json`, or the first number that is free."""
        number = 1
        while (self.folder / f"result-{number}.json").exists():
            number += 1
        return self.folder / f"result-{number}.json"


def merged_result(store: Store, cells: Sequence[Cell], command: Sequence[str]) -> Result:
    """One result of all cells, with a run for each, in their order. A cell that was not measured has a run without a
    machine, and an entry per case that says why."""
    return merged([_result(store, cell) for cell in cells], command)


def verified_throughout(result: Result) -> bool:
    """Whether every entry is measured and verified; `stripped`, which never can be, and files that were made elsewhere,
    which have nothing to be verified by, need no passed proof."""
    return all(
        entry.error is None
        and (
            entry.proof.passed is True
            or entry.artifact.attention is Attention.STRIPPED
            or (entry.model.weights is Weights.FOREIGN and not entry.proof.checks)
        )
        for entry in result.entries
    )


def _result(store: Store, cell: Cell) -> Result:
    reason = "not measured yet: the sweep was interrupted"
    try:
        found = store.result(cell)
    except YoloproofError as error:
        found, reason = None, str(error)
    return found or _unmeasured(cell, store.failure(cell) or reason)


def _unmeasured(cell: Cell, reason: str) -> Result:
    tool = Tool("yoloproof", yoloproof.__version__)
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    run = Run(tool=tool, created=created, command=(), protocol=cell.timing, requested=cell.accelerator, partial=True)
    entries = tuple(_unmeasured_entry(case, reason) for case in cell.cases)
    return Result(tool=tool, created=created, command=(), runs=(run,), entries=entries)


def _unmeasured_entry(case: Case, reason: str) -> Entry:
    engine = case.runtime.builds_engines or case.model.endswith(".engine")
    kind = ArtifactFormat.ENGINE if engine else ArtifactFormat.ONNX
    artifact = Artifact(
        format=ArtifactFormat.PYTORCH if case.runtime is Runtime.PYTORCH else kind, precision=case.precision,
        attention=case.attention, imgsz=case.imgsz, batch=case.batch,
    )  # fmt: skip
    name = Path(case.model).stem if Path(case.model).suffix else case.model
    return Entry(
        case=case, model=ModelFacts(name=name), artifact=artifact, runtime=SessionFacts(name=case.runtime), error=reason
    )
