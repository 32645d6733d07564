"""The pinned files (test_doctor_command.py holds them to what the doctor prints): complete, and installable as far as the registry goes."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from stand_in_machines import cpu_machine

from yoloproof.doctor import ENVIRONMENTS, Environment, GpuFacts, diagnose, requirements_text
from yoloproof.doctor.package_checks import MINIMUMS
from yoloproof.doctor.requirements import PINS

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 to read pyproject.toml")

pytestmark = pytest.mark.xdist_group("index")  # the package index is asked once
every_environment = pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda row: row.name)


def test_no_other_files(repository: Path) -> None:
    found = {file.stem for file in (repository / "environments").glob("*.txt")}
    assert found == {environment.name for environment in ENVIRONMENTS}


@every_environment
def test_every_dependency_is_pinned_within_its_bounds(environment: Environment, repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {row.name: str(row.specifier).removeprefix("==") for row in _requirements(environment)}
    native = environment.engine == "native"
    for text in [*project["dependencies"], *(project["optional-dependencies"]["native"] if native else ())]:
        wanted = Requirement(text)
        name = wanted.name
        if native and name in ("torch", "onnx", "onnxscript", "onnxruntime", "pooch"):
            assert name not in pinned
            continue
        if name == "onnxruntime" and "onnxruntime-gpu" in pinned:
            name = "onnxruntime-gpu"
        assert name in pinned, f"{wanted.name} is not pinned"
        assert wanted.specifier.contains(Version(pinned[name]).public), f"{name} {pinned[name]} against {wanted}"


def test_minimums_are_those_of_the_project(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    asked = {row.name: str(row.specifier) for row in map(Requirement, [*project["dependencies"], *extras])}
    for name, (minimum, *_) in MINIMUMS.items():
        assert asked[name.removesuffix("-gpu")] == f">={minimum}", name


@every_environment
def test_doctor_finds_its_own_pins_ready(environment: Environment) -> None:
    """With exactly these packages installed, and the driver that the file names, nothing is in the way."""
    pins = {row.name: str(row.specifier).removeprefix("==") for row in _requirements(environment)}
    if environment.capability is None:
        facts = cpu_machine(packages=pins)
    else:
        driver = re.search(r"NVIDIA driver (\d+) or newer", requirements_text(environment))
        assert driver
        gpu = GpuFacts("named", environment.capability)
        cuda = {12: "12.6", 13: "13.0"}[environment.cuda]
        torch = None if environment.engine == "native" else cuda
        facts = cpu_machine(
            packages=pins, gpu=gpu, driver=f"{driver.group(1)}.1", torch_cuda=torch,
            onnxruntime_cuda=environment.cuda if torch else None,
        )  # fmt: skip
    ways = {finding.code: finding.status for finding in diagnose(facts) if finding.code.startswith("way-")}
    if environment.engine == "native":  # no T4 has run one: as good as it gets
        assert (ways["way-native"], ways["way-tensorrt"]) == ("risky", "missing")
        return
    used = {"10": "way-tensorrt", "11": "way-tensorrt", "rtx": "way-tensorrt-rtx", "none": "way-cpu"}[
        environment.engine
    ]
    assert ways[used] == "ready"
    if environment.capability is not None:
        assert (ways["way-torch"], ways["way-onnxruntime"]) == ("ready", "ready")


@every_environment
def test_only_one_onnxruntime_and_no_flash_attn(environment: Environment) -> None:
    names = [row.name for row in _requirements(environment)]
    assert len([name for name in names if name.startswith("onnxruntime")]) == (environment.engine != "native")
    assert "flash-attn" not in names


@pytest.mark.parametrize("name", ["cu13-rtx", "cu13-tensorrt11", "native"])
def test_locked_files_hold_the_same_pins_each_with_its_hashes(name: str, repository: Path) -> None:
    text = (repository / "environments" / "locked" / f"{name}.txt").read_text(encoding="utf-8")
    rows = re.findall(r"^(\S+==\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE)
    assert "".join(f"{pin} \\\n{hashes}" for pin, hashes in rows) == "".join(text.splitlines(keepends=True)[2:])
    pins = {pin for pin, _ in rows}
    environments = [row for row in ENVIRONMENTS if row.name.endswith(f"-{name}")]
    assert environments
    for environment in environments:
        assert {str(row) for row in _requirements(environment)} <= pins


@pytest.fixture(scope="module")
def resolved() -> dict[str, set[str]]:
    """What the package index makes of all pins, by metadata alone: three questions instead of one for each file.

    If a set of exact pins resolves, so does every part of it; only the two onnxruntime-gpu versions exclude each other.
    TensorRT 10's libraries are on NVIDIA's index alone: of it only the package itself is looked up.
    """
    native = {_public(row) for one in ENVIRONMENTS if one.engine == "native" for row in _requirements(one)}
    rows = {_public(row) for one in ENVIRONMENTS if one.engine != "native" for row in _requirements(one)}
    old = {row for row in rows if row.startswith("tensorrt-cu") and "==10." in row}
    gpu = {cuda: f"onnxruntime-gpu=={PINS[f'onnxruntime-gpu cu{cuda}']}" for cuda in (12, 13)}
    rest = rows - old - set(gpu.values())
    with ThreadPoolExecutor() as pool:
        asked = {
            "cu12": pool.submit(_uv, rest | {gpu[12].replace("==", "[cudnn]==")}),
            "cu13": pool.submit(_uv, rest | {gpu[13].replace("==", "[cudnn]==")}),
            "native": pool.submit(_uv, native),
            "old": pool.submit(_uv, old, "--no-deps"),
            "volta": pool.submit(_uv, {f"tensorrt-cu12=={PINS['tensorrt 10 volta']}"}, "--no-deps"),
        }
    return {name: _pins_of(answer.result()) for name, answer in asked.items()}


@every_environment
def test_resolves_as_far_as_the_package_index_goes(environment: Environment, resolved: dict[str, set[str]]) -> None:
    """PyTorch in its default build; what only a vendor's index has is in test_vendor_indexes."""
    pins = {_public(row) for row in _requirements(environment)}
    if environment.engine == "native":
        assert pins <= resolved["native"]
        assert not [pin for pin in resolved["native"] if pin.startswith(("torch==", "nvidia-cu", "triton=="))]
    else:
        assert pins <= resolved["cu13" if environment.cuda == 13 else "cu12"] | resolved["old"]


