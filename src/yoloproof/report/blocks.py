"""Tables in a Markdown document kept in step with committed result files.

A block says what it shows, in a comment that no reader of the rendered page sees:

    <!-- yoloproof-table results/cpu.json results/h100-*.json | columns: model, attention, median | where: batch=1 -->
    …
    <!-- /yoloproof-table -->

Paths are relative to the document; `*` stands for any part of a name. `where` keeps the rows whose cell in that column
says exactly that, or one of several (`where: attention=published, attention=fused`). `across: network` makes a column of
each network, with the median and its ratio to `published`, and a row of what `columns` tell apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.records import Result
from yoloproof.report.rows import Row, rows_from_results
from yoloproof.report.text import DEFAULT_COLUMNS, columns_from_keys, markdown_across, markdown_from_rows

# At the start of a line: one that is quoted in a code block is none.
_OPEN, _CLOSE = "<!-- yoloproof-table ", "<!-- /yoloproof-table -->"
_BLOCK = re.compile(rf"^({_OPEN}(?P<asked>.*?) -->\n)(?P<body>.*?)^({_CLOSE})", re.DOTALL | re.MULTILINE)
Reader = Callable[[Path], Result]


def document_with_tables(document: Path, read: Reader) -> str:
    """The document's text with every block filled from its result files; the file itself is left alone.

    Raises YoloproofError for a document without a block, a block that does not end, an unknown column or option,
    or a block whose conditions leave no row.
    """
    words = document.read_text(encoding="utf-8")
    opened, closed = (len(re.findall(f"^{mark}", words, re.MULTILINE)) for mark in (_OPEN, _CLOSE))
    if not opened or opened != closed or opened != len(_BLOCK.findall(words)):
        raise YoloproofError(
            f"{document}: {opened} <!-- yoloproof-table FILE… --> and {closed} <!-- /yoloproof-table --> lines; "
            "every table needs one of each"
        )

    def filled(match: re.Match[str]) -> str:
        return f"{match[1]}{_table(match['asked'], document, read)}{match[4]}"

    return _BLOCK.sub(filled, words)


def _table(asked: str, document: Path, read: Reader) -> str:
    files, *options = (part.strip() for part in asked.split("|"))
    said: dict[str, list[str]] = {}
    for option in options:
        name, _, value = option.partition(":")
        if name.strip() not in ("columns", "where", "across"):
            raise YoloproofError(
                f"{document}: a table asks for {name.strip()!r}; known are columns:, where: and across:"
            )
        said[name.strip()] = [word.strip() for word in value.split(",") if word.strip()]
    rows = rows_from_results([(path.name, read(path)) for path in _paths(files.split(), document)])
    kept = _kept(rows, said.get("where", []))
    if not kept:
        raise YoloproofError(f"{document}: no row of {files} meets {said.get('where')}; the table would be empty")
    if across := said.get("across"):
        return markdown_across(kept, said.get("columns", ["model"]), across[0])
    return markdown_from_rows(kept, said.get("columns", DEFAULT_COLUMNS))


def _paths(names: Sequence[str], document: Path) -> list[Path]:
    paths: list[Path] = []
    for name in names:
        # What a name without a star says is read as it stands, so that a missing file is an error of its own.
        found = sorted(document.parent.glob(name)) if "*" in name else [document.parent / name]
        if not found:
            raise YoloproofError(f"{document}: no file is called {name}")
        paths += found
    return paths


def _kept(rows: Sequence[Row], conditions: Sequence[str]) -> list[Row]:
    wanted: dict[str, set[str]] = {}
    for condition in conditions:
        key, _, value = (part.strip() for part in condition.partition("="))
        wanted.setdefault(key, set()).add(value)
    columns = columns_from_keys(list(wanted))
    return [row for row in rows if all(column.cell(row) in wanted[column.key] for column in columns)]
