"""The rows of a GPU's table, side by side under the product's own protocol: docs/performance.md.

    python benchmarks/gpu.py --models demo yolov13s yolov13n@32 --json gpu.json

`demo` is the trained checkpoint that ships with the package; other names take seeded random weights; NAME@8 is a batch.
The first model gets all `--rows`, the others `--others`. `--native FILE…` are engines built elsewhere, timed beside the
first model: one with code for 7.5 alone runs from its PTX.
Everything is float16, channels-last, replayed from a CUDA graph. All that a `profile` row has is in the file: proof,
fresh processes, every sample, clocks and power.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from common import benchmark, model_case, parser

from yoloproof.names import Attention, Precision, Runtime
from yoloproof.records import Case

# Row → what it is beside PyTorch in float16: the published network as it is, with PyTorch's fused attention, without
# attention; ours simplified, without and with PyTorch's compiler; ours in our own kernels; those as a native engine.
ROWS: dict[str, dict[str, object]] = {
    "published": {"attention": Attention.PUBLISHED},
    "sdpa": {"attention": Attention.FUSED, "rewrites": ("norms",), "kernels": False},
    "stripped": {"attention": Attention.STRIPPED},
    "simplified": {"kernels": False},
    "compiled": {"kernels": False, "compiled": True},
    "kernels": {},
    "native": {"runtime": Runtime.NATIVE},
}


def groups(models: list[str], rows: list[str], others: list[str], native: list[Path]) -> Iterator[list[Case]]:
    """The cases of one model after the other: `rows` and the engines' files `native` of the first, `others` of the rest."""
    for i, model in enumerate(models):
        common: dict[str, object] = {"runtime": Runtime.PYTORCH, "precision": Precision.FP16, "device": "cuda"}
        cases = [model_case(model, **{**common, **ROWS[row]}) for row in (others if i else rows)]
        files = [] if i else [Case(str(path), Runtime.NATIVE, Precision.FP16, device="cuda") for path in native]
        yield [*cases, *files]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--models", nargs="+", default=["demo"], help="demo, or variants; MODEL@B for a batch of B")
    options.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    options.add_argument(
        "--others", nargs="+", default=["published", "compiled", "native"], choices=ROWS, help="of the later models"
    )
    options.add_argument("--native", type=Path, nargs="*", default=[], help=".native files, too")
    options.add_argument("--seconds", type=float, default=540.0, help="no further model is begun after this")
    given = options.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py: no CUDA device is visible")
    started = time.monotonic()
    benchmark(groups(given.models, given.rows, given.others, given.native), given, given.seconds)
    print(f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
