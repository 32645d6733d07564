"""Tactics of a native engine: which of an operation's alternatives is the quickest on the GPU at hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from yoloproof.errors import YoloproofError
from yoloproof.files.new import write_over
from yoloproof.files.plan import Choice, Launch, Operation, all_launches, all_operations, chosen_launches

SCHEMA = 1
REPEATS = 10  # launches of a tactic in one timed graph

Seconds = Callable[[Sequence[Launch], int], float]


@dataclass(frozen=True)
class Tactics:
    """key -- the GPU, driver and file that they were measured with; choice -- operation's name → index of its tactic"""

    key: str
    choice: dict[str, int]


def measured_choice(
    operations: Sequence[Operation], available: Callable[[Launch], bool], seconds: Seconds | None
) -> dict[str, int]:
    """The quickest available tactic of every operation with more than one; without a clock its default.

    Operations that launch the same kernels on the same shapes are measured once. Raises YoloproofError for an operation
    without an available tactic.
    """
    choice: dict[str, int] = {}
    known: dict[object, int] = {}
    several = list(all_operations(operations))
    for operation in tqdm(several, desc="choosing tactics", disable=True if seconds is None else None, leave=False):
        usable = [i for i, tactic in enumerate(operation.tactics) if _usable(tactic, available)]
        if not usable:
            raise YoloproofError(f"this GPU can run none of the tactics of {operation.name}; build the engine for it")
        index = operation.default if operation.default in usable else usable[0]
        if seconds is not None and len(usable) > 1:
            same = _signature(operation)
            if same not in known:
                taken = {i: seconds(chosen_launches(operation.tactics[i], choice), REPEATS) for i in usable}
                known[same] = min(taken, key=lambda i: taken[i])
            index = known[same]
        choice[operation.name] = index
    return choice


def _usable(tactic: Sequence[Launch | Operation], available: Callable[[Launch], bool]) -> bool:
    """Whether a tactic's own launches, and one tactic of each operation in it, are available."""
    return all(
        available(step) if isinstance(step, Launch) else any(_usable(one, available) for one in step.tactics)
        for step in tactic
    )


def _signature(operation: Operation) -> object:
    """What an operation's seconds depend on: kernels, grids and integers."""
    return tuple(
        tuple(
            (launch.kernel, launch.grid, tuple(a for a in launch.arguments if isinstance(a, int)))
            for launch in all_launches(tactic)
        )
        for tactic in operation.tactics
    )


def tactics_path(engine: Path, key: str) -> Path:
    """Where an engine's tactics for a GPU are kept: beside it."""
    return engine.with_name(f"{engine.name}.{hashlib.sha256(key.encode()).hexdigest()[:8]}.tactics.json")


def read_tactics(path: Path) -> Tactics | None:
    """The tactics in a file; None where there is no file, or one of another schema."""
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        choice = {str(name): int(index) for name, index in document["choice"].items()}
        schema, key = document["schema"], str(document["key"])
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise YoloproofError(f"{path} holds no tactics ({error!r}); remove it to measure them again") from None
    return Tactics(key, choice) if schema == SCHEMA else None


def write_tactics(path: Path, tactics: Tactics) -> None:
    """Keep tactics; a folder that cannot be written costs the next load the measuring again, nothing else."""
    document = {"schema": SCHEMA, "key": tactics.key, "choice": tactics.choice}
    with suppress(YoloproofError):
        write_over(json.dumps(document, indent=1) + "\n", path)


def choice_from_tuning(tuning: Mapping[str, str]) -> dict[str, int]:
    """The tactics in a session's facts; YoloproofError where they are none."""
    try:
        return {name: int(index) for name, index in tuning.items()}
    except ValueError as error:
        raise YoloproofError(f"tactics: {error}; remove the file to measure them again") from None


def check_choice(operations: Sequence[Operation], choice: Choice) -> None:
    """Raise YoloproofError for a tactic that an operation does not have."""
    counts = {operation.name: len(operation.tactics) for operation in all_operations(operations)}
    for name, index in choice.items():
        if not 0 <= index < counts.get(name, 0):
            raise YoloproofError(f"tactics: {name} has no tactic {index}; remove the file to measure them again")
