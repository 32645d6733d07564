"""Every command of the guide is run, page after page; what cannot run here is at least a real command."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from guide import DOCS, REPOSITORY, Block, blocks, missing, options_of

from yoloproof.cli import app

PAGES = [
    "index.md",
    "reproduce.md",
    "why-different.md",
    "export.md",
    "table.md",
    "evaluation.md",
    "from-ultralytics.md",
    "deploying.md",
]
OTHERS = {
    f"{name}.md"
    for name in ["report", "measurement", "engines", "accuracy", "performance", "gallery", "t4", "t4-tables"]
}
"""Pages with tests of their own."""
ALL = [block for page in PAGES for block in blocks(DOCS / page)]


def _name(block: Block) -> str:
    return f"{block.page}: {block.text.splitlines()[0][:60]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the guide takes for granted: weights called yolov13n.pt, a folder of images, their annotations."""
    shared = next(
        (parent / "shared" for parent in REPOSITORY.parents if (parent / "shared" / "reference").is_dir()), None
    )
    if shared is None:
        pytest.skip("shared/reference with the trained checkpoint is not here")
    work = tmp_path_factory.mktemp("guide")
    shutil.copy(shared / "reference" / "yolov13n-coco128.pt", work / "yolov13n.pt")
    pictures = sorted((shared / "coco128" / "images").iterdir())[:2]
    (work / "images").mkdir()
    for picture in pictures:
        shutil.copy(picture, work / "images")
    annotations = json.loads((shared / "coco128" / "instances.json").read_text())
    kept = {row["id"] for row in annotations["images"] if row["file_name"] in {picture.name for picture in pictures}}
    annotations["images"] = [row for row in annotations["images"] if row["id"] in kept]
    annotations["annotations"] = [row for row in annotations["annotations"] if row["image_id"] in kept]
    (work / "annotations.json").write_text(json.dumps(annotations))
    return work


@pytest.mark.slow
@pytest.mark.xdist_group("guide")  # later commands read what earlier ones wrote
@pytest.mark.parametrize("block", ALL, ids=_name)
def test_command_runs(block: Block, folder: Path) -> None:
    lacking = missing(block.needs)
    if lacking is not None:
        pytest.skip(f"this machine lacks {lacking}")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    if block.language == "python":
        _run([sys.executable, "-c", block.text], 0, folder, environment)
        return
    for command, status in block.commands():
        script = f'yoloproof() {{ {shlex.quote(sys.executable)} -m yoloproof "$@"; }}; {_small(command)}'
        _run(["bash", "-c", script], status, folder, environment)


def _small(command: str) -> str:
    """The same command on a quarter of the pixels and two images: what is tested is that it works, not its figures."""
    words = command.split()
    added = ["--imgsz 320"] if words[1] in ("export", "profile") else []
    added += ["--images images"] if words[1] in ("profile", "verify") else []
    return " ".join([*words[:2], *added, *words[2:]])


def _run(command: list[str], status: int, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == status, f"{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "bash"], ids=_name)
def test_command_exists_with_these_options(block: Block) -> None:
    """Also for the blocks that this machine cannot run."""
    known = {command.name for command in app.registered_commands}
    for command, _ in block.commands():
        words = shlex.split(command.split(" > ")[0])
        if words[0] != "yoloproof":
            continue
        assert words[1] in known, f"there is no command {words[1]}"
        offered = set(re.findall(r"--[a-z][a-z-]*", _help(words[1])))
        assert set(options_of(words)) <= offered, f"{command}: {words[1]} offers {sorted(offered)}"


def _help(command: str) -> str:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    return result.output


def test_every_page_of_the_guide_is_covered() -> None:
    with_commands = {page.name for page in DOCS.glob("*.md") if any(b.language == "bash" for b in blocks(page))}
    others = {
        "report.md",
        "measurement.md",
        "engines.md",
        "accuracy.md",
        "performance.md",
        "gallery.md",
        "t4.md",
        "t4-tables.md",
    }
    assert with_commands - others <= set(PAGES)


def test_error_page_quotes_real_errors() -> None:
    """Every line that the page tells the reader to look for stands in the source."""
    source = " ".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "src").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)  # adjacent literals are one message
    page = (DOCS / "errors.md").read_text(encoding="utf-8").split("## Not an error")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(quoted) > 25
    assert [words for words in quoted if words not in joined] == []
