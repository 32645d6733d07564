"""Damaged files: a result or our own error, never anything else (tests/detection/fuzz.py runs it for as long as asked)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location("fuzz", Path(__file__).with_name("fuzz.py"))
assert SPEC is not None
assert SPEC.loader is not None
fuzz = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fuzz)


def test_damaged_files_are_read_or_refused() -> None:
    outcomes = fuzz.fuzz(10)
    assert not [outcome for outcome in outcomes if outcome.startswith("crash")], outcomes
    assert outcomes["image read"] > 0
    assert outcomes["image refused"] > 0
    assert outcomes["checkpoint refused"] > 0
    assert outcomes["onnx refused"] > 0
    assert outcomes["result refused"] > 0
