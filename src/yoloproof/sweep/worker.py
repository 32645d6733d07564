"""What a Ray task does for a sweep: fetch the job's files, run the job in a child process, watch it, say how it ended.

Nothing here can hang or die with the job: the child has a time limit, and its end, whatever it was, becomes an answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yoloproof


@dataclass(frozen=True)
class Job:
    """A function of a module to run on `argument` with files; picklable.

    `files` are (key, file name, SHA-256, object reference); the function gets them as key → path.
    """

    module: str
    function: str
    argument: Mapping[str, Any]
    timeout_s: float
    files: Sequence[tuple[str, str, str, Any]] = ()


@dataclass(frozen=True)
class Answer:
    """How a job ended.

    `kind`: `done`, `refused` (its input is at fault: a repetition would say the same), or what failed.
    """

    kind: str
    reason: str = ""
    wall_s: float = 0.0


def probe() -> dict[str, Any]:
    """What a node says of itself before it is given work."""
    return {"version": yoloproof.__version__, "python": sys.version.split()[0], "host": os.uname().nodename}


def measure(job: Job) -> tuple[Answer, bytes]:
    """Run the job; its result as JSON bytes (empty unless done)."""
    with tempfile.TemporaryDirectory(prefix="yoloproof-sweep-") as folder:
        answer, result = _run(job, Path(folder))
        return answer, json.dumps(result).encode() if result is not None else b""


def export(job: Job) -> tuple[Answer, tuple[str, str], bytes]:
    """Run a job whose result is the path of a file: the answer, the file's (name, SHA-256), and its bytes."""
    with tempfile.TemporaryDirectory(prefix="yoloproof-sweep-") as folder:
        answer, result = _run(job, Path(folder))
        if result is None:
            return answer, ("", ""), b""
        content = Path(str(result)).read_bytes()
        return answer, (Path(str(result)).name, hashlib.sha256(content).hexdigest()), content


def _run(job: Job, folder: Path) -> tuple[Answer, Any]:
    began, kills = time.monotonic(), _memory_kills()
    try:
        files = {key: str(_local_file(name, digest, ref)) for key, name, digest, ref in job.files}
    except _DamagedFile as error:
        return Answer("lost", str(error)), None
    line = {"module": job.module, "function": job.function, "argument": job.argument, "files": files}
    # Ray sets the number of OpenMP threads of its workers; a measurement sets its own.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with open(folder / "log", "wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "yoloproof.sweep.child"],
            stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment,
        )  # fmt: skip
        try:
            assert child.stdin is not None
            child.stdin.write(json.dumps({**line, "folder": str(folder)}).encode() + b"\n")
            child.stdin.flush()
            code: int | None = child.wait(job.timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        except BrokenPipeError:
            code = child.wait(10)
        finally:
            _kill_group(child)
    wall_s = time.monotonic() - began
    if code is None:
        return Answer("timeout", f"hung: killed after {job.timeout_s:g} s", wall_s), None
    return _read_answer(folder, code, wall_s, _memory_kills() > kills)


def _read_answer(folder: Path, code: int, wall_s: float, out_of_memory: bool) -> tuple[Answer, Any]:
    path = folder / "answer.json"
    if path.is_file():
        said = json.loads(path.read_bytes())
        if "result" in said:
            return Answer("done", wall_s=wall_s), said["result"]
        return Answer(said["kind"], said["error"], wall_s), None
    lines = (folder / "log").read_text(errors="replace").strip().splitlines()
    last = lines[-1][:500] if lines else "it said nothing"
    if code < 0:
        why = "the machine ran out of memory" if out_of_memory else "out of memory, or killed by hand"
        name = signal.Signals(-code).name
        return Answer("killed", f"killed by {name} ({why}); last said: {last}", wall_s), None
    return Answer("crashed", f"ended with status {code}: {last}", wall_s), None


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _memory_kills() -> int:
    """How often the kernel has killed in this control group for want of memory; 0 where that is not told."""
    try:
        words = Path("/sys/fs/cgroup/memory.events").read_text().split()
    except OSError:
        return 0
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


class _DamagedFile(Exception):
    pass


def _local_file(name: str, digest: str, ref: Any) -> Path:
    """The file on this node, kept by its hash; fetched through Ray where it is not here yet."""
    import ray

    base = Path(tempfile.gettempdir()) / f"yoloproof-files-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.stat().st_uid != os.getuid():
        raise _DamagedFile(f"{base} belongs to somebody else; remove it")
    path = base / digest / Path(name).name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
        return path
    content = ray.get(ref)
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise _DamagedFile(f"{name} arrived with SHA-256 {found[:12]}…, expected {digest[:12]}…")
    path.parent.mkdir(exist_ok=True)
    scratch = path.with_name(f".{os.getpid()}")
    scratch.write_bytes(content)
    shutil.move(scratch, path)
    return path
