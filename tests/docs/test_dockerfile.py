"""The Dockerfile takes along what the package needs; it is built where Docker runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from guide import REPOSITORY
from typer.testing import CliRunner

from yoloproof.cli import app
from yoloproof.doctor import Facts

FILE = REPOSITORY / "environments" / "Dockerfile"


def test_pins_it_names_exist() -> None:
    named = re.findall(
        r"(?:^ARG PINS=|--build-arg PINS=|^COPY environments/)(\w[\w/-]+)",
        FILE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert named
    for name in named:
        assert (REPOSITORY / "environments" / f"{name}.txt").is_file(), name


def test_its_base_is_pinned_and_no_stage_runs_as_root() -> None:
    first, *stages = re.split(r"^FROM ", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert re.match(r"python:3\.12-slim-bookworm@sha256:[0-9a-f]{64} AS base\n", first)
    assert stages
    for stage in stages:
        assert stage.startswith("base")
        assert re.findall(r"^USER (\S+)", stage, re.MULTILINE) == ["yoloproof"]


def test_it_takes_along_what_the_build_reads() -> None:
    """The build backend opens the readme and licence files that pyproject.toml names."""
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    readme = re.search(r'^readme = "([^"]+)"', project, re.MULTILINE)
    licences = re.search(r"^license-files = \[([^\]]+)\]", project, re.MULTILINE)
    assert readme
    assert licences
    let_through = FILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8")
    for name in [readme.group(1), *re.findall(r'"([^"]+)"', licences.group(1)), "pyproject.toml", "src"]:
        assert f"!{name}\n" in let_through, name


@pytest.mark.parametrize("pins", ["t4-cu12-tensorrt10", "t4-native"])
def test_its_check_passes_with_its_pins_and_fails_without(pins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FILE.read_text(encoding="utf-8")
    if pins == "t4-native":
        text, cuda = text[text.index("AS native") : text.index("ARG PINS=")], (None, None)
    else:
        text, cuda = text[text.index("ARG PINS=") :], ("12.6", 12)
        assert f"ARG PINS={pins}\n" in text
    pattern = re.search(r"grep -Eq '([^']+)'", text)
    assert pattern
    lines = (FILE.parent / f"{pins}.txt").read_text(encoding="utf-8").splitlines()
    packages = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    torch, onnxruntime = cuda
    machine = Facts(
        "Linux", "x86_64", "3.12.1", 2, 2**34, 2**36, packages, torch_cuda=torch, onnxruntime_cuda=onnxruntime
    )
    for facts, fits in ((machine, True), (replace(machine, torch_cuda="", packages={"torch": "2.13.0+cpu"}), False)):
        monkeypatch.setattr("yoloproof.doctor.facts_from_machine", lambda facts=facts: facts)
        printed = CliRunner().invoke(app, ["doctor", "--gpu", "t4"]).output
        assert bool(re.search(pattern.group(1), printed, re.MULTILINE)) == fits, printed


@pytest.mark.slow
def test_it_builds() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        pytest.skip("Docker is not running here")
    command = [docker, "build", "-q", "-f", str(FILE), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    if re.search(r"Could not find a version|name resolution|no such host", done.stderr):
        pytest.skip("the image's base or the vendors' indexes cannot be reached from here")
    assert done.returncode == 0, done.stderr[-3000:]
