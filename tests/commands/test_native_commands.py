"""A native engine on the road: exported without a GPU, verified and profiled on a driver that computes with NumPy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from cuda_stand_in import CudaStandIn, code, put_in_place
from native_engines import engine, images, network
from yoloproof import export_options
from yoloproof.artifact.build import BUILDERS
from yoloproof.artifact.native import build as native_build
from yoloproof.artifact.native import compiling
from yoloproof.artifact.native.targets import CAPABILITIES, capabilities_from_targets
from yoloproof.artifact.stated import artifact_of_native
from yoloproof.cli import app
from yoloproof.demo import demo_images
from yoloproof.devices import driver_release
from yoloproof.doctor.requirements import NATIVE
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.native import CompiledKernel, KernelFacts, read_native, write_native
from yoloproof.names import ArtifactFormat, Precision, Runtime
from yoloproof.opening import opened
from yoloproof.proof.native import machine_code_check, verify_by_evidence
from yoloproof.proof.verify import verify
from yoloproof.records import Case
from yoloproof.runtime.choice import candidates

TESTS = Path(__file__).parents[1]
DRIVER = driver_release() or 13000  # 13000: the stand-in's CUDA
KEY = (
    f"Stand-in GPU; 40 multiprocessors; driver {DRIVER}; code 7.5; "  # of the engine's tactics, before the file's hash
)


@pytest.fixture
def gpu(monkeypatch):
    driver = CudaStandIn(engine().plan)
    put_in_place(driver, partial(monkeypatch.setitem, sys.modules))
    monkeypatch.setattr("yoloproof.runtime.missing_part", lambda name: None)
    monkeypatch.setattr("yoloproof.runtime.choice.missing_part", lambda name: None)
    monkeypatch.setattr("yoloproof.runtime.native.NativeSession._seconds", lambda self, launches, repeats: 1e-6)
    return driver


@pytest.fixture
def path(tmp_path):
    write_native(engine(), tmp_path / "yolov13n.native")
    return tmp_path / "yolov13n.native"


@pytest.fixture
def compiled(monkeypatch):
    """Kernels are not compiled: their machine code names them, as the stand-in wants it."""
    asked = []

    def compile_kernels(kernels, capability, progress, processes=None):
        asked.append(capability)
        facts = [KernelFacts(one.name, 128, 1024, 40, 32, 0, 8, "3.2.0") for one in kernels]
        return [CompiledKernel(fact, code(index), code(index)) for index, fact in enumerate(facts)]

    class Chain:
        version = "3.2.0"

    monkeypatch.setattr(native_build, "compile_kernels", compile_kernels)
    for module in (native_build, compiling, export_options):
        monkeypatch.setattr(module, "toolchain_for", lambda capability: Chain)
    return asked


def ran(*arguments: str):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_export_writes_an_engine_for_the_asked_gpus(compiled, tmp_path):
    file = tmp_path / "out" / "n.native"
    done = ran("export", "yolov13n", "--runtime", "native", "--target", "t4,sm86", "--imgsz", "64x96", "--random-weights",
               "-o", file, "--explain", "--json", tmp_path / "said.json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert compiled == [(7, 5), (8, 6)]
    read = read_native(file)
    assert set(read.code) == {(7, 5), (8, 6)}
    assert read.plan.images == (1, 3, 64, 96)
    assert "area attention" in done.output
    assert f"yoloproof verify {file}" in done.output
    said = json.loads((tmp_path / "said.json").read_text())
    assert said["format"] == "native"
    assert said["bytes"] == file.stat().st_size


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--format", "native", "--runtime", "tensorrt"], "goes with --runtime native"),
        (["--format", "native", "--precision", "fp32"], "fp16, not"),
        (["--format", "native", "--attention", "published"], "fused attention"),
        (["--format", "native", "--opset", "24"], "leave the other options out"),
        (["--format", "native", "--target", "t800"], "target 't800' is not one of"),
        (
            ["--format", "native", "--nms-iou", "0.5", "--timing-cache", "c", "--end-to-end"],
            "--nms-confidence, --nms-iou and",
        ),
        (["--runtime", "native", "-o", "n.nativ"], "-o n.nativ: a file of --format native ends in .native"),
        (["--runtime", "native", "-o", "n.onnx"], "ends in .native"),
        (["-o", "n.native"], "-o n.native: a file of --format onnx ends in .onnx"),
        (["--explain"], "add --format native"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_weights_are_read(
    compiled, tmp_path, monkeypatch, options, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(b"no weights")
    done = ran("export", "w.pt", "--imgsz", "64", *options)
    assert isinstance(done.exception, YoloproofError)
    assert told in str(done.exception)
    assert not compiled


@pytest.mark.parametrize("target", ["t4", "sm86"])
def test_without_triton_an_export_says_what_installs_it(tmp_path, monkeypatch, target):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(compiling, "version", version)
    (tmp_path / "w.pt").write_bytes(b"no weights")
    error = ran("export", tmp_path / "w.pt", "--runtime", "native", "--target", target).exception
    assert isinstance(error, YoloproofError)
    assert "pip install triton" in str(error)


def test_every_gpu_of_the_issue_is_a_target():
    names = ["t4", "sm75", "sm80", "sm86", "sm87", "sm89", "sm90", "sm100", "sm120", "sm121", "orin,h200", "B200"]
    wanted = [(7, 5), (7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (12, 0), (12, 1), (8, 7), (10, 0)]
    assert [capabilities_from_targets([name])[0] for name in names] == wanted
    assert capabilities_from_targets(names) == tuple(sorted(set(wanted) | {(9, 0)})) == tuple(CAPABILITIES)
    with pytest.raises(YoloproofError, match="target 'sm70' is not one of"):
        capabilities_from_targets(["sm70"])


def test_verify_needs_no_weights(gpu, path):
    done = ran("verify", path)
    assert done.exit_code == 0, done.output
    assert "verified: the same detector" in done.output
    assert "tensor cores in every dense kernel" in done.output


BARE = """
import os, sys
from pathlib import Path
class Absent:
    def find_spec(name, *_):
        if name in os.environ["ABSENT"].split(","):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent)
