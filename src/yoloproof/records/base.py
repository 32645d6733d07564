"""What every record is."""

from __future__ import annotations

from typing import ClassVar


class Record:
    """Reading a file accepts no key that is not a field, and no number that is not finite."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "allow_inf_nan": False}
