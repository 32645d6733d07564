"""Result files flattened into rows: what the page, the plots and the text tables share.

Only what a result file says is in a row; what it does not say is None, shown as "–" and never guessed. Everything in a
result file is untrusted: numbers are taken only where they are finite numbers, text is escaped by
whoever writes it.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from yoloproof.errors import YoloproofError

NOT_SAID = "–"


@dataclass(frozen=True)
class Published:
    """A figure somebody else reported: seconds, AP (0…1) if they gave one, what it was taken on, where it stands."""

    latency_s: float
    ap: float | None
    gpu: str
    runtime: str
    precision: str
    imgsz: int
    batch: int
    source: str


@dataclass(frozen=True)
class Ratio:
    """Time over that of `base`, timed side by side: the 5th, 50th and 95th percentile of the ratios of each round, of each
    process where the protocol has no rounds."""

    base: str
    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Run:
    """One measurement run: the machine and protocol its rows share. `machine_id` counts machines from 1."""

    machine_id: int
    machine: str
    facts: Mapping[str, Any]
    protocol: Mapping[str, Any]
    command: str
    created: str
    tool: str
    file: str
    quick: bool
    partial: bool
    warnings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Row:
    """One entry of a result file, seconds and counts as they stand there. `number` counts the entries from 1."""

    number: int
    run: Run
    entry: Mapping[str, Any]
    model: str
    family: str
    weights: str
    runtime: str
    device: str
    precision: str
    attention: str
    form: str
    imgsz: str
    batch: int | None
    parameters: float | None
    flops: float | None
    median_s: float | None
    interval_s: tuple[float, float] | None
    p90_s: float | None
    p99_s: float | None
    fps: float | None
    ap: float | None
    proved: bool | None
    failure: str | None
    launches: int | None
    nodes: int | None
    ratio: Ratio | None
    ratio_stripped: Ratio | None
    published: Published | None
    warnings: tuple[Mapping[str, Any], ...]

    @property
    def anchor(self) -> str:
        """The row's id in the page."""
        return f"result-{self.number}"

    @property
    def label(self) -> str:
        """Model, form, precision and runtime on one line; batch and size where they are not the usual ones."""
        model = f"{self.model} (random weights)" if self.weights == "random" else self.model
        parts = [model, self.kind, self.precision, self.runtime]
        parts += [self.imgsz] if self.imgsz != "640×640" else []
        parts += [f"batch {self.batch}"] if self.batch not in (None, 1) else []
        return " · ".join(part for part in parts if part != NOT_SAID)

    @property
    def kind(self) -> str:
        """The form the attention was timed in where the file names one (`gpu`, `published compiled`), else the attention."""
        return self.attention if self.form == NOT_SAID else self.form

    @property
    def verdict(self) -> str:
        """`proved`, `not proved`, `unchecked` or `not measured`, in words."""
        if self.failure is not None or self.median_s is None:
            return "not measured"
        return {True: "proved", False: "not proved", None: "unchecked"}[self.proved]


def rows_from_results(results: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Row]:
    """Rows of (file name, result) pairs, in the files' order. Raises YoloproofError for a schema that is not 1."""
    rows: list[Row] = []
    machine_ids: dict[str, int] = {}
    for name, result in results:
        if result.get("schema") != 1:
            raise YoloproofError(f"{name}: result schema {result.get('schema')!r}; this version reads schema 1")
        runs = [_run_from_dict(run, result, name, machine_ids) for run in result.get("runs") or [result]]
        for entry in _dicts(result.get("entries")):
            index = entry.get("run", 0)
            if not isinstance(index, int) or not 0 <= index < len(runs):
                raise YoloproofError(f"{name}: an entry names run {index!r} of {len(runs)}; the file is damaged")
            rows.append(_row_from_entry(entry, runs[index], len(rows) + 1))
    return _with_ratios(rows)


def setting(row: Row, *extra: str) -> tuple[object, ...]:
    """What two rows must share to be held against each other."""
    runtime = _dict(row.entry.get("runtime"))
    shared = (row.run.machine_id, row.model, row.weights, row.runtime, row.device, row.precision, row.imgsz)
    switches = (row.run.protocol.get("name"), runtime.get("threads"), runtime.get("flush_to_zero"))
    return (*shared, *map(str, switches), *(getattr(row, name) for name in extra))


def _with_ratios(rows: Sequence[Row]) -> list[Row]:
    """The rows, each held against the `published` and the `stripped` one that were timed side by side with it."""
    bases = {(id(row.run), setting(row, "batch"), row.kind): row for row in rows}
    made = []
    for row in rows:
        compiled = " compiled" if row.form.endswith(" compiled") else ""
        ratios = {}
        for name in ("published", "stripped"):
            base = bases.get((id(row.run), setting(row, "batch"), name + compiled))
            ratios[name] = _side_by_side(row, base) if base is not None else None
        made.append(replace(row, ratio=ratios["published"], ratio_stripped=ratios["stripped"]))
    return made


