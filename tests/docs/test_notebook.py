"""The notebook, executed on the CPU with a trained checkpoint in place of the official weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from guide import REPOSITORY, shared_folder

NOTEBOOK = REPOSITORY / "notebooks" / "t4.ipynb"


def test_notebook_is_stored_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [
        cell for cell in cells if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"])
    ] == []


def _install_cell(folder: Path) -> subprocess.CompletedProcess[str]:
    """The first code cell on a machine without yoloproof (-S: no site-packages), its commands printed instead of run."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    cell = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    show = "import subprocess\nsubprocess.run = lambda command, **options: print(*command)\n"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "YOLOPROOF"))
    }
    command = [sys.executable, "-S", "-c", show + cell]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_it_installs_although_the_clone_beside_it_has_the_packages_name(tmp_path: Path) -> None:
    """/content/yoloproof, as a clone lies in a hosted notebook, can be imported as an empty package."""
    shutil.copytree(REPOSITORY / "environments", tmp_path / "yoloproof" / "environments")
    done = _install_cell(tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split(" -m ")[1] for line in done.stdout.splitlines()]
    pins = "yoloproof/environments/t4-cu12-rtx.txt"
    assert lines == [
        "pip uninstall -q -y onnxruntime",
        f"pip install -q -r {pins}",
        "pip install -q --no-deps yoloproof",
        "pip install -q cuda-bindings>=12.9,<13",
        f"pip install -q --no-deps --target {Path.home()}/.cache/yoloproof/triton-3.2.0 triton==3.2.0",
    ]
    assert (tmp_path / pins).is_file()


def test_it_says_that_the_clone_is_missing(tmp_path: Path) -> None:
    done = _install_cell(tmp_path)
    assert done.returncode == 1
    assert "clone or upload it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (the docs extra)")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (the docs extra)")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed (the docs extra)")
    shared = shared_folder()
    if shared is None:
        pytest.skip("shared/reference with the trained checkpoint is not here")
    shutil.copy(shared / "reference" / "yolov13n-coco128.pt", tmp_path / "yolov13n.pt")
    monkeypatch.setenv("YOLOPROOF_MODEL", "yolov13n.pt")
    monkeypatch.setenv("YOLOPROOF_IMGSZ", "320")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output
    )
    assert "stripped" in printed
    assert "NOT the same detector: " in printed
    result = json.loads((tmp_path / "results" / "profile.json").read_text())
    passed = {entry["artifact"]["attention"]: entry["proof"]["passed"] for entry in result["entries"]}
    assert passed == {"fused": True, "stripped": False}
