"""`benchmark(model="yolov13n.pt", data="coco8.yaml")`: AP and latency of one model in each format, as scripts call it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yoloproof.errors import YoloproofError
from yoloproof.profile_models import device_name, wants_float16, warn_of_unknown

if TYPE_CHECKING:
    from yoloproof.names import Runtime
    from yoloproof.records import Case, Entry, Protocol

COLUMNS = (" ", "Format", "Status❔", "Size (MB)", "metrics/mAP50-95(B)", "Inference time (ms/im)", "FPS")
FORMATS = {"-": "PyTorch", "onnx": "ONNX", "openvino": "OpenVINO", "engine": "TensorRT"}


@dataclass(frozen=True)
class FormatTable:
    """What `benchmark` returns: text by row and column, read as ultralytics' polars table is.

    `table["FPS"]`, `len(table)`, `table.columns`, `table.rows()`, `table.iter_rows(named=True)`, `table.to_dicts()`,
    `table.write_csv(file)`; `polars.DataFrame(table.to_dicts())` for the rest. `entries` are our records of the rows,
    None where one failed.
    """

    cells: tuple[tuple[str, ...], ...]
    entries: tuple[Entry | None, ...]
    columns: tuple[str, ...] = COLUMNS

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, column: str) -> list[str]:
        index = self.columns.index(column)
        return [row[index] for row in self.cells]

    def rows(self) -> list[tuple[str, ...]]:
        return list(self.cells)

    def iter_rows(self, *, named: bool = False) -> Iterator[tuple[str, ...] | dict[str, str]]:
        return iter(self.to_dicts() if named else self.cells)

    def to_dicts(self) -> list[dict[str, str]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.cells]

    def write_csv(self, file: str | Path) -> None:
        with Path(file).open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([self.columns, *self.cells])

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.cells, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in (self.columns, *self.cells)
        )
        return "\n".join(line.rstrip() for line in lines)


def benchmark(
    model: str | Path,
    data: str | Path | None = None,
    imgsz: int = 160,
    quantize: int | str | bool | None = None,
    device: object = "cpu",
    verbose: bool | float = False,
    eps: float = 1e-3,
    format: str = "",
    *,
    half: bool | None = None,
    int8: bool | None = None,
    protocol: Protocol | str | None = None,
    **others: object,
) -> FormatTable:
    """Export, prove, time and evaluate one model in each format; print and return the table.

    data -- a `data.yaml` or a folder of annotated images; None: the four bundled ones
    imgsz, quantize, half, int8, device -- as for `ProfileModels`
    verbose -- True: a format that fails raises; a number: so does an AP (0…1) below it
    eps -- added to a row's milliseconds before FPS is computed; format -- one of "-" (PyTorch), "onnx", "openvino",
        "engine"; "" for all that the device runs
    protocol -- ours: how rows are timed; None: as `profile --quick` does
    others -- named in a warning. An unproved row has ❎ for its status, a failed one ❌.
    Raises YoloproofError for a format, model or set that is not there.
    """
    from yoloproof.demo import demo_annotations
    from yoloproof.detection.data_yaml import check_data
    from yoloproof.measurement.protocol import protocol_from_name
    from yoloproof.pipeline import Options, profile

    warn_of_unknown("benchmark", others)
    annotated = Path(data) if data is not None else demo_annotations().parent
    check_data(annotated)
    options = Options(data=annotated)
    cases = _cases(str(model), format, imgsz, device_name(device), wants_float16(quantize, half, int8))
    rows, entries = [], []
    for number, (name, case) in enumerate(cases, 1):
        entry, said = None, ""
        try:
            entry = profile([case], protocol or protocol_from_name("latency", quick=True), options).entries[0]
        except YoloproofError as error:
            said = str(error)
            print(f"{name}: {said}")
        if verbose and (entry is None or entry.summary is None):
            raise YoloproofError(f"{name}: {said or 'not timed to its end'}")
        rows.append((str(number), name, *_cells(entry, eps)))
        entries.append(entry)
    table = FormatTable(tuple(rows), tuple(entries))
    print(table)
    if not isinstance(verbose, bool):
        _check_floor(table, verbose)
    return table


def _cases(model: str, format: str, imgsz: int, device: str, float16: bool) -> list[tuple[str, Case]]:
    """Format's name and case, in the table's order: the one that is asked for, else all that model and device allow."""
    from yoloproof.names import Precision, Runtime
    from yoloproof.network.variants import VARIANTS
    from yoloproof.records import Case

    if format not in ("", *FORMATS):
        raise YoloproofError(f"format {format!r}: choose from {', '.join(FORMATS)}, or '' for all")
    official = model.removesuffix(".pt")
    model = official if official in VARIANTS and not Path(model).exists() else model
    runtimes = {"-": Runtime.PYTORCH, "onnx": Runtime.ONNXRUNTIME, "openvino": Runtime.OPENVINO, "engine": _tensorrt()}
    unfit = {"engine" if device == "cpu" else "openvino", "-" if Path(model).suffix == ".onnx" else ""}
    precision = Precision.FP16 if float16 and device != "cpu" else Precision.FP32
    return [
        (FORMATS[key], Case(model, runtime, precision, imgsz=(imgsz, imgsz), device=device))
        for key, runtime in runtimes.items()
        if key == format or (not format and key not in unfit)
    ]


def _tensorrt() -> Runtime:
    from yoloproof.names import Runtime
    from yoloproof.runtime import missing_part

    return Runtime.TENSORRT if missing_part(Runtime.TENSORRT) is None else Runtime.TENSORRT_RTX


def _cells(entry: Entry | None, eps: float) -> tuple[str, str, str, str, str]:
    """Status, size, AP, milliseconds and images per second of a row, as text."""
    if entry is None or entry.summary is None:
        return "❌", "-", "-", "-", "-"
    size = "-" if entry.artifact.bytes is None else f"{entry.artifact.bytes / 2**20:.1f}"
    ap = None if entry.accuracy is None else entry.accuracy.AP
    milliseconds = entry.summary.median_s * 1e3
    status = "❎" if entry.proof.passed is False else "✅"
    return (
        status, size, "-" if ap is None else f"{ap:.4f}", f"{milliseconds:.2f}", f"{1000 / (milliseconds + eps):.2f}"
    )  # fmt: skip


def _check_floor(table: FormatTable, floor: float) -> None:
    low = [row for row in table.to_dicts() if row[COLUMNS[4]] != "-" and float(row[COLUMNS[4]]) <= floor]
    if low:
        raise YoloproofError(f"{low[0]['Format']}: AP {low[0][COLUMNS[4]]} is not above {floor:g}")