def _side_by_side(row: Row, base: Row) -> Ratio | None:
    own, other = _turns(row.entry), _turns(base.entry)
    if not own or len(own) != len(other):
        return None
    ratios = [a / b for a, b in zip(own, other, strict=True)]
    low, middle, high = (float(value) for value in np.percentile(ratios, (5, 50, 95)))
    return Ratio(base.kind, low, middle, high)


def _turns(entry: Mapping[str, Any]) -> list[float]:
    """Medians that were taken in turns with the other rows' in the same places: of rounds, else of processes."""
    rounds = [value for process in _dicts(entry.get("processes")) for value in _list(process.get("round_medians_s"))]
    turns = [finite(value) for value in rounds or _list(_dict(entry.get("summary")).get("process_medians_s"))]
    kept = [value for value in turns if value is not None and value > 0]
    return kept if len(kept) == len(turns) else []


def _run_from_dict(run: Mapping[str, Any], result: Mapping[str, Any], name: str, machine_ids: dict[str, int]) -> Run:
    facts = _dict(run.get("machine"))
    identity = machine_identity(facts)
    command = run.get("command", result.get("command"))
    tool = _dict(run.get("tool", result.get("tool")))
    return Run(
        machine_id=machine_ids.setdefault(identity, len(machine_ids) + 1),
        machine=machine_label(facts),
        facts=facts,
        protocol=_dict(run.get("protocol", result.get("protocol"))),
        command=shlex.join(str(word) for word in command) if isinstance(command, list) else text(command),
        created=text(run.get("created", result.get("created"))),
        tool=f"{text(tool.get('name'))} {text(tool.get('version'))}",
        file=name,
        quick=bool(run.get("quick")),
        partial=bool(run.get("partial")),
        warnings=tuple(_dicts(run.get("warnings"))),
    )


def _row_from_entry(entry: Mapping[str, Any], run: Run, number: int) -> Row:
    model, artifact, runtime = (_dict(entry.get(key)) for key in ("model", "artifact", "runtime"))
    summary, accuracy = _dict(entry.get("summary")), _dict(entry.get("accuracy"))
    proved = _dict(entry.get("proof")).get("passed")
    interval = [finite(value) for value in _list(summary.get("interval_s"))]
    imgsz = [finite(value) for value in _list(artifact.get("imgsz"))]
    batch = _positive(artifact.get("batch"))
    launches = finite(_dict(entry.get("kernels")).get("launches"))
    nodes = finite(artifact.get("nodes"))
    failure = entry.get("failure") or entry.get("error")
    return Row(
        number=number,
        run=run,
        entry=entry,
        model=text(model.get("name")),
        family=text(model.get("family")),
        weights=text(model.get("weights")),
        runtime=_runtime(runtime),
        device=text(runtime.get("device")),
        precision=text(artifact.get("precision") or runtime.get("precision")),
        attention=text(artifact.get("attention")),
        form=text(artifact.get("form") or runtime.get("form")),
        imgsz="×".join(f"{side:g}" for side in imgsz if side is not None) or NOT_SAID,
        batch=None if batch is None else int(batch),
        parameters=finite(model.get("parameters")),
        flops=finite(model.get("flops")),
        median_s=_positive(summary.get("median_s")),
        interval_s=(interval[0], interval[1]) if len(interval) == 2 and interval[0] and interval[1] else None,
        p90_s=finite(summary.get("p90_s")),
        p99_s=finite(summary.get("p99_s")),
        fps=finite(summary.get("fps")),
        ap=finite(accuracy.get("AP")),
        proved=proved if isinstance(proved, bool) else None,
        failure=None if failure is None else text(failure),
        launches=None if launches is None else int(launches),
        nodes=None if nodes is None else int(nodes),
        ratio=None,
        ratio_stripped=None,
        published=_published(_dict(entry.get("published"))),
        warnings=tuple(_dicts(entry.get("warnings"))),
    )


def _runtime(runtime: Mapping[str, Any]) -> str:
    """Name and version, the version without its build's marks (`2026.4.1-22982-e213a…`)."""
    version = str(runtime.get("version") or "").split("-")[0]
    return text(f"{runtime.get('name') or ''} {version}".strip())


def _published(figure: Mapping[str, Any]) -> Published | None:
    latency, ap = finite(figure.get("latency_s")), finite(figure.get("ap"))
    if latency is None or not latency > 0:
        return None
    return Published(
        latency_s=latency,
        ap=None if ap is None else ap / 100,
        gpu=text(figure.get("gpu")),
        runtime=text(figure.get("runtime")),
        precision=text(figure.get("precision")),
        imgsz=int(finite(figure.get("imgsz")) or 0),
        batch=int(finite(figure.get("batch")) or 0),
        source=text(figure.get("source")),
    )


