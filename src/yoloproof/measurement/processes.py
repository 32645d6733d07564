"""Starting a worker process and reading its events."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter

from yoloproof.errors import YoloproofError
from yoloproof.measurement.events import Ended, Event
from yoloproof.measurement.worker import WorkerJob

Take = Callable[[Event], None]
# Runs a job to its end and hands over its events as they come; WorkerDied where it ended without having finished.
Executor = Callable[[WorkerJob, Take], None]


# Built at import: it takes the CPU, which a worker that has started needs for itself.
_READERS = {kind.__name__: TypeAdapter(kind) for kind in get_args(Event)}


class WorkerDied(Exception):
    """A worker process ended in the middle: how, and the last line it wrote."""


def run_worker(job: WorkerJob, take: Take) -> None:
    """Run `job` in a fresh Python process, started as a module and not through `multiprocessing`: a user's script
    need not guard its main part. The process has its own session, so a Ctrl-C reaches us alone and we end it."""
    with tempfile.TemporaryDirectory(prefix="yoloproof-job-") as folder:
        job_file = Path(folder) / "job.pickle"
        pickled = _pickled(job)
        try:
            job_file.write_bytes(pickled)
        except OSError as error:
            raise no_room(folder, error) from None
        errors = Path(folder) / "stderr.txt"
        with errors.open("wb") as stderr:
            worker = subprocess.Popen(
                [sys.executable, "-m", "yoloproof.measurement.worker", str(job_file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_environment(),
                start_new_session=True,
            )
            finished = _read(worker, take)
        if not finished or worker.returncode != 0:
            raise WorkerDied(_obituary(worker.returncode, errors.read_text(errors="replace")))


def no_room(folder: str, error: OSError) -> YoloproofError:
    """What to say where a worker's files cannot be written."""
    return YoloproofError(
        f"{folder} cannot be written ({error.strerror or error}); make room, or name another folder in TMPDIR"
    )


def _pickled(job: WorkerJob) -> bytes:
    try:
        pickled = pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        reason = str(error)
    else:
        if b"__main__" not in pickled:
            return pickled
        reason = "it stands in the script that was started"
    raise YoloproofError(
        f"a subject cannot be handed to a fresh process ({reason}); its network must come from a function of an "
        "importable module, not from a lambda, a notebook cell or the script itself"
    )


def _read(worker: subprocess.Popen[bytes], take: Take) -> bool:
    """Hand over every event; True where the worker said it had come to its end. It never outlives this call."""
    finished = False
    assert worker.stdout is not None
    try:
        for line in worker.stdout:
            if not line.endswith(b"\n"):
                break
            event = event_from_line(line)
            finished = finished or isinstance(event, Ended)
            take(event)
    except BaseException:
        worker.kill()
        raise
    finally:
        worker.stdout.close()
        worker.wait()
    return finished


def event_from_line(line: str | bytes) -> Event:
    """The event that a worker wrote as a line of JSON (events.py); ValueError or KeyError for what is none."""
    record = json.loads(line)
    event: Event = _READERS[record.pop("event")].validate_python(record)
    return event


def _environment() -> dict[str, str]:
    """Ours, with our module path: the worker must find the same package and unpickle the caller's functions."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _obituary(status: int, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    last = f"; its last line: {lines[-1][:300]}" if lines else ""
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        hint = " (often: out of memory)" if name == "SIGKILL" else ""
        return f"the worker process was killed by {name}{hint}{last}"
    return f"the worker process ended with status {status}{last}"
