"""Ways to break an artifact that runs, each caught by the check that should name it; right artifacts pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from proof_graphs import BLOCK, SIZE, array, copied, node, put
from yoloproof.artifact.onnx import export_onnx
from yoloproof.demo import demo_checkpoint
from yoloproof.errors import YoloproofError
from yoloproof.network import VARIANTS, Network, load_network
from yoloproof.proof.sensitivity import sensitivity
from yoloproof.proof.stated import Stated
from yoloproof.proof.verify import verify
from yoloproof.records import Verdict
from yoloproof.simplify.rewrites import simplify

Images = NDArray[np.float32]


def take_weights(model: onnx.ModelProto, network: Network) -> None:
    """Every learned tensor of the simplified `network` into the initializer of its name."""
    there = {t.name for t in model.graph.initializer}
    for name, tensor in simplify(network).state_dict().items():
        if name in there:
            put(model, name, tensor.numpy())


def attention_output(model: onnx.ModelProto, values: Callable[[tuple[int, ...]], NDArray[np.generic]]) -> None:
    """What a trace through flash-attn leaves: the attention's output recorded as a constant."""
    add = node(model, f"{BLOCK}/Add")
    put(model, "recorded", values((1, 64, SIZE[0] // 16, SIZE[1] // 16)).astype(np.float32))
    add.input[0] = "recorded"


def queries(model: onnx.ModelProto, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> None:
    for part in ("weight", "bias"):
        name = f"{BLOCK}.qkv.conv.{part}"
        put(model, name, change(array(model, name).copy()))


def swap_q_and_k(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.concatenate([values[64:128], values[:64], values[128:]])


def scaled_q(factor: float) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    def change(values: NDArray[np.generic]) -> NDArray[np.generic]:
        values[:64] *= factor  # type: ignore[misc]
        return values

    return change


def ignore_area(model: onnx.ModelProto) -> None:
    reshape = node(model, f"{BLOCK}/Reshape")
    assert list(array(model, reshape.input[1])) == [4, 100, 6, 32]
    put(model, "whole", np.array([1, 400, 6, 32]))
    reshape.input[1] = "whole"


def drop_head(model: onnx.ModelProto) -> None:
    weight = array(model, f"{BLOCK}.proj.conv.weight").copy()
    weight[:, :32] = 0
    put(model, f"{BLOCK}.proj.conv.weight", weight)


def set_axis(name: str, axis: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        softmax = node(model, name)
        del softmax.attribute[:]
        softmax.attribute.append(onnx.helper.make_attribute("axis", axis))

    return change


def uniform_attention(model: onnx.ModelProto) -> None:
    """Softmax replaced by a mean over the tokens: right shapes, no attention."""
    softmax = node(model, f"{BLOCK}/Softmax")
    softmax.op_type = "Mul"
    del softmax.attribute[:]
    softmax.input.append("nothing")
    put(model, "nothing", np.float32(0))


def permute_classes(model: onnx.ModelProto) -> None:
    for level in range(3):
        for part in ("weight", "bias"):
            name = f"model.32.cv3.{level}.2.{part}"
            put(model, name, np.roll(array(model, name), 1, axis=0))


def overflow(model: onnx.ModelProto) -> None:
    for name in ("model.2.cv2.conv.weight", "model.4.cv1.conv.weight"):
        existing = [t.name for t in model.graph.initializer if t.name == name]
        put(model, name, (array(model, existing[0]).astype(np.float32) * 3000).astype(np.float16))


def flip_channels(model: onnx.ModelProto) -> None:
    put(model, "model.0.conv.weight", array(model, "model.0.conv.weight")[:, ::-1])


def other_blocks_weights(model: onnx.ModelProto) -> None:
    put(model, "model.6.m.0.1.mlp.0.conv.weight", array(model, "model.6.m.0.0.mlp.0.conv.weight"))


def foreign_operator(model: onnx.ModelProto) -> None:
    add = node(model, f"{BLOCK}/Add")
    add.op_type, add.domain = "BiasGelu", "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


def shift_anchors(model: onnx.ModelProto) -> None:
    """Every cell's centre half a stride off, as a grid without + 0.5 has it."""
    anchors = sum((SIZE[0] // s) * (SIZE[1] // s) for s in (8, 16, 32))
    grid = next(t.name for t in model.graph.initializer if list(t.dims) == [1, 4, anchors])
    strides = next(t.name for t in model.graph.initializer if list(t.dims) == [1, 1, anchors])
    shifted = array(model, grid).copy()
    shifted[:, :2] -= array(model, strides) / 2  # type: ignore[operator]
    put(model, grid, shifted)


def swap_levels(model: onnx.ModelProto) -> None:
    """The finest level's class scores where the middle one's belong, as far as they reach."""
    concat = next(n for n in model.graph.node if n.name.startswith("model.32/Concat") and len(n.input) == 3)
    concat.input[0], concat.input[1] = concat.input[1], concat.input[0]


def drop_residual(model: onnx.ModelProto) -> None:
    """x + attn(x) becomes attn(x)."""
    add = node(model, f"{BLOCK.removesuffix('.attn')}/Add")
    add.op_type = "Identity"
    own = next(name for name in add.input if name.startswith("conv2d") or "attn" in _maker(model, name))
    del add.input[:]
    add.input.append(own)


def _maker(model: onnx.ModelProto, tensor: str) -> str:
    return next((n.name for n in model.graph.node if tensor in n.output), "")


def claim(key: str, value: object) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for entry in model.metadata_props:
            if entry.key == f"yoloproof.{key}":
                entry.value = json.dumps(value)

    return change


MUTANTS: dict[str, tuple[str, Callable[[onnx.ModelProto], None], str, str]] = {
    # name: (right artifact, mutation, check that must fail, what its line must name)
    "attention a constant": ("explicit-fp32", lambda m: attention_output(m, np.ones), "constants", "recorded"),
    "attention a constant, seen": ("explicit-fp32", lambda m: attention_output(m, np.ones), "attention", BLOCK),
    "attention zeros": ("explicit-fp32", lambda m: attention_output(m, np.zeros), "attention", BLOCK),
    "attention uninitialised": (
        "fused-fp32", lambda m: attention_output(m, lambda s: np.full(s, 3e38)), "attention", BLOCK,
    ),
    "q and k swapped": ("explicit-fp32", lambda m: queries(m, swap_q_and_k), "blocks", BLOCK),
    "scale missing": ("explicit-fp32", lambda m: queries(m, scaled_q(32**0.5)), "blocks", BLOCK),
    "scale doubled": ("fused-fp32", lambda m: queries(m, scaled_q(32**-0.5)), "blocks", BLOCK),
    "area ignored": ("explicit-fp32", ignore_area, "blocks", BLOCK),
    "head dropped": ("fused-fp32", drop_head, "blocks", BLOCK),
    "head dropped, seen": ("fused-fp32", drop_head, "weights", f"{BLOCK}.proj"),
    "softmax over queries": ("explicit-fp32", set_axis(f"{BLOCK}/Softmax", -2), "blocks", BLOCK),
    "no softmax": ("explicit-fp32", uniform_attention, "attention", BLOCK),
    "hypergraph over hyperedges": ("fused-fp32", set_axis("model.9.branches.hgnn/Softmax", -2), "blocks", "model.9"),
    "gate at zero": ("fused-fp32", lambda m: put(m, "model.12.gate", np.float32(0)), "blocks", "model.12"),
    "another block's weights": ("fused-fp32", other_blocks_weights, "weights", "model.6.m.0.1.mlp.0"),
    "float16 overflow": ("fused-fp16", overflow, "outputs, real images", "NaN or infinite"),
    "classes permuted": ("fused-fp32", permute_classes, "detections", "one side only"),
    "class names permuted": (
        "fused-fp32", claim("names", {str(i): f"c{i}" for i in range(80)}), "classes", "class 0",
    ),
    "RGB is BGR": ("fused-fp32", flip_channels, "blocks", "model.0"),
    "anchors shifted": ("fused-fp32", shift_anchors, "blocks", "model.32 (Detect)"),
    "anchors shifted, seen": ("fused-fp16", shift_anchors, "outputs, real images", "boxes within"),
    "levels swapped": ("fused-fp32", swap_levels, "blocks", "model.32 (Detect)"),
    "residual dropped": ("fused-fp32", drop_residual, "blocks", BLOCK.removesuffix(".attn")),
    "residual dropped, float16": ("fused-fp16", drop_residual, "blocks", BLOCK.removesuffix(".attn")),
    "head dropped, float16": ("fused-fp16", drop_head, "blocks", BLOCK),
    "head dropped, outputs alone": ("fused-fp16", drop_head, "sensitivity", "attention of"),
    "foreign operator": ("fused-fp32", foreign_operator, "operators", "com.microsoft::BiasGelu"),
    "float32 sold as float16": ("fused-fp32", claim("precision", "fp16"), "precision", "claimed fp16"),
}  # fmt: skip


def verdict_of(model: onnx.ModelProto, network: Network, images: Images, folder: Path) -> Verdict:
    path = folder / "artifact.onnx"
    onnx.save(model, path)
    return verify(path, network, images)


@pytest.mark.xdist_group("mutants")  # the right artifacts are exported once
@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_is_caught_and_named(
    name: str, right: dict[str, onnx.ModelProto], network: Network, images: Images, tmp_path: Path
) -> None:
    source, mutation, check, named = MUTANTS[name]
    mutant = copied(right[source])
    mutation(mutant)
    if name == "foreign operator":
        from yoloproof.proof.audit import graph_audit

        checks = {c.name: c for c in graph_audit(mutant, network, Stated())}  # audited without being run
    else:
        verdict = verdict_of(mutant, network, images[:2], tmp_path)
        assert verdict.passed is False
        checks = {c.name: c for c in verdict.checks}
    assert checks[check].passed is False, checks[check].detail
    assert named in checks[check].detail


@pytest.mark.xdist_group("mutants")
@pytest.mark.parametrize("source", ["explicit-fp32", "fused-fp32", "fused-fp16"])
def test_the_right_artifacts_pass(
    source: str, right: dict[str, onnx.ModelProto], network: Network, images: Images, tmp_path: Path
) -> None:
    verdict = verdict_of(right[source], network, images, tmp_path)
    assert verdict.passed is True, verdict.failures


@pytest.mark.xdist_group("mutants")
def test_a_wrong_epsilon_is_caught(
    right: dict[str, onnx.ModelProto], network: Network, images: Images, tmp_path: Path
) -> None:
    wrong = load_network(demo_checkpoint())
    for module in wrong.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5
    mutant = copied(right["fused-fp32"])
    take_weights(mutant, wrong)
    failed = {c.name for c in verdict_of(mutant, network, images[:1], tmp_path).failures}
    assert {"weights", "outputs, real images", "blocks"} <= failed


@pytest.mark.xdist_group("mutants")
def test_a_truncated_file_is_refused(
    right: dict[str, onnx.ModelProto], network: Network, images: Images, tmp_path: Path
) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(right["fused-fp32"].SerializeToString()[:200_000])
    with pytest.raises(YoloproofError, match="truncated"):
        verify(path, network, images)


def test_a_stripped_export_is_caught_four_times(network: Network, images: Images, tmp_path: Path) -> None:
    path = tmp_path / "stripped.onnx"
    export_onnx(simplify(load_network(demo_checkpoint(), "stripped"), ("norms",)), path, imgsz=SIZE)
    checks = {c.name: c.passed for c in verify(path, network, images[:1]).checks}
    assert [checks[name] for name in ("weights", "attention", "outputs, real images", "sensitivity", "blocks")] == [
        False
    ] * 5


def test_a_published_export_in_float16_passes(network: Network, images: Images, tmp_path: Path) -> None:
    path = tmp_path / "published.onnx"
    export_onnx(simplify(load_network(demo_checkpoint(), "published"), ("norms",)), path, imgsz=SIZE, precision="fp16")
    assert verify(path, network, images[:1]).passed is True


def test_sensitivity_alone_finds_one_lost_attention(network: Network, images: Images) -> None:
    """As for an engine, whose graph nobody can read: only its outputs are looked at."""
    stripped = load_network(demo_checkpoint())
    stripped.get_submodule(BLOCK).attention = "stripped"
    with torch.inference_mode():
        output = stripped(torch.from_numpy(images[:1])).numpy()
        honest = network(torch.from_numpy(images[:1])).numpy()
    assert sensitivity(network, images[:1], output).passed is False
    assert sensitivity(network, images[:1], honest).passed is True


@pytest.mark.parametrize("name", VARIANTS)
def test_no_right_artifact_of_any_variant_is_flagged(name: str, images: Images, tmp_path: Path) -> None:
    network = load_network(name, random_weights=True, classes=4)
    path = tmp_path / "right.onnx"
    export_onnx(simplify(network), path, imgsz=SIZE)
    verdict = verify(path, network, images[:1])
    assert verdict.passed is True, verdict.failures
