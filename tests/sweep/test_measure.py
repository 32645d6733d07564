"""The runner of a real sweep: what it asks the pipeline for, and what it makes of the answer."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from yoloproof import pipeline
from yoloproof.artifact.build import build
from yoloproof.demo import FOLDER
from yoloproof.files.onnx import load_onnx
from yoloproof.names import ArtifactFormat, Attention, Precision, Runtime, Weights
from yoloproof.network import load_network, save_safetensors
from yoloproof.records import Artifact, Case, Cpu, Entry, Machine, ModelFacts, Protocol, Result, Run, SessionFacts, Tool
from yoloproof.sweep import measure
from yoloproof.sweep.plan import read_plan

FOUR = 'models = ["yolov13n"]\nattentions = ["fused", "stripped"]\nruntimes = ["onnxruntime", "openvino"]\n'


def plan(tmp_path, words):
    path = tmp_path / "plan.toml"
    path.write_text(words)
    return read_plan(path)


def test_runtimes_that_take_the_same_file_share_its_export(tmp_path):
    cases = [case for cell in plan(tmp_path, FOUR).cells for case in cell.cases]
    exported = [measure.exported_case(case) for case in cases]
    assert len(exported) == 4
    assert len(set(exported)) == 3, "stripped for both, fused with each runtime's own simplifications"
    fused = cases[0]
    assert measure.exported_case(replace(fused, runtime=Runtime.PYTORCH)) is None
    assert measure.exported_case(replace(fused, model="other.onnx")) is None
    assert measure.exported_case(replace(fused, batch=2)) not in exported
    assert measure.exported_case(replace(fused, precision=Precision.BF16)) == exported[0], "its file is float32"
    on_gpu = replace(fused, runtime=Runtime.TENSORRT, device="cuda")
    assert measure.exported_case(on_gpu) != exported[0], "a GPU's simplifications are others"


def test_what_was_exported_is_what_the_pipeline_finds(tmp_path):
    """Under the name that `build` looks for, of the case as it is measured, for random weights and a file's own."""
    own = tmp_path / "own.safetensors"
    save_safetensors(load_network("yolov12n", random_weights=True, classes=3), own)
    words = f'models = ["{own}", "yolov12n"]\nimgsz = [64]\ninterleave = ["model"]\n[options]\nrandom_weights = true\n'
    (cell,) = plan(tmp_path, words).cells
    folder = tmp_path / "artifacts"
    folder.mkdir()
    exported = [measure.export(measure.exported_case(case), {}, folder) for case in cell.cases]
    outputs = [load_onnx(path).graph.output[0].type.tensor_type.shape.dim[1].dim_value for path in exported]
    assert outputs == [4 + 3, 4 + 80]
    steps = []
    found = [
        build(case, ArtifactFormat.ONNX, folder, lambda what, share=None: steps.append(what)).path
        for case in cell.cases
    ]
    assert found == exported
    assert not [step for step in steps if "exporting" in step], "nothing is exported again"
    assert {"--random-weights", str(own)} <= set(measure.profile_command(cell))


def test_a_cell_is_one_call_of_profile_with_its_files_in_place(tmp_path, monkeypatch):
    own = tmp_path / "own.pt"
    own.write_bytes(b"weights")
    words = FOUR.replace('"yolov13n"', f'"{own}"')
    cell = plan(tmp_path, words + '[options]\nthreads = 2\nquick = true\ndata = "demo"\nimages = ["/a.jpg"]\n').cells[0]
    local, folder, asked = tmp_path / "node" / "own.pt", tmp_path / "work", []

    def profile(cases, protocol, options):
        asked.append((cases, protocol, options))
        run = Run(
            tool=Tool("yoloproof", "0"), created="", command=("child.py",), protocol=Protocol(name=protocol.name),
            machine=Machine(cpu=Cpu()),
        )  # fmt: skip
        return Result(tool=run.tool, created="", command=run.command, runs=(run,), entries=tuple(map(entry, cases)))

    def entry(case):
        return Entry(
            case=case, model=ModelFacts(name="own", weights=Weights.TRAINED, source=case.model),
            artifact=Artifact(format=ArtifactFormat.ONNX, path=folder / "own-fused.onnx"),
            runtime=SessionFacts(name=case.runtime),
        )  # fmt: skip

    monkeypatch.setattr(pipeline, "profile", profile)
    monkeypatch.setattr(os, "getpriority", lambda which, who: 15)
    result = measure.measure(cell, {str(own): local}, folder)
    ((cases, protocol, options),) = asked
    assert cases == [
        Case(str(local), Runtime.ONNXRUNTIME, Precision.FP32, attention, threads=2)
        for attention in (Attention.FUSED, Attention.STRIPPED)
    ]
    assert (protocol.name, protocol.quick) == ("latency", True)
    assert options == pipeline.Options((Path("/a.jpg"),), folder, FOLDER)
    assert [entry.case.model for entry in result.entries] == [str(own)] * 2, "the plan's own name for it"
    assert [entry.model.source for entry in result.entries] == [str(own)] * 2
    assert [entry.artifact.path for entry in result.entries] == [Path("own-fused.onnx")] * 2, "no folder of the node"
    assert " ".join(result.runs[0].command) == (
        f"yoloproof profile {own} --runtime onnxruntime --attention fused --attention stripped --precision fp32 "
        f"--imgsz 640 --batch 1 --device cpu --protocol latency --threads 2 --data {FOLDER.relative_to(FOLDER.parents[2])}"
        " --quick"
    )
    assert [warning.code for warning in result.runs[0].warnings] == ["niceness"]
