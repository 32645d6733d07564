"""`yoloproof doctor`: what this machine is, what fits it, what is missing, and the line that mends it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yoloproof.commands.shared import JsonFile, check_new, check_paths, console_beside, write_json
from yoloproof.errors import YoloproofError

if TYPE_CHECKING:
    from rich.console import Console

    from yoloproof.doctor import Facts, Finding

_GPU_NAMES = "t4, rtx2080, v100, a10, l4, a100, h100, rtx4090, rtx5090, orin"
_COLOURS = {
    "ready": "bold green",
    "works": "green",
    "risky": "yellow",
    "too old": "red",
    "cannot work": "red",
    "missing": "magenta",
    "not needed": "dim",
    "unknown": "cyan",
}


def doctor(
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"a GPU that is not here: {_GPU_NAMES}; or none")
    ] = None,
    requirements: Annotated[
        bool, typer.Option("--requirements", help="print the pinned requirement file instead")
    ] = False,
    cuda: Annotated[
        int | None, typer.Option(metavar="N", help="with --requirements: 12 or 13 (default: what the driver takes)")
    ] = None,
    tensorrt: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="with --requirements: 10, 11, rtx, native or none (default: 10)"),
    ] = None,
    native: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a .native file: also say whether it runs here")
    ] = None,
    knowledge: Annotated[
        bool, typer.Option("--knowledge", help="print what runs where, with sources, instead")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Say what works here, what cannot and why. Exit status 1 when the main job could not run.

    Examples: yoloproof doctor; yoloproof doctor --gpu t4; yoloproof doctor --gpu t4 --requirements --tensorrt rtx
    """
    from yoloproof.doctor import (
        diagnose,
        environment_for,
        facts_from_machine,
        facts_with_gpu,
        knowledge_markdown,
        main_job_runs,
        native_file,
        requirements_text,
    )

    if json_file is not None and (knowledge or requirements):
        raise YoloproofError("doctor: --json writes the findings; --requirements and --knowledge print something else")
    if knowledge:
        typer.echo(knowledge_markdown(), nl=False)
        return
    if (cuda is not None or tensorrt is not None) and not requirements:
        raise YoloproofError("doctor: --cuda and --tensorrt choose a requirement file; add --requirements")
    check_new(json_file)
    check_paths(native)
    facts = facts_from_machine()
    if native is not None:
        facts = replace(facts, native=native_file(native))
    if gpu is not None:
        facts = facts_with_gpu(facts, gpu.lower())
    if requirements:
        typer.echo(requirements_text(environment_for(facts, cuda, _engine(tensorrt))), nl=False)
        return
    findings = diagnose(facts)
    runs = main_job_runs(facts, findings)
    if json_file is not None:
        rows = [finding.to_json() for finding in findings]
        write_json({"facts": facts.to_json(), "runs": runs, "findings": rows}, json_file)
    _print_findings(facts, findings, runs, console_beside(json_file))
    if not runs:
        raise typer.Exit(1)


def _verdict(facts: Facts, findings: list[Finding], runs: bool) -> str:
    """ "can run" only where nothing has to be installed first."""
    if not runs:
        return "cannot run"
    ways = {finding.code: finding.status for finding in findings if finding.code.startswith("way-")}
    here = [status for code, status in ways.items() if facts.gpu is None or code != "way-cpu"]
    return (
        "can run" if {"ready", "risky"} & set(here) else "could run, once what is listed above as missing is installed,"
    )


def _engine(name: str | None) -> Any:
    if name not in (None, "10", "11", "rtx", "native", "none"):
        raise YoloproofError(f"doctor: --tensorrt {name}: choose from 10, 11, rtx, native, none")
    return name


def _print_findings(facts: Facts, findings: list[Finding], runs: bool, console: Console) -> None:
    """One line a finding, its remedy on the next; colours on a terminal only."""
    from rich.text import Text

    width = max(len(finding.status) for finding in findings)
    for index, finding in enumerate(findings):
        if index and findings[index - 1].code.startswith("way-") and not finding.code.startswith("way-"):
            console.print()
        line = Text(f"{finding.status:<{width}}  ", style=_COLOURS[finding.status])
        line.append(f"{finding.subject}: ", style="bold").append(finding.why, style="default")
        if finding.source:
            line.append(f" [{finding.source}]", style="dim")
        console.print(line, soft_wrap=True)
        if finding.fix and finding.status not in ("ready", "works"):
            console.print(Text(f"{'':<{width}}  → {finding.fix}"), soft_wrap=True)
    console.print()
    where = facts.gpu.name if facts.gpu is not None else "this CPU"
    console.print(
        f"The main job (yoloproof profile) {_verdict(facts, findings, runs)} on {where}.",
        soft_wrap=True,
        highlight=False,
    )
    if facts.gpu is None and runs:
        with suppress(ImportError):  # the doctor itself works where nothing else is installed
            from yoloproof.estimate import estimate_line

            console.print(estimate_line("yolov13n", "t4"), soft_wrap=True, highlight=False)
