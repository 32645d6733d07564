"""The result file: whole or not at all, never over another, and one clear line for what is no result."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from made_results import made_entry, made_result, made_summary
from yoloproof.errors import YoloproofError
from yoloproof.records import Result
from yoloproof.results.file import read_result, text_from_result, write_result
from yoloproof.results.kept import MOST, new_place
from yoloproof.results.schema import SCHEMA


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, for these tests."""
    folder = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def one_row() -> Result:
    return made_result([made_entry()])


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    result = one_row()
    write_result(result, tmp_path / "r.json")
    assert read_result(tmp_path / "r.json") == result
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_the_text_is_indented_and_a_list_of_numbers_stands_on_one_line() -> None:
    lines = text_from_result(made_result([made_entry(samples=200, processes=1)])).splitlines()
    (samples,) = (line for line in lines if line.startswith('     "samples_s": [0.'))
    assert len(json.loads("{" + samples.rstrip(",") + "}")["samples_s"]) == 200
    assert lines[:2] == ["{", f' "schema": {SCHEMA},']
    at = lines.index('   "proof": {')
    assert lines[at + 1 : at + 4] == ['    "checks": [', "     {", '      "name": "graph",']


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("mine")
    with pytest.raises(YoloproofError, match="never overwritten"):
        write_result(one_row(), path)
    assert path.read_text() == "mine"


def test_a_file_that_appears_meanwhile_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.json"
    fsync = os.fsync

    def appears(number: int) -> None:
        fsync(number)
        path.write_text("theirs")

    monkeypatch.setattr(os, "fsync", appears)
    with pytest.raises(YoloproofError, match="appeared in the meantime"):
        write_result(one_row(), path)
    assert path.read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(YoloproofError, match=r"No space left on device; make room"):
        write_result(one_row(), tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == list(elsewhere.iterdir()) == []


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def linkless(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", linkless)
    write_result(one_row(), tmp_path / "r.json")
    assert read_result(tmp_path / "r.json") == one_row()
    with pytest.raises(YoloproofError, match="never overwritten"):
        write_result(one_row(), tmp_path / "r.json")


def test_a_really_full_disk(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(OSError, match="No space"), full.open("wb", buffering=0) as file:
        file.write(b"x")
    with pytest.raises(YoloproofError, match="exists"):
        write_result(one_row(), full)


def test_what_cannot_be_written_where_it_was_asked_for_is_kept_elsewhere(tmp_path: Path, elsewhere: Path) -> None:
    """Minutes of measuring must not be lost to a disk that filled up meanwhile, or to a file that took the name."""
    path = tmp_path / "r.json"
    path.write_text("mine")
    with pytest.raises(YoloproofError, match="This result is kept in") as error:
        write_result(one_row(), path)
    (kept,) = elsewhere.iterdir()
    assert str(kept) in str(error.value)
    assert read_result(kept) == one_row()
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["cpu", "profile-h100-yolov12"])
def test_the_committed_results_are_read_and_of_this_schema(name: str) -> None:
    path = Path(__file__).parents[2] / "results" / f"{name}.json"
    assert json.loads(path.read_text())["schema"] == SCHEMA
    assert read_result(path).entries


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(YoloproofError, match="No such file"):
        write_result(one_row(), tmp_path / "none" / "r.json")


def test_what_is_no_number_becomes_null(tmp_path: Path) -> None:
    entry = made_entry(summary=replace(made_summary(0.07), p99_s=float("nan")))
    write_result(made_result([entry]), tmp_path / "r.json")
    (read,) = read_result(tmp_path / "r.json").entries
    assert read.summary is not None
    assert read.summary.p99_s is None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "not a result file"),
        ("{", "line 1"),
        ("\x00\xff", "not a result file"),
        ("[]", "names no schema"),
        ("[" * 100_000, "not JSON text"),
        ('{"schema": %s}' % ("9" * 5000), "not a result file"),
    ],
)
def test_what_is_no_result_gets_one_line(tmp_path: Path, content: str, line: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(YoloproofError, match=line) as error:
        read_result(path)
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(YoloproofError, match="No such file"):
        read_result(tmp_path / "none.json")


def test_the_last_results_are_kept_and_the_newest_is_called_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(YoloproofError, match="no result is kept here yet"):
        read_result("last")
    for number in range(MOST + 3):
        write_result(made_result([made_entry(median_s=1.0 + number)]), new_place())
    assert len(list((tmp_path / "yoloproof/results").glob("*.json"))) == MOST
    newest = read_result("last").entries[0].summary
    assert newest is not None
    assert newest.median_s == MOST + 3