if "ENGINE" in os.environ:
    from cuda_stand_in import CudaStandIn, put_in_place
    from yoloproof.files.native import read_native
    put_in_place(CudaStandIn(read_native(Path(os.environ["ENGINE"])).plan), sys.modules.__setitem__)
    import yoloproof.devices
    yoloproof.devices.gpu_count = lambda: (1, "")
"""


@cache
def absent() -> str:
    """The modules of every package here that installing NATIVE does not bring, joined by commas."""
    brought, wanted = set(), ["cuda-bindings", *NATIVE]
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name not in brought:
            brought.add(name)
            with suppress(PackageNotFoundError):
                needs = [Requirement(text) for text in requires(name) or ()]
                wanted += [one.name for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]
    packages = packages_distributions()
    gone = {one for one, names in packages.items() if not brought & {canonicalize_name(name) for name in names}}
    assert {"torch", "triton", "onnx", "onnxruntime", "pooch"} & packages.keys() <= gone
    return ",".join(gone - {"yoloproof"})


def ran_bare(path, *arguments):
    """A command on a machine with nothing but the packages of NATIVE, in every process that is started there."""
    (path.parent / "sitecustomize.py").write_text(BARE)
    (path.parent / "t.json").write_text(json.dumps({"schema": 1, "key": KEY + sha256_of(path), "choice": {}}))
    found = os.pathsep.join([str(path.parent), str(TESTS), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "yoloproof", *map(str, arguments)], capture_output=True, text=True, cwd=path.parent,
        env={**os.environ, "PYTHONPATH": found, "ENGINE": str(path), "ABSENT": absent()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("command", "more", "told"),
    [
        ("verify", ["--tactics", "t.json"], "verified: the same detector"),
        ("predict", [demo_images()[0], "--tactics", "t.json"], "000000000257.jpg"),
        ("val", ["--tactics", "t.json"], "COCO bbox AP"),
        ("inspect", [], "8 whole, 0 lost"),
        ("estimate", ["--gpu", "t4"], "ESTIMATE, not a measurement"),
    ],
)
def test_a_native_file_needs_no_framework(path, command, more, told):
    assert told in ran_bare(path, command, path, *more)


def test_a_native_file_is_profiled_compared_and_reported_without_a_framework(path):
    assert "native" in ran_bare(path, "profile", path, "--quick", "--tactics", "t.json", "--json", "a.json")
    ran_bare(path, "compare", "a.json", "a.json", "--allow", "quick")
    ran_bare(path, "report", "a.json", "-o", "a.html")
    assert "yolov13n" in (path.parent / "a.html").read_text()


def test_doctor_needs_no_framework(path):
    assert "has machine code for" in ran_bare(path, "doctor", "--gpu", "t4", "--native", path)


@pytest.mark.parametrize("command", ["verify", "predict", "val", "profile"])
@pytest.mark.parametrize(
    ("held", "told"),
    [(None, "no such file"), ("Another GPU; 40", "holds no tactics of Stand-in GPU.*but those of Another GPU"),
     (KEY + "0" * 64, "but those of Stand-in GPU.*0000")],
)  # fmt: skip
def test_tactics_that_do_not_fit_are_refused_in_one_line(gpu, path, command, held, told):
    tactics = path.parent / "t.json"
    if held is not None:
        tactics.write_text(json.dumps({"schema": 1, "key": held, "choice": {}}))
    more = [str(demo_images()[0])] if command == "predict" else []
    error = ran(command, path, *more, "--tactics", tactics).exception
    assert isinstance(error, YoloproofError)
    assert re.search(told, str(error))
    assert "\n" not in str(error)


def test_tactics_are_a_native_engines(tmp_path):
    (tmp_path / "t.json").write_text("{}")
    error = ran("profile", "yolov13n", "--random-weights", "--tactics", tmp_path / "t.json").exception
    assert isinstance(error, YoloproofError)
    assert "only native engines have tactics" in str(error)


def test_verify_holds_a_file_to_its_evidence(gpu, path, tmp_path):
    built = engine()
    other = replace(built.evidence, outputs=built.evidence.outputs + np.float32(20))
    write_native(replace(built, evidence=other), tmp_path / "wrong.native")
    done = ran("verify", tmp_path / "wrong.native")
    assert done.exit_code == 1
    assert "NOT the same detector" in done.output


def test_verify_against_weights_makes_every_check(gpu, path):
    case = candidates(Case(str(path)))[0]
    assert (case.runtime, case.precision, case.imgsz) == (Runtime.NATIVE, Precision.FP16, (64, 96))
    with opened(replace(case, device="cuda")) as model:
        verdict = verify(path, network("yolov13n"), images(2), session=model.session)
    assert verdict.passed, verdict.failures
    assert {"launch plan", "machine code", "classes"} <= {check.name for check in verdict.checks}


def test_an_engine_of_other_weights_is_not_verified(gpu, path):
    from yoloproof.network import load_network

    with opened(replace(candidates(Case(str(path)))[0], device="cuda")) as model:
        other = load_network("yolov13n", random_weights=True, seed=1)
        assert verify(path, other, images(2), session=model.session).passed is False


def test_weights_that_no_launch_reads_are_told(gpu, path, tmp_path):
    built = engine()
    more = {**built.weights, "forgotten": np.zeros(4, np.float16)}
    write_native(replace(built, weights=more), tmp_path / "more.native")
    with opened(replace(candidates(Case(str(tmp_path / "more.native")))[0], device="cuda")) as model:
        failed = verify_by_evidence(tmp_path / "more.native", model.session).failures
    assert [check.name for check in failed] == ["launch plan"]
    assert "no launch reads forgotten" in failed[0].detail


def test_a_dense_kernel_without_tensor_cores_is_told():
    built = engine()
    kernels = list(built.code[7, 5])
    index = next(i for i, kernel in enumerate(built.plan.kernels) if kernel.name == "conv_kernel")
    kernels[index] = replace(kernels[index], facts=replace(kernels[index].facts, tensor_cores=0))
    check = machine_code_check(replace(built, code={(7, 5): tuple(kernels)}))
    assert check.passed is False
    assert "conv_kernel for 7.5" in check.detail


def test_the_road_builds_an_engine_for_the_gpu_here_once(compiled, gpu, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    case = Case("yolov13n", Runtime.NATIVE, Precision.FP16, imgsz=(64, 96), device="cuda", random_weights=True)
    artifact = BUILDERS[ArtifactFormat.NATIVE](case, tmp_path, lambda *_: None)
    assert (artifact.format, artifact.precision, artifact.imgsz) == (ArtifactFormat.NATIVE, Precision.FP16, (64, 96))
    assert BUILDERS[ArtifactFormat.NATIVE](case, tmp_path, lambda *_: None) == artifact
    assert compiled == [(7, 5)]


def test_a_native_file_runs_on_nothing_else(path):
    with pytest.raises(YoloproofError, match="is a native engine, which onnxruntime cannot run"):
        candidates(Case(str(path), Runtime.ONNXRUNTIME))


def test_what_a_file_states_stands_in_its_artifact(path):
    artifact = artifact_of_native(path)
    assert artifact.metadata["variant"] == "yolov13n"
    assert artifact.bytes == path.stat().st_size
    assert artifact.simplified[0] == "norms"


# End to end: frames in, detections out


@pytest.fixture
def frames(monkeypatch, gpu, tmp_path):
    """An end-to-end engine's file, and the stand-in for its plan."""
    driver = CudaStandIn(engine(end_to_end=True).plan)
    put_in_place(driver, partial(monkeypatch.setitem, sys.modules))
    write_native(engine(end_to_end=True), tmp_path / "frames.native")
    return tmp_path / "frames.native"


