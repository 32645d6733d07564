"""The memory plan: every buffer's place in one arena."""

from __future__ import annotations

from collections.abc import Sequence

from yoloproof.files.plan import ALIGNMENT, Buffer, Operation, shareable


def laid_out(
    operations: Sequence[Operation], bytes: Sequence[int], given: Sequence[int], kept: Sequence[int]
) -> tuple[int, tuple[Buffer, ...]]:
    """The arena's bytes and the buffers in it, the largest placed first, each at the lowest place that it may share.

    given, kept -- as `files.plan.shareable` takes them
    """
    sharing = shareable(operations, len(bytes), given, kept)
    placed: dict[int, Buffer] = {}
    for index in sorted(range(len(bytes)), key=lambda i: -bytes[i]):
        taken = sorted(
            (other.offset, other.offset + other.bytes) for i, other in placed.items() if not sharing[index] >> i & 1
        )
        offset = 0
        for start, end in taken:
            if offset + bytes[index] <= start:
                break
            offset = max(offset, -(-end // ALIGNMENT) * ALIGNMENT)
        placed[index] = Buffer(bytes[index], offset)
    arena = max((buffer.offset + buffer.bytes for buffer in placed.values()), default=0)
    return arena, tuple(placed[i] for i in range(len(bytes)))
