"""Tables in a Markdown document kept in step with committed result files.

A block says what it shows, in a comment that no reader of the rendered page sees:

    <!-- yoloproof-table results/cpu.json results/t4-*.json | columns: model, attention, median | where: batch=1 -->
    …
    <!-- /yoloproof-table -->

Paths are relative to the document; `*` stands for any part of a name. `where` keeps the rows whose cell in that column
says exactly that, or one of several (`where: attention=published, attention=fused`). `across: network` makes a column of
each network, with the median and its ratio to `published`, and a row of what `columns` tell apart. `against: published`
adds a column with each row's time over that of this network, timed beside it in its run, whatever the runtime.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.report.rows import Row, rows_from_results
from yoloproof.report.text import DEFAULT_COLUMNS, columns_from_keys, markdown_across, markdown_from_rows
from yoloproof.results.file import read_result

# At the start of a line: one that is quoted in a code block is none.
_OPEN, _CLOSE = "<!-- yoloproof-table ", "<!-- /yoloproof-table -->"
_BLOCK = re.compile(rf"^({_OPEN}(?P<asked>.*?) -->\n)(?P<body>.*?)^({_CLOSE})", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class _Asked:
    """What a block asks for. where -- column → the cells of which a row must say one; () and None: not said"""

    files: tuple[Path, ...]
    columns: tuple[str, ...]
    where: tuple[tuple[str, frozenset[str]], ...]
    across: str | None
    against: tuple[str, ...]


def _table(asked: _Asked) -> str:
    """The Markdown table of result files. YoloproofError for an unknown column, or where no row is left."""
    rows = _kept(rows_from_results([(path.name, read_result(path)) for path in asked.files]), asked)
    if asked.across is not None:
        return markdown_across(rows, asked.columns or ("model",), asked.across)
    return markdown_from_rows(rows, asked.columns or DEFAULT_COLUMNS, asked.against)


def document_with_tables(document: Path) -> str:
    """The document's text with every block filled from its files; the file itself is left alone.

    Raises YoloproofError for a document without a block, a block that does not end, an unknown option, file or column, and
    a table without a row; all name the document.
    """
    words = document.read_text(encoding="utf-8")
    opened, closed = (len(re.findall(f"^{mark}", words, re.MULTILINE)) for mark in (_OPEN, _CLOSE))
    if not opened or opened != closed or opened != len(_BLOCK.findall(words)):
        raise YoloproofError(
            f"{document}: {opened} <!-- yoloproof-table FILE… --> and {closed} <!-- /yoloproof-table --> lines; "
            "every table needs one of each"
        )

    def filled(match: re.Match[str]) -> str:
        try:
            return f"{match[1]}{_table(_asked(match['asked'], document.parent))}{match[4]}"
        except YoloproofError as error:
            raise YoloproofError(f"{document}: {error}") from None

    return _BLOCK.sub(filled, words)


def _asked(words: str, folder: Path) -> _Asked:
    files, *options = (part.strip() for part in words.split("|"))
    said: dict[str, list[str]] = {}
    for option in options:
        name, _, value = option.partition(":")
        if name.strip() not in ("columns", "where", "across", "against"):
            raise YoloproofError(f"a table asks for {name.strip()!r}; known are columns:, where:, across: and against:")
        said[name.strip()] = [word.strip() for word in value.split(",") if word.strip()]
    where: dict[str, set[str]] = {}
    for condition in said.get("where", []):
        key, _, value = (part.strip() for part in condition.partition("="))
        where.setdefault(key, set()).add(value)
    across = said.get("across")
    if across and "against" in said:
        raise YoloproofError(
            "a table asks for across: and against:; a column of a network has its ratio beside it already"
        )
    return _Asked(
        _paths(files.split(), folder), tuple(said.get("columns", ())),
        tuple((key, frozenset(cells)) for key, cells in where.items()), across[0] if across else None,
        tuple(said.get("against", ())),
    )  # fmt: skip


def _paths(names: Sequence[str], folder: Path) -> tuple[Path, ...]:
    paths: list[Path] = []
    for name in names:
        # What a name without a star says is read as it stands, so that a missing file is an error of its own.
        found = sorted(folder.glob(name)) if "*" in name else [folder / name]
        if not found:
            raise YoloproofError(f"no file is called {name}")
        paths += found
    return tuple(paths)


def _kept(rows: Sequence[Row], asked: _Asked) -> list[Row]:
    columns = columns_from_keys([key for key, _ in asked.where])
    wanted = [(column.cell, cells) for column, (_, cells) in zip(columns, asked.where, strict=True)]
    kept = [row for row in rows if all(cell(row) in cells for cell, cells in wanted)]
    if not kept:
        conditions = ", ".join(f"{key}={' or '.join(sorted(cells))}" for key, cells in asked.where)
        files = ", ".join(path.name for path in asked.files)
        raise YoloproofError(f"no row of {files} meets {conditions}; the table would be empty")
    return kept
