"""`yoloproof`: one typer application, one module of `commands/` per command.

Exit status: 0 done and proved; 1 a proof or a comparison failed; 2 wrong use, bad input or a missing part.
"""

from __future__ import annotations

import sys

import typer

from yoloproof.commands import report, sweep
from yoloproof.errors import YoloproofError

app = typer.Typer(
    name="yoloproof",
    help="Attention YOLOs: the fastest artifact that is provably the same detector, timed so that others get the number.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("report")(report.report)
app.command("sweep")(sweep.sweep)


def main() -> None:
    """Run the command line; every error a user can cause is one line on stderr and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except YoloproofError as error:
        print(f"yoloproof: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)
