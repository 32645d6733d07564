"""A plan file comes to the cells it names, or to one line that says what is wrong with it."""

from __future__ import annotations

import pytest

from yoloproof.errors import YoloproofError
from yoloproof.sweep.plan import read_plan

FULL = """
models = ["yolov13n", "yolov12n"]
attentions = ["fused", "stripped"]
runtimes = ["onnxruntime", "openvino"]
imgsz = [640, [384, 640]]
batches = [1, 8]
accelerators = ["cpu", "T4"]
"""


def plan(tmp_path, words):
    path = tmp_path / "plan.toml"
    path.write_text(words)
    return read_plan(path)


def test_every_combination_is_in_one_cell_and_attentions_share_one(tmp_path):
    cells = plan(tmp_path, FULL).cells
    assert len(cells) == 2 * 2 * 2 * 2 * 2
    assert all(sorted(one.attention for one in cell.measurements) == ["fused", "stripped"] for cell in cells)
    assert len({cell.key for cell in cells}) == len(cells)
    assert {one.imgsz for cell in cells for one in cell.measurements} == {(640, 640), (384, 640)}


def test_what_is_interleaved_stands_in_one_cell(tmp_path):
    cells = plan(tmp_path, 'interleave = ["model", "attention", "runtime"]' + FULL).cells
    assert [len(cell.measurements) for cell in cells] == [8] * 8
    assert plan(tmp_path, "interleave = []" + FULL).cells[0].measurements[0].attention == "fused"
    assert len(plan(tmp_path, "interleave = []" + FULL).cells) == 64


def test_an_exclusion_takes_exactly_what_it_names(tmp_path):
    words = (
        FULL + '[[exclude]]\nruntime = "openvino"\naccelerator = ["T4"]\n[[exclude]]\nimgsz = [384, 640]\nbatch = 8\n'
    )
    for cell in plan(tmp_path, words).cells:
        for one in cell.measurements:
            assert not (one.runtime == "openvino" and cell.accelerator == "T4")
            assert not (one.imgsz == (384, 640) and one.batch == 8)
    assert len(plan(tmp_path, words).cells) == 32 - 8 - 8 + 2


def test_a_cell_is_known_by_what_it_measures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "own.pt"
    weights.write_bytes(b"one")
    words = 'models = ["own.pt"]\n[options]\nthreads = 2\n'
    first = plan(tmp_path, words).cells[0].key
    assert plan(tmp_path, words).cells[0].key == first
    assert plan(tmp_path, words.replace("2", "4")).cells[0].key != first, "other options are another cell"
    weights.write_bytes(b"two")
    assert plan(tmp_path, words).cells[0].key != first, "other weights are another cell"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("models = [", "not a TOML file"),
        ("", "models must be a list that names at least one"),
        ("models = []", "models must be a list that names at least one"),
        ('models = ["a"]\nruntime = ["x"]', "no such key: runtime; a plan has"),
        ("models = [1]", "models holds 1; expected text"),
        ('models = ["a", "a"]', "models names a value twice"),
        ('models = ["a"]\nimgsz = [0]', "imgsz holds 0; expected a whole number above 0"),
        ('models = ["a"]\nimgsz = [[1, 2, 3]]', "imgsz holds"),
        ('models = ["a"]\nbatches = [true]', "batches holds True"),
        ('models = ["a"]\ntimeout_s = 0', "timeout_s is 0; seconds above 0"),
        ('models = ["a"]\nretries = -1', "retries is -1"),
        ('models = ["a"]\ninterleave = ["accelerator"]', "interleave is"),
        ('models = ["a"]\nexclude = ["b"]', "exclude must be tables"),
        ('models = ["a"]\n[[exclude]]\ncolour = "red"', "exclude names colour; axes are"),
        ('models = ["a"]\n[[exclude]]\nruntime = "openvin"', "the plan's runtimes have no such value"),
        ('models = ["a"]\n[[exclude]]\nruntime = 3', "runtimes holds 3; expected text"),
        ('models = ["a"]\ntimeout_s = inf', "timeout_s is inf; seconds above 0"),
        ('models = ["a"]\n[[exclude]]\nmodel = "a"', "every combination is excluded"),
        ('models = ["gone.pt"]', "model gone.pt: no such file"),
        ('models = ["a"]\noptions = 3', "options must be a table"),
    ],
)
def test_what_is_wrong_with_a_plan_is_one_line(tmp_path, words, said):
    with pytest.raises(YoloproofError, match=r"plan\.toml: ") as caught:
        plan(tmp_path, words)
    assert said in str(caught.value)


def test_a_missing_plan_is_said(tmp_path):
    with pytest.raises(YoloproofError, match="No such file"):
        read_plan(tmp_path / "none.toml")


def test_the_estimate_follows_the_protocol_then_the_cells_themselves(tmp_path):
    from yoloproof.sweep.cluster import Node
    from yoloproof.sweep.estimate import cell_seconds, wall_seconds
    from yoloproof.sweep.store import Store

    made = plan(tmp_path, 'models = ["a", "b", "c"]\nattentions = ["fused", "stripped"]\naccelerators = ["T4"]')
    short = plan(tmp_path, 'models = ["a"]\nattentions = ["fused", "stripped"]\n[options]\nquick = true')
    store = Store(tmp_path)
    store.cells.mkdir()
    long_s, short_s = cell_seconds(made.cells[0], made, store), cell_seconds(short.cells[0], short, store)
    assert short_s < long_s / 2
    store.keep(made.cells[0], b"{}", 40.0)
    seconds = {cell.key: cell_seconds(cell, made, store) for cell in made.cells}
    assert list(seconds.values()) == [40.0] * 3
    nodes = [Node(str(index), "host", 2.0, 1.0, frozenset({"T4"})) for index in range(2)]
    assert wall_seconds(made.cells, seconds, None) == 120.0
    assert wall_seconds(made.cells, seconds, nodes) == 60.0
