"""The guide's code blocks: which there are, and which of them this machine can run."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"

_FENCE = re.compile(r'^```(bash|python)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"\s+# exit status (\d+)$")


@dataclass(frozen=True)
class Block:
    """One fenced block: its page, language, what its title says it needs ("" for nothing but minutes), its text."""

    page: str
    language: str
    needs: str
    text: str

    def commands(self) -> list[tuple[str, int]]:
        """Each shell line with the exit status it should end with; continuation lines are joined."""
        lines = [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]
        found = []
        for line in lines:
            expected = _EXPECTED.search(line)
            found.append((_EXPECTED.sub("", line), int(expected.group(1)) if expected else 0))
        return found


def blocks(page: Path) -> list[Block]:
    """The bash and python blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = [match.groups(default="") for match in _FENCE.finditer(text)]
    return [Block(page.name, kind, "" if title == "takes minutes" else title, body) for kind, title, body in found]


def missing(needs: str) -> str | None:
    """What this machine lacks of a block's title, by name; None when it can run. KeyError for an unknown title."""
    return {
        "": lambda: None,
        "needs an NVIDIA GPU": lambda: None if _has_gpu() else "an NVIDIA GPU",
        "needs the network": lambda: None if _reaches("download.pytorch.org") else "a way to download.pytorch.org",
        "needs Docker": lambda: None if _has_gpu() and shutil.which("docker") else "Docker beside an NVIDIA GPU",
    }[needs]()


def options_of(words: list[str]) -> Iterator[str]:
    """The long options that a command line uses."""
    for word in words:
        if word.startswith("--"):
            yield word.split("=")[0]


def shared_folder() -> Path | None:
    """`shared/` with the reference files, beside or above the repository."""
    candidates = (parent / "shared" for parent in REPOSITORY.parents)
    return next((folder for folder in candidates if (folder / "reference").is_dir()), None)


def _has_gpu() -> bool:
    from yoloproof.doctor import facts_from_machine

    return facts_from_machine().gpu is not None


def _reaches(host: str) -> bool:
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        return False
    return True
