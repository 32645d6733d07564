"""Every command of the guide is run, each page from top to bottom in a folder of its own: what a reader of it alone does.

What needs a GPU is run here twice: as it stands, to see that it ends in one helpful line, and with the CPU's runtime in
the GPU's place. All of it on a quarter of the pixels, two images and in the quick form: what is tested is that it works.
"""

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
from typer.main import get_command

from yoloproof.cli import app

PAGES = [
    "index.md",
    "reproduce.md",
    "why-different.md",
    "export.md",
    "measurement.md",
    "accuracy.md",
    "guests.md",
    "gallery.md",
    "from-ultralytics.md",
    "deploying.md",
]
ALL = [block for page in PAGES for block in blocks(DOCS / page)]
GPU = [block for block in ALL if block.needs == "needs an NVIDIA GPU"]
NEEDS = list(dict.fromkeys((block.page, block.needs) for block in ALL))


def _name(block: Block) -> str:
    return f"{block.page}: {block.text.splitlines()[0][:60]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the guide takes for granted: weights called yolov13n.pt, a folder of images, their annotations."""
    shared = next(
        (parent / "shared" for parent in REPOSITORY.parents if (parent / "shared" / "reference").is_dir()), None
    )
    if shared is None:
        pytest.skip("shared/reference with the trained checkpoint is not here")
    work = tmp_path
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
@pytest.mark.parametrize(("page", "needs"), NEEDS)
def test_page_runs(page: str, needs: str, folder: Path) -> None:
    """Its blocks that need nothing, and where there is what others need, those too."""
    lacking = missing(needs)
    if lacking is not None:
        pytest.skip(f"this machine lacks {lacking}")
    for block in blocks(DOCS / page):
        if block.needs in ("", needs):
            _run_block(block, folder)


def _run_block(block: Block, folder: Path) -> None:
    if block.language == "python":
        _run([sys.executable, "-c", _small_script(block.text)], 0, folder)
    elif block.needs == "needs the network":
        _install(block, folder)
    else:
        for command, status in block.commands():
            _shell(_small(command), status, folder)


def _small(command: str) -> str:
    """The same command on a quarter of the pixels and two images, files exported once, measured in seconds."""
    words = command.split()
    added = ["--imgsz 320"] if words[1] in ("export", "profile") else []
    added += ["--images images"] if words[1] in ("profile", "verify") else []
    if words[1] == "profile" and "cpu" not in words and "cuda" not in words:
        added += ["--artifacts artifacts"] + ([] if "--quick" in words else ["--quick"])
    added += ["--allow quick"] if words[1] == "compare" else []  # of runs that were made quick here
    return " ".join([*words[:2], *added, *words[2:]])


def _small_script(text: str) -> str:
    return text.replace('(["yolov13n.pt"])', '(["yolov13n.pt"], imgsz=320, num_timed_runs=2, min_time=0.1)')


def _install(block: Block, folder: Path) -> None:
    """The installation as one script in its own place; pip resolves and downloads nothing (gigabytes)."""
    place = folder / "project"
    for name in ("environments", "src"):
        shutil.copytree(REPOSITORY / name, place / name, dirs_exist_ok=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(REPOSITORY / name, place)
    _shell(block.text.replace("pip install", "pip install --dry-run"), 0, place)


@pytest.mark.slow
@pytest.mark.parametrize("block", GPU, ids=_name)
def test_gpu_command_without_a_gpu_is_one_helpful_line(block: Block, folder: Path) -> None:
    if missing(block.needs) is None:
        pytest.skip("here is an NVIDIA GPU: test_page_runs runs the command itself")
    for command, _ in block.commands():
        words = _with_the_file(command).split()
        if words[1] == "verify":  # of what the command before would have written
            continue
        done = _shell(" ".join(words), 2, folder)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert re.search(
            r"pip install|--runtime tensorrt-rtx|--device cpu|leave --device out|`yoloproof doctor`", done.stderr
        ), done.stderr


CPU_FORMS = sorted(
    {
        re.sub(
            r" --runtime tensorrt(-rtx)? --device cuda", " --runtime onnxruntime", re.sub(r" --json \S+", "", command)
        )
        for block in GPU
        for command, _ in block.commands()
        if " profile " in command and ("--protocol" in command or "--forensics" in command)
    }
)
"""The guide's GPU commands with the CPU's runtime. The plain `profile` is in the guide for the CPU too."""


@pytest.mark.slow
@pytest.mark.parametrize("command", CPU_FORMS)
def test_gpu_command_runs_with_the_runtime_of_the_cpu(command: str, folder: Path) -> None:
    _shell(_small(_with_the_file(command)), 0, folder)


def _with_the_file(command: str) -> str:
    """The official weights, which are not here, replaced by the file of that name."""
    return re.sub(r"\byolov13n\b(?!\.)", "yolov13n.pt", command)


def _shell(script: str, status: int, folder: Path) -> subprocess.CompletedProcess[str]:
    function = f'yoloproof() {{ {shlex.quote(sys.executable)} -m yoloproof "$@"; }}'
    return _run(["bash", "-e", "-c", f"{function}; {script}"], status, folder)


def _run(command: list[str], status: int, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == status, f"{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


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


def test_options_in_the_running_text_exist() -> None:
    """Also where a command or an option stands in a sentence or a table."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    offered = {
        name: {word for row in command.params for word in (*row.opts, *row.secondary_opts)}
        for name, command in commands.items()
    }
    anywhere, unknown = set().union(*offered.values()), []
    for page in [*PAGES, "report.md"]:
        for code in re.findall(r"`([^`\n]+)`", (DOCS / page).read_text(encoding="utf-8")):
            if re.match(r"(ray|uv|pip|docker|python) ", code):
                continue
            command = re.search(r"\byoloproof (\w+)", code)
            known = offered[command.group(1)] if command else anywhere
            unknown += [
                f"{page}: {word}" for word in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code) if word not in known
            ]
    assert unknown == []


def _help(command: str) -> str:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    return result.output


def test_every_page_of_the_guide_is_covered() -> None:
    with_commands = {page.name for page in DOCS.glob("*.md") if any(b.language == "bash" for b in blocks(page))}
    assert with_commands <= set(PAGES)


def test_files_that_the_guide_names_are_here() -> None:
    for page in PAGES:
        text = (DOCS / page).read_text(encoding="utf-8")
        for name in re.findall(r"`((?:environments|notebooks|results|benchmarks)/[\w./-]+)`", text):
            assert (REPOSITORY / name).exists(), f"{page}: {name}"
