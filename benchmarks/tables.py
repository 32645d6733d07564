"""The tables of README.md and docs/ from the result files in results/: written, or held to be in step.

    python benchmarks/tables.py           # write them
    python benchmarks/tables.py --check   # write nothing; exit status 1 and the document's name where one is stale

What a table shows stands in its own marker comment (docs/report.md).
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.report.blocks import document_with_tables

ROOT = Path(__file__).parents[1]
MARKS = re.compile(r"^<!-- yoloproof-table ", re.MULTILINE)


def documents() -> list[Path]:
    """The documents that hold a marked table: a marker that starts a line, not one that is quoted."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [path for path in found if MARKS.search(path.read_text(encoding="utf-8"))]


def filled(document: Path) -> str:
    """The document's text with all its blocks filled in."""
    words = document.read_text(encoding="utf-8")
    if "\n<!-- yoloproof-table " in words:
        words = document_with_tables(document)
    return words


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where a table is stale")
    arguments = parser.parse_args()
    stale = 0
    for document in documents():
        words = filled(document)
        if words == document.read_text(encoding="utf-8"):
            continue
        stale += 1
        if arguments.check:
            print(f"{document.relative_to(ROOT)}: stale; run: python benchmarks/tables.py", file=sys.stderr)
        else:
            document.write_text(words, encoding="utf-8")
            print(f"{document.relative_to(ROOT)}: tables written")
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except YoloproofError as error:
        sys.exit(f"benchmarks/tables.py: {error}")
