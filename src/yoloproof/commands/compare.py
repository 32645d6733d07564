"""`yoloproof compare`: B against A, with an interval."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

AFTER = "yoloproof.after"


class TwoGroups(TyperCommand):
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
            help="results of `profile --json`: one, whose rows are held against its first; A and B; or A… -- B…"
        ),
    ],
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="compare in spite of it: machine, protocol, unproved, quick, partial; repeatable; said in the output"
        ),
    ] = None,
    fail_if_slower: Annotated[
        bool, typer.Option("--fail-if-slower", help="exit status 1 where a row of B is slower beyond the interval")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the comparison to a new file")] = None,
) -> None:
    """Ratio of median latencies, B over A, with a 95 % interval; "cannot tell" where it covers 1.

    Rows of one file were timed side by side in the same processes, which is the stronger comparison. With at least three
    runs of each (`A1 A2 A3 -- B1 B2 B3`) the interval holds what moves between runs too.

    Example: `yoloproof compare before.json after.json`
    """
    import json

    from rich.console import Console

    from yoloproof.errors import YoloproofError
    from yoloproof.files.new import write_new
    from yoloproof.results.compare import ALLOWANCES, compare_groups, compare_results, compare_rows, print_comparisons
    from yoloproof.results.file import read_result
    from yoloproof.results.schema import plain

    allowed = allow or []
    for word in allowed:
        if word not in ALLOWANCES:
            raise YoloproofError(f"--allow {word}: there are {', '.join(ALLOWANCES)}")
    after = [Path(word) for word in context.meta.get(AFTER, ())]
    if not after and len(files) > 2:
        raise YoloproofError(f"{len(files)} files: put `--` between the runs of A and those of B")
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
        write_new(json.dumps(document, indent=1) + "\n", json_file)
    print_comparisons(comparisons, Console(markup=False))
    if fail_if_slower and any(row.verdict == "slower" for row in comparisons):
        raise typer.Exit(1)
