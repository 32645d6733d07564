"""Result files flattened into rows: what the page, the plots and the Markdown tables share.

What a result file does not say is None, shown as "–" and never guessed. Text in a result file is untrusted: whoever
writes it out escapes it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from yoloproof.intervals import Ratio, batch_medians, side_by_side
from yoloproof.names import Attention, Runtime, Weights
from yoloproof.records import Accuracy, Entry, PublishedFigure, Result, Run, Summary
from yoloproof.results.labels import (
    machine_label,
    model_label,
    network_label,
    plain_text,
    precision_of,
    row_label,
    size_label,
    weights_of,
)

COCO_VAL_IMAGES = 5000  # of val2017, which reported APs are of


@dataclass(frozen=True)
class RatioTo:
    """A row's time over that of another row of its run; is_base -- it is that row itself."""

    base: str
    ratio: Ratio
    is_base: bool


@dataclass(frozen=True)
class Origin:
    """The run of a row: its file, and its machine's number, counted from 1, and name."""

    file: str
    machine_id: int
    machine: str
    run: Run

    @property
    def command(self) -> str:
        return plain_text(shlex.join(self.run.command))

    @property
    def tool(self) -> str:
        return plain_text(f"{self.run.tool.name} {self.run.tool.version}")


@dataclass(frozen=True)
class Row:
    """One entry with its run. `number` counts the entries of all files from 1; weights -- see `weights_of`"""

    number: int
    origin: Origin
    entry: Entry
    weights: str
    of_published: RatioTo | None = None
    of_stripped: RatioTo | None = None

    @property
    def anchor(self) -> str:
        """The row's id in the page."""
        return f"result-{self.number}"

    @cached_property
    def label(self) -> str:
        """Model, network, precision and runtime on one line."""
        return row_label(self.entry)

    @cached_property
    def model(self) -> str:
        return model_label(self.entry)

    @cached_property
    def family(self) -> str:
        return plain_text(self.entry.model.family)

    @cached_property
    def runtime(self) -> str:
        """Name and version, the version without its build's marks (`2026.4.1-22982-e213a…`)."""
        version = (self.entry.runtime.version or "").split("-")[0]
        return plain_text(f"{self.entry.runtime.name} {version}")

    @cached_property
    def attention(self) -> str:
        return plain_text(self.entry.artifact.attention)

    @cached_property
    def network(self) -> str:
        """The attention, and what computes the network where that is not the runtime's own operators."""
        return network_label(self.entry)

    @property
    def precision(self) -> str:
        return precision_of(self.entry)

    @property
    def imgsz(self) -> str:
        return size_label(self.entry)

    @property
    def batch(self) -> int:
        return self.entry.artifact.batch

    @property
    def summary(self) -> Summary | None:
        return self.entry.summary

    @property
    def median_s(self) -> float | None:
        return None if self.summary is None else self.summary.median_s

    @cached_property
    def medians(self) -> dict[int, float]:
        """What a batch takes in each process, s, by its number."""
        return batch_medians(self.entry)

    @property
    def interval_s(self) -> tuple[float, float] | None:
        return None if self.summary is None else self.summary.interval_s

    @property
    def accuracy(self) -> Accuracy | None:
        """None with random weights, whose AP says nothing."""
        return None if self.entry.model.weights is Weights.RANDOM else self.entry.accuracy

    @property
    def ap(self) -> float | None:
        return None if self.accuracy is None else self.accuracy.AP

    @property
    def proved(self) -> bool | None:
        return self.entry.proof.passed

    @property
    def failure(self) -> str | None:
        """Why there is no figure, or none of the whole protocol."""
        return None if self.entry.error is None else plain_text(self.entry.error)

    @property
    def reported(self) -> PublishedFigure | None:
        return self.entry.published

    @property
    def quick(self) -> bool:
        return self.origin.run.quick

    @property
    def partial(self) -> bool:
        return self.entry.partial or self.origin.run.partial

    @property
    def badges(self) -> list[str]:
        """What makes it less than a result."""
        return [word for word, on in (("quick", self.quick), ("partial", self.partial)) if on]

    @property
    def verdict(self) -> str:
        """`proved`, `not proved`, `unchecked` or `not measured`, in words."""
        if self.failure is not None or self.median_s is None:
            return "not measured"
        return {True: "proved", False: "not proved", None: "unchecked"}[self.proved]


