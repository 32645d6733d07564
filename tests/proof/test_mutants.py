"""Ways to break an artifact that runs, each caught by the check that should name it; right artifacts pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

import proof_mutants as broken
from proof_graphs import BLOCK, SIZE, copied, put
from yoloproof.artifact.onnx import export_onnx
from yoloproof.demo import demo_checkpoint
from yoloproof.errors import YoloproofError
from yoloproof.network import Network, load_network
from yoloproof.proof.audit import graph_audit
from yoloproof.proof.reference import Reference
from yoloproof.proof.sensitivity import Stages, response_check
from yoloproof.proof.stated import Stated
from yoloproof.proof.verify import verify
from yoloproof.records import Verdict
from yoloproof.simplify.rewrites import simplify

Images = NDArray[np.float32]
REAL, COPIES, EXCITED = "outputs, real images", "outputs, transformed copies", "outputs, inputs that excite each class"
SIZES = "outputs, other sizes"
E32, F32, F16, E16, B32, B16, ANY = (
    "explicit-fp32", "fused-fp32", "fused-fp16", "explicit-fp16", "explicit-fp32-b4", "fused-fp16-b4", "explicit-fp32-any",
)  # fmt: skip
HEAD = "model.32 (Detect)"


MUTANTS: dict[str, tuple[str, broken.Mutation, dict[str, str]]] = {
    # name: (right artifact, mutation, check that must fail → what its line must name)
    "attention a constant": (
        E32, lambda m: broken.attention_output(m, np.ones), {"constants": "recorded", "attention": BLOCK},
    ),
    "attention zeros": (E32, lambda m: broken.attention_output(m, np.zeros), {"attention": BLOCK}),
    "attention uninitialised": (
        F32, lambda m: broken.attention_output(m, lambda s: np.full(s, 3e38)), {"attention": BLOCK},
    ),
    "q and k swapped": (E32, lambda m: broken.queries(m, broken.swap_q_and_k), {"blocks": BLOCK}),
    "q and k swapped, float16": (F16, lambda m: broken.queries(m, broken.swap_q_and_k), {"blocks": BLOCK}),
    "scale missing": (E32, lambda m: broken.queries(m, broken.scaled_q(32**0.5)), {"blocks": BLOCK}),
    "scale doubled": (F32, lambda m: broken.queries(m, broken.scaled_q(32**-0.5)), {"blocks": BLOCK}),
    "scale two per cent off": (E32, lambda m: broken.queries(m, broken.scaled_q(1.02)), {"weights": f"{BLOCK}.qkv"}),
    "attention two per cent weaker": (E32, broken.weaker(0.98), {"blocks": BLOCK}),
    "attention weaker under a lax initializer": (E32, broken.lax_by_an_unused_tensor, {"blocks": BLOCK}),
    "attention halved, float16": (F16, broken.weaker(0.5), {"blocks": BLOCK}),
    "attention halved, outputs alone": (F16, broken.weaker(0.3), {"sensitivity": "attention of"}),
    "area ignored": (E32, broken.ignore_area, {"blocks": BLOCK}),
    "head dropped": (F32, broken.drop_head, {"blocks": BLOCK, "weights": f"{BLOCK}.proj"}),
    "head dropped, float16": (F16, broken.drop_head, {"blocks": BLOCK, "sensitivity": "attention of"}),
    "softmax over queries": (E32, broken.set_axis(f"{BLOCK}/Softmax", -2), {"blocks": BLOCK}),
    "softmax over queries, float16": (E16, broken.set_axis(f"{BLOCK}/Softmax", -2), {"blocks": BLOCK}),
    "no softmax": (E32, broken.uniform_attention, {"attention": BLOCK}),
    "hypergraph over hyperedges": (F32, broken.set_axis("model.9.branches.hgnn/Softmax", -2), {"blocks": "model.9"}),
    "gate at zero": (F32, lambda m: put(m, "model.12.gate", np.float32(0)), {"blocks": "model.12"}),
    "gate at zero, float16": (F16, lambda m: put(m, "model.12.gate", np.float16(0)), {"blocks": "model.12"}),
    "another block's weights": (F32, broken.other_blocks_weights, {"weights": "model.6.m.0.1.mlp.0"}),
    "one bias at zero": (F32, broken.zeroed("model.2.cv2.conv.bias"), {"weights": "model.2.cv2.conv.bias"}),
    "channels rolled": (F32, broken.rolled("model.2.cv2.conv.weight"), {"blocks": "model.2"}),
    "a weight one per cent larger, float16": (
        F16, broken.scaled_weight("model.2.cv2.conv.weight", 1.01), {"weights": "model.2.cv2.conv.weight"},
    ),
    "RGB is BGR": (F32, broken.flip_channels, {"blocks": "model.0"}),
    "residual dropped": (F32, broken.drop_residual, {"blocks": BLOCK.removesuffix(".attn")}),
    "residual dropped, float16": (F16, broken.drop_residual, {"blocks": BLOCK.removesuffix(".attn")}),
    "levels swapped": (F32, broken.swap_levels, {"blocks": HEAD}),
    "levels swapped, float16": (F16, broken.swap_levels, {"blocks": HEAD}),
    "anchors shifted": (F32, broken.shift_anchors, {"blocks": HEAD}),
    "anchors shifted, seen": (F16, broken.shift_anchors, {REAL: "boxes within", "constants": "nor the grid"}),
    "one anchor a cell off": (F32, broken.grid(broken.one_cell_off), {"constants": "nor the grid"}),
    "all anchors a pixel off, float16": (F16, broken.grid(broken.one_pixel_off), {"constants": "nor the grid"}),
    "a stride too small, float16": (F16, broken.wrong_stride, {"constants": "nor the grid"}),
    "classes permuted": (F32, broken.permute_classes, {REAL: "logits within"}),
    "classes permuted, float16": (F16, broken.permute_classes, {REAL: "the logits of class"}),
    "dog and horse swapped": (F32, broken.class_rows(broken.swapped(broken.DOG, broken.HORSE)), {EXCITED: "px"}),
    "dog and horse swapped, float16": (
        F16, broken.class_rows(broken.swapped(broken.DOG, broken.HORSE)),
        {EXCITED: "the logits of class 16", "weights": "cv3.0.2"},
    ),
    "sheep and cow swapped by their order": (E32, broken.reordered(broken.SHEEP, broken.COW), {"constants": "order"}),
    "dog and horse swapped by their order": (F16, broken.reordered(broken.DOG, broken.HORSE), {EXCITED: "class 16"}),
    "fifty-one classes off": (F32, broken.masked(broken.classes_off), {"constants": "mask"}),
    "fifty-one classes off, float16": (F16, broken.masked(broken.classes_off), {EXCITED: "logits within"}),
    "sixty-five classes dead, float16": (F16, broken.class_rows(broken.dead_bias(65)), {"weights": "cv3.0.2.bias"}),
    "scores capped": (F32, broken.capped, {"operators": "spliced/Min (Min)"}),
    "scores capped, outputs alone": (F16, broken.capped, {EXCITED: "the logits of class"}),
    "nine tenths of the anchors off": (F32, broken.masked(broken.nine_tenths), {"constants": "mask"}),
    "nine tenths of the anchors off, float16": (F16, broken.masked(broken.nine_tenths), {"constants": "mask"}),
    "blind in the dark": (E32, broken.blind_in_the_dark, {"operators": "(Greater)"}),
    "blind in the dark, outputs alone": (F16, broken.blind_in_the_dark_softly, {COPIES: "the logits of class"}),
    "blind in glare, outputs alone": (F16, broken.blind_in_glare, {COPIES: "the logits of class"}),
    "saturated early": (F32, broken.clipped, {"operators": "spliced/Clip (Clip)"}),
    "a patch removes everything": (F32, broken.patch_removes, {"constants": "patch"}),
    "random": (F32, broken.random_scores, {"operators": "spliced/Random (RandomUniformLike) draws"}),
    "random and unread": (F32, broken.random_unread, {"operators": "unread/Random"}),
    "a dropout that trains": (F32, broken.drops_out, {"operators": "Dropout"}),
    "a choice that leads nowhere": (F32, broken.chosen_unread, {"operators": "unread/If (If) decides"}),
    "float16 overflow": (F16, broken.overflow, {REAL: "NaN or infinite"}),
    "float16 overflow between": (F16, broken.overflow_inside, {"float16": "overflows in float16"}),
    "lost to flushing, float16": (F16, broken.flushed_inside, {"float16": "float16"}),
    "foreign operator": (F32, broken.foreign_operator, {"operators": "com.microsoft::BiasGelu"}),
    "float32 sold as float16": (F32, broken.claim("precision", "fp16"), {"precision": "claimed fp16"}),
    "float32 sold as bfloat16": (F32, broken.claim("precision", "bf16"), {"precision": "claimed bf16"}),
    "class names permuted": (F32, broken.claim("names", {str(i): f"c{i}" for i in range(80)}), {"classes": "class 0"}),
    "keys of the neighbour": (
        B32, broken.gathered(broken.keys, [*range(12), *range(8, 12)]), {"blocks": BLOCK, REAL: "boxes within"},
    ),
    "keys of the neighbour, float16": (
        B16, broken.gathered(broken.keys, [*range(12), *range(8, 12)]), {"blocks": BLOCK},
    ),
    "the last slot is the first": (B32, broken.gathered(broken.output, [0, 1, 2, 0]), {REAL: "boxes within"}),
    "the last slot is the first, float16": (B16, broken.gathered(broken.output, [0, 1, 2, 0]), {REAL: "boxes within"}),
    "slots swapped": (B32, broken.gathered(broken.output, [0, 2, 1, 3]), {REAL: "boxes within"}),
    "slots swapped, float16": (B16, broken.gathered(broken.output, [0, 2, 1, 3]), {REAL: "boxes within"}),
    "no attention in the last slot": (B32, broken.slot_times(broken.attended, 0), {REAL: "boxes within"}),
    "no attention in the last slot, float16": (
        B16, broken.slot_times(broken.attended, 0), {"sensitivity": "(batch slot 3)"},
    ),
    "nothing found in the last slot": (B32, broken.slot_times(broken.scores, 0), {REAL: "logits"}),
    "nothing found in the last slot, float16": (
        B16, broken.slot_times(broken.scores, 0), {REAL: "the logits of class"},
    ),
    "blind above 640 px": (ANY, broken.blind_above(3, 640), {SIZES: "[1, 3, 64, 4096]"}),
    "blind above two images": (ANY, broken.blind_above(0, 2), {SIZES: "[3, 3, 64, 64]"}),
}  # fmt: skip
# Audited without being run: a runtime would refuse it, or ONNX Runtime would take it for its own.
AUDITED = ("foreign operator", "random", "random and unread")


def verdict_of(model: onnx.ModelProto, held: Reference, images: Images, folder: Path) -> Verdict:
    path = folder / "artifact.onnx"
    onnx.save(model, path)
    return verify(path, held, images)


@pytest.mark.xdist_group("mutants")  # the right artifacts are exported once
@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_is_caught_and_named(
    name: str, right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    source, mutation, expected = MUTANTS[name]
    mutant = copied(right[source])
    mutation(mutant)
    if name in AUDITED:
        checks = {c.name: c for c in graph_audit(mutant, held.network, Stated())}
    else:
        verdict = verdict_of(mutant, held, images[:2], tmp_path)
        assert verdict.passed is False
        checks = {c.name: c for c in verdict.checks}
    for check, named in expected.items():
        assert checks[check].passed is False, checks[check].detail
        assert named in checks[check].detail


def test_there_are_enough_of_them() -> None:
    of = [source for source, *_ in MUTANTS.values()]
    assert len(of) >= 60
    assert min(of.count(F16), of.count(B32) + of.count(B16), of.count(E32) + of.count(F32)) >= 10


@pytest.mark.xdist_group("mutants")
@pytest.mark.parametrize("source", ["explicit-fp32", "fused-fp32", "fused-fp16"])
def test_the_right_artifacts_pass(
    source: str, right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    verdict = verdict_of(right[source], held, images, tmp_path)
    assert verdict.passed is True, verdict.failures


@pytest.mark.xdist_group("mutants")
def test_a_wrong_epsilon_is_caught(
    right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    wrong = load_network(demo_checkpoint())
    for module in wrong.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5
    mutant = copied(right["fused-fp32"])
    broken.take_weights(mutant, wrong)
    failed = {c.name for c in verdict_of(mutant, held, images[:1], tmp_path).failures}
    assert {"weights", "outputs, real images", "blocks"} <= failed


@pytest.mark.xdist_group("mutants")
def test_a_truncated_file_is_refused(
    right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(right["fused-fp32"].SerializeToString()[:200_000])
    with pytest.raises(YoloproofError, match="truncated"):
        verify(path, held, images)


def test_a_stripped_export_is_caught_four_times(held: Reference, images: Images, tmp_path: Path) -> None:
    path = tmp_path / "stripped.onnx"
    export_onnx(simplify(load_network(demo_checkpoint(), "stripped"), ("norms",)), path, imgsz=SIZE)
    checks = {c.name: c.passed for c in verify(path, held, images[:1]).checks}
    assert [checks[name] for name in ("weights", "attention", "outputs, real images", "sensitivity", "blocks")] == [
        False
    ] * 5


def test_a_published_export_in_float16_passes(held: Reference, images: Images, tmp_path: Path) -> None:
    path = tmp_path / "published.onnx"
    export_onnx(simplify(load_network(demo_checkpoint(), "published"), ("norms",)), path, imgsz=SIZE, precision="fp16")
    assert verify(path, held, images[:1]).passed is True


def test_sensitivity_alone_finds_one_lost_attention(network: Network, images: Images) -> None:
    """As for an engine, whose graph nobody can read: only its outputs are looked at."""
    stripped = load_network(demo_checkpoint())
    stripped.get_submodule(BLOCK).attention = "stripped"
    with torch.inference_mode():
        output = stripped(torch.from_numpy(images[:1])).numpy()
        honest = network(torch.from_numpy(images[:1])).numpy()
    assert response_check(Stages(network, images[:1]), output).passed is False
    assert response_check(Stages(network, images[:1]), honest).passed is True


@pytest.mark.parametrize("name", ["yolov13n", "yolov13l", "yolov12n", "yolo12n", "yolo12l"])
def test_no_right_artifact_of_any_family_is_flagged(name: str, images: Images, tmp_path: Path) -> None:
    network = load_network(name, random_weights=True, classes=4)
    path = tmp_path / "right.onnx"
    export_onnx(simplify(network), path, imgsz=SIZE)
    verdict = verify(path, network, images[:1])
    assert verdict.passed is True, verdict.failures
