"""The process that does one job of a sweep: `python -m yoloproof.sweep.child FOLDER`, the job in FOLDER/job.pickle:
a runner (a module with the functions of `yoloproof.sweep.measure`), a cell to measure or a case whose ONNX file to
export, and the models that are files, by their name in the plan, with where they lie here.

It is a process of its own, in a session of its own, so that it can be killed with all that it started: by its parent
when its time is up, and by itself when its parent is gone (its stdin ends).
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.names import Name
from yoloproof.records import Case
from yoloproof.results.schema import json_from_result
from yoloproof.sweep.plan import Cell

JOB, ANSWER, RESULT = "job.pickle", "answer.json", "result.json"


class End(Name):
    """How a job ended. `refused`: its input is at fault, and a repetition would say the same; `lost`: its files or its node
    were."""

    DONE = "done"
    REFUSED = "refused"
    MEMORY = "memory"
    LOST = "lost"
    TIMEOUT = "timeout"
    KILLED = "killed"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Outcome:
    """How a job ended, after `wall_s`; file, sha256 -- of what it wrote into its folder, if it is done."""

    end: End
    reason: str = ""
    file: str = ""
    wall_s: float = 0.0
    sha256: str = ""


def main(folder: Path) -> int:
    """Do the job of a folder and answer there."""
    threading.Thread(target=_die_with_parent, args=(folder,), daemon=True).start()
    runner, task, models = pickle.loads((folder / JOB).read_bytes())
    outcome = _outcome(runner, task, models, folder)
    scratch = folder / f"{ANSWER}.tmp"
    scratch.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    scratch.replace(folder / ANSWER)
    return 0 if outcome.end is End.DONE else 1


def _outcome(runner_name: str, task: Cell | Case, models: Mapping[str, Path], folder: Path) -> Outcome:
    runner = importlib.import_module(runner_name)
    try:
        if isinstance(task, Case):
            return Outcome(End.DONE, file=runner.export(task, models, folder).name)
        result = json_from_result(runner.measure(task, models, folder))
    except YoloproofError as error:
        return Outcome(End.REFUSED, str(error))
    except MemoryError:
        return Outcome(End.MEMORY, "out of memory")
    (folder / RESULT).write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
    return Outcome(End.DONE, file=RESULT)


def _die_with_parent(folder: Path) -> None:
    # Unbuffered: a thread that holds a buffer's lock would make the interpreter abort at its end.
    while os.read(0, 4096):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    from yoloproof.sweep import child  # under the name that the pickle has

    sys.exit(child.main(Path(sys.argv[1])))
