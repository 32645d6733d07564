"""Every rewrite is the same function: one test per identity, on the blocks it touches and on whole networks."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch

from yoloproof.errors import YoloproofError
from yoloproof.names import Attention
from yoloproof.network import VARIANTS, Network, attention_paths, load_network
from yoloproof.network.attention import HEAD_DIM, attend
from yoloproof.simplify.attention import AttentionCore, TransposedKeys, bounded
from yoloproof.simplify.choice import RUNTIME_REWRITES
from yoloproof.simplify.modules import ChannelsFirst, SummedExit
from yoloproof.simplify.rewrites import DEFAULT_REWRITES, REWRITES, simplify, transpose_keys

IMAGES = torch.rand((2, 3, 96, 128), generator=torch.Generator().manual_seed(1))


def difference(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    return float((a - b)[:, :4].abs().max()), float((a - b)[:, 4:].abs().max())


@cache
def small(name: str, attention: str = "fused") -> Network:
    """Three classes; shared by tests, which leave it as it is."""
    return load_network(name, attention, random_weights=True, classes=3, seed=5)


@cache
def output_of(name: str) -> torch.Tensor:
    with torch.inference_mode():
        return small(name)(IMAGES)


@pytest.mark.parametrize("rewrite", [r for r in REWRITES if r not in ("norms", "pixels")])
@pytest.mark.parametrize("name", ["yolov13n", "yolov12n", "yolo12n"])
def test_each_rewrite_alone_is_exact(name: str, rewrite: str) -> None:
    with torch.inference_mode():
        boxes, scores = difference(output_of(name), simplify(small(name), ("norms", rewrite))(IMAGES))
    assert boxes < 1e-3
    assert scores < 1e-5


@pytest.mark.parametrize("name", VARIANTS)
def test_all_rewrites_together_are_exact(name: str) -> None:
    with torch.inference_mode():
        boxes, scores = difference(output_of(name), simplify(small(name))(IMAGES))
    assert boxes < 1e-3
    assert scores < 1e-5


@pytest.mark.parametrize("attention", ["explicit", "published"])
def test_attentions_agree_simplified(attention: str) -> None:
    with torch.inference_mode():
        boxes, scores = difference(simplify(small("yolov13n"))(IMAGES), simplify(small("yolov13n", attention))(IMAGES))
    assert boxes < 1e-3
    assert scores < 1e-5


def test_pixels_take_their_scale_along() -> None:
    network = small("yolov13n")
    pixels = (IMAGES * 255).round()
    with torch.inference_mode():
        folded = simplify(network, (*DEFAULT_REWRITES, "pixels"))
        assert folded.pixel_scale == 255.0
        boxes, scores = difference(network(pixels / 255), folded(pixels))
    assert boxes < 1e-3
    assert scores < 1e-5


def test_norms_leave_none_behind() -> None:
    folded = simplify(small("yolov13n"), ("norms",))
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_hypergraph_projections_act_on_hyperedges() -> None:
    """pre_head_proj (with its bias, which cancels) and the heads are gone; N tokens meet no D x D matrix any more."""
    names = [n for n, _ in simplify(small("yolov13n"), ("norms", "edges")).named_parameters()]
    assert not [n for n in names if "pre_head_proj" in n]
    assert [n for n in names if n.endswith("hgnn.context")]


def test_the_pre_head_bias_cancels() -> None:
    network = copy.deepcopy(small("yolov13n"))
    with torch.inference_mode():
        before = network(IMAGES)
        for name, parameter in network.named_parameters():
            if name.endswith("pre_head_proj.bias"):
                parameter += 3.0
        boxes, scores = difference(before, network(IMAGES))
    assert boxes < 1e-3
    assert scores < 1e-5


def test_upsampled_layers_are_gone_and_a_gate_moved() -> None:
    simplified = simplify(small("yolov13n"), ("norms", "upsampling"))
    assert [i for i, s in enumerate(simplified.sources) if not s] == [10, 13, 15, 16, 19, 20]
    assert not [n for n, _ in simplified.named_parameters() if n == "model.13.gate"]


def test_upsampled_entries_are_found_in_every_wiring() -> None:
    simplified = simplify(small("yolov12n"), ("norms", "upsampling"))
    assert [i for i, s in enumerate(simplified.sources) if not s] == [9, 10, 12, 13]
    assert (simplified.sources[11], simplified.sources[14]) == ((8, 6), (11, 4))


@pytest.mark.parametrize("rewrites", [("norms",), DEFAULT_REWRITES, *RUNTIME_REWRITES.values()])
def test_blocks_keep_their_published_paths(rewrites: tuple[str, ...]) -> None:
    """Node names in an ONNX file and the proof's audit go by them."""
    network = small("yolov13n")
    simplified = simplify(network, rewrites)
    assert attention_paths(simplified.named_modules()) == attention_paths(network.named_modules())
    tensors = simplified.state_dict().keys()
    for path in attention_paths(network.named_modules()):
        parts = next(
            parts for parts in (("qk", "v"), ("qkv",), ("q", "k", "v")) if f"{path}.{parts[0]}.conv.weight" in tensors
        )
        kept = {f"{path}.{part}.conv.{kind}" for part in (*parts, "pe", "proj") for kind in ("weight", "bias")}
        if "keys" in rewrites:
            kept.remove(f"{path}.k.conv.bias")
        assert kept <= tensors


