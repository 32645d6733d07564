"""A file is written whole or not at all, whatever the disk and other processes do."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from yoloproof.errors import YoloproofError
from yoloproof.files.new import write_new, write_over, written

SMALL = 4096  # bytes that a file may have in the processes below: the kernel ends a write there as on a full disk


def limited(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL)),
    )  # fmt: skip


@pytest.mark.parametrize("function", ["write_new", "write_over"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, function: str) -> None:
    path = tmp_path / "notes.md"
    if function == "write_over":
        path.write_text("by hand\n" * 1000)
    done = limited(
        f"from pathlib import Path; from yoloproof.files.new import *; {function}('x' * 9000, Path('notes.md'))",
        tmp_path,
    )
    assert done.returncode == 1
    assert "make room" in done.stderr
    assert "YoloproofError" in done.stderr.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == (["notes.md"] if function == "write_over" else [])
    assert not path.exists() or path.read_text() == "by hand\n" * 1000


def test_one_of_two_at_once_is_written_whole_and_the_other_is_told(tmp_path: Path) -> None:
    path, ready, told = tmp_path / "a.onnx", threading.Barrier(2), []

    def writer(letter: str) -> None:
        try:
            with written(path) as scratch:
                ready.wait()
                scratch.write_text(letter * 100_000)
                ready.wait()
        except YoloproofError as error:
            told.append(str(error))

    threads = [threading.Thread(target=writer, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1
    assert "appeared in the meantime" in told[0]
    assert path.read_text() in ("a" * 100_000, "b" * 100_000)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_replaced_keeps_its_mode_and_a_link_its_place(tmp_path: Path) -> None:
    page, link = tmp_path / "page.html", tmp_path / "latest.html"
    page.write_text("old")
    page.chmod(0o640)
    link.symlink_to(page)
    write_over("new", link)
    assert link.is_symlink()
    assert page.read_text() == "new"
    assert page.stat().st_mode & 0o777 == 0o640
    with pytest.raises(YoloproofError, match="not a regular file"):
        write_over("new", Path("/dev/null"))
    with pytest.raises(YoloproofError, match="never overwritten"):
        write_new("new", link)
