"""A command on a terminal of its own, and what stays on its screen."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def on_a_terminal(command: Sequence[str], folder: Path, columns: int = 80) -> tuple[int, list[str]]:
    """Exit status, and the lines that stay on a terminal so wide once the bar is gone."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    parent, child = pty.openpty()
    running = subprocess.Popen(
        list(command), stdout=child, stderr=child, cwd=folder,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    return running.wait(), [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
