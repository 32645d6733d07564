"""`yoloproof compare` on result files."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from made_results import made_entry, made_result
from yoloproof.cli import main
from yoloproof.errors import YoloproofError
from yoloproof.measurement.statistics import ratio_of
from yoloproof.results.compare import compare_results, compare_rows, comparison_table, library_differences
from yoloproof.results.file import write_result


def result(*factors: float, level: float = 1.0, **changes: Any) -> dict[str, Any]:
    """One row per factor, each with six processes that share their machine's ups and downs."""
    entries = []
    for number, factor in enumerate(factors):
        entry = made_entry(attention=("fused", "explicit", "stripped")[number])
        moods = (1.0, 1.02, 0.99, 1.03, 1.01, 0.98)
        entry["processes"] = [
            {"process": i, "samples_s": [level * factor * mood] * 20, "complete": True} for i, mood in enumerate(moods)
        ]
        entries.append(entry)
    return made_result(entries=entries, **changes)


def test_a_against_itself_cannot_be_told() -> None:
    (row,) = compare_results(result(0.1), result(0.1), ratio_of)
    assert row.verdict == "cannot tell"
    assert row.ratio == pytest.approx(1)
    assert row.interval is not None
    assert row.interval[0] < 1 < row.interval[1]


@pytest.mark.parametrize(("level", "verdict"), [(0.8, "faster"), (1.25, "slower")])
def test_b_is_told_from_a(level: float, verdict: str) -> None:
    (row,) = compare_results(result(0.1), result(0.1, level=level), ratio_of)
    assert row.verdict == verdict
    assert row.ratio == pytest.approx(level)
    assert not row.paired


def test_rows_of_one_file_are_compared_process_by_process() -> None:
    rows = compare_rows(result(0.1, 0.099, 0.1), ratio_of)
    assert [row.verdict for row in rows] == ["faster", "cannot tell"]
    assert all(row.paired for row in rows)
    with pytest.raises(YoloproofError, match="one row"):
        compare_rows(result(0.1), ratio_of)


def test_another_machine_protocol_or_an_unproved_row_is_refused_and_said_when_allowed() -> None:
    a = result(0.1)
    machine, protocol, unproved = deepcopy(a), deepcopy(a), deepcopy(a)
    machine["machine"]["cpu"]["model"] = "another CPU"
    protocol["protocol"]["runs"] = 3
    unproved["entries"][0]["proof"]["passed"] = None
    for other, kind in ((machine, "machine"), (protocol, "protocol"), (unproved, "unproved")):
        with pytest.raises(YoloproofError, match=f"--allow {kind}"):
            compare_results(a, other, ratio_of)
        (row,) = compare_results(a, other, ratio_of, [kind])
        assert any(note.startswith("allowed: ") for note in row.notes)


def test_another_seed_of_the_order_is_the_same_protocol() -> None:
    a, b = result(0.1), result(0.1)
    a["protocol"]["seed"], b["protocol"]["seed"] = 1, 2
    assert compare_results(a, b, ratio_of)


def test_a_noisy_run_is_never_told_from_another() -> None:
    noisy = result(0.1, level=0.5)
    noisy["entries"][0]["warnings"] = [{"code": "noisy_neighbour", "evidence": "", "advice": ""}]
    (row,) = compare_results(result(0.1), noisy, ratio_of)
    assert row.verdict == "cannot tell"
    assert any("noisy_neighbour" in note for note in row.notes)


def test_other_library_versions_are_said() -> None:
    a, b = {"libraries": {"onnxruntime": "1.31", "numpy": "2"}}, {"libraries": {"onnxruntime": "1.32", "numpy": "2"}}
    assert library_differences(a, b) == ["onnxruntime 1.31 against 1.32"]


def test_few_processes_are_cannot_tell() -> None:
    a, b = result(0.1), result(0.05)
    for part in (a, b):
        part["entries"][0]["processes"] = part["entries"][0]["processes"][:3]
    (row,) = compare_results(a, b, ratio_of)
    assert (row.verdict, row.interval) == ("cannot tell", None)
    assert "too few" in row.notes[-1]


def test_files_without_a_common_row_are_refused() -> None:
    a, b = result(0.1, 0.2), made_result(entries=[made_entry("yolov12s"), made_entry("yolov12m")])
    with pytest.raises(YoloproofError, match="no row in common"):
        compare_results(a, b, ratio_of)
    assert comparison_table(compare_results(result(0.1), result(0.1), ratio_of)).row_count == 1


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
