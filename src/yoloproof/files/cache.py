"""The one folder in which everything is kept that can be had again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`yoloproof` in $XDG_CACHE_HOME, or in ~/.cache where that is not set."""
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "yoloproof"
