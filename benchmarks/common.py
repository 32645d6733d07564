"""What the benchmarks share: sets of Cases through the product's own `profile`, one result file, ratios by `compare`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from yoloproof.commands.shared import check_new, progress_bar
from yoloproof.demo import demo_checkpoint
from yoloproof.files.new import GrowingFile
from yoloproof.measurement.protocol import protocol_from_name
from yoloproof.pipeline import Options, profile
from yoloproof.records import Case, Result
from yoloproof.results.compare import ALLOWANCES, compare_rows, comparison_table
from yoloproof.results.file import write_result
from yoloproof.results.merge import merged
from yoloproof.results.table import print_result


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that all of them have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, required=True, help="the result file, a new one")
    made.add_argument("--protocol", default="latency")
    made.add_argument("--quick", action="store_true", help="seconds, for a first look; marked as such")
    return made


def model_case(name: str, **fields: object) -> Case:
    """A case of `demo` (the trained checkpoint that ships with the package) or of a variant with seeded random weights;
    NAME@8 is a batch of 8."""
    model, _, batch = name.partition("@")
    base = Case(str(demo_checkpoint())) if model == "demo" else Case(model, random_weights=True)
    return replace(base, batch=int(batch or 1), **fields)  # type: ignore[arg-type]


def benchmark(groups: Iterable[Sequence[Case]], given: argparse.Namespace, seconds: float | None = None) -> Result:
    """Profile group by group, the cases of each side by side; print each group's table and the ratios to its first row.

    The file is written anew beside its place after every row and every process, so that a run cut short leaves what it has.
    seconds -- no further group is begun after so many; what was left out is said
    """
    import time

    check_new(given.json)
    protocol = protocol_from_name(given.protocol, quick=given.quick)
    started, console, results = time.monotonic(), Console(width=140), []
    part = GrowingFile(given.json.with_suffix(".part.json"))

    def keep(so_far: Result) -> None:
        write_result(merged([*results, so_far], sys.argv), part)

    for cases in groups:
        if seconds is not None and time.monotonic() - started > seconds:
            console.print(f"not begun for want of time: {cases[0].label}", markup=False)
            continue
        try:
            with progress_bar() as progress:
                result = profile(cases, protocol, Options(), progress, keep)
        except KeyboardInterrupt:
            raise SystemExit(f"interrupted; what was measured is in {part.path}") from None
        keep(result)
        results.append(result)
        print_result(result, console)
        if len(result.entries) > 1:
            console.print(comparison_table(compare_rows(result, ALLOWANCES)))
    part.path.replace(given.json)
    return merged(results, sys.argv)
