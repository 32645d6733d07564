"""The records are the schema: what is written is read again, and nothing else is."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from made_results import lab_result, made_entry, made_result, made_run, served_entry
from yoloproof.errors import YoloproofError
from yoloproof.names import Attention, Precision, Weights
from yoloproof.records import Entry, Protocol, Result, ServerPlan
from yoloproof.report.page import html_from_results
from yoloproof.report.rows import rows_from_results
from yoloproof.report.text import markdown_from_rows
from yoloproof.results.compare import ALLOWANCES, compare_results, compare_rows, print_comparisons
from yoloproof.results.file import read_result, text_from_result
from yoloproof.results.schema import HISTORY, SCHEMA, json_from_result, result_from_json
from yoloproof.results.table import print_result
from yoloproof.results.upgrade import GAINED

FOLDER = Path(__file__).parent
NUMBERS = st.floats(min_value=1e-9, max_value=1e9) | st.integers(1, 10**6).map(float)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, as a file can hold them."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return st.one_of(*map(values, inner))
    if origin is tuple:
        many = len(inner) == 2 and inner[1] is Ellipsis
        return st.lists(values(inner[0]), max_size=2).map(tuple) if many else st.tuples(*map(values, inner))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(TEXT, values(inner[1]), max_size=2)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return records(hint)
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    simple = {
        int: st.integers(1, 2**53),
        float: NUMBERS,
        bool: st.booleans(),
        str: TEXT,
        NoneType: st.none(),
        object: JSON,
    }
    return simple[hint] if hint is not Path else TEXT.map(Path)


def records(record: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(record)
    return st.builds(record, **{one.name: values(hints[one.name]) for one in fields(record)})


def within(result: Result) -> Result:
    """The result with every entry in the first of its runs; of one run, what the run says of tool and command."""
    entries = tuple(replace(entry, run=0) for entry in result.entries)
    run = result.runs[0]
    head = {} if len(result.runs) > 1 else {"tool": run.tool, "created": run.created, "command": run.command}
    return replace(result, entries=entries, **head)


RESULTS = records(Result).filter(lambda result: bool(result.runs)).map(within)
PROPERTY = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@PROPERTY
@given(RESULTS)
def test_what_is_written_is_read_again(result: Result) -> None:
    document = json.loads(text_from_result(result))
    assert document == json_from_result(result)
    before = copy.deepcopy(document)
    assert result_from_json(document, "it") == result
    assert document == before, "reading changes nothing"


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value of a document."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(found for key, value in inner for found in places(value, (*path, key)))]


def changed(document: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of the document in which `change(container, key)` was called on the value at the path."""
    document = copy.deepcopy(document)
    container = document
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return document


WHOLE = json_from_result(
    made_result([made_entry(samples=2, processes=2), made_entry("yolov13s", samples=2, processes=1)])
)
SWEEP = json_from_result(made_result([made_entry(samples=1), made_entry(samples=1, run=1)], made_run(), made_run()))
SCHEMA_1 = [json.loads((FOLDER / f"schema-1-{name}.json").read_text()) for name in ("run", "sweep")]
WILD = JSON | st.sampled_from([float("nan"), float("inf"), 10**400, -1, 0, "\ud800", [[]], {"": {}}])


@PROPERTY
@given(st.data())
def test_a_changed_document_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    document = data.draw(st.sampled_from([WHOLE, SWEEP, *SCHEMA_1]))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([path for path in places(document) if path]))
        value = data.draw(WILD)

        def change(container: Any, key: Any, value: Any = value) -> None:
            container[key] = value

        document = changed(document, path, change)
    assert "\n" not in refusal(document)


def shown(result: Result) -> None:
    """Everything that a person may ask for of a result that was read."""
    print_result(result, Console(file=io.StringIO(), width=80))
    print_result(result, Console(file=io.StringIO(), force_terminal=True, width=80))
    rows = rows_from_results([("it", result)])
    markdown_from_rows(rows)
    with suppress(YoloproofError):
        print_comparisons(compare_rows(result, ALLOWANCES), Console(file=io.StringIO()))
    with suppress(YoloproofError):
        print_comparisons(compare_results(result, result, ALLOWANCES), Console(file=io.StringIO()))
    with suppress(YoloproofError):
        html_from_results([("it", result)])


def refusal(document: Any) -> str:
    """Why a document is not read; nothing where it is. Any other error than YoloproofError comes through."""
    try:
        result = result_from_json(document, "it")
    except YoloproofError as error:
        return str(error)
    shown(result)
    return ""


def test_every_key_of_a_file_must_be_there() -> None:
    """Of one run, where the keys of the run stand at the top, and of the records in it."""
    paths = [path for path in places(WHOLE) if path and isinstance(path[-1], str)]
    free = ("metadata", "libraries", "figures", "per_class")
    gained = [
        ("protocol", "row_max_s"), ("protocol", "server"), ("serving",), ("open_only",), ("summary", "server"),
        ("case", "throughput"), ("case", "sessions"), ("runtime", "requests"),
    ]  # fmt: skip
    held = [
        path
        for path in paths
        if not any(key in free for key in path[:-1])
        and path != ("schema",)
        and not any(path[-len(key) :] == key for key in gained)
    ]
    assert len(held) > 300
    for path in held:
        with pytest.raises(YoloproofError) as error:
            result_from_json(changed(WHOLE, path, lambda container, key: container.pop(key)), "it")
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
        assert place in str(error.value), path


