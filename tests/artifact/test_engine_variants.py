"""T4 engines of all nine variants, really built, every attention of every one in a fused kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from yoloproof.artifact.engine import Engine, engine_from_onnx
from yoloproof.artifact.onnx import export_onnx
from yoloproof.artifact.tensorrt import EngineOptions
from yoloproof.network import VARIANTS, Network, attention_paths, load_network
from yoloproof.simplify.rewrites import simplify


def t4_engine(folder: Path, network: Network) -> Engine:
    """At 96 px: the number of attentions, and what becomes of each, is that of 640 (benchmarks/engines.py)."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install 'yoloproof[gpu]')")
    source = folder / "network.onnx"
    export_onnx(network.eval(), source, imgsz=(96, 96), precision="fp16")
    return engine_from_onnx(source, source.with_suffix(".engine"), EngineOptions(target="t4"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in VARIANTS if name.endswith(("n", "x"))])  # benchmarks/engines.py: all
def test_every_attention_of_every_family_is_fused(tmp_path: Path, name: str) -> None:
    network = load_network(name, random_weights=True)
    paths = attention_paths(network.named_modules())
    engine = t4_engine(tmp_path, simplify(network))
    assert len(paths) == (16 if name.endswith(("l", "x")) else 8)
    assert sorted(engine.audit.pairs) == sorted(paths)
    assert engine.audit.fused.keys() == set(paths)
    assert len(set(engine.audit.fused.values())) == len(paths)  # a kernel of its own each
    assert engine.audit.casts == ()
    assert engine.identity.precision == "float16"
    assert engine.identity.attention == "fused"
    assert engine.identity.compute_capabilities == ("7.5",)
    assert engine.identity.onnx_metadata["yoloproof.variant"] == f'"{name}"'


@pytest.mark.slow
def test_the_published_spelling_is_found_and_fused_too(tmp_path: Path) -> None:
    network = load_network("yolov12n", "published", random_weights=True)
    engine = t4_engine(tmp_path, network)
    assert engine.audit.form == "spelled"
    assert engine.audit.pairs == ()
    assert engine.audit.fused.keys() == set(attention_paths(network.named_modules()))
    assert engine.identity.attention == "published"
