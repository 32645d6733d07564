"""Which driver loads which PTX.

Source: PTX ISA, release history; CUDA Toolkit release notes, driver versions.
"""

from __future__ import annotations

import re

from yoloproof.errors import YoloproofError

# PTX version → CUDA version, and the first driver branch of it.
RELEASES: dict[tuple[int, int], tuple[tuple[int, int], int]] = {
    (8, 0): ((12, 0), 525), (8, 1): ((12, 1), 530), (8, 2): ((12, 2), 535), (8, 3): ((12, 3), 545), (8, 4): ((12, 4), 550),
    (8, 5): ((12, 5), 555), (8, 6): ((12, 7), 565), (8, 7): ((12, 8), 570), (8, 8): ((12, 9), 575), (9, 0): ((13, 0), 580),
    (9, 1): ((13, 1), 590), (9, 2): ((13, 2), 595),
}  # fmt: skip


def version_of_ptx(text: bytes) -> tuple[int, int] | None:
    """The version that PTX says it is of."""
    found = re.search(rb"^\.version\s+(\d+)\.(\d+)", text, re.MULTILINE)
    return None if found is None else (int(found[1]), int(found[2]))


def needed_cuda(version: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """The CUDA version (major, minor) that a driver must be of to load PTX, and its first branch.

    Raises YoloproofError for a version that is not in the table.
    """
    if version not in RELEASES:
        raise YoloproofError(f"PTX {version[0]}.{version[1]}: which driver loads it is not on record")
    return RELEASES[version]