def test_a_file_from_before_schema_2_gained_fields_is_read_with_their_defaults() -> None:
    def older(value: Any) -> Any:
        names = {name for few in GAINED.values() for name in few}
        if isinstance(value, dict):
            return {key: older(item) for key, item in value.items() if key not in names}
        return [older(item) for item in value] if isinstance(value, list) else value

    document = older(WHOLE)
    before = copy.deepcopy(document)
    result = result_from_json(document, "it")
    assert document == before
    assert json_from_result(result) == WHOLE
    assert result.runs[0].protocol.server is None
    assert result.entries[0].processes[0].serving is None
    sweep = result_from_json(older(SWEEP), "it")
    assert json_from_result(sweep) == SWEEP


def test_a_server_is_written_and_read_again() -> None:
    run = made_run(protocol=Protocol(name="server", server=ServerPlan(sessions=3)))
    result = made_result([served_entry(), served_entry(None)], run)
    assert result_from_json(json.loads(json.dumps(json_from_result(result))), "it") == result


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("entries", 0, "artifact", "nodes"), 3, r"entries\[0\].artifact.nodes: unexpected keyword"),
        (("protocol", "rounds"), 3, r"damaged: protocol.rounds: unexpected keyword"),
        (("machine", "cpu"), "fast", r"machine.cpu"),
        (("entries", 1, "summary", "median_s"), "0.1", r"entries\[1\].summary.median_s"),
        (("entries", 1, "summary", "median_s"), 0, r"entries\[1\].summary.median_s is not above zero"),
        (("entries", 0, "summary", "interval_s"), [1], r"entries\[0\].summary.interval_s"),
        (("entries", 0, "processes", 1, "samples_s"), [0.1, -1], r"processes\[1\].samples_s is not above zero"),
        (("entries", 0, "model", "flops"), 10**400, r"entries\[0\].model.flops"),
        (("entries", 0, "proof", "passed"), False, r"proof.passed is False, and the rest of the file says True"),
        (("entries", 0, "failure"), "x", r"entries\[0\].failure is 'x'"),
        (("entries", 0, "run"), 7, r"entries\[0\].run is 7 of 1 runs"),
        (("entries", 0, "runtime", "name"), "dml", r"entries\[0\].runtime.name"),
        (("quick",), True, r"quick is True"),
        (("schema",), 3, r"has schema 3, but this version reads 1, 2"),
        (("schema",), True, r"has schema True"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(path: tuple[Any, ...], value: Any, says: str) -> None:
    def change(container: Any, key: Any) -> None:
        container[key] = value

    with pytest.raises(YoloproofError, match=says):
        result_from_json(changed(WHOLE, path, change), "it")


@pytest.mark.parametrize(
    ("document", "command"),
    [({"schema": 1, "accuracy": {}}, "val"), ({"schema": 1, "names": {}, "images": []}, "predict"),
     ({"schema": 1, "rows": []}, "compare"), ({"artifact": "a.onnx", "checks": []}, "verify")],
)  # fmt: skip
def test_a_file_of_another_command_is_named(document: dict[str, object], command: str) -> None:
    with pytest.raises(YoloproofError, match=f"a file of `yoloproof {command}`"):
        result_from_json(document, "it.json")


def test_the_history_tells_every_schema() -> None:
    assert list(HISTORY) == list(range(1, SCHEMA + 1))
    assert json_from_result(lab_result())["schema"] == SCHEMA


def test_a_run_of_schema_1_is_read() -> None:
    result = read_result(FOLDER / "schema-1-run.json")
    ours, stripped = result.entries
    assert (len(result.runs), result.quick) == (1, True)
    assert ours.artifact.simplified[-1] == "kernels", "it was called 'gpu form'"
    assert (ours.case.attention, ours.case.precision, ours.case.random_weights) == (
        Attention.FUSED,
        Precision.FP16,
        True,
    )
    assert ours.model.weights is Weights.RANDOM
    assert ours.published is not None
    assert ours.published.ap == 0.404, "it was in percent"
    assert stripped.passed_over == ("pytorch: not proved",)
    assert stripped.proof.passed is False
    assert result_from_json(json_from_result(result), "it") == result


def test_a_sweep_of_schema_1_is_read() -> None:
    result = read_result(FOLDER / "schema-1-sweep.json")
    assert [result.run_of(entry) is run for entry, run in zip(result.entries, result.runs, strict=True)] == [True, True]
    assert result.runs[0].protocol.name == "latency"
    assert result.entries[0].accuracy is not None
    assert result_from_json(json_from_result(result), "it") == result


def test_what_schema_1_did_not_hold_is_unknown_and_what_it_should_not_is_refused() -> None:
    cpu = read_result(FOLDER / "schema-1-run.json").runs[0].machine
    assert cpu is not None
    assert cpu.cpu.stepping is None

    def change(container: Any, key: Any) -> None:
        container[key] = 3

    with pytest.raises(YoloproofError, match=r"entries\[0\].artifact.nodes"):
        result_from_json(changed(SCHEMA_1[0], ("entries", 0, "artifact", "nodes"), change), "it")


def test_an_entry_without_a_figure_says_why() -> None:
    failed: Entry = made_entry(summary=None, error="no memory")
    document = json_from_result(made_result([failed]))
    assert document["entries"][0]["failure"] == "no memory"
