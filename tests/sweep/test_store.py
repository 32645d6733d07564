"""What a sweep keeps: whole results, damaged ones told and set aside, and one result of all."""

from __future__ import annotations

import json

import pytest

import fake_runner
from yoloproof.errors import YoloproofError
from yoloproof.results.schema import json_from_result, result_from_json
from yoloproof.sweep.plan import read_plan
from yoloproof.sweep.store import Store, merged_result, verified_throughout


@pytest.fixture
def sweep(tmp_path):
    """A plan of two cells of two cases each, its store, and the bytes of a result for each cell."""
    models = [tmp_path / f"{name}.pt" for name in ("a", "b")]
    for model in models:
        model.write_text(str(tmp_path / "notes"))
    file = tmp_path / "plan.toml"
    file.write_text(f'models = {json.dumps(list(map(str, models)))}\nattentions = ["fused", "stripped"]\n')
    cells, store = read_plan(file).cells, Store(tmp_path / "out")
    store.cells.mkdir(parents=True)
    results = [
        fake_runner.measure(cell, {case.model: models[0] for case in cell.cases}, tmp_path / "none") for cell in cells
    ]
    return cells, store, [json.dumps(json_from_result(result)).encode() for result in results]


def test_kept_cells_come_to_one_result_with_a_run_each(sweep):
    cells, store, results = sweep
    for cell, result in zip(cells, results, strict=True):
        store.keep(cell, result, 30.0)
    assert store.missing(cells) == {}
    whole = merged_result(store, cells, ["yoloproof", "sweep"])
    assert [(entry.run, entry.model.name, str(entry.artifact.attention)) for entry in whole.entries] == [
        (0, "a", "fused"), (0, "a", "stripped"), (1, "b", "fused"), (1, "b", "stripped"),
    ]  # fmt: skip
    assert [run.machine.cpu.model for run in whole.runs] == ["made-up cpu"] * 2
    assert result_from_json(json_from_result(whole), "all") == whole
    assert verified_throughout(whole), "`stripped` needs no passed proof"


def test_a_cell_that_was_not_measured_is_an_entry_per_case_that_says_why(sweep):
    cells, store, results = sweep
    store.keep(cells[0], results[0], 30.0)
    store.keep_failure(cells[1], ["killed", "hung"])
    whole = merged_result(store, cells, ["sweep"])
    failed = [entry for entry in whole.entries if entry.failure]
    assert [(entry.run, entry.failure) for entry in failed] == [(1, "killed; then hung")] * 2
    assert [entry.case for entry in failed] == list(cells[1].cases)
    assert [(entry.artifact.precision, entry.artifact.imgsz) for entry in failed] == [("fp32", (640, 640))] * 2
    assert (whole.runs[1].machine, whole.runs[1].requested, whole.partial) == (None, "cpu", True)
    assert not verified_throughout(whole)
    store.keep(cells[1], results[1], 30.0)
    assert store.failure(cells[1]) is None
    assert not merged_result(store, cells, ["sweep"]).partial


@pytest.mark.parametrize(
    "damage",
    [b'{"schema": 2, "entr', b"[]", b"\xff", b"[" * 100_000, b'{"schema": 1, "entries": 5}', b'{"schema": 9}', b"{}"],
    ids=range(7),
)
def test_a_damaged_cell_is_one_line_and_measured_again(sweep, damage):
    cells, store, results = sweep
    path = store.cells / f"{cells[0].key}.json"
    path.write_bytes(damage)
    store.keep(cells[1], results[1], 30.0)
    ((cell, said),) = store.missing(cells).items()
    assert cell == cells[0]
    assert str(path) in said
    assert "\n" not in said
    assert merged_result(store, cells, ["sweep"]).entries[0].failure == said
    store.keep(cell, results[0], 30.0)
    assert store.missing(cells) == {}
    assert path.with_suffix(".damaged").read_bytes() == damage


def test_a_result_of_another_cell_is_damage(sweep):
    cells, store, results = sweep
    document = json.loads(results[0])
    document["entries"].pop()
    store.keep(cells[0], json.dumps(document).encode(), 30.0)
    assert "1 entries of 2 cases" in store.missing(cells)[cells[0]]


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"reasons": 3}', b'{"reasons": [1]}', b"\xff"], ids=range(5))
def test_a_damaged_failure_is_said_to_be_one(sweep, damage):
    cells, store, _ = sweep
    (store.cells / f"{cells[0].key}.failed.json").write_bytes(damage)
    assert store.failure(cells[0]).endswith("cannot be read")


def test_two_sweeps_do_not_share_a_folder(tmp_path):
    store = Store(tmp_path)
    with store.locked(), pytest.raises(YoloproofError, match="another sweep is at work"), Store(tmp_path).locked():
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(YoloproofError, match="give another folder with -o"), Store(tmp_path / "file").locked():
        pass


@pytest.mark.parametrize("words", ["inf", "nan", "-1", "1e999", "x", ""])
def test_a_damaged_time_is_none(sweep, words):
    (cell, _), store, _ = sweep
    (store.cells / f"{cell.key}.wall_s").write_text(words)
    assert store.wall_s(cell) is None
