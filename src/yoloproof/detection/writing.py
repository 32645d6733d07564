"""Detections as other programs read them: JSON records, CSV rows, YOLO label lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CSV_HEADER = ("source", "frame", "class", "name", "score", "x1", "y1", "x2", "y2")


def name_of(index: int, names: Mapping[int, str]) -> str:
    """A class's name; `class7` where it has none."""
    return names.get(index, f"class{index}")


def json_records(detections: NDArray[np.float32], names: Mapping[int, str]) -> list[dict[str, object]]:
    """[n, 6] → {"class", "name", "score", "box": [x1, y1, x2, y2]}, image pixels."""
    return [
        {"class": int(c), "name": name_of(int(c), names), "score": round(s, 5), "box": [round(v, 2) for v in box]}
        for *box, s, c in detections.tolist()
    ]


def csv_text(text: str) -> str:
    """Text for a CSV cell: what a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def csv_rows(
    source: str, frame: int | None, detections: NDArray[np.float32], names: Mapping[int, str]
) -> list[tuple[object, ...]]:
    """[n, 6] → rows under CSV_HEADER; `frame` is empty for a still image."""
    number = "" if frame is None else frame
    return [
        (csv_text(source), number, int(c), csv_text(name_of(int(c), names)), round(s, 5), *(round(v, 2) for v in box))
        for *box, s, c in detections.tolist()
    ]


def yolo_lines(detections: NDArray[np.float32], height: int, width: int) -> str:
    """[n, 6] → lines `class cx cy w h score`, in shares of the image."""
    lines = []
    for x1, y1, x2, y2, score, index in detections.tolist():
        shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(" ".join([str(int(index)), *(f"{share:.6f}" for share in shares), f"{score:.5f}"]))
    return "".join(line + "\n" for line in lines)


def counted(detections: NDArray[np.float32], names: Mapping[int, str]) -> str:
    """[n, 6] → "3 person, 1 dog", the most first; "nothing"."""
    counts = Counter(name_of(int(index), names) for index in detections[:, 5])
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
