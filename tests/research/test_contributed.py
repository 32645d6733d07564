"""What is wrong with a contributed file is said, and nothing is said against our own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from contributed import CHECKS, WITHOUT_WEIGHTS, objections
from made_results import made_entry, made_process, made_result, made_run
from yoloproof.measurement.protocol import PROTOCOLS, protocol_from_name
from yoloproof.measurement.statistics import summarize
from yoloproof.names import ArtifactFormat, Runtime, Weights
from yoloproof.records import Check, Cpu, Entry, Gpu, Machine, Process, Reading, Result, Verdict
from yoloproof.results.file import read_result, write_result

PROTOCOL = PROTOCOLS["latency"]
GPU = Gpu(
    name="Tesla T4", uuid="GPU-1", compute_capability="7.5", driver="580.1", power_limit_w=70.0, max_sm_clock_hz=1.59e9
)
MACHINE = Machine(
    cpu=Cpu(model="Xeon"),
    libraries={"numpy": "2.4"},
    device="cuda:0",
    gpu=GPU,
    during=(Reading(at_s=1.0, sm_clock_hz=1e9),),
)


def entry(attention: str = "fused", proved: bool = True, samples: int = 25) -> Entry:
    whole = (made_process(i, [1e-3 * (1 + 0.01 * j) for j in range(samples)]) for i in range(6))
    processes = tuple(replace(one, load_s=(1e-4,) * samples, fetch_s=(1e-4,) * samples) for one in whole)
    found = made_entry(attention=attention, runtime="tensorrt", proved=proved)
    proof = Verdict(tuple(Check(name, proved, {}, "") for name in CHECKS[ArtifactFormat.ONNX]))
    return replace(found, proof=proof, processes=processes, summary=summarize(processes, PROTOCOL, 1, Runtime.TENSORRT))


def cut(format: ArtifactFormat, weights: Weights, *names: str) -> Entry:
    """A row whose proof has these checks alone."""
    found = entry()
    return replace(
        found, artifact=replace(found.artifact, format=format), model=replace(found.model, weights=weights),
        proof=Verdict(tuple(Check(name, True, {}, "") for name in names)),
    )  # fmt: skip


def result(*entries: Entry, **changes: object) -> Result:
    run = made_run(protocol=replace(PROTOCOL, seed=7), machine=MACHINE)
    return made_result(entries or (entry(), entry("stripped", proved=False)), replace(run, **changes))


def test_a_whole_result_is_taken() -> None:
    assert objections(result()) == []
    ours = read_result(Path(__file__).parents[2] / "results" / "h200.json")
    assert objections(ours) == []


def test_a_process_that_only_opened_a_row_is_none_of_those_that_are_asked_for() -> None:
    alone = Process(process=6, cold_start_s=0.4, open_only=True)
    timed = entry().processes
    assert objections(result(replace(entry(), processes=(*timed, alone)))) == []
    (line,) = objections(result(replace(entry(), processes=(*timed[:5], alone))))
    assert "5 of 6 processes" in line


@pytest.mark.parametrize("format", WITHOUT_WEIGHTS)
def test_a_foreign_files_proof_needs_no_weights(format: ArtifactFormat) -> None:
    assert objections(result(cut(format, Weights.FOREIGN, *WITHOUT_WEIGHTS[format]))) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (result(entry(proved=False)), "not proved: weights, constants"),
        (result(replace(entry(), proof=Verdict())), "no check was made"),
        (result(cut(ArtifactFormat.ONNX, Weights.TRAINED, "weights")), "its proof lacks constants, attention"),
        (result(cut(ArtifactFormat.ONNX, Weights.TRAINED, *WITHOUT_WEIGHTS[ArtifactFormat.ONNX])), "its proof lacks weights"),
        (result(cut(ArtifactFormat.ENGINE, Weights.TRAINED, "engine")), "its proof lacks examined"),
        (result(cut(ArtifactFormat.PYTORCH, Weights.RANDOM, "examined", "sensitivity")), "its proof lacks outputs"),
        (result(cut(ArtifactFormat.NATIVE, Weights.FOREIGN, "launch plan")), "its proof lacks machine code, outputs"),
        (result(replace(entry(), summary=replace(entry().summary, median_s=1e-3))), "samples do not give its median"),
        (result(replace(entry(), processes=entry().processes[:5])), "5 of 6 processes"),
        (result(entry(samples=19)), "process 0 has 19 samples"),
        (result(replace(entry(), processes=(replace(entry().processes[0], complete=False), *entry().processes[1:]))),
         "process 0 is not whole"),
        (result(replace(entry(), processes=tuple(replace(one, load_s=(1e-4,)) for one in entry().processes))),
         "not of one length"),
        (result(replace(entry(), partial=True)), "not timed to its end"),
        (result(protocol=replace(PROTOCOL, runs=10)), "is not this version's protocol"),
        (result(protocol=protocol_from_name("latency", quick=True)), "--quick"),
        (result(interrupted=True), "cut short"),
        (result(machine=None), "not reached"),
        (result(machine=replace(MACHINE, gpu=replace(GPU, uuid=None))), "of the GPU there is no uuid"),
        (result(machine=replace(MACHINE, during=())), "clock was not watched"),
        (result(machine=replace(MACHINE, gpu=replace(GPU, other_processes=2))), "2 other processes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(wrong: Result, told: str) -> None:
    assert [line for line in objections(wrong) if told in line], objections(wrong)


@pytest.mark.parametrize("name", ["cpu", "export-cpu", "server-cpu"])
def test_the_proofs_of_our_own_rows_are_whole(name: str) -> None:
    """Their machines are CPUs and their protocols not all today's, so that only this is asked of them."""
    ours = read_result(Path(__file__).parents[2] / "results" / f"{name}.json")
    assert not [line for line in objections(ours) if "proof" in line]


def test_the_command_says_what_won_and_what_cannot_be_read(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "research" / "contributed.py"
    slower = tuple(replace(one, samples_s=tuple(2 * s for s in one.samples_s)) for one in entry().processes)
    row = made_entry("yolov13n", runtime="native")
    row = replace(row, proof=entry().proof, processes=slower, summary=summarize(slower, PROTOCOL, 1, Runtime.NATIVE))
    write_result(result(entry(), row), tmp_path / "t4.json")
    (tmp_path / "bad.json").write_text("{}")
    run = lambda *names: subprocess.run(  # noqa: E731
        [sys.executable, str(script), *(str(tmp_path / name) for name in names)], capture_output=True, text=True
    )
    good = run("t4.json")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "fit for results/" in good.stdout
    assert "fastest verified: yolov13n fused fp32 tensorrt" in good.stdout
    both = run("bad.json", "t4.json")
    assert (both.returncode, "fit for results/" in both.stdout, "bad.json" in both.stdout) == (1, True, True)


def test_what_was_taken_passes_the_check() -> None:
    """Contributed files stand in results/ as t4-HOST-1.json; none has come yet."""
    for file in sorted((Path(__file__).parents[2] / "results").glob("t4-*.json")):
        assert objections(read_result(file)) == [], file.name
