"""Results that nobody named a file for: the newest twenty stay in the user's cache, and `last` is the name of the newest."""

from __future__ import annotations

import datetime
import os
from contextlib import suppress
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.files.cache import cache_folder

LAST = "last"
MOST = 20


def new_place() -> Path:
    """The file that this process's result is kept in. Older ones beyond MOST go; an error where the cache cannot be written
    shows when the file is."""
    folder = _folder()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for old in _kept()[: -MOST + 1]:
            old.unlink(missing_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc)
    return folder / f"{now:%Y%m%dT%H%M%S.%f}-{os.getpid()}.json"


def place_of(name: str | Path) -> Path:
    """The path itself, or that of the newest kept result for `last`, unless a file of that name is here."""
    path = Path(name)
    if str(name) != LAST or path.exists():
        return path
    kept = _kept()
    if not kept:
        raise YoloproofError("no result is kept here yet; run `yoloproof profile` first, or name a file")
    return kept[-1]


def _folder() -> Path:
    return cache_folder() / "results"


def _kept() -> list[Path]:
    return sorted(_folder().glob("*.json"))
