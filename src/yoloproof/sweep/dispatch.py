"""Handing cells to nodes: one cell on one node at a time, each kept on disk as it ends, each failure tried again.

The driver holds references and counts, never results: a sweep's memory does not grow with its cells.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from yoloproof.records import Case
from yoloproof.sweep import worker
from yoloproof.sweep.child import End, Outcome
from yoloproof.sweep.cluster import Node, alive_nodes, remote
from yoloproof.sweep.materials import Materials
from yoloproof.sweep.plan import Cell, Plan
from yoloproof.sweep.store import Store
from yoloproof.sweep.worker import NodeJob, SentFile

POLL_S = 0.5
RUNNER = "yoloproof.sweep.measure"


@dataclass(frozen=True)
class NodeTask:
    """What a node does now: a cell, or an export on behalf of it. content -- Ray's reference to the file it makes."""

    cell: Cell
    node: Node
    export: Case | None
    content: Any

    @property
    def label(self) -> str:
        return self.cell.label if self.export is None else f"export {self.export.label}"


@dataclass(frozen=True)
class SweepProgress:
    """Cells by state (kept: from an earlier sweep), and what runs."""

    waiting: int
    kept: int
    done: int
    failed: int
    retried: int
    running: tuple[NodeTask, ...]


class Dispatch:
    """One sweep at work on the cells of a plan that are `missing`; `changed` is called whenever the progress may have changed."""

    def __init__(
        self, plan: Plan, missing: Iterable[Cell], store: Store, changed: Callable[[SweepProgress], None],
        runner: str | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.store, self.changed, self.runner = plan, store, changed, runner or RUNNER
        self.materials = Materials(importlib.import_module(self.runner).exported_case)
        self.waiting = list(missing)
        self.reasons: dict[str | Case, list[str]] = {}
        self.running: dict[Any, NodeTask] = {}
        self.kept = len(plan.cells) - len(self.waiting)
        self.done = self.failed = self.retried = 0

    @property
    def progress(self) -> SweepProgress:
        running = tuple(self.running.values())
        return SweepProgress(len(self.waiting), self.kept, self.done, self.failed, self.retried, running)

    def run(self) -> SweepProgress:
        """Measure every missing cell; returns when each is kept or has failed for good."""
        import ray

        while self.waiting or self.running:
            nodes = alive_nodes()
            for cell in [cell for cell in self.waiting if not any(node.takes(cell.accelerator) for node in nodes)]:
                self._fail(cell, f"no node with {cell.accelerator} is left in the cluster")
            busy = {task.node.id for task in self.running.values()}
            for node in nodes:
                if node.id not in busy:
                    self._occupy(node)
            self.changed(self.progress)
            if self.running:
                ready, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL_S)
                for reference in ready:
                    self._receive(reference)
        self.changed(self.progress)
        return self.progress

    def cancel(self) -> None:
        """End what runs; what is finished is on disk already."""
        import ray

        for reference in self.running:
            ray.cancel(reference, force=True)

    def _occupy(self, node: Node) -> None:
        """Give an idle node the first cell it can take, or an export that such a cell waits for."""
        at_work = {task.export for task in self.running.values()}
        for cell in self.waiting:
            if not node.takes(cell.accelerator):
                continue
            missing = self.materials.missing(cell)
            if not missing:
                self._start(cell, node)
                return
            if idle := [case for case in missing if case not in at_work]:
                self._start_export(cell, idle[0], node)
                return

    def _start(self, cell: Cell, node: Node) -> None:
        models, artifacts = self.materials.models_of(cell.cases), self.materials.artifacts_of(cell)
        job = NodeJob(self.runner, cell, self.plan.timeout_s, models, artifacts)
        gpu = cell.accelerator if cell.accelerator != "cpu" else None
        outcome, content = remote(worker.run, node, node.cpus, 1 if gpu else 0, gpu, returns=2).remote(job)
        self.running[outcome] = NodeTask(cell, node, None, content)
        self.waiting.remove(cell)

    def _start_export(self, cell: Cell, case: Case, node: Node) -> None:
        job = NodeJob(self.runner, case, self.plan.timeout_s, self.materials.models_of([case]))
        outcome, content = remote(worker.run, node, node.cpus, returns=2).remote(job)
        self.running[outcome] = NodeTask(cell, node, case, content)

    def _receive(self, reference: Any) -> None:
        import ray
        from ray.exceptions import RayError

        task = self.running.pop(reference)
        result = b""
        try:
            outcome: Outcome = ray.get(reference)
            # An exported file stays where it is; a result comes here.
            if outcome.end is End.DONE and task.export is None:
                result = ray.get(task.content)
        except RayError as error:
            # A full disk, say, is the cause of what Ray wraps as its own; a dead worker has none.
            said = getattr(error, "cause", None) or type(error).__name__
            outcome = Outcome(End.LOST, f"{said} on node {task.node.host}")
        if task.export is not None:
            self._receive_export(task.export, outcome, task.content)
        elif outcome.end is End.DONE:
            self.store.keep(task.cell, result, outcome.wall_s)
            self.done += 1
        else:
            self._retry_or_fail(task.cell, outcome)
        self.materials.keep_only(self.waiting + [other.cell for other in self.running.values()])

    def _receive_export(self, case: Case, outcome: Outcome, content: Any) -> None:
        if outcome.end is End.DONE:
            self.materials.artifacts[case] = SentFile(outcome.file, outcome.sha256, content)
        elif self._used_up(case, outcome):
            for cell in [cell for cell in self.waiting if case in self.materials.exports_of(cell)]:
                self._fail(cell, "its export failed: " + "; then ".join(self.reasons[case]))

    def _retry_or_fail(self, cell: Cell, outcome: Outcome) -> None:
        """Another try, unless the input itself was refused or the tries are used up."""
        if outcome.end is End.LOST:
            self.materials.forget_artifacts(cell)
        self.waiting.append(cell)
        if self._used_up(cell.key, outcome):
            self._fail(cell)

    def _used_up(self, key: str | Case, outcome: Outcome) -> bool:
        """Note why a cell or an export failed; whether it is not to be tried again."""
        self.reasons.setdefault(key, []).append(outcome.reason)
        final = outcome.end is End.REFUSED or len(self.reasons[key]) > self.plan.retries
        self.retried += not final
        return final

    def _fail(self, cell: Cell, reason: str | None = None) -> None:
        reasons = self.reasons.setdefault(cell.key, [])
        if reason is not None:
            reasons.append(reason)
        self.waiting.remove(cell)
        self.store.keep_failure(cell, reasons)
        self.failed += 1
