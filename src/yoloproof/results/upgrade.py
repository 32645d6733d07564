"""A document of schema 1 in the keys of schema 2: what was not recorded then is null, what has moved is moved. And fields that
schema 2 gained later, in a file that was written before."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from yoloproof.names import ArtifactFormat, Attention, Precision, Weights
from yoloproof.records import Case, Entry, Process, Protocol, Result, Run, SessionFacts, Summary, Turn

# Fields that schema 2 gained: a file without them is read with their default.
GAINED: dict[type, tuple[str, ...]] = {
    Case: ("throughput", "sessions"),
    SessionFacts: ("requests",),
    Protocol: ("row_max_s", "server"),
    Process: ("serving", "open_only"),
    Summary: ("server",),
    Turn: ("waited_s", "reason"),
}
UNKNOWN = (None, "unknown")
RENAMED = {"gpu form": "kernels"}


def from_schema_1(document: dict[str, Any]) -> dict[str, Any]:
    """Keys that schema 1 wrote on and off get the value that stands for "not recorded". Unknown keys stay, and are refused
    by the reader. Raises what a document of another shape makes it raise."""
    head: dict[str, Any] = {"tool": {"name": "yoloproof", "version": "unknown"}, "created": "", "command": []}
    head |= {key: document[key] for key in head if key in document}
    runs = document.get("runs")
    if runs is None:
        runs = [{key: value for key, value in document.items() if key not in ("entries", "schema")}]
    entries = [_entry(dict(entry)) for entry in document["entries"]]
    return {**head, "runs": [_run(dict(run), head) for run in runs], "entries": entries}


def _run(run: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    machine = run.pop("machine", None)
    if machine is not None and "requested" in machine:
        run["requested"], machine = machine["requested"], None
    protocol = dict(run.get("protocol") or {"name": "unknown"})
    run.pop("quick", None)
    whole = _filled({**head, **run, "machine": machine, "protocol": protocol}, Run)
    return {**whole, "quick": whole["protocol"]["quick"]}


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    model, artifact = dict(entry["model"]), dict(entry["artifact"])
    runtime, summary = dict(entry["runtime"]), entry.get("summary")
    artifact["metadata"] = artifact.pop("made", {})
    artifact.setdefault("format", ArtifactFormat.PYTORCH)
    for key, words in (("precision", Precision), ("attention", Attention)):
        artifact[key] = None if artifact.get(key) in UNKNOWN else words(artifact[key])
    model["weights"] = Weights(model["weights"]) if model.get("weights") in list(Weights) else None
    artifact["simplified"] = [RENAMED.get(name, name) for name in artifact.get("simplified") or ()]
    if entry.get("published") is not None:
        entry["published"] = dict(entry["published"])
        percent = entry["published"].get("ap")
        entry["published"]["ap"] = None if percent is None else round(percent / 100, 4)
    for key in ("processes", "processes_set_aside"):
        entry[key] = [_process(dict(process)) for process in entry.get(key) or ()]
    entry["passed_over"] = runtime.pop("passed_over", [])
    entry["error"] = entry.get("error") or entry.pop("failure", None)
    proof = {"checks": (entry.get("proof") or {}).get("checks", [])}
    entry |= {"model": model, "artifact": artifact, "runtime": runtime, "proof": proof}
    entry["case"] = {
        "model": model.get("source") or model["name"], "runtime": runtime.get("name", "auto"),
        "precision": artifact["precision"] or "fp32", "attention": artifact["attention"] or "fused",
        "imgsz": artifact.get("imgsz") or [640, 640], "batch": artifact.get("batch") or 1,
        "device": runtime.get("device") or "cpu", "threads": runtime.get("threads"),
        "flush_to_zero": bool(runtime.get("flush_to_zero")), "random_weights": model["weights"] is Weights.RANDOM,
    }  # fmt: skip
    whole = _filled(entry, Entry)
    passed = [check["passed"] for check in whole["proof"]["checks"]]
    whole["proof"]["passed"] = False if False in passed else True if passed and None not in passed else None
    whole["failure"] = whole["error"] if summary is None else None
    return whole


def _process(process: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 knew how many samples each kept turn gave and the slower reading around it, and of the others the samples."""
    counts, gauge_s = process.pop("turns", []), process.pop("gauge_s", [])
    firsts = [sum(counts[:i]) for i in range(len(counts))]
    readings = gauge_s if len(gauge_s) == len(counts) else [None] * len(counts)
    process["turns"] = [
        {"first": first, "count": count, "gauge_after_s": reading}
        for first, count, reading in zip(firsts, counts, readings, strict=True)
    ]
    process["set_aside"] = {"samples_s": process.pop("set_aside_s", [])}
    return process


def with_gained(document: dict[str, Any]) -> dict[str, Any]:
    """A document of schema 2, its runs in a list, with what schema 2 gained since it was written."""
    return _filled(document, Result, GAINED)


def _filled(given: dict[str, Any], record: type, gained: dict[type, tuple[str, ...]] | None = None) -> dict[str, Any]:
    """`given` with every field of `record` that it lacks, or only those that were `gained`, at its default; fields that are
    records themselves likewise."""
    hints = get_type_hints(record)
    whole = dict(given)
    for one in fields(record):  # type: ignore[arg-type]
        inner, many = _record_in(hints[one.name])
        if one.name not in whole and (gained is None or one.name in gained.get(record, ())):
            if one.default is not MISSING:
                whole[one.name] = one.default
            elif one.default_factory is not MISSING:
                whole[one.name] = {} if inner is not None else one.default_factory()
        value = whole.get(one.name)
        if inner is not None and many and isinstance(value, list | tuple):
            whole[one.name] = [_filled(item, inner, gained) if isinstance(item, dict) else item for item in value]
        elif inner is not None and isinstance(value, dict):
            known = value or one.default is not None or gained is not None
            whole[one.name] = _filled(value, inner, gained) if known else None
    return whole


def _record_in(hint: Any) -> tuple[type | None, bool]:
    """The record a field's type holds, and whether it holds a tuple of them."""
    if is_dataclass(hint):
        return hint, False  # type: ignore[return-value]
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return next((found for found in map(_record_in, inner) if found[0] is not None), (None, False))
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis and is_dataclass(inner[0]):
        return inner[0], True  # type: ignore[return-value]
    return None, False
