"""The table of docs/export.md: T4 engines of all nine variants, and of yolov13n from every spelling of its attention.

Needs no GPU: `pip install 'yoloproof[gpu]'`, then `python benchmarks/engines.py`. The weights are random and seeded:
what becomes of a graph does not depend on them. Seconds are of this machine and one build each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from yoloproof.artifact.engine import Engine, engine_from_onnx
from yoloproof.artifact.onnx import export_onnx
from yoloproof.artifact.tensorrt import EngineOptions
from yoloproof.network import VARIANTS, load_network
from yoloproof.simplify.rewrites import simplify

MEBI = 1 << 20
COLUMNS = ("network", "attention", "simplified", "layers", "pairs", "fused kernels", "kernels", "activation MiB")
COLUMNS += ("engine MiB", "build s")


def build(folder: Path, name: str, attention: str, simplified: bool, size: int, target: str) -> tuple[Engine, float]:
    """Export in float16 and build; the engine and the seconds from ONNX file to engine file."""
    network = load_network(name, attention, random_weights=True)
    network = simplify(network) if simplified else network
    onnx = folder / f"{name}-{attention}-{simplified}.onnx"
    export_onnx(network.eval(), onnx, imgsz=(size, size), precision="fp16")
    started = time.perf_counter()
    options = EngineOptions(target=target, require_fused=attention in ("fused", "explicit"))
    engine = engine_from_onnx(onnx, onnx.with_suffix(".engine"), options)
    return engine, time.perf_counter() - started


def row(name: str, attention: str, simplified: bool, engine: Engine, seconds: float) -> str:
    audit = engine.audit
    activation = f"{audit.activation_bytes / MEBI:.1f}" if audit.activation_bytes is not None else "unknown"
    cells = [name, attention, "yes" if simplified else "no", audit.layers, len(audit.pairs), len(audit.fused)]
    cells += [audit.kernels, activation, f"{engine.identity.engine_bytes / MEBI:.1f}", f"{seconds:.1f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="t4")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--only", choices=("variants", "spellings"))
    arguments = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---|---|---|" + "---:|" * 7)
    cases = []
    if arguments.only != "spellings":
        cases += [(name, "fused", True) for name in VARIANTS]
    if arguments.only != "variants":
        spellings = ("fused", "explicit", "published", "stripped")
        cases += [("yolov13n", attention, simplified) for simplified in (False, True) for attention in spellings]
    for name, attention, simplified in cases:
        with tempfile.TemporaryDirectory() as folder:
            engine, seconds = build(Path(folder), name, attention, simplified, arguments.imgsz, arguments.target)
            print(row(name, attention, simplified, engine, seconds), flush=True)


if __name__ == "__main__":
    main()
