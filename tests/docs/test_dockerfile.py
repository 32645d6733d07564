"""The Dockerfile takes along what the package needs; it is built where Docker runs."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from guide import REPOSITORY

FILE = REPOSITORY / "environments" / "Dockerfile"


def test_pins_it_names_exist() -> None:
    named = re.findall(r"(?:^ARG PINS=|--build-arg PINS=)(\S+)", FILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    for name in named:
        assert (REPOSITORY / "environments" / f"{name}.txt").is_file(), name


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
