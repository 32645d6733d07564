"""`yoloproof`: one typer application, one module of `commands/` per command.

Exit status: 0 done and proved; 1 a proof or a comparison failed; 2 wrong use, bad input or a missing part.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Annotated

import typer

import yoloproof
from yoloproof.commands.compare import TwoGroups, compare
from yoloproof.commands.doctor import doctor
from yoloproof.commands.estimate import estimate
from yoloproof.commands.export import export
from yoloproof.commands.help import Command, Group
from yoloproof.commands.inspect import inspect
from yoloproof.commands.predict import predict
from yoloproof.commands.profile import profile
from yoloproof.commands.report import report
from yoloproof.commands.sweep import sweep
from yoloproof.commands.val import val
from yoloproof.commands.verify import verify
from yoloproof.errors import YoloproofError

app = typer.Typer(
    name="yoloproof",
    cls=Group,
    help="Attention YOLOs: the fastest artifact that is provably the same detector, timed so that others can repeat the number.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
WORK, USE, MACHINES, RESULTS = "Build, prove, time", "Use a model", "This machine and others", "Results"
app.command("profile", cls=Command, rich_help_panel=WORK)(profile)
app.command("export", cls=Command, rich_help_panel=WORK)(export)
app.command("verify", cls=Command, rich_help_panel=WORK)(verify)
app.command("predict", cls=Command, rich_help_panel=USE)(predict)
app.command("val", cls=Command, rich_help_panel=USE)(val)
app.command("inspect", cls=Command, rich_help_panel=USE)(inspect)
app.command("doctor", cls=Command, rich_help_panel=MACHINES)(doctor)
app.command("estimate", cls=Command, rich_help_panel=MACHINES)(estimate)
app.command("sweep", cls=Command, rich_help_panel=MACHINES)(sweep)
app.command("compare", cls=TwoGroups, rich_help_panel=RESULTS)(compare)
app.command("report", cls=Command, rich_help_panel=RESULTS)(report)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda wanted: _print_version(wanted),
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    pass


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"yoloproof {yoloproof.__version__}")
        raise typer.Exit


INTERRUPTED = 130
LONGEST_LINE = 2000
# typer carries its own copy of click; this is the base of every usage error in either
UsageErrors: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Run the command line; every error a user can cause is one line on stderr and exit status 2.

    An ordinary kill (a CI's time limit, `docker stop`) or a closed terminal is taken as a Ctrl-C, so that it too keeps what
    was measured. CUDA counts its devices as NVML and nvidia-smi do, so that `cuda:1` is the same card to all.
    """
    interrupts = _Interrupts()
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        status = app(standalone_mode=False)
    except YoloproofError as error:
        _fail(str(error))
    except UsageErrors as error:
        _fail(f"{error.format_message()} (see yoloproof --help)")  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception:
        if not interrupts.count:  # a library may wrap a Ctrl-C in an error of its own
            raise
        status = INTERRUPTED
    if status == INTERRUPTED:  # as which typer, too, returns a Ctrl-C
        print("yoloproof: interrupted", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


class _Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP: the first raises KeyboardInterrupt, a second ends the process at once, and so does the
    first where the process has not ended by itself LONGEST_S later.

    Python's own handlers wait for native code to return, which an endless loop in somebody's file never does. The interpreter
    writes each signal's number to a pipe as it comes, and a thread that reads the pipe counts them.
    """

    LONGEST_S = 15.0
    GRACE_S = 0.05  # two signals within so long are one: a terminal may send SIGINT and SIGHUP together

    def __init__(self) -> None:
        self.count = 0
        if threading.current_thread() is not threading.main_thread():
            return
        signals = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
        for number in signals:
            signal.signal(number, signal.default_int_handler)
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._numbers = frozenset(signals)
        threading.Thread(target=self._watch, name="interrupts", daemon=True).start()

    def _watch(self) -> None:
        last = float("-inf")
        while received := os.read(self._reader, 1):
            now = time.monotonic()
            if received[0] not in self._numbers or now - last < self.GRACE_S:
                continue
            last = now
            self.count += 1
            if self.count > 1:
                self._end()
            last_call = threading.Timer(self.LONGEST_S, self._end)
            last_call.daemon = True
            last_call.start()

    @staticmethod
    def _end() -> None:
        os.write(2, b"yoloproof: interrupted\n")
        os._exit(INTERRUPTED)


def _fail(message: str) -> None:
    line = " ".join(message.split())  # a file's names may hold line ends, or codes that a terminal would obey
    line = line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…"
    print(f"yoloproof: {''.join(c if c.isprintable() else '?' for c in line)}", file=sys.stderr)
    sys.exit(2)
