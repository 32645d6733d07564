"""`yoloproof doctor` as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stand_in_machines import HEALTHY, cpu_machine
from typer.testing import CliRunner

from yoloproof.cli import app
from yoloproof.doctor import ENVIRONMENTS, Environment, requirements_text
from yoloproof.errors import YoloproofError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["doctor", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_here_the_cpu_way_is_ready(tmp_path: Path) -> None:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "yoloproof", "doctor", "--json", "answer.json", "--gpu", "none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ready" in done.stdout.splitlines()[0]
    assert "\x1b" not in done.stdout, "no colours in a pipe"
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["runs"] is True
    assert answer["findings"][0]["code"] == "way-cpu"
    assert answer["facts"]["packages"]["torch"]
    assert time.perf_counter() - started < 30, "it must not import PyTorch"


def test_json_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "answer.json"
    file.write_text("mine")
    with pytest.raises(YoloproofError, match="nothing was overwritten"):
        CliRunner().invoke(app, ["doctor", "--json", str(file)], catch_exceptions=False)
    assert file.read_text() == "mine"


def test_exit_status_1_when_the_main_job_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = cpu_machine(packages={name: version for name, version in HEALTHY.items() if name != "torch"})
    monkeypatch.setattr("yoloproof.doctor.facts_from_machine", lambda: broken)
    result = CliRunner().invoke(app, ["doctor"], catch_exceptions=False)
    assert result.exit_code == 1
    assert "cannot run on this CPU" in result.output


def test_t4_names_flash_attn_2_unusable_and_unnecessary() -> None:
    line = next(line for line in run("--gpu", "t4").splitlines() if "flash-attn 2.x" in line)
    assert line.startswith("cannot work")
    assert "not needed" in line


def test_requirements_of_a_t4(tmp_path: Path) -> None:
    assert run("--gpu", "t4", "--requirements", "--cuda", "13", "--tensorrt", "rtx") == next(
        requirements_text(row) for row in ENVIRONMENTS if row.name == "t4-cu13-rtx"
    )


def test_named_gpu_whose_packages_are_missing_is_not_said_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloproof.doctor.facts_from_machine", cpu_machine)
    assert "could run, once what is listed above as missing is installed, on Tesla T4." in run("--gpu", "t4")
    assert "can run on this CPU." in run("--gpu", "none")


def test_doctor_works_where_nothing_is_installed() -> None:
    """It needs typer, rich and packaging: the machine that asks for it may have no more."""
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'onnx', 'onnxruntime', 'openvino', 'psutil', 'pynvml', 'cv2', 'scipy', 'jinja2'):\n"
        "    sys.modules[name] = None\n"
        "sys.argv = ['yoloproof', 'doctor', *sys.argv[1:]]\n"
        "from yoloproof.cli import main; main()"
    )
    for arguments in ([], ["--gpu", "t4", "--requirements"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda row: row.name)
def test_files_are_what_the_command_prints(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloproof.doctor.facts_from_machine", cpu_machine)
    repository = Path(__file__).resolve().parents[2]
    file = repository / "environments" / f"{environment.name}.txt"
    arguments = ["--gpu", {"cpu": "none", "t4": "t4", "ampere-ada": "a10", "hopper": "h100"}[environment.family]]
    if environment.cuda:
        arguments += ["--cuda", str(environment.cuda), "--tensorrt", environment.engine]
    command = " ".join(["yoloproof doctor --requirements", *arguments])
    assert run("--requirements", *arguments) == file.read_text(encoding="utf-8"), (
        f"{command} > environments/{file.name}"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--requirements", "--json", "pins.json"], "print something else"),
        (["--knowledge", "--json", "rows.json"], "print something else"),
        (["--gpu", "t5"], "no GPU called"),
        (["--cuda", "12"], "add --requirements"),
        (["--gpu", "t4", "--requirements", "--tensorrt", "9"], "choose from 10, 11, rtx, native, none"),
        (["--gpu", "t4", "--requirements", "--cuda", "11"], "take 12 or 13"),
        (["--gpu", "h100", "--requirements", "--tensorrt", "rtx"], "does not run on NVIDIA H100"),
        (["--gpu", "v100", "--requirements", "--cuda", "13"], "take --cuda 12"),
        (["--gpu", "v100", "--requirements", "--tensorrt", "11"], "take --tensorrt 10"),
        (["--gpu", "v100", "--requirements", "--tensorrt", "native"], "take --tensorrt 10"),
        (["--native", "nowhere.native"], "no such file"),
        (["--gpu", "rtx5090", "--requirements", "--cuda", "12"], "take --cuda 13"),
        (["--gpu", "orin", "--requirements"], "JetPack"),
        (["--gpu", "none", "--requirements", "--cuda", "12"], "need a GPU"),
    ],
)
def test_combinations_that_cannot_work(arguments: list[str], message: str) -> None:
    with pytest.raises(YoloproofError, match=message):
        CliRunner().invoke(app, ["doctor", *arguments], catch_exceptions=False)


def test_wrong_use_is_one_line_and_status_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "yoloproof", "doctor", "--gpu", "t5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("yoloproof: doctor: no GPU called 't5'; known: t4")
