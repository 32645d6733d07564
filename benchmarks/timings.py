"""What `benchmarks/gpu.py` wrote before it timed Cases: rows of forms, timed in rounds.

The committed files of that time (results/h100-forms*.json) are no result files; their tables in docs/ are made here, with
the same marks and options as those of result files. This goes once these models are timed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError
from yoloproof.intervals import paired_ratio
from yoloproof.report.blocks import Asked
from yoloproof.report.text import markdown_escape, milliseconds
from yoloproof.results.labels import NOT_SAID


@dataclass(frozen=True)
class Timing:
    """One form of one model; rounds_s -- its medians, in the order of the rounds; group -- what was timed in turns;
    place -- (family, parameters), by which models follow one another"""

    group: tuple[object, ...]
    model: str
    runtime: str
    form: str
    batch: int
    verdict: str
    median_s: float
    rounds_s: tuple[float, ...]
    place: tuple[str, int] = ("", 0)
    launches: int | None = None


def timings_of(path: Path) -> list[Timing] | None:
    """The rows of such a file; None where it is another kind of file."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if "ceilings" in document and document.get("schema") == 1:
        return [_of_gpu(entry, path) for entry in document["entries"]]
    return None


def _of_gpu(entry: Mapping[str, Any], path: Path) -> Timing:
    model, artifact = entry["model"], entry["artifact"]
    name = model["name"] + (" (random weights)" if model["weights"] == "random" else "")
    verdict = {True: "proved", False: "not proved", None: "unchecked"}[entry["proof"]["passed"]]
    compiled = artifact["form"].endswith(" compiled")
    return Timing(
        (path, name, artifact["batch"], compiled), name, entry["runtime"]["name"], artifact["form"],
        artifact["batch"], verdict, entry["summary"]["median_s"], tuple(entry["processes"][0]["round_medians_s"]),
        place=(model["family"], model["parameters"]), launches=entry["kernels"]["launches"],
    )  # fmt: skip


def table_of_timings(timings: Sequence[Timing], asked: Asked) -> str:
    """The Markdown table that a block asks for. YoloproofError for an unknown column, or where no row is left."""
    unknown = {*asked.columns, *(key for key, _ in asked.where), *filter(None, [asked.across])} - COLUMNS.keys()
    if unknown:
        raise YoloproofError(f"no column is called {', '.join(sorted(unknown))}; there are {', '.join(COLUMNS)}")
    rows = [row for row in timings if all(COLUMNS[key][1](row, timings) in cells for key, cells in asked.where)]
    if not rows:
        raise YoloproofError(f"no row meets {asked.where}; the table would be empty")
    if asked.across is None:
        heads = [COLUMNS[key][0] for key in asked.columns]
        body = [[COLUMNS[key][1](row, timings) for key in asked.columns] for row in rows]
        return _markdown(heads, [COLUMNS[key][2] for key in asked.columns], body)
    spread = COLUMNS[asked.across][1]
    across = list(dict.fromkeys(spread(row, timings) for row in rows))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: (*row.place, row.batch)):
        fixed = tuple(COLUMNS[key][1](row, timings) for key in asked.columns)
        ratio = _ratio(row, timings, "published")
        cell = _median(row) + ("" if ratio in (NOT_SAID, "1", "1 of compiled") else f" · {ratio}")
        if lines.setdefault(fixed, {}).setdefault(spread(row, timings), cell) != cell:
            raise YoloproofError(f"two rows are {fixed}; name a column that tells them apart")
    heads = [*(COLUMNS[key][0] for key in asked.columns), *(f"{word}, ms" for word in across)]
    numeric = [*(COLUMNS[key][2] for key in asked.columns), *(True for _ in across)]
    return _markdown(
        heads, numeric, [[*fixed, *(cells.get(w, NOT_SAID) for w in across)] for fixed, cells in lines.items()]
    )


def _markdown(heads: Sequence[str], numeric: Sequence[bool], body: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(map(markdown_escape, cells)) + " |" for cells in (heads, *body)]
    return "\n".join([lines[0], "|" + "|".join("---:" if one else "---" for one in numeric) + "|", *lines[1:]]) + "\n"


def _median(row: Timing) -> str:
    return milliseconds(row.median_s) + ("" if row.verdict == "proved" else f" ({row.verdict})")


def _ratio(row: Timing, timings: Sequence[Timing], base: str) -> str:
    """The time over that of `base`, round by round: the median of the ratios and its 95 % interval."""
    compiled = " compiled" if row.form.endswith(" compiled") else ""
    other = next((one for one in timings if one.group == row.group and one.form == base + compiled), None)
    if other is None:
        return NOT_SAID
    of = " of compiled" if compiled else ""
    if other is row:
        return f"1{of}"
    ratio = paired_ratio(row.rounds_s, other.rounds_s)
    ends = "" if ratio.interval is None else f" ({ratio.interval.low:.3f}–{ratio.interval.high:.3f})"
    return f"{ratio.value:.3f}{ends}{of}"


def _count(number: int | None) -> str:
    return NOT_SAID if number is None else str(number)


SIGNS = {"proved": "✓", "not proved": "✗", "unchecked": "?"}
COLUMNS: dict[str, tuple[str, Callable[[Timing, Sequence[Timing]], str], bool]] = {  # key → heading, cell, numeric
    "model": ("Model", lambda row, _: row.model, False),
    "runtime": ("Runtime", lambda row, _: row.runtime, False),
    "attention": ("Attention", lambda row, _: row.form, False),
    "form": ("Form", lambda row, _: row.form, False),
    "batch": ("Batch", lambda row, _: str(row.batch), True),
    "launches": ("Kernels", lambda row, _: _count(row.launches), True),
    "median": ("Median ms", lambda row, _: _median(row), True),
    "ratio": ("Of published", lambda row, rows: _ratio(row, rows, "published"), True),
    "of_stripped": ("Of stripped", lambda row, rows: _ratio(row, rows, "stripped"), True),
    "proof": ("Proof", lambda row, _: f"{SIGNS[row.verdict]} {row.verdict}", False),
}