def test_pins_of_gpus_without_a_file_exist(resolved: dict[str, set[str]]) -> None:
    assert resolved["volta"] == {f"tensorrt-cu12=={PINS['tensorrt 10 volta']}"}


@pytest.mark.parametrize("cuda", [12, 13])
def test_tensorrt_rtx_comes_with_its_libraries(cuda: int, resolved: dict[str, set[str]]) -> None:
    assert f"tensorrt-rtx-cu{cuda}-libs=={PINS['tensorrt-rtx']}" in resolved["cu13"]


def test_onnxruntime_gpu_asks_for_the_cuda_we_say(resolved: dict[str, set[str]]) -> None:
    """PyTorch brings cuDNN for CUDA 13 in both; the one for CUDA 12 can only be onnxruntime-gpu's wish."""
    assert [pin for pin in resolved["cu12"] if pin.startswith("nvidia-cudnn-cu12==")]
    assert not [pin for pin in resolved["cu13"] if pin.startswith("nvidia-cudnn-cu12==")]


def test_default_pytorch_is_the_cuda_13_build(resolved: dict[str, set[str]]) -> None:
    assert any(pin.startswith("nvidia-cudnn-cu13==") for pin in resolved["cu12"])


@pytest.mark.parametrize(
    ("requirement", "host", "folder"),
    [
        (f"torch=={PINS['torch']}+cu126", "download.pytorch.org", "/whl/cu126"),
        (f"torch=={PINS['torch']}+cpu", "download.pytorch.org", "/whl/cpu"),
        (f"tensorrt-cu12-libs=={PINS['tensorrt 10']}", "pypi.nvidia.com", ""),
    ],
)
def test_vendor_indexes(requirement: str, host: str, folder: str) -> None:
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError as error:
        pytest.skip(f"{host} cannot be reached from here ({error}): {requirement} is not resolved")
    done = _uv({requirement}, "--no-deps", "--extra-index-url", f"https://{host}{folder}")
    assert requirement in _pins_of(done)


def _requirements(environment: Environment) -> list[Requirement]:
    lines = requirements_text(environment).splitlines()
    return [Requirement(line) for line in lines if not line.startswith(("#", "--"))]


def _public(row: Requirement) -> str:
    return f"{row.name}=={Version(str(row.specifier).removeprefix('==')).public}"


def _uv(requirements: set[str], *options: str) -> subprocess.CompletedProcess[str]:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    target = ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_39"]
    target += ["--index-strategy", "unsafe-best-match", "--no-annotate", "--no-header", "-q"]
    command, text = [uv, "pip", "compile", "-", *target, *options], "\n".join(sorted(requirements))
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=200, check=False)


def _pins_of(done: subprocess.CompletedProcess[str]) -> set[str]:
    if done.returncode and re.search(r"[Ff]ailed to fetch|error sending request|dns error|timed out", done.stderr):
        pytest.skip("the package index cannot be reached from here")
    assert done.returncode == 0, done.stderr
    return {re.sub(r"\[.*?\]", "", line) for line in done.stdout.split()}
