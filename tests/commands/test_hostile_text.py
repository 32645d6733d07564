"""Names in files are only text: no markup, no codes for the terminal, no formulas, and nothing they do costs a result."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from tiny_onnx import tiny_detector
from yoloproof.cli import app
from yoloproof.demo import demo_images
from yoloproof.exporting import Export, _onnx
from yoloproof.names import Runtime
from yoloproof.network import network_from_variant, variant_from_name
from yoloproof.records import Case

MARKUP, FORMULA, ESCAPE = "[/x]", "=cmd|'/C calc'!A0", "\x1b[31mred\x07"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of 80 classes whose names and producer are no plain words, in a file of such a name."""
    path = tmp_path_factory.mktemp("evil") / "[bold]m.onnx"
    model = onnx.load(str(tiny_detector(path, size=64)))
    names = {i: (MARKUP, FORMULA, ESCAPE)[i % 3] for i in range(80)}
    onnx.helper.set_model_props(model, {"names": str(names), "author": MARKUP, "description": MARKUP})
    model.producer_name = MARKUP
    onnx.save(model, str(path))
    return path


def test_names_are_printed_whole_and_steer_nothing(evil: Path, tmp_path: Path) -> None:
    data = tmp_path / "set"
    data.mkdir()
    shutil.copy(demo_images()[0], data / "a.jpg")
    (data / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    said = CliRunner().invoke(app, ["val", str(evil), "--per-class", "--data", str(data)])
    assert said.exit_code == 0, said.exception
    assert "[bold]m.onnx" in said.output
    assert "[/x]" in said.output
    assert "\x1b" not in said.output
    table, document = tmp_path / "p.csv", tmp_path / "p.json"
    arguments = ["predict", str(evil), str(demo_images()[0]), "--confidence", "0", "--csv", str(table)]
    said = CliRunner().invoke(app, [*arguments, "--json", str(document)])
    assert said.exit_code == 0, said.exception
    assert "\x1b" not in said.output
    with table.open() as file:
        cells = [cell for row in list(csv.reader(file))[1:] for cell in row]
    assert cells
    assert not [
        cell for cell in cells if cell.startswith(("=", "@", "+")) or (cell.startswith("-") and not is_number(cell))
    ]
    assert json.loads(document.read_text())["partial"] is False


def is_number(cell: str) -> bool:
    return cell.removeprefix("-").replace(".", "", 1).isdigit()


@pytest.mark.parametrize("name", [FORMULA, "-1+1", "+1", "@sum", "\tx"])
def test_no_cell_is_a_formula(name: str) -> None:
    import numpy as np

    from yoloproof.detection.writing import csv_rows

    (row,) = csv_rows(name, None, np.array([[-1, 0, 1, 1, 0.5, 0]], np.float32), {0: name})
    assert row[0] == row[3] == f"'{name}"
    assert row[5] == -1


def test_the_next_step_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my weights; rm -rf $HOME"
    folder.mkdir()
    tiny_detector(tmp_path / "tiny.onnx")

    def exported(network: object, case: object, path: Path, options: object) -> object:
        from yoloproof.artifact.onnx import read_artifact

        path.write_bytes((tmp_path / "tiny.onnx").read_bytes())
        return read_artifact(path)

    monkeypatch.setattr("yoloproof.exporting.onnx_from_network", exported)
    network = network_from_variant(variant_from_name("yolov12n"), 80)
    case = Case(str(folder / "a.pt"), Runtime.ONNXRUNTIME)
    done = _onnx(network, case, Export(), folder / "b.onnx", lambda *_: None)
    said = next(line for line in done.lines if line.startswith("next: "))
    assert shlex.split(said.removeprefix("next: ")) == [
        "yoloproof", "verify", str(folder / "b.onnx"), "--against", str(folder / "a.pt")
    ]  # fmt: skip


def test_a_second_signal_soon_after_the_first_loses_nothing(evil: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    running = subprocess.Popen(
        [sys.executable, "-m", "yoloproof", "profile", str(evil), "--quick", "--json", str(path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 100
        while not path.exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        first = path.stat()
        while path.stat().st_ino == first.st_ino and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) in (130, -signal.SIGINT)
    finally:
        running.kill()
    kept = json.loads(path.read_text())
    assert kept["partial"]
    assert kept["entries"][0]["processes"][0]["samples_s"]
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
