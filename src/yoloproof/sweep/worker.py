"""What a Ray task does for a sweep: fetch the job's files, run the job in a child process, watch it, say how it ended.

Nothing here can hang or die with the job: the child has a time limit, and its end, whatever it was, becomes an outcome.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yoloproof
from yoloproof.files.digest import sha256_of
from yoloproof.records import Case
from yoloproof.sweep.child import ANSWER, JOB, End, Outcome
from yoloproof.sweep.plan import Cell


@dataclass(frozen=True)
class SentFile:
    """A file in Ray's object store: its name, its SHA-256, and the reference to its bytes."""

    name: str
    sha256: str
    ref: Any


@dataclass(frozen=True)
class NodeJob:
    """What a node is given to do: the job of `child`, with the files it needs; picklable.

    artifacts -- ONNX files that were exported before: `build` finds them in the job's folder
    """

    runner: str
    task: Cell | Case
    timeout_s: float
    models: Mapping[str, SentFile]
    artifacts: tuple[SentFile, ...] = ()


def version_here() -> str:
    """What a node is asked before it is given work."""
    return yoloproof.__version__


def run(job: NodeJob) -> tuple[Outcome, bytes]:
    """Run the job; the bytes of the file it made, b"" unless done."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="yoloproof-sweep-") as name:
        folder = Path(name)
        try:
            models = {model: _local_file(sent) for model, sent in job.models.items()}
            for sent in job.artifacts:
                (folder / Path(sent.name).name).symlink_to(_local_file(sent))
            (folder / JOB).write_bytes(pickle.dumps((job.runner, job.task, models)))
            outcome = _outcome_of_child(folder, job.timeout_s)
            content = (folder / outcome.file).read_bytes() if outcome.end is End.DONE else b""
        except OSError as error:
            outcome, content = Outcome(End.LOST, str(error)), b""
    reason = "".join(c if c.isprintable() else "?" for c in outcome.reason)  # it will be printed
    sha256 = hashlib.sha256(content).hexdigest()
    return replace(outcome, reason=reason, wall_s=time.monotonic() - began, sha256=sha256), content


def _outcome_of_child(folder: Path, timeout_s: float) -> Outcome:
    kills = _memory_kills()
    with open(folder / "log", "wb") as log:
        # Its folder is its current one: `-m` puts that on the module path before Python 3.11, and it holds no modules.
        child = subprocess.Popen(
            [sys.executable, "-m", "yoloproof.sweep.child", str(folder)], cwd=folder, env=_environment(),
            stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return Outcome(End.TIMEOUT, f"hung: killed after {timeout_s:g} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # with whatever it started
            child.wait()
    if (folder / ANSWER).is_file():
        said = json.loads((folder / ANSWER).read_bytes())
        return Outcome(End(said["end"]), said["reason"], said["file"])
    lines = (folder / "log").read_text(errors="replace").strip().splitlines()
    last = lines[-1][:500] if lines else "it said nothing"
    if code >= 0:
        return Outcome(End.CRASHED, f"ended with status {code}: {last}")
    why = "the machine ran out of memory" if _memory_kills() > kills else "out of memory, or killed by hand"
    return Outcome(End.KILLED, f"killed by {signal.Signals(-code).name} ({why}); last said: {last}")


def _environment() -> dict[str, str]:
    # Ray sets the number of OpenMP threads of its workers; a measurement sets its own.
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return {**inherited, "PYTHONPATH": module_path(), "PYTHONSAFEPATH": "1"}


def module_path() -> str:
    """The PYTHONPATH of processes that import what this one does, and nothing from the folder that happens to be current:
    a plan lies there beside other people's files. So all of it is absolute, and the empty entry, which means that folder,
    goes; our own package's folder is there unless every Python here has it."""
    entries = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    package = str(Path(yoloproof.__file__).parents[1])
    if package not in (*entries, *site.getsitepackages(), site.getusersitepackages()):
        entries.append(package)
    return os.pathsep.join(entries)


def _memory_kills() -> int:
    """How often the kernel has killed in this control group for want of memory; 0 where that is not told."""
    try:
        words = Path("/sys/fs/cgroup/memory.events").read_text().split()
    except OSError:
        return 0
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


def _local_file(sent: SentFile) -> Path:
    """The file on this node, kept by its hash; fetched through Ray where it is not here yet. OSError where it cannot be."""
    import ray

    base = Path(tempfile.gettempdir()) / f"yoloproof-files-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.is_symlink() or base.stat().st_uid != os.getuid():
        raise OSError(f"{base} belongs to somebody else; remove it")
    path = base / sent.sha256 / Path(sent.name).name
    if path.is_file() and sha256_of(path) == sent.sha256:
        return path
    content = ray.get(sent.ref)
    found = hashlib.sha256(content).hexdigest()
    if found != sent.sha256:
        raise OSError(f"{sent.name} arrived with SHA-256 {found[:12]}…, expected {sent.sha256[:12]}…")
    path.parent.mkdir(exist_ok=True)
    scratch = path.with_name(f".{os.getpid()}")
    scratch.write_bytes(content)
    shutil.move(scratch, path)
    return path
