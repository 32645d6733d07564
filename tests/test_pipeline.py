"""One road: whatever combination the help offers, `profile`, `val` and `predict` run one and the same artifact."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from yoloproof import pipeline
from yoloproof.cli import app
from yoloproof.demo import demo_images
from yoloproof.errors import YoloproofError
from yoloproof.measurement.benchmarking import Benchmark, Measurement
from yoloproof.measurement.protocol import PROTOCOLS, in_seconds
from yoloproof.names import ArtifactFormat, Attention, Precision, Runtime
from yoloproof.opening import session_spec
from yoloproof.records import Artifact, Case, Check, Cpu, Entry, Machine, SessionFacts, Verdict
from yoloproof.runtime import missing_part
from yoloproof.runtime.choice import candidates

MODEL = "yolov12n"  # with seeded weights: the smallest there is
SIZE = (64, 64)
HERE = [runtime for runtime in Runtime if runtime is Runtime.AUTO or missing_part(runtime) is None]
# `auto` is one of the others: in each precision once, to see that all commands choose the same.
COMBINATIONS = [
    combination
    for combination in product(HERE, Precision, Attention)
    if combination[0] is not Runtime.AUTO or combination[2] is Attention.FUSED
]


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is timed or verified here: what is asked is which artifact comes to it."""

    def benchmark(subjects, protocol, images, **_):  # type: ignore[no-untyped-def]
        rows = [
            Measurement(subject=one, facts=SessionFacts(name=one.spec.runtime), processes=(), set_aside=(), summary=None,
                        warnings=(), partial=False, error=None)
            for one in subjects
        ]  # fmt: skip
        return Benchmark(protocol=protocol, machine=Machine(cpu=Cpu()), warnings=(), interrupted=False,
                         gauge_best_s=None, gauge_size=None, measurements=tuple(rows))  # fmt: skip

    monkeypatch.setattr(pipeline, "benchmark", benchmark)
    monkeypatch.setattr("yoloproof.proof.verify.verify", lambda *_, **__: Verdict((Check("stand-in", True, {}, ""),)))


def identity(artifact: dict[str, object]) -> tuple[object, ...]:
    """The file's hash; of a network that PyTorch builds, all that decides what is built."""
    return tuple(str(artifact[key]) for key in ("format", "sha256", "precision", "attention", "simplified"))


@pytest.mark.parametrize(("runtime", "precision", "attention"), COMBINATIONS)
def test_profile_val_and_predict_run_the_same_artifact(
    runtime: Runtime, precision: Precision, attention: Attention, tmp_path: Path
) -> None:
    case = Case(MODEL, runtime, precision, attention, SIZE, random_weights=True)
    options = ["--runtime", runtime, "--precision", precision, "--attention", attention, "--imgsz", str(SIZE[0]),
               "--random-weights"]  # fmt: skip
    commands = (["val", MODEL, *options], ["predict", MODEL, str(demo_images()[0]), *options])
    entry, refusal = profiled(case)
    if entry is None:
        for command in commands:  # what one refuses, all refuse, in the same words
            refused = CliRunner().invoke(app, command).exception
            assert isinstance(refused, YoloproofError), refused
            assert str(refused) == refusal
        return
    wanted = identity(json.loads(json.dumps(_plain(entry.artifact))))
    for command in commands:
        file = tmp_path / f"{command[0]}.json"
        done = CliRunner().invoke(app, [*command, "--json", str(file)])
        assert done.exit_code == 0, done.output
        document = json.loads(file.read_text())
        assert identity(document["artifact"]) == wanted
        assert document["runtime"]["name"] == entry.case.runtime
        assert document["runtime"]["precision"] == Precision(precision).dtype


def profiled(case: Case) -> tuple[Entry | None, str]:
    """The entry, or the words it is refused in."""
    try:
        return pipeline.profile([case], PROTOCOLS["latency"]).entries[0], ""
    except YoloproofError as error:
        return None, str(error)


def _plain(artifact: Artifact) -> object:
    from yoloproof.results.schema import plain

    return plain(artifact)


def test_most_combinations_run() -> None:
    """A test that compares refusals alone would pass on a product that refuses everything."""
    assert len(COMBINATIONS) >= 27
    runs = [
        (r, p) for r, p in product(HERE, Precision) if not _refused(Case(MODEL, r, p, imgsz=SIZE, random_weights=True))
    ]
    assert len(runs) >= 9


def _refused(case: Case) -> bool:
    try:
        candidates(case)
    except YoloproofError:
        return True
    return False


def test_auto_follows_what_was_measured() -> None:
    case = Case(MODEL, Runtime.AUTO)
    assert candidates(case)[0].runtime is Runtime.ONNXRUNTIME


def test_a_verdict_decides_what_auto_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next runtime where one fails, with the reason on record; the first reason where nothing can be opened."""
    wrong = Verdict((Check("outputs", False, {}, ""),))
    right = Verdict((Check("outputs", True, {}, ""),))
    monkeypatch.setattr(
        "yoloproof.proof.verify.verify",
        lambda path, *_, session, **__: wrong if session.facts.name is Runtime.ONNXRUNTIME else right,
    )
    entry = pipeline.profile([Case(MODEL, imgsz=SIZE, random_weights=True)], "latency").entries[0]
    assert entry.runtime.name is not Runtime.ONNXRUNTIME
    assert entry.passed_over == ("onnxruntime: not verified",)


def test_a_protocol_of_batches_makes_an_artifact_for_each() -> None:
    entries = pipeline.profile(
        [Case("yolov12n", Runtime.ONNXRUNTIME, imgsz=SIZE, random_weights=True)], in_seconds(PROTOCOLS["throughput"])
    ).entries
    batches = [entry.case.batch for entry in entries]
    assert batches == [1, 2, 4]
    assert len({entry.artifact.sha256 for entry in entries}) == len(batches)


def test_sessions_that_are_served_share_the_cores_and_do_not_flush() -> None:
    server = PROTOCOLS["server"]
    assert server.server is not None
    plan = replace(server.server, sessions=64)
    shared = pipeline._under(replace(server, server=plan), Case("yolov12n", Runtime.ONNXRUNTIME), 1)
    assert (shared.threads, shared.sessions) == (1, 64)
    assert not session_spec(shared, Artifact(format=ArtifactFormat.ONNX)).options.pinned
    assert session_spec(Case("yolov12n"), Artifact(format=ArtifactFormat.ONNX)).options.pinned
    assert pipeline._under(server, Case("yolov12n", Runtime.ONNXRUNTIME, threads=3), 1).threads == 3
    assert pipeline._under(server, Case("yolov12n", Runtime.TENSORRT, device="cuda"), 1).threads is None
    flush = Case("yolov12n", Runtime.ONNXRUNTIME, flush_to_zero=True)
    with pytest.raises(YoloproofError, match="--sessions 1"):
        pipeline._under(server, flush, 1)
    alone = replace(server, server=replace(server.server, sessions=1))
    assert pipeline._under(alone, flush, 1).flush_to_zero


@pytest.mark.parametrize(("runtime", "expected"), [(Runtime.OPENVINO, True), (Runtime.ONNXRUNTIME, False)])
def test_openvino_is_asked_for_throughput_where_throughput_is_measured(runtime: Runtime, expected: bool) -> None:
    case = Case("yolov12n", runtime)
    assert pipeline._under(PROTOCOLS["throughput"], case, 4).throughput is expected
    assert not pipeline._under(PROTOCOLS["latency"], case, 1).throughput
