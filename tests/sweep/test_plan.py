"""A plan file comes to the cells it names, or to one line that says what is wrong with it."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloproof.errors import YoloproofError
from yoloproof.names import Attention, Precision, Runtime
from yoloproof.records import Case
from yoloproof.sweep import measure
from yoloproof.sweep.cluster import Node
from yoloproof.sweep.estimate import sweep_seconds
from yoloproof.sweep.materials import Materials
from yoloproof.sweep.plan import PlanOptions, read_plan
from yoloproof.sweep.store import Store

FULL = """
models = ["yolov13n", "yolov12n"]
attentions = ["fused", "stripped"]
runtimes = ["onnxruntime", "openvino"]
imgsz = [640, [384, 640]]
batches = [1, 8]
accelerators = ["cpu", "T4"]
"""
ONE = 'models = ["yolov13n"]\n'


def plan(tmp_path, words):
    path = tmp_path / "plan.toml"
    path.write_text(words)
    return read_plan(path)


def test_every_combination_is_in_one_cell_and_attentions_share_one(tmp_path):
    cells = plan(tmp_path, FULL).cells
    assert len(cells) == 2 * 2 * 2 * 2 * 2
    assert all([case.attention for case in cell.cases] == [Attention.FUSED, Attention.STRIPPED] for cell in cells)
    assert len({cell.key for cell in cells}) == len(cells)
    assert {case.imgsz for cell in cells for case in cell.cases} == {(640, 640), (384, 640)}
    assert all(case.device == {"cpu": "cpu", "T4": "cuda"}[cell.accelerator] for cell in cells for case in cell.cases)


def test_what_is_interleaved_stands_in_one_cell(tmp_path):
    cells = plan(tmp_path, 'interleave = ["model", "attention", "runtime"]' + FULL).cells
    assert [len(cell.cases) for cell in cells] == [8] * 8
    assert plan(tmp_path, "interleave = []" + FULL).cells[0].cases[0].attention is Attention.FUSED
    assert len(plan(tmp_path, "interleave = []" + FULL).cells) == 64


def test_a_plan_of_one_model_has_defaults(tmp_path):
    (cell,) = plan(tmp_path, ONE).cells
    assert cell.cases == (Case("yolov13n", Runtime.ONNXRUNTIME, Precision.FP32, Attention.FUSED),)
    assert (cell.protocol, cell.accelerator, cell.options) == ("latency", "cpu", PlanOptions())


def test_options_are_typed_and_in_the_cases(tmp_path):
    words = "[options]\nthreads = 2\nflush_to_zero = true\nrandom_weights = true\nquick = true\n"
    (cell,) = plan(tmp_path, ONE + words + 'images = ["/data/a.jpg"]\ndata = "demo"\n').cells
    assert cell.options == PlanOptions(2, True, True, ("/data/a.jpg",), "demo", True)
    (case,) = cell.cases
    assert (case.threads, case.flush_to_zero, case.random_weights) == (2, True, True)
    assert cell.timing.quick
    assert cell.timing.name == "latency"


def test_an_exclusion_takes_exactly_what_it_names(tmp_path):
    words = (
        FULL + '[[exclude]]\nruntime = "openvino"\naccelerator = ["T4"]\n[[exclude]]\nimgsz = [384, 640]\nbatch = 8\n'
    )
    for cell in plan(tmp_path, words).cells:
        for case in cell.cases:
            assert not (case.runtime is Runtime.OPENVINO and cell.accelerator == "T4")
            assert not (case.imgsz == (384, 640) and case.batch == 8)
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
    (tmp_path / "copy.pt").write_bytes(b"two")
    keys = {cell.key for cell in plan(tmp_path, words.replace('"own.pt"', '"own.pt", "copy.pt"')).cells}
    assert len(keys) == 2, "two files are two models, whatever is in them"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("models = [", "not a TOML file"),
        ("models = " + "[" * 20_000, "not a TOML file"),
        ("", "models is missing; a plan names at least one"),
        ("models = []", "models is []; expected: more values"),
        ('models = ["yolov13n"]\nruntime = ["x"]', "no such key: runtime; a plan has models, attentions"),
        ("models = [1]", "models[0] is 1; expected: a valid string"),
        ('models = ["yolov13n", "yolov13n"]', "expected: each value once"),
        ('models = ["yolo\\u001b[2J"]', "expected: text on one line, without control characters"),
        (
            'models = ["yolov99n"]',
            "model yolov99n: a file (.pt, .safetensors, .onnx, .engine, .native) or one of yolov13n",
        ),
        ('models = ["gone.pt"]', "model gone.pt: no such file"),
        (ONE + "imgsz = [0]", "imgsz[0][0] is 0; expected: greater than or equal to 64"),
        (ONE + "imgsz = [641]", "imgsz[0][0] is 641; expected: a multiple of 32"),
        (ONE + "imgsz = [1000000]", "expected: less than or equal to 4096"),
        (ONE + "imgsz = [[64, 64, 64]]", "imgsz[0] is [64, 64, 64]"),
        (ONE + "batches = [true]", "batches[0] is True; expected: a valid integer"),
        (ONE + f"batches = [0x{'f' * 9000}]", "batches[0] is an enormous number; expected: less than or equal to 4096"),
        (ONE + 'attentions = "fused"', "attentions is 'fused'; expected: a list"),
        (ONE + 'attentions = ["flash"]', "expected: one of fused, explicit, published, stripped"),
        (ONE + 'precisions = ["int8"]', "expected: one of fp32, fp16, bf16"),
        (ONE + 'runtimes = ["tensorflow"]', "expected: one of pytorch, onnxruntime"),
        (ONE + 'runtimes = ["auto"]', "expected: one of pytorch, onnxruntime"),
        (ONE + 'runtimes = ["tensorrt"]', "runtime tensorrt needs a GPU"),
        (ONE + 'runtimes = ["native"]', "runtime native needs a GPU"),
        (ONE + 'runtimes = ["native"]\naccelerators = ["T4"]', "runtime native computes fused attention in fp16"),
        (ONE + 'protocols = ["fast"]', "expected: one of latency, sustained"),
        (ONE + "timeout_s = 0", "timeout_s is 0; expected: greater than 0"),
        (ONE + "timeout_s = inf", "timeout_s is inf; expected: a finite number"),
        (ONE + "retries = -1", "retries is -1"),
        (ONE + 'interleave = ["accelerator"]', "interleave[0] is 'accelerator'; expected: 'model', 'attention'"),
        (ONE + 'exclude = ["b"]', "exclude[0] is 'b'; expected: a table"),
        (ONE + "exclude = [{}]", "an empty exclude"),
        (ONE + '[[exclude]]\ncolour = "red"', "no such key: exclude[0].colour; exclude has model, attention"),
        (ONE + '[[exclude]]\nruntime = "openvino"', "exclude runtime openvino: the plan has no such value"),
        (ONE + "[[exclude]]\nruntime = 3", "exclude[0].runtime[0] is 3; expected: one of"),
        (ONE + '[[exclude]]\nmodel = "yolov13n"', "every combination is excluded"),
        (ONE + "options = 3", "options is 3; expected: a table"),
        (ONE + "[options]\nspeed = 3", "no such key: options.speed; options has threads, flush_to_zero"),
        (ONE + '[options]\nimages = ["here"]', "expected: an absolute path, the same on every node"),
        (ONE + '[options]\ndata = "here"', "options.data is 'here'; expected: demo, or a folder's absolute path"),
        (ONE + "[options]\nthreads = 0", "options.threads is 0; expected: greater than or equal to 1"),
        (ONE + '[options]\nquick = "no"', "options.quick is 'no'; expected: a valid boolean"),
    ],
    ids=lambda text: text[-30:],
)
def test_what_is_wrong_with_a_plan_is_one_line(tmp_path, words, said):
    with pytest.raises(YoloproofError, match=r"plan\.toml: ") as caught:
        plan(tmp_path, words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_plan_of_360000_combinations_is_refused_before_they_are_made(tmp_path):
    words = f"{ONE}batches = {list(range(1, 601))}\naccelerators = {[f'gpu{i}' for i in range(600)]}\n"
    began = time.monotonic()
    with pytest.raises(YoloproofError, match="360,000 combinations; a plan has at most 10,000"):
        plan(tmp_path, words.replace("'", '"'))
    assert time.monotonic() - began < 5


def test_what_is_not_a_plan_file_is_not_read(tmp_path):
    with pytest.raises(YoloproofError, match="No such file"):
        read_plan(tmp_path / "none.toml")
    with pytest.raises(YoloproofError, match="not a file"):
        read_plan(tmp_path)
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(YoloproofError, match="not a file"):
        read_plan(tmp_path / "pipe.toml")
    with pytest.raises(YoloproofError, match="a plan has at most 1,048,576"):
        plan(tmp_path, ONE + "#" * (1 << 20))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["fused", "T4"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["models", "attentions", "imgsz", "batches", "exclude", "options", "timeout_s", "interleave", "x"]
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_stands_in_a_plan_it_is_a_plan_or_one_line(tmp_path_factory, document):
    def written(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{written(key)} = {written(one)}" for key, one in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(written, value)) + "]"
        return '""' if value is None else str(value).lower() if not isinstance(value, str) else ascii_string(value)

    def ascii_string(text):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in text if not 0xD800 <= ord(c) < 0xE000) + '"'

    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("".join(f"{key} = {written(value)}\n" for key, value in document.items()))
    with suppress(YoloproofError):  # any other exception is a failure
        assert read_plan(path).cells


def test_the_estimate_follows_the_protocol_then_the_cells_themselves(tmp_path):
    words = 'models = ["yolov13n", "yolov12n", "yolov12s"]\nattentions = ["fused", "stripped"]\naccelerators = ["T4"]'
    full, quick = plan(tmp_path, words), plan(tmp_path, words + "\n[options]\nquick = true")
    store = Store(tmp_path)
    store.cells.mkdir()
    assert sweep_seconds(quick.cells, quick, store, None) < sweep_seconds(full.cells, full, store, None) / 2
    store.keep(full.cells[0], b"{}", 40.0)
    nodes = [Node(str(index), "host", 2.0, 1.0, frozenset({"T4"})) for index in range(2)]
    assert sweep_seconds(full.cells, full, store, None) == 120.0
    assert sweep_seconds(full.cells, full, store, nodes) == 60.0
    (store.cells / f"{full.cells[0].key}.wall_s").write_text("damaged")
    assert sweep_seconds(full.cells, full, store, None) > 120.0


def test_native_engines_are_built_where_they_run(tmp_path):
    """Beside other attentions and precisions, of which a plan leaves the native ones out."""
    words = 'attentions = ["fused", "stripped"]\nruntimes = ["pytorch", "native"]\nprecisions = ["fp16"]\naccelerators = ["T4"]\n'
    words += 'interleave = ["attention", "runtime"]\n[[exclude]]\nruntime = "native"\nattention = "stripped"\n'
    (tmp_path / "n.native").write_bytes(b"an engine")
    (cell,) = plan(tmp_path, ONE + words).cells
    assert [(case.runtime, case.attention, case.device) for case in cell.cases] == [
        (Runtime.PYTORCH, Attention.FUSED, "cuda"), (Runtime.NATIVE, Attention.FUSED, "cuda"),
        (Runtime.PYTORCH, Attention.STRIPPED, "cuda"),
    ]  # fmt: skip
    assert not [case for case in map(measure.exported_case, cell.cases) if case is not None], "none needs an ONNX file"
    file = plan(
        tmp_path,
        f'models = ["{tmp_path}/n.native"]\nruntimes = ["native"]\nprecisions = ["fp16"]\naccelerators = ["T4"]',
    )
    sent = Materials(measure.exported_case).exports_of(file.cells[0])
    assert sent == ()