def gpu_name(facts: Mapping[str, Any]) -> str | None:
    """The GPU's name, None for a CPU."""
    gpu = facts.get("gpu")
    gpu = gpu[0] if isinstance(gpu, list) and gpu else gpu
    name = gpu.get("name") if isinstance(gpu, Mapping) else gpu
    return text(name) if name else None


def plain_entry(row: Row) -> dict[str, Any]:
    """The parts of a row's entry that figures are held against, each of the type that schema 1 gives it."""
    sides = [finite(side) for side in _list(_dict(row.entry.get("artifact")).get("imgsz"))]
    summary = {"median_s": row.median_s, "interval_s": row.interval_s}
    return {
        "model": {"name": row.model},
        "artifact": {"attention": row.attention, "precision": row.precision, "imgsz": sides, "batch": row.batch},
        "runtime": {"name": row.runtime.split(" ")[0]},
        "proof": {"passed": row.proved},
        "summary": summary if row.median_s else None,
    }


def machine_label(facts: Mapping[str, Any]) -> str:
    """The accelerator's name, or the CPU's with its cores: how a machine is called in a heading."""
    if name := gpu_name(facts):
        return name
    cpu = facts.get("cpu")
    if not cpu and facts.get("requested"):
        return f"{text(facts['requested'])} (not reached)"
    cores = None
    if isinstance(cpu, Mapping):
        cores = next((cpu[key] for key in ("logical_cores", "cores", "physical_cores") if cpu.get(key)), None)
        cpu = next((cpu[key] for key in ("name", "model", "brand") if cpu.get(key)), None)
    cores = cores or facts.get("cores")
    return NOT_SAID if not cpu else f"{text(cpu)} ({cores} cores)" if cores else text(cpu)


def machine_identity(facts: Mapping[str, Any]) -> str:
    """One string per machine: a hash of what does not change between two runs on it (its name, memory, system)."""
    steady = [machine_label(facts), facts.get("memory_bytes"), facts.get("os")]
    return hashlib.sha256(json.dumps(steady, default=str).encode()).hexdigest()


def repeat_command(row: Row) -> str:
    """The command that repeats this one row, from what the entry says of itself.

    The model is named by the path or name it was read from, so that it can be pasted where the file lies. A form is
    timed by a benchmark, whose own command repeats it.
    """
    if row.form != NOT_SAID:
        return f"python {row.run.command}"
    entry = row.entry
    model, artifact, runtime = (_dict(entry.get(key)) for key in ("model", "artifact", "runtime"))
    words = ["yoloproof", "profile", str(model.get("source") or model.get("name") or "MODEL")]
    if model.get("weights") == "random":
        words = ["yoloproof", "profile", str(model.get("name") or "MODEL"), "--random-weights"]
    imgsz = [f"{side:g}" for side in map(finite, _list(artifact.get("imgsz"))) if side is not None]
    options = {
        "--runtime": runtime.get("name"),
        "--attention": artifact.get("attention"),
        "--precision": row.precision if row.precision != NOT_SAID else None,
        "--imgsz": "x".join(dict.fromkeys(imgsz)) if imgsz else None,
        "--batch": row.batch,
        "--device": runtime.get("device"),
        "--threads": runtime.get("threads"),
        "--protocol": row.run.protocol.get("name"),
    }
    for option, value in options.items():
        if value is not None:
            words += [option, str(value)]
    words += ["--flush-to-zero"] if runtime.get("flush_to_zero") else []
    return shlex.join(words + (["--quick"] if row.run.quick else []))


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """The proved rows that no other proved row beats in both latency (lower) and AP (higher), fastest first."""
    front: list[Row] = []
    candidates = [row for row in rows if row.proved and row.median_s is not None and row.ap is not None]
    for row in sorted(candidates, key=lambda row: (row.median_s or 0.0, -(row.ap or 0.0))):
        if not front or (row.ap or 0.0) > (front[-1].ap or 0.0):
            front.append(row)
    return front


def finite(value: Any) -> float | None:
    """The value as a float if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _positive(value: Any) -> float | None:
    number = finite(value)
    return number if number is not None and number > 0 else None


def text(value: Any) -> str:
    """The value as one line of text that can be written as UTF-8; a dash for what is not said."""
    return NOT_SAID if value is None or value == "" else writable(" ".join(str(value).split()))


def writable(words: str) -> str:
    """The words with a question mark for each half of a character, which JSON can hold and no file of text."""
    return words.encode("utf-8", "replace").decode()


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in _list(value) if isinstance(item, Mapping)]
