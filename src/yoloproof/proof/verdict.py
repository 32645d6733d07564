"""What a proof says: checks with their figures, and one verdict that fails closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One question about an artifact. passed: True, False, or None for "could not be checked", which never counts as
    passed. figures: the numbers it rests on, with their units in the names. detail: one line for a person."""

    name: str
    passed: bool | None
    figures: Mapping[str, Any]
    detail: str


@dataclass(frozen=True)
class Verdict:
    """All checks of one artifact in the order they were made."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool | None:
        """False when a check failed; else None when one could not be made, or none was; else True."""
        answers = [check.passed for check in self.checks]
        if False in answers:
            return False
        return True if answers and None not in answers else None

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed or could not be made."""
        return tuple(check for check in self.checks if not check.passed)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the result file."""
        checks = [
            {"name": c.name, "passed": c.passed, "figures": dict(c.figures), "detail": c.detail} for c in self.checks
        ]
        return {"passed": self.passed, "checks": checks}
