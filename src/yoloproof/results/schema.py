"""The result file's JSON and the records of `yoloproof.records`, each from the other.

A key is a field's name, so that the records are the schema. Besides them the file holds a few values that follow from
others, for readers without this package (`DERIVED`); a file in which they disagree is damaged. A file of one run holds
that run's keys at its top, a sweep's holds a list `runs`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError
from yoloproof.records import Entry, Result, Run, Verdict
from yoloproof.results.upgrade import from_schema_1

SCHEMA = 2
HISTORY = {
    1: "dictionaries; which keys stood in them depended on who wrote them",
    2: "frozen records: every key is there, none other; `case` in every entry, the CPU's family, stepping and caches",
}
DERIVED: dict[type, tuple[str, ...]] = {Verdict: ("passed",), Entry: ("failure",), Run: ("quick",)}
HEAD = ("tool", "created", "command")


def json_from_result(result: Result) -> dict[str, Any]:
    """The document of a result: JSON's types only. What is not a number is null: JSON has no NaN."""
    whole = {key: _plain(getattr(result, key)) for key in HEAD}
    whole |= {"quick": result.quick, "interrupted": result.interrupted, "partial": result.partial}
    if len(result.runs) == 1:
        whole |= _plain(result.runs[0])
    else:
        whole["runs"] = _plain(result.runs)
    return {"schema": SCHEMA, **whole, "entries": _plain(result.entries)}


def json_from_verdict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as it stands in the document of a result."""
    document: dict[str, Any] = _plain(verdict)
    return document


def result_from_json(document: object, where: str) -> Result:
    """The result a document holds. YoloproofError names the file (`where`), the key's path and what is wrong with it."""
    if not isinstance(document, dict) or "schema" not in document:
        raise YoloproofError(f"{where} is not a result file: it names no schema; give a file of `profile --json`")
    schema = document["schema"]
    if type(schema) is not int or schema not in HISTORY:
        raise YoloproofError(
            f"{where} is of schema {schema!r}, this version reads {', '.join(map(str, HISTORY))};"
            " use the yoloproof that wrote it"
        )
    plain = {key: value for key, value in document.items() if key != "schema"}
    try:
        plain = from_schema_1(plain) if schema == 1 else plain
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise YoloproofError(f"{where} is damaged ({type(error).__name__}: {error}); measure again") from None
    return _validated(_with_runs(plain), where)


def _with_runs(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its runs in a list, and without the values of the whole that follow from them."""
    if "runs" in document:
        return {key: value for key, value in document.items() if key not in ("quick", "interrupted", "partial")}
    entries = document.get("entries")
    run = {key: value for key, value in document.items() if key != "entries"}
    return {**{key: run[key] for key in HEAD if key in run}, "runs": [run], "entries": entries}


def _validated(document: dict[str, Any], where: str) -> Result:
    from pydantic import ValidationError

    derived = _without_derived(document)
    try:
        # as JSON text: strict about kinds, and an array there is a tuple here
        result: Result = _adapter().validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        raise YoloproofError(f"{where} is damaged: {place or 'it'}: {first['msg'].lower()}; measure again") from None
    missing = _first_missing(result, document, "")
    if missing is not None:
        raise YoloproofError(f"{where} is damaged: {missing} is missing; measure again")
    wrong = _first_disagreement(result, derived)
    if wrong is not None:
        raise YoloproofError(f"{where} is damaged: {wrong}; measure again")
    return result


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Result)


def _without_derived(document: dict[str, Any]) -> dict[tuple[str, int], Any]:
    """Take the derived values out of the document (it is changed), by the place they stood in; _ABSENT where missing."""
    found: dict[tuple[str, int], Any] = {}
    for i, run in enumerate(_list(document.get("runs"))):
        found["quick", i] = run.pop("quick", _ABSENT) if isinstance(run, dict) else _ABSENT
    for i, entry in enumerate(_list(document.get("entries"))):
        proof = entry.get("proof") if isinstance(entry, dict) else None
        found["failure", i] = entry.pop("failure", _ABSENT) if isinstance(entry, dict) else _ABSENT
        found["passed", i] = proof.pop("passed", _ABSENT) if isinstance(proof, dict) else _ABSENT
    return found


_ABSENT = object()


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _first_disagreement(result: Result, derived: Mapping[tuple[str, int], Any]) -> str | None:
    for (key, i), value in derived.items():
        place = {"quick": f"runs[{i}].quick", "failure": f"entries[{i}].failure"}.get(key, f"entries[{i}].proof.passed")
        if value is _ABSENT:
            return f"{place} is missing"
        record: Any = result.runs[i] if key == "quick" else result.entries[i]
        said = record.proof.passed if key == "passed" else getattr(record, key)
        if value != said or type(value) is not type(said):
            return f"{place} is {value!r}, and the rest of the file says {said!r}"
    for i, entry in enumerate(result.entries):
        if not 0 <= entry.run < len(result.runs):
            return f"entries[{i}].run is {entry.run} of {len(result.runs)} runs"
    return None


def _first_missing(record: Any, given: Any, place: str) -> str | None:
    """The path of the first field that the document does not hold."""
    if is_dataclass(record):
        for one in fields(record):
            path = f"{place}.{one.name}".lstrip(".")
            if one.name not in given:
                return path
            if (found := _first_missing(getattr(record, one.name), given[one.name], path)) is not None:
                return found
    elif isinstance(record, tuple):
        for i, item in enumerate(record):
            if not is_dataclass(item):
                return None
            if (found := _first_missing(item, given[i], f"{place}[{i}]")) is not None:
                return found
    return None


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        record = {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
        return record | {key: _plain(getattr(value, key)) for key in DERIVED.get(type(value), ())}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
