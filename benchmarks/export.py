"""Our export against the published graph and against the broken one, side by side: float32, batch 1, 640 px.

    python benchmarks/export.py --json FILE [--runtime onnxruntime openvino] [--models demo yolov13s]

For each model and runtime, with and without flush-to-zero on every side: ratios of the medians to `published`, each
attention as its own row. `yoloproof compare FILE` prints them again.
"""

from __future__ import annotations

from collections.abc import Iterator

from common import benchmark, model_case, parser

from yoloproof.names import Attention, Runtime
from yoloproof.records import Case

ATTENTIONS = (Attention.PUBLISHED, Attention.STRIPPED, Attention.FUSED, Attention.EXPLICIT)


def groups(models: list[str], runtimes: list[str]) -> Iterator[list[Case]]:
    """One group for each model, runtime and flush-to-zero setting, `published` first."""
    for model in models:
        for runtime in runtimes:
            for flush in (False, True):
                yield [
                    model_case(model, runtime=Runtime(runtime), attention=attention, flush_to_zero=flush, threads=2)
                    for attention in ATTENTIONS
                ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--models", nargs="+", default=["demo", "yolov13s"])
    options.add_argument("--runtime", nargs="+", default=["onnxruntime", "openvino"])
    given = options.parse_args()
    benchmark(groups(given.models, given.runtime), given)


if __name__ == "__main__":
    main()
