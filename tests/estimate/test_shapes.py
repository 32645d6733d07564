"""Layer shapes become the kernels that TensorRT's fusions leave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from yoloproof.errors import YoloproofError
from yoloproof.estimate.kernels import HALF, attention_kernels, convolution_kernels, padded
from yoloproof.estimate.shapes import attentions_of, kernels_from_shapes, layer_shapes


def reference_folder() -> Path:
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "reference").is_dir():
            return parent / "shared" / "reference"
    pytest.skip("shared/reference is missing")


def test_the_committed_shapes_are_the_reference():
    reference = json.loads((reference_folder() / "layer_shapes.json").read_text(encoding="utf-8"))
    ours = {f"yolo12{scale}" for scale in "nsmlx"}
    assert {name: rows for name, rows in layer_shapes().items() if name not in ours} == reference["models"]
    assert ours < layer_shapes().keys()


@pytest.mark.slow
def test_yolo12s_shapes_are_those_of_our_network():
    """By a procedure that gives the reference's rows for yolov12."""
    script = Path(__file__).parents[2] / "research" / "layer_shapes.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_stripped_yolo12_keeps_its_values():
    """One convolution makes q, k and v: a third of it stays."""
    fused, stripped = (
        {k.name: k.flops for k in kernels_from_shapes("yolo12n", how)} for how in ("explicit", "stripped")
    )
    (name, *_) = [name for name in fused if name.endswith("attn.qkv.conv")]
    assert stripped[name] == pytest.approx(fused[name] / 3)
    assert kernels_from_shapes("yolo12n", "published") == kernels_from_shapes("yolo12n", "explicit")


@pytest.mark.parametrize(
    ("model", "gflops"), [("yolov8n", 8.74), ("yolov10x", 160.4), ("yolo11m", 65.9), ("yolov12x", 184.6)]
)
def test_flops_are_the_networks(model, gflops):
    flops = sum(k.flops for k in kernels_from_shapes(model, "stripped"))
    stripped = sum(  # the q/k convolutions that stripping drops
        2 * row[5] * row[6] * row[9] * row[10]
        for row in layer_shapes()[model]
        if row[0] == "conv" and row[1].endswith("attn.qk.conv")
    )
    assert (flops + stripped) / 1e9 == pytest.approx(gflops, rel=2e-3)


def test_a_convolution_by_hand():
    body, act = convolution_kernels("c", "b", 3, 1, 3, 20, 100, 25, True)
    assert (body.kind, body.m, body.n, body.k) == ("gemm", 25, 20, 27)
    assert body.flops == 2 * 25 * 20 * 27
    assert body.bytes_activations == HALF * (4 * 100 + 24 * 25)  # 3 channels lie as 4, 20 as 24
    assert body.bytes_weights == HALF * 20 * 27
    assert act.bytes_activations == 2 * HALF * 24 * 25
    assert [padded(c) for c in (3, 8, 9)] == [4, 8, 16]
    (depthwise,) = convolution_kernels("d", "b", 5, 16, 16, 16, 100, 100, False)
    assert (depthwise.kind, depthwise.flops) == ("depthwise", 2 * 100 * 16 * 25)
    (grouped,) = convolution_kernels("g", "b", 3, 4, 64, 64, 100, 100, False)
    assert (grouped.kind, grouped.groups, grouped.n, grouped.k) == ("gemm", 4, 16, 144)


def test_what_each_attention_moves():
    def scores(how):
        kernels = attention_kernels("a", "b", 8, 400, 32, 32, how)
        return sum(k.bytes_activations for k in kernels if k.kind == "score") / (HALF * 8 * 400 * 400)

    assert scores("explicit") == 2
    assert scores("published") == 8
    assert scores("fused") == 0
    assert attention_kernels("a", "b", 8, 400, 32, 32, "stripped") == []
    fused = next(k for k in attention_kernels("a", "b", 8, 400, 32, 32, "fused") if k.kind == "attention")
    explicit = [k for k in attention_kernels("a", "b", 8, 400, 32, 32, "explicit") if k.kind == "gemm"]
    assert fused.flops == sum(k.flops for k in explicit)


def test_stripping_takes_the_queries_and_keys_along_and_nothing_else():
    for model, count in (("yolov12n", 8), ("yolov13x", 16)):
        fused = {k.name for k in kernels_from_shapes(model, "fused")}
        stripped = {k.name for k in kernels_from_shapes(model, "stripped")}
        gone = fused - stripped
        assert stripped < fused
        assert sum(name.endswith("attn.qk.conv") for name in gone) == count
        assert sum(name.endswith("attn.attention") for name in gone) == count
        assert len(gone) == 4 * count  # with the transpositions in and out


def test_which_attentions_a_model_has():
    assert attentions_of("yolov8n") == ()
    assert attentions_of("yolov13n") == ("fused", "explicit", "published", "stripped")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("yolov99n",), "no layer shapes of 'yolov99n'"),
        (("yolov13n", "flash"), "no attention is called 'flash'"),
        (("yolov13n", "fused", 0), "the batch must be positive"),
        (("yolov13n", "fused", 1, 600), "multiple of 32"),
    ],
)
def test_bad_requests_say_what_to_do(arguments, message):
    with pytest.raises(YoloproofError, match=message):
        kernels_from_shapes(*arguments)
