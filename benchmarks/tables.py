"""The tables of README.md and docs/ from the result files in results/: written, or held to be in step.

    python benchmarks/tables.py           # write them
    python benchmarks/tables.py --check   # write nothing; exit status 1 and the document's name where one is stale

What a table shows stands in its own marker comment (docs/report.md). `<!-- gpu-blocks FILE -->` takes the layers and the
attention's ways of a file of `benchmarks/gpu.py`; `<!-- records -->`, in docs/result-file.md, the fields of the result file
from the records themselves.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from record_fields import with_records
from timings import table_of_timings, timings_of

from yoloproof.errors import YoloproofError
from yoloproof.report.blocks import Asked, document_with_tables, table_of_results

ROOT = Path(__file__).parents[1]
MARKS = re.compile(r"^<!-- (yoloproof-table |records -->)", re.MULTILINE)
GPU_BLOCKS = re.compile(r"^(<!-- gpu-blocks (\S+) -->\n).*?^(<!-- /gpu-blocks -->)$", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """The documents that hold a marked table: a marker that starts a line, not one that is quoted."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [path for path in found if MARKS.search(path.read_text(encoding="utf-8"))]


def filled(document: Path) -> str:
    """The document's text with all its blocks filled in."""
    words = document.read_text(encoding="utf-8")
    if "\n<!-- yoloproof-table " in words:
        words = document_with_tables(document, table)
    return with_records(with_gpu_blocks(document, words))


def table(asked: Asked) -> str:
    """The table of a block: of result files, or of what the benchmarks wrote before."""
    found = [timings_of(path) if path.is_file() else None for path in asked.files]
    timings = [timing for rows in found if rows is not None for timing in rows]
    return table_of_timings(timings, asked) if timings else table_of_results(asked)


def with_gpu_blocks(document: Path, words: str) -> str:
    """The document's `gpu-blocks` filled in; file names are relative to it."""

    def filled(match: re.Match[str]) -> str:
        result = json.loads((document.parent / match[2]).read_text(encoding="utf-8"))
        return f"{match[1]}{layers_table(result)}\n{attention_table(result)}{match[3]}"

    return GPU_BLOCKS.sub(filled, words)


def layers_table(result: Mapping[str, Any]) -> str:
    """Layers in microseconds beside their floor: the greater of bytes and operations over the ceilings of the same run."""
    copy, rate = result["ceilings"]["copy_bytes_per_s"], result["ceilings"]["float16_flops_per_s"]
    lines = [
        "| Layer | MFLOP | kB | Floor µs | Published µs | Kernels | GPU form µs | Kernels |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    sums = [0.0] * 7
    for row in result["blocks"]["layers"]:
        floor = max(row["bytes"] / copy, row["flops"] / rate)
        figures = [
            row["flops"] / 1e6, row["bytes"] / 1e3, floor * 1e6, row["published_s"] * 1e6, row["published_kernels"],
            row["gpu_s"] * 1e6, row["gpu_kernels"],
        ]  # fmt: skip
        if not row["gpu_kernels"]:
            figures[5] = 0.0  # an empty graph's replay: the layer is a part of another there
        sums = [total + figure for total, figure in zip(sums, figures, strict=True)]
        lines.append(f"| {row['layer']} {row['block']} {_cells(figures)}")
    return "\n".join([*lines, f"| sum {_cells(sums)}"]) + "\n"


def _cells(figures: list[float]) -> str:
    digits = (0, 0, 1, 1, 0, 1, 0)
    return "| " + " | ".join(f"{figure:,.{n}f}" for figure, n in zip(figures, digits, strict=True)) + " |"


def attention_table(result: Mapping[str, Any]) -> str:
    rows = result["blocks"]["attention"]
    ways, areas = dict.fromkeys(row["way"] for row in rows), sorted({row["area"] for row in rows})
    taken = {(row["way"], row["area"]): row["seconds"] for row in rows}
    lines = [
        "| One area attention, µs | " + " | ".join(f"area {area}" for area in areas) + " |",
        "|---|" + "---:|" * len(areas),
    ]
    for way in ways:
        seconds = [taken[way, area] for area in areas]
        lines.append(f"| {way} | " + " | ".join("–" if s is None else f"{s * 1e6:.1f}" for s in seconds) + " |")
    return "\n".join(lines) + "\n"


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
