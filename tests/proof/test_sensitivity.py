"""The matched filter: rounding is told from a lost attention where both move the output alike."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from yoloproof.demo import demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.names import Attention, Precision
from yoloproof.network import VARIANTS, Network, attention_paths, load_network
from yoloproof.proof.parity import TOLERANCES
from yoloproof.proof.sensitivity import Stages, response_check
from yoloproof.simplify.attention import AreaAttention
from yoloproof.simplify.rewrites import simplify

Array = NDArray[np.float32]
LOW = {"fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture(scope="module")
def picture() -> Array:
    """One demo image at 128 px: [1, 3, 128, 128]."""
    return letterboxed(demo_images()[:1], (128, 128))


def rounded(network: Network, precision: str) -> Network:
    return simplify(copy.deepcopy(network), ("norms",)).to(LOW[precision])


def output(network: Network, picture: Array) -> Array:
    with torch.inference_mode():
        return network(torch.from_numpy(picture).to(next(network.parameters()).dtype)).float().numpy()


@pytest.mark.parametrize("name", VARIANTS)
def test_float16_of_random_weights_is_no_lost_attention(name: str, picture: Array) -> None:
    network = load_network(name, random_weights=True, classes=4)
    low = rounded(network, "fp16")
    check = response_check(Stages(network, picture), output(low, picture), TOLERANCES[Precision.FP16].floor)
    assert check.passed is True, check.detail


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("index", [0, 3, 7])
def test_an_attention_lost_under_rounding_is_seen_and_named(precision: str, index: int, picture: Array) -> None:
    network = load_network("yolov13s", random_weights=True, classes=4)
    low = rounded(network, precision)
    path = attention_paths(low.named_modules())[index]
    intact = low.get_submodule(path)
    core = replace(intact.core, attention=Attention.STRIPPED)
    low.set_submodule(path, AreaAttention(core, intact.qk, intact.v, intact.pe, intact.proj))
    check = response_check(Stages(network, picture), output(low, picture), TOLERANCES[Precision(precision)].floor)
    assert check.passed is False
    assert path in check.detail
    assert "(1 blocks)" in check.detail


def test_a_constant_output_follows_nothing(picture: Array) -> None:
    network = load_network("yolov13n", random_weights=True, classes=4)
    right = output(network, picture)
    for constant in (np.zeros_like(right), right[:, :, ::-1].copy(), np.full_like(right, np.nan)):
        assert response_check(Stages(network, picture), constant, TOLERANCES[Precision.BF16].floor).passed is False


def test_what_cannot_be_told_is_not_passed(picture: Array) -> None:
    """Noise below the floor, but larger than every attention: neither shown nor refuted."""
    network = load_network("yolov13n", random_weights=True, classes=4)
    right = output(network, picture)
    noise = np.random.default_rng(0).standard_normal(right.shape).astype(np.float32)
    noise[:, :4] *= 100
    check = response_check(Stages(network, picture), right + 0.02 * noise, floor=1.0)
    assert check.passed is None
    assert "other --images" in check.detail


def test_the_network_is_left_as_it_was(picture: Array) -> None:
    network = load_network("yolov13n", random_weights=True, classes=4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    response_check(
        Stages(network, picture), output(rounded(network, "bf16"), picture), TOLERANCES[Precision.BF16].floor
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert {m.attention for m in network.modules() if hasattr(m, "attention")} == {"fused"}
