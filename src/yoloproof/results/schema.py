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
from yoloproof.records import (
    Artifact,
    Entry,
    Load,
    LoadPoint,
    Process,
    PublishedFigure,
    Result,
    Run,
    RunWarning,
    ServerSummary,
    Serving,
    Summary,
    Verdict,
)
from yoloproof.results.upgrade import from_schema_1, with_gained

SCHEMA = 2
HISTORY = {
    1: "dictionaries; which keys stood in them depended on who wrote them",
    2: "frozen records: every key is there, none other; `case` in every entry, the CPU's family, stepping and caches",
}
# What tells the files of other commands.
OTHERS = {"accuracy": "val", "names": "predict", "rows": "compare", "checks": "verify"}
DERIVED: dict[type, tuple[str, ...]] = {Verdict: ("passed",), Entry: ("failure",), Run: ("quick",)}
HEAD = ("tool", "created", "command")
# Numbers that readers divide by or draw on a logarithmic axis, and the largest integer that is one of anything.
POSITIVE: dict[type, tuple[str, ...]] = {
    Artifact: ("imgsz", "batch"),
    Load: ("rate_hz", "latency_s"),
    LoadPoint: ("rate_hz", "p50_s", "p90_s", "p99_s"),
    Process: ("samples_s",),
    PublishedFigure: ("latency_s",),
    RunWarning: ("level_factor",),
    ServerSummary: ("capacity_hz", "p99_bound_s", "highest_hz"),
    Serving: ("capacity_hz", "p99_bound_s"),
    Summary: ("median_s", "interval_s", "fps"),
}
LARGEST = 2**63


def json_from_result(result: Result) -> dict[str, Any]:
    """The document of a result: JSON's types only. What is not a number is null: JSON has no NaN."""
    whole = {key: plain(getattr(result, key)) for key in HEAD}
    whole |= {"quick": result.quick, "interrupted": result.interrupted, "partial": result.partial}
    if len(result.runs) == 1:
        whole |= plain(result.runs[0])
    else:
        whole["runs"] = plain(result.runs)
    return {"schema": SCHEMA, **whole, "entries": plain(result.entries)}


def result_from_json(document: object, where: str) -> Result:
    """The result a document holds. YoloproofError names the file (`where`), the key's path and what is wrong with it."""
    if isinstance(document, dict) and "entries" not in document:
        for key, command in OTHERS.items():
            if key in document:
                raise YoloproofError(f"{where} is a file of `yoloproof {command}`; give one of `profile --json`")
    if not isinstance(document, dict) or "schema" not in document:
        raise YoloproofError(f"{where} is not a result file: it names no schema; give a file of `profile --json`")
    schema = document["schema"]
    if type(schema) is not int or schema not in HISTORY:
        raise YoloproofError(
            f"{where} has schema {schema!r}, but this version reads {', '.join(map(str, HISTORY))};"
            " use the yoloproof that wrote it"
        )
    rest = {key: value for key, value in document.items() if key != "schema"}
    try:
        rest = from_schema_1(rest) if schema == 1 else rest
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise YoloproofError(f"{where} is damaged ({type(error).__name__}: {error}); measure again") from None
    found = _validated(_with_runs(rest))
    if isinstance(found, Result):
        return found
    # a file of one run holds that run's keys at its top
    raise YoloproofError(
        f"{where} is damaged: {found if 'runs' in document else found.removeprefix('runs[0].')}; measure again"
    )


