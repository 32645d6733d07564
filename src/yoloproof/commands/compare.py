"""`yoloproof compare`: B against A, with an interval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    a: Annotated[Path, typer.Argument(help="a result of `profile --json`")],
    b: Annotated[Path | None, typer.Argument(help="another; without it, the rows of A against its first row")] = None,
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

    Rows of one file were timed side by side in the same processes, which is the stronger comparison.

    Example: `yoloproof compare before.json after.json`
    """
    import json

    from rich.console import Console

    from yoloproof.errors import YoloproofError
    from yoloproof.files.new import write_new
    from yoloproof.results.compare import ALLOWANCES, compare_results, compare_rows, print_comparisons
    from yoloproof.results.file import read_result
    from yoloproof.results.schema import plain

    allowed = allow or []
    for word in allowed:
        if word not in ALLOWANCES:
            raise YoloproofError(f"--allow {word}: there are {', '.join(ALLOWANCES)}")
    before = read_result(a)
    if b is None:
        comparisons = compare_rows(before, allowed)
    else:
        comparisons = compare_results(before, read_result(b), allowed)
    if json_file is not None:
        document = {"schema": 1, "a": str(a), "b": str(b or a), "rows": [plain(row) for row in comparisons]}
        write_new(json.dumps(document, indent=1) + "\n", json_file)
    print_comparisons(comparisons, Console(markup=False))
    if fail_if_slower and any(row.verdict == "slower" for row in comparisons):
        raise typer.Exit(1)
