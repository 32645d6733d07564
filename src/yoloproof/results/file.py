"""The result file: JSON, schema 1 of docs/architecture.md, written once and never overwritten."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from yoloproof.errors import YoloproofError
from yoloproof.files.new import write_new
from yoloproof.results.schema import ENTRY, RUN, first_wrong

SCHEMA = 1


def write_result(result: Mapping[str, Any], path: str | Path) -> None:
    """Write `result` to a new file, whole or not at all.

    Where that fails, after minutes of measuring, it goes into a new file of the temporary folder, if there is room.
    YoloproofError all the same, as `write_new` raises it, saying where the result is kept; also for a shape that
    `read_result` would refuse.
    """
    plain = _plain(result)
    _check_shape(plain, str(path))
    text = json.dumps(plain, indent=1, allow_nan=False, default=str) + "\n"
    try:
        write_new(text, Path(path))
    except YoloproofError as error:
        kept = Path(tempfile.gettempdir()) / f"yoloproof-{uuid4().hex[:8]}.json"
        try:
            write_new(text, kept)
        except YoloproofError:
            raise error from None
        raise YoloproofError(f"{error}. This result is kept in {kept}") from None


def read_result(path: str | Path) -> dict[str, Any]:
    """The result in `path`. YoloproofError where it is missing, not JSON, of another schema, or not of its shape."""
    path = Path(path)
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise YoloproofError(f"{path} cannot be read: {error.strerror}; give a file of `profile --json`") from None
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8, and a number of 5000 digits
        reason = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "not JSON text"
        raise YoloproofError(f"{path} is not a result file ({reason}); give a file of `profile --json`") from None
    _check_shape(result, str(path))
    checked: dict[str, Any] = result
    return checked


def run_of(result: Mapping[str, Any], entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run an entry was measured in: machine, protocol, quick, partial. A sweep's file holds several `runs`."""
    runs = result.get("runs")
    chosen: Mapping[str, Any] = runs[entry.get("run", 0)] if runs else result
    return chosen


def _check_shape(result: Any, where: str) -> None:
    if not isinstance(result, Mapping) or "schema" not in result:
        raise YoloproofError(f"{where} is not a result file: it names no schema; give a file of `profile --json`")
    if type(result["schema"]) is not int or result["schema"] != SCHEMA:
        raise YoloproofError(
            f"{where} is of schema {result['schema']!r}, this version reads {SCHEMA}; use the yoloproof that wrote it"
        )
    entries, runs = result.get("entries"), result.get("runs") or [result]
    if not isinstance(entries, list) or not isinstance(runs, list):
        raise YoloproofError(f"{where} is damaged: entries or runs is no list; measure again")
    for number, run in enumerate(runs):
        _check_part(run, RUN, f"{where} is damaged: run {number}")
    for number, entry in enumerate(entries):
        _check_part(entry, ENTRY, f"{where} is damaged: entry {number}")
        index = entry.get("run", 0)
        if type(index) is not int or not 0 <= index < len(runs):
            raise YoloproofError(f"{where} is damaged: entry {number} names run {index!r} of {len(runs)}")


def _check_part(part: Any, rule: Mapping[str, Any], where: str) -> None:
    wrong = first_wrong(part, rule)
    if wrong is not None:
        raise YoloproofError(f"{where} " + (f"has no proper {wrong!r}; measure again" if wrong else "is no record"))


def _plain(value: Any) -> Any:
    """JSON's types. What is not a number is null: JSON has no NaN, and readers elsewhere choke on it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
