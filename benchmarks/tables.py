"""The tables of README.md and docs/ from the result files in results/: written, or held to be in step.

    python benchmarks/tables.py           # write them
    python benchmarks/tables.py --check   # write nothing; exit status 1 and the document's name where one is stale

What a table shows stands in its own marker comment (docs/report.md). What `benchmarks/export.py` writes, a list of rows, is
read as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError
from yoloproof.report.blocks import document_with_tables
from yoloproof.results.file import read_result

ROOT = Path(__file__).parents[1]


def documents() -> list[Path]:
    """The documents that hold a marked table: a marker that starts a line, not one that is quoted."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [path for path in found if "\n<!-- yoloproof-table " in path.read_text(encoding="utf-8")]


def read(path: Path) -> Mapping[str, Any]:
    """A result file, or the rows of benchmarks/export.py in a result's shape."""
    if path.is_file():
        rows = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(rows, list):
            return result_from_rows(rows)
    return read_result(path)


def result_from_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of benchmarks/export.py: model, runtime, flush_to_zero, form, nodes, median_s, rounds."""
    entries = [
        {
            "model": {"name": row["model"]},
            "artifact": {
                "attention": row["form"], "nodes": row["nodes"], "precision": "fp32", "imgsz": [640, 640], "batch": 1,
            },
            "runtime": {"name": row["runtime"], "flush_to_zero": row["flush_to_zero"]},
            "proof": {"passed": None, "checks": []},
            "processes": [{"round_medians_s": row["rounds"]}],
            "summary": {"median_s": row["median_s"]},
            "warnings": [],
        }
        for row in rows
    ]  # fmt: skip
    return {"schema": 1, "machine": {}, "protocol": {"name": "interleaved"}, "entries": entries}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where a table is stale")
    arguments = parser.parse_args()
    stale = 0
    for document in documents():
        words = document_with_tables(document, read)
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
