"""ONNX Runtime and OpenVINO on this CPU, published and simplified graphs side by side: the table of docs/export.md.

    python benchmarks/runtimes.py --json FILE [--model demo]

A trained checkpoint and real images matter: subnormal numbers, which only these make, slow ONNX Runtime down.
"""

from __future__ import annotations

from common import benchmark, model_case, parser

from yoloproof.names import Attention, Precision, Runtime
from yoloproof.records import Case
from yoloproof.runtime import missing_part

ROWS = (
    (Runtime.ONNXRUNTIME, Precision.FP32, False),
    (Runtime.ONNXRUNTIME, Precision.FP32, True),
    (Runtime.OPENVINO, Precision.FP32, False),
    (Runtime.OPENVINO, Precision.FP32, True),
    (Runtime.OPENVINO, Precision.BF16, True),
)


def cases(model: str) -> list[Case]:
    """Every row that this machine can run, ONNX Runtime on the published graph first."""
    return [
        model_case(model, runtime=runtime, precision=precision, attention=attention, flush_to_zero=flush, threads=2)
        for attention in (Attention.PUBLISHED, Attention.FUSED)
        for runtime, precision, flush in ROWS
        if missing_part(runtime) is None
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="demo", help="demo, or a variant with seeded random weights")
    given = options.parse_args()
    benchmark([cases(given.model)], given)


if __name__ == "__main__":
    main()
