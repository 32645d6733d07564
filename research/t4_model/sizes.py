"""YOLO11's classifiers at 224 px and oriented-box detectors at 1024 px: the kernels that their figures are held against.

`kernels_sizes.json.gz` was made from ONNX files of the public model definitions with random weights:
`python -m t4_model.sizes yolo11n-cls.onnx …` from research/ writes it anew.
"""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import astuple
from functools import cache
from pathlib import Path

from yoloproof.estimate.graph import kernels_from_onnx
from yoloproof.estimate.kernels import Kernel
from yoloproof.estimate.shapes import kernels_from_shapes, layer_shapes

FILE = Path(__file__).parent / "kernels_sizes.json.gz"


@cache
def _committed() -> dict[str, list[Kernel]]:
    rows = json.loads(gzip.decompress(FILE.read_bytes()))
    return {model: [Kernel(f"{model}.{at}", "", *row) for at, row in enumerate(found)] for model, found in rows.items()}


def kernels_of(model: str) -> list[Kernel]:
    """Of a calibrated network by name: the wheel's 24 at 640 px, or "yolo11n-cls" and the like at their own size."""
    return kernels_from_shapes(model) if model in layer_shapes() else _committed()[model]


def write(paths: list[Path]) -> None:
    """The kernels of these ONNX files, by the file's stem; names and blocks are left out."""
    rows = {path.stem: [astuple(kernel)[2:] for kernel in kernels_from_onnx(path).kernels] for path in paths}
    FILE.write_bytes(gzip.compress(json.dumps(rows, separators=(",", ":")).encode(), mtime=0))


if __name__ == "__main__":
    write([Path(name) for name in sys.argv[1:]])
