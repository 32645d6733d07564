"""`yoloproof sweep`: a plan of measurements on a Ray cluster, merged into one result file."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloproof.commands.shared import check_new
from yoloproof.errors import YoloproofError

if TYPE_CHECKING:
    from yoloproof.sweep.cluster import Node
    from yoloproof.sweep.dispatch import Progress
    from yoloproof.sweep.materials import Runner
    from yoloproof.sweep.plan import Cell, Plan
    from yoloproof.sweep.store import Store


def sweep(
    plan_file: Annotated[
        Path, typer.Argument(metavar="PLAN.toml", help="what to measure (docs/report.md has an example)")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder of the sweep; PLAN.sweep by default")
    ] = None,
    address: Annotated[str | None, typer.Option(help="a Ray cluster's address; without one, Ray starts here")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and an estimate, measure nothing")] = False,
    available_only: Annotated[
        bool, typer.Option("--available-only", help="go on without accelerators that the cluster lacks")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="the merged result; OUTPUT/result-1.json, -2 … by default")
    ] = None,
    runner_module: Annotated[str, typer.Option("--runner", hidden=True)] = "yoloproof.sweep.measure",
) -> None:
    """Measure many models × runtimes × machines on Ray; run it again to measure only what is missing.

    Example: yoloproof sweep plan.toml --address head-node:6379
    """
    from yoloproof.sweep import cluster
    from yoloproof.sweep.materials import Runner
    from yoloproof.sweep.plan import read_plan
    from yoloproof.sweep.store import Store

    plan = read_plan(plan_file)
    store = Store(output or plan_file.with_suffix(".sweep"))
    check_new(json_file)
    importlib.import_module(runner_module).check(plan)
    missing = [cell for cell in plan.cells if not store.finished(cell)]
    if dry_run:
        _print_plan(plan, store, missing, address)
        return
    if not missing:
        typer.echo("nothing is missing", err=True)
        _finish(plan, store, json_file)
        return
    with store.locked(), cluster.connected(address):
        nodes = cluster.alive_nodes()
        lacking = cluster.unsatisfiable(missing, nodes)
        if lacking and not available_only:
            raise YoloproofError(
                f"no node has {', '.join(lacking)}; the cluster is {cluster.described(nodes)}. "
                "Add such a node, take it out of the plan, or go on without it: --available-only"
            )
        cluster.check_nodes(nodes)
        _run(plan, store, Runner(runner_module))
    _finish(plan, store, json_file)


def _run(plan: Plan, store: Store, runner: Runner) -> None:
    from yoloproof.sweep.dispatch import Dispatch

    try:
        with _stopped_by_term(), _progress_line() as show:
            dispatch = Dispatch(plan, store, runner, show)
            try:
                dispatch.run()
            except KeyboardInterrupt:
                dispatch.cancel()
                raise
    except KeyboardInterrupt:
        kept = sum(store.finished(cell) for cell in plan.cells)
        typer.echo(
            f"interrupted: {kept} of {_cells(len(plan.cells))} are kept in {store.folder}; "
            "the same command goes on from there",
            err=True,
        )
        raise typer.Exit(1) from None


@contextmanager
def _stopped_by_term() -> Iterator[None]:
    """Let SIGTERM, by which batch systems end a job, do what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _finish(plan: Plan, store: Store, json_file: Path | None) -> None:
    """Merge what is there, say what is not, and leave with the status."""
    from yoloproof.results.file import write_result
    from yoloproof.sweep.store import merged_result, proved_throughout

    merged = merged_result(store, plan.cells, ["yoloproof", *sys.argv[1:]])
    target = json_file or store.next_result_path()
    write_result(merged, target)
    for cell in plan.cells:
        if not store.finished(cell):
            typer.echo(f"not measured: {cell.label}: {store.failure(cell)}", err=True)
    measured = sum(entry.get("failure") is None for entry in merged["entries"])
    typer.echo(f"{measured} of {len(merged['entries'])} measurements in {target}", err=True)
    typer.echo(f"look at them: yoloproof report {target}", err=True)
    if not proved_throughout(merged):
        raise typer.Exit(1)


def _print_plan(plan: Plan, store: Store, missing: list[Cell], address: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from yoloproof.sweep import cluster
    from yoloproof.sweep.estimate import cell_seconds, wall_seconds

    nodes: list[Node] | None = None
    if address or os.environ.get("RAY_ADDRESS"):
        with cluster.connected(address):
            nodes = cluster.alive_nodes()
    keys = {cell.key for cell in missing}
    table = Table("cell", "measurements", "state", title=str(plan.path), title_justify="left")
    for cell in plan.cells:
        failure = store.failure(cell)
        state = "kept" if cell.key not in keys else f"failed: {failure}" if failure else "to measure"
        table.add_row(cell.label, str(len(cell.measurements)), state)
    # A pipe gets whole lines, whatever the terminal would have cut.
    Console(width=None if sys.stdout.isatty() else 400, markup=False).print(table)
    counts = Counter(cell.accelerator for cell in missing)
    for accelerator, count in counts.items():
        typer.echo(f"{accelerator}: {_cells(count)} to measure{_where(accelerator, nodes)}")
    seconds = {cell.key: cell_seconds(cell, plan, store) for cell in missing}
    wall_s = wall_seconds(missing, seconds, nodes)
    typer.echo(
        f"{len(missing)} of {_cells(len(plan.cells))} to measure, about {_duration(wall_s)} (exports not counted)"
    )


def _where(accelerator: str, nodes: list[Node] | None) -> str:
    """How many nodes could take it; None where no cluster was asked."""
    if nodes is None:
        return "" if accelerator == "cpu" else "; whether a cluster has it is asked with --address"
    able = sum(node.takes(accelerator) for node in nodes)
    return f" on {able} node{'s' * (able != 1)}" if able else ": no such node in the cluster, it would be refused"


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{minutes // 60} h {minutes % 60:02d} min"
        if minutes >= 60
        else f"{minutes} min"
    )


@contextmanager
def _progress_line() -> Iterator[Callable[[Progress], None]]:
    """A live view of the cells by state on a terminal; nothing in a pipe."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: None
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def show(progress: Progress) -> None:
            over = progress.kept + progress.done + progress.failed
            running = sum(not name.startswith("export ") for name in progress.running)
            total = over + progress.waiting + running
            counts = f"{progress.done} done, {progress.kept} kept from before, {progress.failed} failed, "
            counts += f"{progress.retried} tried again, {running} running, {progress.waiting} waiting"
            grid = Table.grid()
            grid.add_row(ProgressBar(total=max(total, 1), completed=over, width=60))
            grid.add_row(Text(counts))
            for label, host in list(progress.running.items())[:20]:
                grid.add_row(Text(f"  {host}: {label}"))
            live.update(grid)

        yield show
