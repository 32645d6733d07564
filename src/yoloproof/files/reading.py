"""What is looked at before a file is opened: a pipe would be waited for without end, a sparse file takes all memory."""

from __future__ import annotations

import stat
from pathlib import Path

from yoloproof.errors import YoloproofError

MOST_JSON_BYTES = 1 << 30
MOST_MODEL_BYTES = 1 << 33


def check_regular(path: Path, most_bytes: int) -> None:
    """Raise YoloproofError for a pipe, a device or a socket, and for a file of more than `most_bytes`.

    What is missing, or a folder, is for the caller to name in its own words.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise YoloproofError(f"{path}: a pipe or a device; only regular files are read: save it as one first")
    if found.st_size > most_bytes and stat.S_ISREG(found.st_mode):
        raise YoloproofError(f"{path}: {found.st_size:,} bytes; at most {most_bytes:,} are allowed for such a file")
