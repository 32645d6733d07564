"""Handing cells to nodes: one cell on one node at a time, each kept on disk as it ends, each failure tried again.

The driver holds references and counts, never results: a sweep's memory does not grow with its cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from yoloproof.sweep import worker
from yoloproof.sweep.cluster import Node, alive_nodes, remote
from yoloproof.sweep.materials import Materials, Runner, Sent
from yoloproof.sweep.plan import Cell, Plan
from yoloproof.sweep.store import Store

POLL_S = 0.5


@dataclass
class Progress:
    """Cells by state, and what runs where (`running`: a task's name → its node's host)."""

    waiting: int = 0
    kept: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0
    running: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Task:
    """What a node does now: a cell, or the export called `export` on behalf of it."""

    cell: Cell
    node: Node
    export: str | None
    rest: tuple[Any, ...]

    @property
    def label(self) -> str:
        return self.cell.label if self.export is None else f"export {self.export.replace('|', ' ')}"


class Dispatch:
    """One sweep at work. `changed` is called with the progress whenever it may have changed."""

    def __init__(self, plan: Plan, store: Store, runner: Runner, changed: Callable[[Progress], None]) -> None:
        self.plan, self.store, self.runner, self.changed = plan, store, runner, changed
        self.materials = Materials(plan, runner)
        self.waiting = [cell for cell in plan.cells if not store.finished(cell)]
        self.reasons: dict[str, list[str]] = {}
        self.running: dict[Any, _Task] = {}
        self.progress = Progress(waiting=len(self.waiting), kept=len(plan.cells) - len(self.waiting))

    def run(self) -> Progress:
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
            self._tell()
            if self.running:
                ready, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL_S)
                for reference in ready:
                    self._receive(reference)
        self._tell()
        return self.progress

    def cancel(self) -> None:
        """End what runs; what is finished is on disk already."""
        import ray

        for reference in self.running:
            ray.cancel(reference, force=True)

    def _tell(self) -> None:
        self.progress.waiting = len(self.waiting)
        self.progress.running = {task.label: task.node.host for task in self.running.values()}
        self.changed(self.progress)

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
            if idle := [name for name in missing if name not in at_work]:
                self._start_export(cell, idle[0], node)
                return

    def _start(self, cell: Cell, node: Node) -> None:
        argument = {**asdict(cell), "options": dict(self.plan.options)}
        job = worker.Job(self.runner.module, "measure", argument, self.plan.timeout_s, self.materials.cell_files(cell))
        # All of the node's CPUs, so that no other task of this or another sweep shares the machine.
        gpu = cell.accelerator if cell.accelerator != "cpu" else None
        task = remote(worker.measure, node, node.cpus, 1 if gpu else 0, gpu, returns=2)
        answer, result = task.remote(job)
        self.running[answer] = _Task(cell, node, None, (result,))
        self.waiting.remove(cell)

    def _start_export(self, cell: Cell, name: str, node: Node) -> None:
        model_files = self.materials.model_files([self.materials.export_names(cell)[name].model])
        argument = self.materials.export_argument(name, cell)
        job = worker.Job(self.runner.module, "export", argument, self.plan.timeout_s, model_files)
        answer, identity, content = remote(worker.export, node, node.cpus, returns=3).remote(job)
        self.running[answer] = _Task(cell, node, name, (identity, content))

    def _receive(self, reference: Any) -> None:
        import ray
        from ray.exceptions import RayError

        task = self.running.pop(reference)
        first: Any = None
        try:
            answer = ray.get(reference)
            # An artifact stays where it is; a result and an artifact's name come here.
            if answer.kind == "done":
                first = ray.get(task.rest[0])
        except RayError as error:
            # A full disk, say, is the cause of what Ray wraps as its own; a dead worker has none.
            said = getattr(error, "cause", None) or type(error).__name__
            answer = worker.Answer("lost", f"{said} on node {task.node.host}")
        if task.export is not None:
            if answer.kind == "done":
                name, digest = first
                self.materials.exports[task.export] = Sent(name, digest, task.rest[1])
            else:
                self._export_failed(task.export, answer)
        elif answer.kind == "done":
            self.store.keep(task.cell, first, answer.wall_s)
            self.progress.done += 1
        else:
            self._retry_or_fail(task.cell, answer)
        self.materials.keep_only(self.waiting + [other.cell for other in self.running.values()])

    def _retry_or_fail(self, cell: Cell, answer: worker.Answer) -> None:
        """Another try, unless the input itself was refused or the tries are used up."""
        # A file that was lost with its node is sent or exported anew.
        if answer.kind == "lost":
            self._forget_files(cell)
        self.waiting.append(cell)
        if self._used_up(cell.key, answer):
            self._fail(cell)

    def _export_failed(self, name: str, answer: worker.Answer) -> None:
        waiting = [cell for cell in self.waiting if name in self.materials.export_names(cell)]
        if self._used_up(name, answer):
            for cell in waiting:
                self._fail(cell, "its export failed: " + "; then ".join(self.reasons[name]))

    def _used_up(self, key: str, answer: worker.Answer) -> bool:
        """Note why something failed; whether it is not to be tried again."""
        self.reasons.setdefault(key, []).append(answer.reason)
        final = answer.kind == "refused" or len(self.reasons[key]) > self.plan.retries
        self.progress.retried += not final
        return final

    def _forget_files(self, cell: Cell) -> None:
        for name in self.materials.export_names(cell):
            self.materials.exports.pop(name, None)

    def _fail(self, cell: Cell, reason: str | None = None) -> None:
        reasons = self.reasons.setdefault(cell.key, [])
        if reason is not None:
            reasons.append(reason)
        self.waiting.remove(cell)
        self.store.keep_failure(cell, reasons)
        self.progress.failed += 1
