"""The notebook, executed on the CPU with a trained checkpoint in place of the official weights."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from guide import REPOSITORY, shared_folder

NOTEBOOK = REPOSITORY / "notebooks" / "t4.ipynb"


def test_notebook_is_stored_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [
        cell for cell in cells if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"])
    ] == []


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
