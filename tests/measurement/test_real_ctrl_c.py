"""A real script without a guard, a real worker process, a real Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

SCRIPT = """
import sys
from functools import partial
import numpy as np
from fake_subjects import Tiny
from yoloproof.measurement import PROTOCOLS, Subject, benchmark
from yoloproof.names import Runtime
from yoloproof.runtime.base import SessionSpec

spec = SessionSpec(Runtime.PYTORCH, threads=1, network=partial(Tiny, sys.argv[1]))
taken = benchmark([Subject("a", spec, (32, 32))], PROTOCOLS["sustained"], np.zeros((1, 3, 32, 32), np.float32))
"""


def test_ctrl_c_ends_the_worker_too_and_a_script_needs_no_guard(tmp_path: Path) -> None:
    """A real script without `if __name__ == "__main__"`, interrupted in its first warm-up."""
    script, mark = tmp_path / "script.py", tmp_path / "runs"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    running = subprocess.Popen(
        [sys.executable, str(script), str(mark)], env=environment, stderr=subprocess.PIPE, text=True,
        # a shell starts what runs in the background, these tests perhaps, deaf to Ctrl-C, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not mark.exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert mark.exists(), running.stderr.read() if running.poll() is not None and running.stderr else "no worker"
        workers = [child.pid for child in psutil.Process(running.pid).children()]
        assert len(workers) == 1
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=180)
    finally:
        running.kill()
    assert running.returncode != 0
    assert "KeyboardInterrupt" in said
    assert not Path(f"/proc/{workers[0]}").exists()
