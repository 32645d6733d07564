"""`yoloproof`: one typer application, one module of `commands/` per command.

Exit status: 0 done and proved; 1 a proof or a comparison failed; 2 wrong use, bad input or a missing part.
"""

from __future__ import annotations

import os
import signal
import sys

import typer

from yoloproof.commands.compare import compare
from yoloproof.commands.doctor import doctor
from yoloproof.commands.estimate import estimate
from yoloproof.commands.export import export
from yoloproof.commands.predict import predict
from yoloproof.commands.profile import profile
from yoloproof.commands.report import report
from yoloproof.commands.sweep import sweep
from yoloproof.commands.val import val
from yoloproof.commands.verify import verify
from yoloproof.errors import YoloproofError

app = typer.Typer(
    name="yoloproof",
    help="Attention YOLOs: the fastest artifact that is provably the same detector, timed so that others get the number.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("profile")(profile)
app.command("export")(export)
app.command("verify")(verify)
app.command("predict")(predict)
app.command("val")(val)
app.command("doctor")(doctor)
app.command("estimate")(estimate)
app.command("compare")(compare)
app.command("report")(report)
app.command("sweep")(sweep)

INTERRUPTED = 130
# typer carries its own copy of click; this is the base of every usage error in either
UsageErrors: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Run the command line; every error a user can cause is one line on stderr and exit status 2.

    An ordinary kill (a CI's time limit, `docker stop`) is taken as a Ctrl-C, so that it too keeps what was measured.
    CUDA counts its devices as NVML and nvidia-smi do, so that `cuda:1` is the same card to all.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        status = app(standalone_mode=False)
    except YoloproofError as error:
        _fail(str(error))
    except UsageErrors as error:
        _fail(f"{error.format_message()} (see yoloproof --help)")  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    if status == INTERRUPTED:  # as which typer, too, returns a Ctrl-C
        print("yoloproof: interrupted", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> None:
    line = " ".join(message.split())  # a file's names may hold line ends, or codes that a terminal would obey
    print(f"yoloproof: {''.join(c if c.isprintable() else '?' for c in line)}", file=sys.stderr)
    sys.exit(2)
