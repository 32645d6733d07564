"""Imports point up the table of docs/architecture.md, and nothing imports the AGPL package."""

from __future__ import annotations

import ast
import time
from pathlib import Path
from subprocess import run
from sys import executable

import yoloproof

SOURCE = Path(yoloproof.__file__).parent
BASE = {"errors", "names", "intervals", "records", "files", "devices", "engine_libraries"}
MAY_IMPORT = {
    "records": set(),
    "files": set(),
    "network": set(),
    "simplify": {"network"},
    "kernels": set(),
    "artifact": {"network", "simplify", "kernels", "detection", "demo"},
    "runtime": set(),
    "detection": set(),
    "demo": set(),
    "proof": {"artifact", "runtime", "detection", "network", "simplify"},
    "measurement": {"runtime"},
    "results": set(),
    "report": {"results"},
    "estimate": {"artifact", "network"},
    "doctor": {"measurement", "runtime", "artifact"},
}


def imported(path: Path) -> set[str]:
    """First names below `yoloproof` that a module imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "yoloproof" else [f"yoloproof.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("yoloproof.")}
    return found


def test_imports_point_up_the_table() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)} imports {name}"
        for folder, allowed in MAY_IMPORT.items()
        for path in sorted((SOURCE / folder).rglob("*.py"))
        for name in sorted(imported(path) - allowed - BASE - {folder, "__version__"})
    ]
    assert not wrong, wrong


def test_the_files_below_all_import_errors_alone() -> None:
    for name in ("errors", "names", "devices"):
        assert not imported(SOURCE / f"{name}.py")
    assert imported(SOURCE / "intervals.py") == {"records"}
    assert imported(SOURCE / "engine_libraries.py") == {"devices", "names"}


def test_every_folder_stands_in_the_table() -> None:
    folders = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders == {*MAY_IMPORT, "commands", "sweep"}


def test_nothing_imports_the_agpl_package() -> None:
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        modules += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        assert not [m for m in modules if m.split(".")[0] == "ultralytics"], path


def test_help_loads_no_heavy_library() -> None:
    code = "import sys; import yoloproof.cli; print([m for m in ('torch', 'onnx', 'onnxruntime', 'ray') if m in sys.modules])"
    started = time.perf_counter()
    done = run([executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", f"after {time.perf_counter() - started:.1f} s"
