"""Tables in a Markdown document kept in step with committed result files.

A block says what it shows, in a comment that no reader of the rendered page sees:

    <!-- yoloproof-table results/cpu.json results/h100.json | columns: model, attention, median | where: batch=1 -->
    …
    <!-- /yoloproof-table -->

Paths are relative to the document. `where` keeps the rows whose cell in that column says exactly that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError
from yoloproof.results.report_rows import Row, rows_from_results
from yoloproof.results.report_text import DEFAULT_COLUMNS, columns_from_keys, markdown_from_rows

_BLOCK = re.compile(r"(<!-- yoloproof-table (?P<asked>.*?) -->\n)(?P<body>.*?)(<!-- /yoloproof-table -->)", re.DOTALL)
Reader = Callable[[Path], Mapping[str, Any]]


def document_with_tables(document: Path, read: Reader) -> str:
    """The document's text with every block filled from its result files; the file itself is left alone.

    Raises YoloproofError for a document without a block, a block that does not end, an unknown column or option,
    or a block whose conditions leave no row.
    """
    words = document.read_text(encoding="utf-8")
    opened, closed = words.count("<!-- yoloproof-table "), words.count("<!-- /yoloproof-table -->")
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
    columns: Sequence[str] = DEFAULT_COLUMNS
    conditions: list[tuple[str, str]] = []
    for option in options:
        name, _, value = option.partition(":")
        words = [word.strip() for word in value.split(",") if word.strip()]
        if name.strip() == "columns":
            columns = words
        elif name.strip() == "where":
            conditions = [(key.strip(), wanted.strip()) for key, _, wanted in (word.partition("=") for word in words)]
        else:
            raise YoloproofError(f"{document}: a table asks for {name.strip()!r}; known are columns: and where:")
    rows = rows_from_results([(file, read(document.parent / file)) for file in files.split()])
    kept = [row for row in rows if _meets(row, conditions)]
    if not kept:
        raise YoloproofError(f"{document}: no row of {files} meets {conditions}; the table would be empty")
    return markdown_from_rows(kept, columns)


def _meets(row: Row, conditions: Sequence[tuple[str, str]]) -> bool:
    columns = columns_from_keys([key for key, _ in conditions])
    return all(column.cell(row) == wanted for column, (_, wanted) in zip(columns, conditions, strict=True))
