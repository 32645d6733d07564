"""`yoloproof compare` on result files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made_results import made_entry, made_process, made_result, made_run
from yoloproof.cli import main
from yoloproof.errors import YoloproofError
from yoloproof.records import Entry, Protocol, Result, RunWarning, Verdict
from yoloproof.results.compare import compare_results, compare_rows, comparison_table
from yoloproof.results.file import write_result

MOODS = (1.0, 1.02, 0.99, 1.03, 1.01, 0.98)


def row(attention: str, seconds: float, moods: Sequence[float] = MOODS, **changes: Any) -> Entry:
    """Processes that share their machine's ups and downs."""
    columns = tuple(made_process(i, [seconds * mood] * 20) for i, mood in enumerate(moods))
    return replace(made_entry(attention=attention, processes=0), processes=columns, **changes)


def result(*factors: float, level: float = 1.0, **changes: Any) -> Result:
    """One row per factor."""
    attentions = "fused", "explicit", "published"
    pairs = zip(attentions, factors, strict=False)
    return made_result([row(attention, level * factor) for attention, factor in pairs], **changes)


def test_a_against_itself_cannot_be_told() -> None:
    (compared,) = compare_results(result(0.1), result(0.1))
    assert compared.verdict == "cannot tell"
    assert compared.ratio == pytest.approx(1)
    assert compared.interval is not None
    assert compared.interval[0] < 1 < compared.interval[1]


@pytest.mark.parametrize(("level", "verdict"), [(0.8, "faster"), (1.25, "slower")])
def test_b_is_told_from_a(level: float, verdict: str) -> None:
    (compared,) = compare_results(result(0.1), result(0.1, level=level))
    assert compared.verdict == verdict
    assert compared.ratio == pytest.approx(level)
    assert not compared.paired


def test_rows_of_one_file_are_compared_process_by_process() -> None:
    rows = compare_rows(result(0.1, 0.099, 0.1))
    assert [row.verdict for row in rows] == ["faster", "cannot tell"]
    assert all(row.paired for row in rows)
    with pytest.raises(YoloproofError, match="one row"):
        compare_rows(result(0.1))


def test_another_machine_protocol_or_an_unproved_row_is_refused_and_said_when_allowed() -> None:
    a = result(0.1)
    others = (
        (made_result(a.entries, made_run(cpu="another CPU")), "machine"),
        (result(0.1, protocol=Protocol(name="latency", processes=5, runs=3)), "protocol"),
        (made_result([row("fused", 0.1, proof=Verdict())]), "unproved"),
    )
    for other, kind in others:
        with pytest.raises(YoloproofError, match=f"--allow {kind}"):
            compare_results(a, other)
        (compared,) = compare_results(a, other, [kind])
        assert any(note.startswith("allowed: ") for note in compared.notes)


def test_a_noisy_run_is_never_told_from_another() -> None:
    noisy = made_result([row("fused", 0.05, warnings=(RunWarning("noisy_neighbour", "", ""),))])
    (compared,) = compare_results(result(0.1), noisy)
    assert compared.verdict == "cannot tell"
    assert any("noisy_neighbour" in note for note in compared.notes)


def test_few_processes_are_cannot_tell() -> None:
    a, b = (made_result([row("fused", seconds, MOODS[:3])]) for seconds in (0.1, 0.05))
    (compared,) = compare_results(a, b)
    assert (compared.verdict, compared.interval) == ("cannot tell", None)
    assert "too few" in compared.notes[-1]


def test_files_without_a_common_row_are_refused() -> None:
    a, b = result(0.1, 0.2), made_result(entries=[made_entry("yolov12s"), made_entry("yolov12m")])
    with pytest.raises(YoloproofError, match="no row in common"):
        compare_results(a, b)
    assert comparison_table(compare_results(result(0.1), result(0.1))).row_count == 1


def test_the_command_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def status_of(*words: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["yoloproof", "compare", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return end.value.code

    a, b, out = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.json"
    write_result(result(0.1), a)
    write_result(result(0.1, level=1.3), b)
    assert status_of(a, b, "--json", out, "--fail-if-slower") == 1
    assert "slower" in capsys.readouterr().out
    assert json.loads(out.read_text())["rows"][0]["verdict"] == "slower"
    assert status_of(a, b, "--json", out) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "overwritten" in error
    assert status_of(a, tmp_path / "none.json") == 2
    assert status_of(a, b, "--allow", "everything") == 2
    assert status_of(a, a) == 0
    capsys.readouterr()
    assert status_of(a, a, b, "--", b, b, b) == 0
    assert "3 runs against 3" in capsys.readouterr().out
    assert status_of(a, a, "--", b, b) == 2
    assert "at least 3" in capsys.readouterr().err
    assert status_of(a, a, b) == 2
    assert "`--`" in capsys.readouterr().err
