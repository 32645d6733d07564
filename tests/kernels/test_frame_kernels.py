"""Letterbox and suppression as kernels: under Triton's interpreter what their NumPy references give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_kernels_around_the_network_compute_what_their_references_do() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    script = Path(__file__).with_name("frames_interpreted.py")
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert len(found) == 14
    assert {name: worst for name, worst in found.items() if name.startswith("letterbox") and worst} == {}
    assert {name: worst for name, worst in found.items() if not worst < 1e-3} == {}
