"""`python -m yoloproof` and the command `yoloproof`: a Ctrl-C while the first modules load is one line, too."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130


def run() -> None:
    """Load the command line and run it."""
    try:
        from yoloproof.cli import main
    except KeyboardInterrupt:
        print("yoloproof: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    main()


if __name__ == "__main__":
    # `python -m` has put the current folder first on the module path, and with it whatever lies beside a user's files. It
    # stays only where the package itself comes from there.
    if sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        del sys.path[0]
    run()
