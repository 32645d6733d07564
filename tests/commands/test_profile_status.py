"""With what status `profile` ends, and what it keeps, on made-up results."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made_results import made_entry, made_result
from yoloproof import pipeline
from yoloproof.cli import main
from yoloproof.commands.profile import cases_of
from yoloproof.errors import YoloproofError
from yoloproof.estimate import estimate_line
from yoloproof.names import Attention, Runtime
from yoloproof.records import Case, Entry, Result, RunWarning
from yoloproof.results.file import read_result


def status_of(monkeypatch: pytest.MonkeyPatch, result: Result, *words: str) -> int:
    monkeypatch.setattr(pipeline, "profile", lambda *_, **__: result)
    monkeypatch.setattr(sys, "argv", ["yoloproof", "profile", "yolov13n", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


def result(*entries: Entry, **changes: Any) -> Result:
    return made_result(entries, **changes)


def test_an_interrupted_run_is_kept_shown_and_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    cut = result(made_entry(partial=True), interrupted=True, partial=True)
    assert status_of(monkeypatch, cut, "--json", str(path)) == 130
    said = capsys.readouterr()
    assert "PARTIAL" in said.out
    assert said.err.strip() == "yoloproof: interrupted"
    assert read_result(path).partial


def test_a_name_taken_meanwhile_costs_neither_the_table_nor_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("yoloproof.commands.profile.check_new", lambda _: path.write_text("theirs"))
    assert status_of(monkeypatch, result(made_entry()), "--json", str(path)) == 2
    said = capsys.readouterr()
    assert "yolov13n" in said.out
    assert "This result is kept in" in said.err
    assert path.read_text() == "theirs"
    (kept,) = tmp_path.glob("yoloproof-*.json")
    assert read_result(kept).entries


@pytest.mark.parametrize(
    ("entry", "words", "status"),
    [
        (made_entry(), (), 0),
        (made_entry(proved=False), (), 1),
        (made_entry(error="inference failed: x"), (), 1),
        (made_entry(attention="stripped", proved=False), (), 1),
        (made_entry(attention="stripped", proved=False), ("--forensics",), 0),
    ],
)
def test_not_proved_or_not_timed_is_one(
    monkeypatch: pytest.MonkeyPatch, entry: Entry, words: tuple[str, ...], status: int
) -> None:
    assert status_of(monkeypatch, result(entry), *words) == status


def test_what_breaks_later_does_not_cost_the_rows_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is written while the run goes on: neither bad input of a later row nor a crash of what prints loses it."""
    first, whole = result(made_entry(), partial=True), result(made_entry(), made_entry(attention="published"))

    def second_row_fails(*arguments: Any) -> Result:
        arguments[-1](first)
        raise YoloproofError("b.onnx: no such file")

    monkeypatch.setattr(sys, "argv", ["yoloproof", "profile", "yolov13n", "--json", str(tmp_path / "r.json")])
    monkeypatch.setattr(pipeline, "profile", second_row_fails)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"kept in {tmp_path / 'r.json'}" in capsys.readouterr().err
    assert read_result(tmp_path / "r.json") == first

    def all_rows(*arguments: Any) -> Result:
        arguments[-1](first)
        return whole

    def broken(*_: object) -> None:
        raise RuntimeError("closing tag '[/x]' doesn't match any open tag")

    monkeypatch.setattr(sys, "argv", ["yoloproof", "profile", "yolov13n", "--json", str(tmp_path / "s.json")])
    monkeypatch.setattr(pipeline, "profile", all_rows)
    monkeypatch.setattr("yoloproof.results.table.print_result", broken)
    with pytest.raises(RuntimeError):
        main()
    assert read_result(tmp_path / "s.json") == whole


def test_which_won_is_said_of_the_verified_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (made_entry(median_s=0.08), made_entry(runtime="openvino", median_s=0.05),
            made_entry("yolov13n", "stripped", median_s=0.01, proved=False))  # fmt: skip
    status_of(monkeypatch, result(*rows))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fastest verified")]
    assert "openvino" in line.split(":")[1].split(",")[0]
    assert "0.62" in line
    status_of(monkeypatch, result(made_entry(), made_entry("yolov13n", "stripped", median_s=0.01, proved=False)))
    assert "fastest" not in capsys.readouterr().out, "one verified row has nothing to win against"


@pytest.mark.parametrize("terminal", [False, True])
def test_two_notes_follow_the_rows_also_on_a_busy_host_and_a_terminal_wraps_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    rows = [
        made_entry(runtime=name, accuracy=None, processes=6, median_s=s)
        for name, s in (("onnxruntime", 0.07), ("openvino", 0.09))
    ]
    warnings = (
        RunWarning("host_slowed", "evidence", "advice", 1.0),
        RunWarning("processes_differ", "evidence", "advice"),
    )
    monkeypatch.setenv("COLUMNS", "80")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    status_of(monkeypatch, result(*rows, warnings=warnings))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("reported for"))
    title, table, notes = lines[: first - 4], lines[first - 4 : first], lines[first:]
    assert title[0].startswith("latency")
    assert all(len(line) <= 80 for line in (lines if terminal else table))
    assert [line.split()[1] for line in table[2:]] == ["onnxruntime", "openvino"], "after two lines of headings"
    assert len(title) == (2 if terminal else 1)
    assert (len(notes) > 2) == terminal
    said = " ".join(" ".join(notes).split())
    assert re.fullmatch(
        r"reported for the architecture yolov13n: 1\.97 ms on a Tesla T4, ANOTHER MACHINE \(source: iMoonLab/yolov13 README\); "
        r"for that GPU an estimate, not a measurement: TensorRT FP16, fused attention: 2\.\d ms \(90 %: [^)]*\) "
        r"fastest verified: yolov13n fused fp32 onnxruntime, 0\.\d+ \([^)]*\) of the time of openvino; "
        r"noted: host_slowed, processes_differ; the result file has the evidence",
        said,
    ), said


@pytest.mark.parametrize("gpu", [None, "NVIDIA L4"])
def test_an_estimate_stands_alone_where_nothing_is_reported_for_its_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gpu: str | None
) -> None:
    row = made_entry()
    assert row.published is not None
    status_of(monkeypatch, result(replace(row, published=gpu and replace(row.published, gpu=gpu))))
    said = capsys.readouterr().out
    assert ("reported for" in said) == (gpu is not None)
    assert said.splitlines()[-1] == estimate_line("yolov13n")
    assert said.count("estimate, not a measurement") == 1


def test_native_engines_get_one_row_beside_other_attentions() -> None:
    runtimes = [Runtime.NATIVE, Runtime.PYTORCH]
    asked = cases_of(["yolov13n"], runtimes, list(Attention), [], Case("", device="cuda"))
    assert [(case.runtime, case.attention, case.precision) for case in asked] == [
        ("native", "fused", "fp16"), *(("pytorch", attention, "fp16") for attention in Attention),
    ]  # fmt: skip


def test_forensics_rows_are_all_of_one_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our kernels have `fused` alone: beside the other three in PyTorch it would differ in more than its attention."""
    asked: list[Case] = []

    def noted(cases: Sequence[Case], *_: Any) -> Result:
        asked.extend(cases)
        raise YoloproofError("noted")

    monkeypatch.setattr(pipeline, "profile", noted)
    for words, kernels in (((), [True]), (("--forensics",), [False] * 4)):
        asked.clear()
        monkeypatch.setattr(sys, "argv", ["yoloproof", "profile", "yolov13n", "--runtime", "pytorch", *words])
        with pytest.raises(SystemExit):
            main()
        assert [case.kernels for case in asked] == kernels