def test_export_writes_an_end_to_end_engine(compiled, tmp_path):
    file = tmp_path / "n.native"
    done = ran("export", "yolov13n", "--runtime", "native", "--target", "t4", "--imgsz", "64x96", "--random-weights",
               "--end-to-end", "--nms-confidence", "0.3", "--nms-max", "50", "-o", file, "--explain")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "takes one RGB frame, uint8 [H, W, 3], of up to 24883200 bytes" in done.output
    assert "suppression: score > 0.3, IoU 0.7, at most 50" in done.output
    assert "suppression: greedy choice" in done.output
    read = read_native(file)
    assert (read.plan.frames.most, read.plan.frames.candidates) == (50, 128)
    assert json.loads(read.properties["yoloproof.nms"])["score"] == 0.3
    told = ran("inspect", file)
    assert told.exit_code == 0, told.output
    assert "frame [height, width, 3] uint8" in told.output
    assert "boxes [1, 50, 4] float32" in told.output
    assert "score 0.3" in told.output
    assert "input uint8" in told.output
    assert '"order": "RGB", "most_bytes": 24883200' in told.output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--end-to-end"], "is for native engines"),
        (["--runtime", "native", "--end-to-end", "--batch", "2"], "one frame at a time"),
        (["--runtime", "native", "--end-to-end", "--nms-format", "ultralytics"], "leave --nms-format out"),
        (["--runtime", "native", "--end-to-end", "--nms-confidence", "2"], "must be between 0 and 1"),
        (["--runtime", "native", "--nms"], "use --end-to-end"),
    ],
)
def test_options_of_end_to_end_that_do_not_fit_are_refused(compiled, tmp_path, options, told):
    done = ran("export", "yolov13n", "--random-weights", "--imgsz", "64", "-o", tmp_path / "n.native", *options)
    assert isinstance(done.exception, YoloproofError)
    assert told in str(done.exception)
    assert not compiled


