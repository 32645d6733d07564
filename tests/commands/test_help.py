"""The help: grouped, and whole on a terminal of 80 columns."""

from __future__ import annotations

import re

import pytest
import typer
from typer.testing import CliRunner

from yoloproof.cli import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def shown(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("TERMINAL_WIDTH", raising=False)
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", done.output)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_name_and_no_type_is_cut_at_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, name)
    assert max(map(len, text.splitlines())) <= 80
    for parameter in COMMANDS[name].params:
        words = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []
        words += [parameter.metavar] if parameter.metavar else []
        for word in words:
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text), f"{name}: {word} is cut"
        if parameter.param_type_name == "option" and not parameter.is_flag:
            assert parameter.metavar, f"{name}: {parameter.opts[0]} shows a Python type"


@pytest.mark.parametrize("name", ["profile", "export", "predict", "val"])
def test_many_options_stand_in_groups(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = re.findall(r"^╭─ (.+?) ─+╮$", shown(monkeypatch, name), re.MULTILINE)
    assert {"Arguments", "Options", "The model", "What runs it"} <= set(titles)


def test_the_commands_stand_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch)
    titles = re.findall(r"^╭─ (.+?) ─+╮$", text, re.MULTILINE)
    assert titles == ["Options", "Build, prove, time", "Use a model", "This machine and others", "Results"]
    assert all(re.search(rf"^│ {name} ", text, re.MULTILINE) for name in COMMANDS)
