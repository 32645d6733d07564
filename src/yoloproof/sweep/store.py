"""A sweep on disk: one file per finished cell, written as it ends; and the one result file they come to.

`cells/KEY.json` is a whole result file (schema 1); `cells/KEY.failed.json` says what became of a cell that could not be
measured. A repeated sweep measures what has no KEY.json.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yoloproof
from yoloproof.errors import YoloproofError
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

    def finished(self, cell: Cell) -> bool:
        """Whether the cell has a readable result. One that is damaged is set aside and counts as missing."""
        path = self.cells / f"{cell.key}.json"
        if not path.is_file():
            return False
        try:
            json.loads(path.read_bytes())
        except ValueError:
            path.replace(path.with_suffix(".damaged"))
            return False
        return True

    def keep(self, cell: Cell, result: bytes, wall_s: float) -> None:
        """Write the result of a cell and the seconds it took in all; what said that it failed goes."""
        _write(self.cells / f"{cell.key}.wall_s", f"{wall_s:.3f}\n".encode())
        _write(self.cells / f"{cell.key}.json", result)
        (self.cells / f"{cell.key}.failed.json").unlink(missing_ok=True)

    def keep_failure(self, cell: Cell, reasons: Sequence[str]) -> None:
        """Write why a cell could not be measured, attempt by attempt."""
        words = json.dumps({"cell": asdict(cell), "reasons": list(reasons)}, indent=1)
        _write(self.cells / f"{cell.key}.failed.json", words.encode())

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """The cell's result, or None."""
        path = self.cells / f"{cell.key}.json"
        return dict(json.loads(path.read_bytes())) if path.is_file() else None

    def wall_s(self, cell: Cell) -> float | None:
        """The seconds a finished cell took in all, or None."""
        path = self.cells / f"{cell.key}.wall_s"
        return float(path.read_text()) if path.is_file() else None

    def failure(self, cell: Cell) -> str | None:
        """Why the cell failed, or None."""
        path = self.cells / f"{cell.key}.failed.json"
        return "; then ".join(json.loads(path.read_bytes())["reasons"]) if path.is_file() else None

    def next_result_path(self) -> Path:
        """`result-1.json`, or the first number that is free."""
        number = 1
        while (self.folder / f"result-{number}.json").exists():
            number += 1
        return self.folder / f"result-{number}.json"


def merged_result(store: Store, cells: Sequence[Cell], command: Sequence[str]) -> dict[str, Any]:
    """One schema-1 result of all cells: an entry's `run` indexes `runs`, which hold machine, protocol and command.

    A cell that could not be measured is a row per measurement with `failure` and no summary; with cells missing or
    failed the whole is `partial`.
    """
    runs: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for cell in cells:
        result = store.result(cell)
        if result is None:
            reason = store.failure(cell) or "not measured yet: the sweep was interrupted"
            runs.append(
                {"machine": {"requested": cell.accelerator}, "protocol": {"name": cell.protocol}, "partial": True}
            )
            entries += [_failed_entry(one, reason, len(runs) - 1) for one in cell.measurements]
            continue
        runs.append({key: value for key, value in result.items() if key not in ("entries", "schema")})
        entries += [{**entry, "run": len(runs) - 1} for entry in result.get("entries", [])]
    machines = [run["machine"] for run in runs]
    protocols = [run["protocol"] for run in runs]
    return {
        "schema": 1,
        "tool": {"name": "yoloproof", "version": yoloproof.__version__},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": list(command),
        "quick": any(run.get("quick", False) for run in runs),
        "partial": any(run.get("partial", False) for run in runs),
        # A file of several machines or protocols has none of its own: its runs have.
        "machine": machines[0] if len(machines) == 1 else {},
        "protocol": protocols[0] if all(protocol == protocols[0] for protocol in protocols) else {},
        "runs": runs,
        "entries": entries,
        "warnings": [],
    }


def _failed_entry(one: Any, reason: str, run: int) -> dict[str, Any]:
    return {
        "run": run,
        "model": {"name": one.model},
        "artifact": {
            "attention": one.attention,
            "precision": one.precision,
            "imgsz": list(one.imgsz),
            "batch": one.batch,
        },
        "runtime": {"name": one.runtime},
        "proof": {"passed": None, "checks": []},
        "accuracy": None,
        "processes": [],
        "summary": None,
        "end_to_end": None,
        "warnings": [],
        "published": None,
        "failure": reason,
    }


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing, whenever the power goes."""
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with open(scratch, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise YoloproofError(
            f"{path} was not written: {error.strerror}; what is finished is kept: make room and run again"
        ) from error


def proved_throughout(result: Mapping[str, Any]) -> bool:
    """Whether every entry is measured and proved; `stripped`, which never can be, is left out."""
    entries = [entry for entry in result["entries"] if entry["artifact"].get("attention") != "stripped"]
    return all(entry.get("failure") is None and entry["proof"]["passed"] is True for entry in entries)
