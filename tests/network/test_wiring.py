"""The networks against the published ones: names, shapes, parameters, outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from yoloproof.errors import YoloproofError
from yoloproof.network import (
    VARIANTS,
    load_network,
    network_from_variant,
    network_with_attention,
    variant_from_name,
)
from yoloproof.network.attention import AAttn
from yoloproof.network.flops import flops
from yoloproof.network.variants import FAMILIES

PARAMETERS = {
    "yolov13n": 2_494_151, "yolov13s": 9_055_527, "yolov13l": 27_627_783, "yolov13x": 64_057_511,
    "yolov12n": 2_553_904, "yolov12s": 9_127_424, "yolov12m": 19_670_784, "yolov12l": 26_506_496, "yolov12x": 59_414_176,
    "yolo12n": 2_602_288, "yolo12s": 9_284_096, "yolo12m": 20_199_168, "yolo12l": 26_450_784, "yolo12x": 59_210_784,
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_names_and_shapes_are_the_published_ones(name: str, reference: Path) -> None:
    expected = json.loads((reference / f"{name}.keys.json").read_text())
    network = network_from_variant(VARIANTS[name])
    assert {k: list(t.shape) for k, t in network.state_dict().items()} == expected
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]
    assert FAMILIES[network.variant.family].head == len(network.model) - 1


@pytest.mark.parametrize("name", ["yolov13n", "yolov13l", "yolov12n", "yolo12n", "yolo12l"])
@pytest.mark.parametrize("attention", ["fused", "explicit", "published"])
def test_outputs_are_the_published_ones(name: str, attention: str, reference: Path) -> None:
    from seeded_weights import seeded_state_dict  # type: ignore[import-not-found]

    network = network_from_variant(VARIANTS[name], attention=attention)
    keys = json.loads((reference / f"{name}.keys.json").read_text())
    weights = {k: torch.from_numpy(a) for k, a in seeded_state_dict(keys, 13).items()}
    network.load_state_dict(weights, strict=True)
    images = torch.from_numpy(np.random.default_rng(0).random((1, 3, 640, 640), np.float32))
    with torch.inference_mode():
        output = network(images).numpy()[:, :, ::7]
    published = np.load(reference / f"{name}.seed13.npz")
    difference = np.abs(output - published["output" if name.startswith("yolo12") else "output_every_7th_anchor"])
    assert difference[:, :4].max() < 0.02
    assert difference[:, 4:].max() < 1e-4


@pytest.mark.parametrize(("shape", "classes"), [((1, 3, 96, 160), 1), ((3, 3, 64, 64), 3), ((1, 3, 32, 32), 200)])
def test_any_size_batch_and_class_count(shape: tuple[int, ...], classes: int) -> None:
    for name in ("yolov13n", "yolov12n", "yolo12n"):
        network = load_network(name, random_weights=True, classes=classes)
        with torch.inference_mode():
            output = network(torch.rand(shape))
        anchors = sum((shape[2] // s) * (shape[3] // s) for s in (8, 16, 32))
        assert output.shape == (shape[0], 4 + classes, anchors)
        assert torch.isfinite(output).all()


def test_a_batch_is_its_images_one_by_one() -> None:
    network = load_network("yolov13n", random_weights=True)
    images = torch.rand((3, 3, 64, 96))
    with torch.inference_mode():
        together, alone = network(images), torch.cat([network(i[None]) for i in images])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-5)


def test_images_of_another_shape_are_refused() -> None:
    network = load_network("yolov12n", random_weights=True)
    for shape in ((1, 3, 100, 64), (1, 1, 64, 64), (3, 64, 64)):
        with pytest.raises(YoloproofError, match="multiples of 32"):
            network(torch.zeros(shape))


def test_unknown_words_are_refused() -> None:
    with pytest.raises(YoloproofError, match="yolov13m"):
        variant_from_name("yolov13m")
    with pytest.raises(YoloproofError, match="flash"):
        network_from_variant(VARIANTS["yolov13n"], attention="flash")
    with pytest.raises(YoloproofError, match="at least 1 class, not 0"):
        network_from_variant(VARIANTS["yolov13n"], classes=0)


def test_flops_are_the_published_ones_plus_attentions_products() -> None:
    """YOLOv12-N is published with 6.0 GFLOPs: its convolutions. Attention's two products come on top here."""
    # [400, 32] x [32, 400] and [400, 400] x [400, 32], two operations each: 4 blocks of 4 runs x 2 heads, 4 of 1 x 4
    products = 2 * 2 * (4 * 4 * 2 + 4 * 1 * 4) * 400 * 400 * 32
    twelve, thirteen = (flops(load_network(name, random_weights=True)) for name in ("yolov12n", "yolov13n"))
    assert (twelve - products) / 1e9 == pytest.approx(6.0, abs=0.05)
    # 6.4 is published for YOLOv13-N, whose counter adds norms and activations; the hypergraph's products are 0.06
    assert (thirteen - products) / 1e9 == pytest.approx(6.4, abs=0.2)
    assert flops(load_network("yolov12n", random_weights=True), (320, 320)) < twelve / 4


def test_another_attention_makes_another_network_of_the_same_tensors() -> None:
    network = load_network("yolov13n", random_weights=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        fused, explicit, stripped = (
            network_with_attention(network, attention)(images) for attention in ("fused", "explicit", "stripped")
        )
        assert torch.equal(network(images), fused)
    torch.testing.assert_close(explicit, fused, atol=1e-3, rtol=1e-4)
    assert (stripped - fused).abs().max() > 0.1
    assert {m.attention for m in network.modules() if isinstance(m, AAttn)} == {"fused"}
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    # converting the other network leaves this one as it is
    network_with_attention(network, "published").to(torch.float16)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