def test_an_end_to_end_engine_is_verified_by_its_evidence_and_its_ends(frames):
    done = ran("verify", frames)
    assert done.exit_code == 0, done.output
    for told in ("outputs, the file's own images", "letterbox: frames of 640x480", "inside the engine and outside"):
        assert told in done.output
    assert "verified: the same detector" in done.output


def test_an_end_to_end_engine_is_verified_against_weights(frames):
    case = candidates(Case(str(frames)))[0]
    with opened(replace(case, device="cuda")) as model:
        verdict = verify(frames, network("yolov13n"), images(2), session=model.session)
    assert verdict.passed, verdict.failures
    assert {"launch plan", "sensitivity", "letterbox", "suppression"} <= {check.name for check in verdict.checks}


def test_thresholds_that_are_not_those_stated_fail(gpu, frames, tmp_path):
    built = engine(end_to_end=True)
    other = json.dumps({**json.loads(built.properties["yoloproof.nms"]), "score": 0.5, "max_detections": 3})
    write_native(replace(built, properties={**built.properties, "yoloproof.nms": other}), tmp_path / "other.native")
    with opened(replace(candidates(Case(str(tmp_path / "other.native")))[0], device="cuda")) as model:
        failed = verify_by_evidence(tmp_path / "other.native", model.session).failures
    assert [check.name for check in failed] == ["suppression"]


def test_predict_hands_pictures_of_different_sizes_over_as_they_are(frames, tmp_path):
    pictures = [str(one) for one in demo_images()[:2]]
    done = ran("predict", frames, *pictures, "--json", tmp_path / "found.json", "--confidence", "0")
    assert done.exit_code == 0, done.output
    records = json.loads((tmp_path / "found.json").read_text())["images"]
    assert len({(record["height"], record["width"]) for record in records}) == 2
    for record in records:
        assert record["detections"]


@pytest.mark.parametrize(
    ("command", "more", "told"),
    [("val", [], "COCO bbox AP"), ("profile", ["--quick"], "letterbox and suppression are inside its time")],
)
def test_an_end_to_end_engine_needs_no_framework(frames, command, more, told):
    assert told in ran_bare(frames, command, frames, *more, "--tactics", "t.json")
