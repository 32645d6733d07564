"""`yoloproof sweep`: a plan of measurements on a Ray cluster, merged into one result file."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloproof.commands.shared import STDOUT, check_new, check_paths, say
from yoloproof.errors import YoloproofError

if TYPE_CHECKING:
    from yoloproof.sweep.cluster import Node
    from yoloproof.sweep.dispatch import SweepProgress
    from yoloproof.sweep.plan import Cell, Plan
    from yoloproof.sweep.store import Store


def sweep(
    plan_file: Annotated[
        Path, typer.Argument(metavar="PLAN.toml", help="what to measure (docs/report.md has an example)")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="the sweep's folder (default: PLAN.sweep)")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="a Ray cluster that you trust like this account (default: Ray starts here)"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and how long it may take")] = False,
    available_only: Annotated[
        bool, typer.Option("--available-only", help="skip accelerators that the cluster lacks")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="the merged result (default: result-1.json … in the folder); - for standard output",
        ),
    ] = None,
) -> None:
    """Measure many models × runtimes × machines on Ray; run it again to measure only what is missing.

    Example: yoloproof sweep plan.toml --address head-node:6379
    """
    check_new(json_file)
    check_paths(plan_file)
    from yoloproof.sweep import cluster
    from yoloproof.sweep.plan import read_plan
    from yoloproof.sweep.store import Store

    plan = read_plan(plan_file)
    store = Store(output or plan_file.with_suffix(".sweep"))
    missing = store.missing(plan.cells)
    for damage in filter(None, missing.values()):
        say(f"will be measured again: {damage}", err=True)
    if dry_run:
        _print_plan(plan, store, missing, address)
        return
    if missing:
        with store.locked(), cluster.connected(address):
            nodes = cluster.alive_nodes()
            lacking = cluster.unsatisfiable(missing, nodes)
            if lacking and not available_only:
                raise YoloproofError(
                    f"no node has {', '.join(lacking)}; the cluster is {cluster.described(nodes)}. "
                    "add such a node, take it out of the plan, or skip it with --available-only"
                )
            cluster.check_nodes(nodes)
            _run(plan, missing, store)
    else:
        say("nothing is missing", err=True)
    _finish(plan, store, json_file)


def _run(plan: Plan, missing: Collection[Cell], store: Store) -> None:
    from yoloproof.sweep.dispatch import Dispatch

    with _progress_line() as show, _stopped_by_term():
        dispatch = Dispatch(plan, missing, store, show)
        try:
            dispatch.run()
            return
        except KeyboardInterrupt:
            dispatch.cancel()
    kept = dispatch.progress.kept + dispatch.progress.done
    say(
        f"{kept} of {_cells(len(plan.cells))} are kept in {store.folder}; the same command continues from there",
        err=True,
    )
    raise typer.Abort


@contextmanager
def _stopped_by_term() -> Iterator[None]:
    """Let SIGTERM, by which batch systems end a job, do what Ctrl-C does, whatever Ray has made of it."""
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
    from yoloproof.results.file import text_from_result, write_result
    from yoloproof.sweep.store import merged_result, verified_throughout

    whole = merged_result(store, plan.cells, ["yoloproof", *sys.argv[1:]])
    target = json_file or store.next_result_path()
    if target == STDOUT:
        typer.echo(text_from_result(whole), nl=False)
    else:
        write_result(whole, target)
    unmeasured = {entry.run: entry.error for entry in whole.entries if whole.run_of(entry).machine is None}
    for run, reason in unmeasured.items():
        say(f"not measured: {plan.cells[run].label}: {reason}", err=True)
    measured = sum(entry.failure is None for entry in whole.entries)
    if target != STDOUT:
        say(f"{measured} of {len(whole.entries)} measurements in {target}", err=True)
        say(f"next: yoloproof report {shlex.quote(str(target))}", err=True)
    if not verified_throughout(whole):
        raise typer.Exit(1)


def _print_plan(plan: Plan, store: Store, missing: Collection[Cell], address: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from yoloproof.results.labels import printable
    from yoloproof.sweep import cluster
    from yoloproof.sweep.estimate import sweep_seconds

    nodes: list[Node] | None = None
    if address or os.environ.get("RAY_ADDRESS"):
        with cluster.connected(address):
            nodes = cluster.alive_nodes()
    table = Table("cell", "measurements", "state", title=printable(str(plan.path)), title_justify="left")
    for cell in plan.cells:
        failure = store.failure(cell)
        state = "kept" if cell not in missing else f"failed: {failure}" if failure else "to measure"
        table.add_row(cell.label, str(len(cell.cases)), printable(state))
    # A pipe gets whole lines, whatever the terminal would have cut.
    Console(width=None if sys.stdout.isatty() else 400, markup=False).print(table)
    for accelerator, count in Counter(cell.accelerator for cell in missing).items():
        say(f"{accelerator}: {_cells(count)} to measure{_where(accelerator, nodes)}")
    wall_s = sweep_seconds(missing, plan, store, nodes)
    say(f"{len(missing)} of {_cells(len(plan.cells))} to measure, about {_duration(wall_s)} (exports not counted)")


def _where(accelerator: str, nodes: list[Node] | None) -> str:
    """How many nodes could take it; None where no cluster was asked."""
    if nodes is None:
        return "" if accelerator == "cpu" else "; name a cluster with --address to see whether it has one"
    able = sum(node.takes(accelerator) for node in nodes)
    return f" on {able} node{'s' * (able != 1)}" if able else ": the cluster has no such node and would refuse it"


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
def _progress_line() -> Iterator[Callable[[SweepProgress], None]]:
    """A live view of the cells by state on a terminal; nothing in a pipe."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from yoloproof.results.labels import printable

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: None
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def show(progress: SweepProgress) -> None:
            over = progress.kept + progress.done + progress.failed
            running = sum(task.export is None for task in progress.running)
            counts = f"{progress.done} done, {progress.kept} kept from before, {progress.failed} failed, "
            counts += f"{progress.retried} tried again, {running} running, {progress.waiting} waiting"
            grid = Table.grid()
            grid.add_row(ProgressBar(total=over + progress.waiting + running, completed=over, width=60))
            grid.add_row(Text(counts))
            for task in progress.running[:20]:
                grid.add_row(Text(printable(f"  {task.node.host}: {task.label}")))
            live.update(grid)

        yield show
