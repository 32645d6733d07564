"""How OpenMP waits in a process that is not timed, and that this stays there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from yoloproof.runtime.threads import WAIT_POLICY, sleeping_threads


def test_pytorch_that_is_loaded_meanwhile_lets_its_threads_sleep() -> None:
    pytest.importorskip("torch")
    code = "from yoloproof.runtime.threads import sleeping_threads\nwith sleeping_threads():\n    import torch"
    environment = {key: value for key, value in os.environ.items() if key != WAIT_POLICY}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "OMP_DISPLAY_ENV": "TRUE"},
        capture_output=True,
        text=True,
        check=True,
    )
    if WAIT_POLICY not in done.stderr:
        pytest.skip("this PyTorch's OpenMP does not show its settings")
    assert "PASSIVE" in next(line for line in done.stderr.splitlines() if WAIT_POLICY in line)


def test_processes_that_are_started_afterwards_have_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WAIT_POLICY, raising=False)
    with sleeping_threads():
        assert os.environ[WAIT_POLICY] == "PASSIVE"
    assert WAIT_POLICY not in os.environ


def test_the_users_policy_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT_POLICY, "ACTIVE")
    with sleeping_threads():
        assert os.environ[WAIT_POLICY] == "ACTIVE"
    assert os.environ[WAIT_POLICY] == "ACTIVE"