def _with_runs(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its runs in a list, and without the values of the whole that follow from them."""
    if "runs" in document:
        return {key: value for key, value in document.items() if key not in ("quick", "interrupted", "partial")}
    entries = document.get("entries")
    run = {key: value for key, value in document.items() if key != "entries"}
    return {**{key: run[key] for key in HEAD if key in run}, "runs": [run], "entries": entries}


def _validated(document: dict[str, Any]) -> Result | str:
    """The result of a document with a list of runs; else the path of the first key that is wrong, and what is."""
    from pydantic import ValidationError

    plain_document, derived = _without_derived(with_gained(document))
    try:
        # as JSON text: strict about kinds, and an array there is a tuple here
        result: Result = _adapter().validate_json(json.dumps(plain_document), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        return f"{place or 'it'}: {first['msg'].lower()}"
    except RecursionError:
        return "it is nested too deeply"
    return _first_fault(result, plain_document, "") or _first_disagreement(result, derived) or result


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Result)


_ABSENT = object()


def _without_derived(document: dict[str, Any]) -> tuple[dict[str, Any], dict[tuple[str, int], Any]]:
    """The document without its derived values, and those by key and index of their run or entry; _ABSENT where missing."""
    found: dict[tuple[str, int], Any] = {}

    def without(record: Any, key: str, index: int) -> Any:
        found[key, index] = record.get(key, _ABSENT) if isinstance(record, dict) else _ABSENT
        return {name: value for name, value in record.items() if name != key} if isinstance(record, dict) else record

    whole = dict(document)
    if isinstance(whole.get("runs"), list):
        whole["runs"] = [without(run, "quick", i) for i, run in enumerate(whole["runs"])]
    if isinstance(whole.get("entries"), list):
        whole["entries"] = [without(entry, "failure", i) for i, entry in enumerate(whole["entries"])]
        for i, entry in enumerate(whole["entries"]):
            if isinstance(entry, dict) and "proof" in entry:
                entry["proof"] = without(entry["proof"], "passed", i)
    return whole, found


def _first_disagreement(result: Result, derived: Mapping[tuple[str, int], Any]) -> str | None:
    for i, entry in enumerate(result.entries):
        if not 0 <= entry.run < len(result.runs):
            return f"entries[{i}].run is {entry.run} of {len(result.runs)} runs"
    for (key, i), value in derived.items():
        place = {"quick": f"runs[{i}].quick", "failure": f"entries[{i}].failure"}.get(key, f"entries[{i}].proof.passed")
        if value is _ABSENT:
            return f"{place} is missing"
        record: Any = result.runs[i] if key == "quick" else result.entries[i]
        said = record.proof.passed if key == "passed" else getattr(record, key)
        if value != said or type(value) is not type(said):
            return f"{place} is {value!r}, and the rest of the file says {said!r}"
    return None


def _first_fault(record: Any, given: Any, place: str) -> str | None:
    """The path of the first field that the document does not hold, or whose number no measurement can be."""
    for one in fields(record):
        path = f"{place}.{one.name}".lstrip(".")
        if one.name not in given:
            return f"{path} is missing"
        value, inner = getattr(record, one.name), given[one.name]
        if one.name in POSITIVE.get(type(record), ()) and not all(number > 0 for number in _numbers(value)):
            return f"{path} is not above zero"
        if isinstance(value, int) and abs(value) > LARGEST:
            return f"{path} is too large"
        found = None
        if is_dataclass(value):
            found = _first_fault(value, inner, path)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            found = next(filter(None, (_first_fault(v, inner[i], f"{path}[{i}]") for i, v in enumerate(value))), None)
        if found is not None:
            return found
    return None


def _numbers(value: Any) -> tuple[float, ...]:
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _text(words: str) -> str:
    """Text that a JSON file may hold: a path's bytes that are no UTF-8 become "?"."""
    return words.encode(errors="replace").decode()


def plain(value: Any) -> Any:
    """A record, or anything that holds records, in JSON's types, with the values that follow from others."""
    if is_dataclass(value) and not isinstance(value, type):
        record = {one.name: plain(getattr(value, one.name)) for one in fields(value)}
        return record | {key: plain(getattr(value, key)) for key in DERIVED.get(type(value), ())}
    if isinstance(value, Mapping):
        return {_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path | str):
        return _text(str(value))
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
