"""`yoloproof compare`: B against A, with an interval."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer

from yoloproof.commands.help import Command
from yoloproof.commands.shared import check_new, console_beside, write_json
from yoloproof.errors import YoloproofError

AFTER = "yoloproof.after"


class TwoGroups(Command):
    """Keeps apart what stands before and after `--`, which click drops."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if "--" in args:
            at = args.index("--")
            after = list(takewhile(lambda word: not word.startswith("-"), args[at + 1 :]))
            ctx.meta[AFTER] = after
            args = args[:at] + args[at + 1 + len(after) :]
        return super().parse_args(ctx, args)


def compare(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="results of `profile`, or `last`: one (each run's rows against its first), A and B, or A… -- B…",
        ),
    ],
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="repeatable: machine, protocol, unproved, quick or partial; compares all the same and says so",
        ),
    ] = None,
    fail_if_slower: Annotated[
        bool, typer.Option("--fail-if-slower", help="exit status 1 if a row of B is slower, interval included")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="write the comparison to a new file; - for standard output"),
    ] = None,
) -> None:
    """Divide B's median latency by A's, with a 95 % interval; "cannot tell" where the interval covers 1.

    Rows of one run were timed side by side in the same processes, which is the stronger comparison. With at least three
    runs of each, alternated in time (`A1 A2 A3 -- B1 B2 B3`), the interval also covers what changes from run to run.

    Example: `yoloproof compare before.json after.json`
    """
    check_new(json_file)
    from yoloproof.results.compare import ALLOWANCES, compare_groups, compare_results, compare_rows, print_comparisons
    from yoloproof.results.file import read_result
    from yoloproof.results.schema import plain

    allowed = allow or []
    for word in allowed:
        if word not in ALLOWANCES:
            raise YoloproofError(f"--allow {word}: choose from {', '.join(ALLOWANCES)}")
    after = [Path(word) for word in context.meta.get(AFTER, ())]
    if not after and len(files) > 2:
        raise YoloproofError(f"{len(files)} files: separate the runs of A from those of B with `--`")
    if not after:
        files, after = files[:1], files[1:]
    before = [read_result(file) for file in files]
    if not after:
        comparisons = compare_rows(before[0], allowed)
    elif len(files) == len(after) == 1:
        comparisons = compare_results(before[0], read_result(after[0]), allowed)
    else:
        comparisons = compare_groups(before, [read_result(file) for file in after], allowed)
    if json_file is not None:
        document = {
            "schema": 1,
            "a": [*map(str, files)],
            "b": [*map(str, after or files)],
            "rows": [plain(row) for row in comparisons],
        }
        write_json(document, json_file)
    print_comparisons(comparisons, console_beside(json_file))
    if fail_if_slower and any(row.verdict == "slower" for row in comparisons):
        raise typer.Exit(1)