def rows_from_results(results: Iterable[tuple[str, Result]]) -> list[Row]:
    """Rows of (file name, result) pairs, in the files' order."""
    rows: list[Row] = []
    machine_ids: dict[tuple[object, ...], int] = {}
    for name, result in results:
        origins = [
            Origin(name, machine_ids.setdefault(_identity(run), len(machine_ids) + 1), machine_label(run), run)
            for run in result.runs
        ]
        for entry, weights in zip(result.entries, weights_of(result.entries), strict=True):
            rows.append(Row(len(rows) + 1, origins[entry.run], entry, weights))
    return _with_ratios(rows)


def _identity(run: Run) -> tuple[object, ...]:
    """What does not change between two runs on one machine."""
    machine = run.machine
    if machine is None:
        return "not reached", run.requested
    gpu = None if machine.gpu is None else machine.gpu.uuid
    return machine_label(run), machine.cpu.model, machine.cpu.stepping, gpu, machine.memory_bytes, machine.os


def setting(row: Row) -> tuple[object, ...]:
    """What two rows must share to stand in one chart: model, machine, protocol, and how they were run, batch and network
    aside."""
    return row.model, *_how(row)


def _how(row: Row) -> tuple[object, ...]:
    runtime, run = row.entry.runtime, row.origin.run
    shared = row.origin.machine_id, run.protocol.name, run.quick, row.runtime, row.precision, row.imgsz
    return *shared, runtime.device, runtime.threads, runtime.flush_to_zero


def side_by_side_key(row: Row) -> tuple[object, ...]:
    """What two rows must share for a ratio: their run, too, since between runs a machine's level moves, and the weights,
    whatever the files are called."""
    return id(row.origin), row.weights, *_how(row), row.batch


def _with_ratios(rows: Sequence[Row]) -> list[Row]:
    """The rows, each held against the `published` and the `stripped` one that were timed side by side with it; compiled
    ones against compiled ones."""
    bases = {(side_by_side_key(row), row.network): row for row in rows}

    def held(row: Row, attention: Attention) -> RatioTo | None:
        compiled = " (compiled)" if row.entry.runtime.compile else ""
        base = bases.get((side_by_side_key(row), f"{attention}{compiled}"))
        return None if base is None else ratio_to(base, row)

    return [
        replace(row, of_published=held(row, Attention.PUBLISHED), of_stripped=held(row, Attention.STRIPPED))
        for row in rows
    ]


def ratio_to(base: Row, row: Row) -> RatioTo | None:
    """A row's time over that of another of its run; None where they have no process in common."""
    ratio = side_by_side(base.medians, row.medians)
    return None if ratio is None else RatioTo(base.network, ratio, base is row)


def repeat_command(row: Row) -> str:
    """The command that repeats this one row. The model is named by the path or name that was given, so that it can be
    pasted where the file lies. What no option of `profile` asks for, the command of the whole run repeats."""
    case, runtime = row.entry.case, row.entry.runtime.name
    if case.compiled or not case.kernels or case.rewrites is not None:
        script = ["python"] if row.origin.run.command[:1] and row.origin.run.command[0].endswith(".py") else []
        return plain_text(shlex.join([*script, *row.origin.run.command]))
    plan = row.origin.run.protocol.server
    options = {
        "--runtime": runtime if case.runtime is Runtime.AUTO else case.runtime,
        "--attention": case.attention,
        "--precision": case.precision,
        "--imgsz": "x".join(map(str, dict.fromkeys(case.imgsz))),
        "--batch": case.batch,
        "--device": case.device,
        "--threads": case.threads,
        "--protocol": row.origin.run.protocol.name,
        "--sessions": plan and plan.sessions,
        "--p99-ms": plan and plan.p99_s and f"{plan.p99_s * 1e3:g}",
    }
    words = ["yoloproof", "profile", case.model]
    words += [word for option, value in options.items() if value is not None for word in (option, str(value))]
    flags = {"--random-weights": case.random_weights, "--flush-to-zero": case.flush_to_zero, "--quick": row.quick}
    return plain_text(shlex.join([*words, *(flag for flag, on in flags.items() if on)]))


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """The proved rows that no other proved row beats in both latency (lower) and AP (higher), fastest first."""
    candidates = [
        (row.median_s, row.ap, row) for row in rows if row.proved and row.median_s is not None and row.ap is not None
    ]
    front: list[Row] = []
    best = -1.0
    for _, ap, row in sorted(candidates, key=lambda one: (one[0], -one[1])):
        if ap > best:
            front.append(row)
            best = ap
    return front
