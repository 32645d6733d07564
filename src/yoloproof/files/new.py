"""Writing a file that was not there before: whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from yoloproof.errors import YoloproofError


def write_new(text: str, path: Path) -> None:
    """Write a file that does not exist yet, whole or not at all.

    It is written beside its place under another name, flushed to the disk, and linked into place, which fails where a
    file has appeared meanwhile. YoloproofError for an existing file, a full disk or a folder that cannot be written;
    nothing is left behind.
    """
    if os.path.lexists(path):
        raise YoloproofError(f"{path} exists; a result is never overwritten: name another file or remove it")
    try:
        _write_new(path, text.encode())
    except FileExistsError:
        raise YoloproofError(f"{path} has appeared meanwhile; it was not overwritten: name another file") from None
    except OSError as error:
        remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another place"
        raise YoloproofError(f"{path} was not written: {error.strerror or error}; {remedy} and run again") from None


def _write_new(path: Path, data: bytes) -> None:
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        try:
            os.link(name, path)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links. Opening for exclusive creation keeps the promise not to overwrite.
            with path.open("xb") as file:
                _write_or_remove(file, data, path)
    finally:
        os.unlink(name)


def _write_or_remove(file: BinaryIO, data: bytes, path: Path) -> None:
    try:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        path.unlink()
        raise
