"""The fields of the result file, for docs/result-file.md: from the records, so that the page cannot disagree with them."""

from __future__ import annotations

import html
import inspect
import re
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from yoloproof.records import Result
from yoloproof.results.schema import DERIVED, HISTORY

RECORDS = re.compile(r"^(<!-- records -->\n).*?^(<!-- /records -->)$", re.MULTILINE | re.DOTALL)
# "names -- what they hold", at the start of a line of a docstring or after a semicolon or a full stop.
NOTE = re.compile(r"(?:^|; |\. |\n)(\w+(?:, \w+)*) -- ")


def with_records(words: str) -> str:
    """The document's `records` block filled in: each record once, in the order in which they hold each other."""
    return RECORDS.sub(lambda match: f"{match[1]}{records_text()}{match[2]}", words)


def records_text() -> str:
    found: dict[type, None] = {}

    def collect(record: type) -> None:
        found[record] = None
        for inner in (inner for hint in get_type_hints(record).values() for inner in _records_in(hint)):
            if inner not in found:
                collect(inner)

    collect(Result)
    history = "".join(f"- schema {number}: {_line(words)}\n" for number, words in HISTORY.items())
    layout = (
        "The file is a Result, with `schema` beside its keys. Where it has one run, that run's keys stand at the top of the\n"
        "file instead of in a list `runs`; a sweep's file has the list, and each entry the index of its run.\n"
    )
    return "\n" + "\n".join([layout, history, *map(section, found)]) + "\n"


def _records_in(hint: Any) -> list[type]:
    if is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    return [record for inner in get_args(hint) for record in _records_in(inner)]


def section(record: type) -> str:
    """A record's heading, what its docstring says of it, and a table of its fields."""
    intro, notes = _notes(record)
    hints = get_type_hints(record)
    rows = [f"| `{one.name}` | {json_type(hints[one.name])} | {notes.get(one.name, '')} |" for one in fields(record)]
    rows += [f"| `{key}` | | {notes.get(key, 'follows from the rest')} |" for key in DERIVED.get(record, ())]
    return "\n".join([f"### {record.__name__}\n", *([f"{intro}\n"] if intro else []), *HEAD, *rows]) + "\n"


HEAD = ("| key | value | |", "|---|---|---|")


def _notes(record: type) -> tuple[str, dict[str, str]]:
    """What a docstring says of the record as a whole, and of its fields. Fields of a base class are noted there."""
    intro: list[str] = []
    notes: dict[str, str] = {}
    for one in (base for base in reversed(record.__mro__) if is_dataclass(base)):
        words = inspect.cleandoc(one.__doc__ or "")
        if words.startswith(f"{one.__name__}("):  # @dataclass writes a signature where there is no docstring
            continue
        before, *parts = NOTE.split(words)
        intro = [before]
        for names, text in zip(parts[::2], parts[1::2], strict=True):
            # a line that begins with a capital is about the whole record again
            about, *whole = re.split(r"\n+(?=[A-Z])", text, maxsplit=1)
            intro += whole
            for name in names.split(", "):
                notes[name] = _line(about)
    about = _line(" ".join(intro))
    return f"{about}." if about else "", notes


def _line(words: str) -> str:
    """One line of Markdown that can stand in a table's cell."""
    return " ".join(html.escape(words, quote=False).replace("|", "\\|").split()).rstrip(";.")


def json_type(hint: Any) -> str:
    """A field's type in words: "number or null", "list of Entry", "one of `fp32`, `fp16`, `bf16`"."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(json_type(one) for one in sorted(inner, key=lambda one: one is type(None)))
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return f"list of {json_type(inner[0])}"
        return f"[{', '.join(map(json_type, inner))}]"
    if origin is not None:
        return f"object of {json_type(inner[1])}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{member.value}`" for member in hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    words = {str: "text", Path: "path", int: "integer", float: "number", bool: "boolean", object: "anything"}
    return "null" if hint is type(None) else words[hint]