@pytest.mark.parametrize("runtime", RUNTIME_REWRITES)
@pytest.mark.parametrize("name", ["yolov13n", "yolov13l", "yolov12n", "yolo12n"])
def test_what_a_runtime_gets_is_exact(name: str, runtime: str) -> None:
    simplified = simplify(small(name), (*RUNTIME_REWRITES[runtime], "bounds"))
    with torch.inference_mode():
        boxes, scores = difference(output_of(name), simplified(IMAGES))
    assert boxes < 1e-3
    assert scores < 1e-5


def test_q_and_k_are_the_rows_of_qk() -> None:
    """(Wqk·x)[:c] = Wqk[:c]·x"""
    folded, apart = (simplify(small("yolov12n"), ("norms", *more)).model[8].m[0][0].attn for more in ((), ("queries",)))
    assert torch.equal(torch.cat((apart.q.conv.weight, apart.k.conv.weight)), folded.qk.conv.weight)
    assert torch.equal(torch.cat((apart.q.conv.bias, apart.k.conv.bias)), folded.qk.conv.bias)
    x = torch.rand((2, 128, 4, 6), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(apart(x), folded(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["fused", "explicit", "stripped"])
@pytest.mark.parametrize("area", [1, 4])
def test_transposed_keys_need_no_bias_and_take_the_scale(area: int, attention: str) -> None:
    """s·q·kᵀ = q·(W·(s·x)ᵀ), and a bias of k is one number for all scores of a query."""
    folded = copy.deepcopy(simplify(small("yolov12n", attention), ("norms",)).model[8].m[0][0].attn)
    folded.core = replace(folded.core, area=area)
    folded.qk.conv.bias += 2.0
    transposed = transpose_keys(folded)
    assert isinstance(transposed, TransposedKeys)
    assert (transposed.k.conv.bias, transposed.core.scale, transposed.scale) == (None, 1.0, HEAD_DIM**-0.5)
    x = torch.randn((2, 128, 4, 6), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(transposed(x), folded(x), atol=1e-5, rtol=1e-5)


def test_the_head_gives_channels_first_from_its_own_weights() -> None:
    """W·xᵀ + b, x the tokens, is the convolution's output with its pixels in one row."""
    plain, planar = (simplify(small("yolov13n"), ("norms", *more)).model[-1] for more in ((), ("planes",)))
    assert plain.state_dict().keys() == planar.state_dict().keys()
    x = torch.randn((2, 64, 4, 6), generator=torch.Generator().manual_seed(2))
    last = planar.cv2[0][-1]
    assert isinstance(last, ChannelsFirst)
    torch.testing.assert_close(last(x), plain.cv2[0][-1](x).flatten(2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rewrite", ["attention", "queries"])
def test_q_k_and_v_are_rows_of_a_headwise_qkv(rewrite: str) -> None:
    """YOLO12 holds q, k and v of 32 channels each, head by head: (P·W)·x = P·(W·x)."""
    headwise, ordered = (
        simplify(small("yolo12n"), ("norms", *more)).model[8].m[0][0].attn for more in ((), (rewrite,))
    )
    weights = headwise.qkv.conv.weight.view(4, 3, 32, 128)
    stacks = [ordered.qkv] if rewrite == "attention" else [ordered.q, ordered.k, ordered.v]
    found = torch.cat([conv.conv.weight for conv in stacks]).view(3, 4, 32, 128)
    assert torch.equal(found, weights.transpose(0, 1))
    x = torch.rand((2, 128, 4, 6), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(ordered(x), headwise(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("more", [(), ("halves",), ("entries",), ("branches", "halves")])
def test_an_exit_is_the_sum_of_its_columns(more: tuple[str, ...]) -> None:
    """W·(x1 beside x2) = W1·x1 + W2·x2, whichever of the inputs arrive side by side already."""
    plain, summed = (simplify(small("yolov13n"), ("norms", *more, *last)) for last in ((), ("sums",)))
    exits = [(n, m) for n, m in summed.named_modules() if isinstance(m, SummedExit)]
    assert {n.rsplit(".", 1)[1] for n, _ in exits} == {"cv2", "cv3"}
    for name, exit in exits:
        columns = torch.cat([part.weight for part in exit.parts], 1)
        assert torch.equal(columns, plain.get_submodule(name).conv.weight)
        assert sum(part.bias is not None for part in exit.parts) == 1
    with torch.inference_mode():
        boxes, scores = difference(plain(IMAGES), summed(IMAGES))
    assert boxes < 1e-3
    assert scores < 1e-5


def test_bounded_scores_make_no_subnormal_number() -> None:
    """exp(s − m) = exp(max(s, m − 60) − m) up to rounding; scores as far apart as the trained network's."""
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn((2, 400, 32), generator=generator) * size for size in (2.5, 2.5, 1.0))
    scores = q @ k.transpose(-2, -1)
    tiny = torch.finfo(torch.float32).tiny

    def subnormal(weights: torch.Tensor) -> int:
        return int(((weights != 0) & (weights.abs() < tiny)).sum())

    assert subnormal(torch.exp(scores - scores.amax(-1, keepdim=True))) > 1000
    limited = bounded(scores)
    assert subnormal(torch.exp(limited - limited.amax(-1, keepdim=True))) == 0
    assert subnormal(limited.softmax(-1)) == 0
    exact = attend(q.double(), k.double(), v.double(), Attention.EXPLICIT, 1.0)
    given = AttentionCore(1, 1, Attention.EXPLICIT, 1.0, bounded=True).attend(q, k, v)
    torch.testing.assert_close(given.double(), exact, atol=2e-5, rtol=2e-5)


def test_the_original_is_left_alone() -> None:
    network = small("yolov12n")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    simplified = simplify(network).to(torch.float16)
    for tensor in simplified.state_dict().values():
        tensor.zero_()
    plain = simplify(network, ())
    for tensor in plain.state_dict().values():
        tensor.zero_()
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_wrong_requests_are_refused() -> None:
    network = small("yolov12n")
    with pytest.raises(YoloproofError, match="no rewrite is called prune"):
        simplify(network, ("norms", "prune"))
    with pytest.raises(YoloproofError, match="add 'norms'"):
        simplify(network, ("scale",))
    with pytest.raises(YoloproofError, match="simplified already"):
        simplify(simplify(network), ("norms",))
