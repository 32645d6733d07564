"""The plan in the documentation, and the committed ones, are plans."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from yoloproof.sweep.plan import read_plan

ROOT = Path(__file__).parents[2]


def test_the_documented_plan_is_a_plan(tmp_path):
    (words,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "report.md").read_text(), re.DOTALL)
    path = tmp_path / "plan.toml"
    path.write_text(words)
    cells = read_plan(path).cells
    assert [len(cell.cases) for cell in cells] == [3] * 7


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*.toml")), ids=lambda path: path.name)
def test_a_committed_plan_is_a_plan(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert read_plan(path).cells
