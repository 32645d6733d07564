"""The process that does one job of a sweep: `python -m yoloproof.sweep.child`, the job as one line of JSON on stdin.

It is a process of its own, in a session of its own, so that it can be killed with all that it started: by its parent
when its time is up, and by itself when its parent is gone (stdin ends).
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError


def main() -> int:
    """Run the job and write `answer.json` in its folder: {"result": …} or {"error": …, "kind": …}."""
    line = sys.stdin.buffer.readline()
    job = json.loads(line)
    folder = Path(job["folder"])
    threading.Thread(target=_die_with_parent, args=(folder,), daemon=True).start()
    answer = _answer(job, folder)
    scratch = folder / "answer.tmp"
    scratch.write_text(json.dumps(answer, default=str), encoding="utf-8")
    scratch.replace(folder / "answer.json")
    return 0 if "result" in answer else 1


def _answer(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    work = getattr(importlib.import_module(job["module"]), job["function"])
    try:
        return {"result": work(job["argument"], {name: Path(path) for name, path in job["files"].items()}, folder)}
    except YoloproofError as error:
        return {"error": str(error), "kind": "refused"}
    except MemoryError:
        return {"error": "out of memory", "kind": "memory"}


def _die_with_parent(folder: Path) -> None:
    # Unbuffered: a thread that holds a buffer's lock would make the interpreter abort at its end.
    while os.read(0, 4096):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
