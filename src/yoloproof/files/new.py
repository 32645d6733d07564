"""Writing a file whole or not at all: beside its place under another name, flushed to the disk, then moved into place."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from yoloproof.errors import YoloproofError

LEAST_PAUSE_S = 0.25  # between two versions of a growing file
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def written(path: Path, over: bool = False) -> Iterator[Path]:
    """The name of a scratch file to write, which becomes `path` at the end; where that fails, no part of it stays.

    over -- a file that is there is replaced, and keeps its mode, or, where it is a symbolic link, its place; else it
    stays, also one that appears meanwhile. YoloproofError for such a file, for what is no file, a full disk or a folder
    that cannot be written.
    """
    place = path.resolve() if over else path
    if not over and os.path.lexists(path):
        raise YoloproofError(f"{path} exists; it is never overwritten: name another file or remove it")
    if over and place.exists() and not place.is_file():
        raise YoloproofError(f"{path} is not a regular file and is not replaced; name another")
    # A long name is cut, its suffix is not: some who write look at it.
    scratch = place.with_name(f".{uuid4().hex[:8]}-{place.stem[:100]}{place.suffix}")
    try:
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        if over:
            if place.exists():
                shutil.copymode(place, scratch)
            scratch.replace(place)
        else:
            _move_to_new(scratch, place)
    except FileExistsError:
        raise YoloproofError(f"{path} appeared in the meantime and was not overwritten; name another file") from None
    except OSError as error:
        remedy = "make room" if error.errno in FULL else "choose another place"
        raise YoloproofError(f"{path} was not written: {error.strerror or error}; {remedy} and run again") from None
    finally:
        scratch.unlink(missing_ok=True)


def _move_to_new(scratch: Path, path: Path) -> None:
    try:
        os.link(scratch, path)  # which fails where there is something
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name first, exclusively
        path.open("xb").close()
        scratch.replace(path)


class GrowingFile:
    """A file that was not there, written anew whenever there is more to say: whole each time, and never over another's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mine: tuple[int, int] | None = None
        self._not_before = 0.0

    def write_now_and_then(self, content: Callable[[], str]) -> None:
        """Write what there is so far, at the cost of a twentieth of the time at most. Where that fails nothing is said:
        the last `write` will say it."""
        began = time.monotonic()
        if began < self._not_before:
            return
        with suppress(YoloproofError):
            self.write(content())
        ended = time.monotonic()
        self._not_before = ended + max(LEAST_PAUSE_S, 20 * (ended - began))

    def write(self, content: str) -> None:
        """Put `content` in the place of what was written before; raises as `written`."""
        (write_over if self._identity() == self._mine is not None else write_new)(content, self.path)
        self._mine = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def write_new(content: str | bytes, path: Path) -> None:
    """Write a file that does not exist yet; raises as `written`."""
    with written(path) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)


def write_over(content: str | bytes, path: Path) -> None:
    """Write a file or replace it; raises as `written`."""
    with written(path, over=True) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)
