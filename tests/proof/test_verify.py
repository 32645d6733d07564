"""`verify` on files that say too much, too little or something else: suppression inside, any size, foreign names."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from typer.testing import CliRunner, Result

from proof_graphs import SIZE, copied, node, put
from yoloproof.artifact.nms import NmsOptions, add_nms
from yoloproof.artifact.onnx import export_onnx
from yoloproof.cli import app
from yoloproof.demo import demo_annotations, demo_checkpoint, demo_images
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import EngineIdentity, host_platform, write_identity
from yoloproof.names import Precision, Runtime
from yoloproof.network import load_network
from yoloproof.proof.blocks import module_path
from yoloproof.proof.float16 import float16_check
from yoloproof.proof.parity import TOLERANCES, detection_parity
from yoloproof.proof.reference import Reference
from yoloproof.proof.verify import verify
from yoloproof.records import Check
from yoloproof.runtime import SessionSpec, open_session
from yoloproof.simplify.rewrites import simplify

Images = NDArray[np.float32]
pytestmark = pytest.mark.xdist_group("mutants")  # the right artifacts are exported once


def checks_of(path: Path, held: Reference, images: Images) -> dict[str, Check]:
    return {check.name: check for check in verify(path, held, images).checks}


@pytest.fixture(scope="module")
def suppressed(right: dict[str, onnx.ModelProto], tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    folder = tmp_path_factory.mktemp("suppressed")
    onnx.save(right["fused-fp32"], folder / "raw.onnx")
    add_nms(folder / "raw.onnx", folder / "nms.onnx", NmsOptions(score=0.05))
    return onnx.load(folder / "nms.onnx")


def test_suppression_inside_is_cut_off_and_proved_by_itself(
    suppressed: onnx.ModelProto, held: Reference, images: Images, tmp_path: Path
) -> None:
    onnx.save(suppressed, tmp_path / "right.onnx")
    verdict = verify(tmp_path / "right.onnx", held, images[:2])
    assert verdict.passed is True, verdict.failures
    check = next(c for c in verdict.checks if c.name == "suppression")
    assert check.figures["detections"] > 200  # the synthetic boxes are there whatever the images show


def test_another_overlap_than_stated_is_caught(
    suppressed: onnx.ModelProto, held: Reference, images: Images, tmp_path: Path
) -> None:
    mutant = copied(suppressed)
    for entry in mutant.metadata_props:
        if entry.key == "yoloproof.nms":
            entry.value = json.dumps({**json.loads(entry.value), "iou": 0.3})
    onnx.save(mutant, tmp_path / "other.onnx")
    failed = {c.name for c in verify(tmp_path / "other.onnx", held, images[:1]).failures}
    assert failed == {"suppression"}


def test_a_suppression_that_reads_more_than_the_output_is_caught(
    suppressed: onnx.ModelProto, held: Reference, images: Images, tmp_path: Path
) -> None:
    mutant = copied(suppressed)
    mutant.graph.node.append(helper.make_node("Shape", ["images"], ["nms/size"], "nms/Shape_999"))
    onnx.save(mutant, tmp_path / "more.onnx")
    _, check = verify(tmp_path / "more.onnx", held, images[:1]).checks
    assert check.name == "suppression"
    assert check.passed is False


def test_a_size_baked_into_a_file_for_any_size_is_caught(
    right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    baked = copied(right["fused-fp32"])
    for value, axes in (
        (baked.graph.input[0], {0: "batch", 2: "height", 3: "width"}),
        (baked.graph.output[0], {0: "batch", 2: "anchors"}),
    ):
        for axis, name in axes.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(baked, tmp_path / "baked.onnx")
    checks = checks_of(tmp_path / "baked.onnx", held, images[:1])
    assert checks["outputs, real images"].passed is True
    assert checks["outputs, random input"].passed is True
    assert checks["outputs, other sizes"].passed is False
    assert checks["outputs, other sizes"].figures["shape"] == [2, 3, 256, 384]


def test_pixels_as_bytes_pass(held: Reference, images: Images, tmp_path: Path) -> None:
    from yoloproof.simplify.rewrites import DEFAULT_REWRITES

    path = tmp_path / "bytes.onnx"
    export_onnx(simplify(held.network, (*DEFAULT_REWRITES, "pixels")), path, imgsz=SIZE, input_type="uint8")
    verdict = verify(path, held, images[:1])
    assert verdict.passed is True, verdict.failures


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """TorchScript's exporter on the published form: float32, float16, and one that cannot see into the attention."""
    folder = tmp_path_factory.mktemp("foreign")
    exported = {}
    for name in ("float32", "float16", "blind"):
        network = simplify(load_network(demo_checkpoint(), "published"), ("norms",))
        kind = torch.float16 if name == "float16" else torch.float32
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name == "blind":
                patch.setattr(
                    "yoloproof.simplify.attention.attend",
                    lambda q, k, v, attention, scale: torch.from_numpy(np.ones(v.shape, np.float32)),
                )
            torch.onnx.export(
                network.to(kind), (torch.rand(1, 3, *SIZE).to(kind),), str(folder / f"{name}.onnx"), dynamo=False,
                opset_version=17, input_names=["images"], output_names=["output0"],
            )  # fmt: skip
        exported[name] = folder / f"{name}.onnx"
    return exported


@pytest.mark.parametrize("name", ["float32", "float16"])
def test_a_right_file_of_another_exporter_passes(
    name: str, foreign: dict[str, Path], held: Reference, images: Images
) -> None:
    verdict = verify(foreign[name], held, images[:2])
    assert verdict.passed is True, verdict.failures
    blocks = next(c for c in verdict.checks if c.name == "blocks")
    assert blocks.figures["blocks"] >= 40  # its attentions too, by names that repeat a list's


def test_an_attention_that_the_tracer_could_not_see_is_told_as_that(
    foreign: dict[str, Path], held: Reference, images: Images
) -> None:
    checks = checks_of(foreign["blind"], held, images[:1])
    assert "recorded constant" in checks["attention"].detail
    assert "flash-attn" in checks["attention"].detail
    assert "(8 of 8 blocks)" in checks["attention"].detail
    assert "qk.conv.weight is not in the file" in checks["weights"].detail
    assert checks["blocks"].detail.startswith("model.6.m.0.0.attn (AAttn)")


def test_nodes_without_names_are_found_by_their_weights(
    foreign: dict[str, Path], held: Reference, images: Images, tmp_path: Path
) -> None:
    model = onnx.load(foreign["float32"])
    for n in model.graph.node:
        n.name = ""
    onnx.save(model, tmp_path / "nameless.onnx")
    blocks = checks_of(tmp_path / "nameless.onnx", held, images[:1])["blocks"]
    assert blocks.passed is True
    assert blocks.figures["blocks"] == 8


def test_scopes_are_read_as_module_paths() -> None:
    assert module_path("/model.6/m.0/m.0.1/attn/qk/conv") == "model.6.m.0.1.attn.qk.conv"
    assert module_path("/model.9/branch1/m/hgnn") == "model.9.branch1.m.hgnn"
    assert module_path("model.6.m.0.1.attn") == "model.6.m.0.1.attn"


@pytest.mark.parametrize(
    ("key", "value"), [("rewrites", "5"), ("precision", "[1]"), ("names", '"cat"'), ("batch", "{"), ("nms", "3")]
)
def test_metadata_of_the_wrong_kind_are_one_clear_error(
    key: str, value: str, right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    mutant = copied(right["fused-fp32"])
    kept = [p for p in mutant.metadata_props if p.key != f"yoloproof.{key}"]
    del mutant.metadata_props[:]
    mutant.metadata_props.extend([*kept, onnx.StringStringEntryProto(key=f"yoloproof.{key}", value=value)])
    onnx.save(mutant, tmp_path / "odd.onnx")
    with pytest.raises(YoloproofError, match="metadata"):
        verify(tmp_path / "odd.onnx", held, images[:1])


def test_an_artifact_that_cannot_run_is_a_finding(
    right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    mutant = copied(right["explicit-fp32"])
    put(mutant, "impossible", np.array([1, 100, 7, 32]))
    node(mutant, "model.6.m.0.1.attn/Reshape").input[1] = "impossible"
    del mutant.graph.value_info[:]
    onnx.save(mutant, tmp_path / "stuck.onnx")
    failed = {c.name: c.detail for c in verify(tmp_path / "stuck.onnx", held, images[:1]).failures}
    assert "failed while it ran the file" in failed["outputs, real images"]
    assert "blocks" in failed


def test_the_command_compares_ap_and_exits_by_the_verdict(right: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, ["verify", str(tmp_path / "right.onnx"), *map(str, arguments)])

    onnx.save(right["fused-fp32"], tmp_path / "right.onnx")
    annotated = ("--images", demo_images()[0].parent, "--annotations", demo_annotations())
    result = run("--against", demo_checkpoint(), *annotated, "--json", tmp_path / "verdict.json")
    assert result.exit_code == 0, result.output
    assert "accuracy: AP 0." in result.output
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    figures = {c["name"]: c["figures"] for c in verdict["checks"]}["accuracy"]
    assert figures["images"] == 4
    assert abs(figures["difference"]) <= 0.002
    assert run("--against", "yolov13n", "--random-weights").exit_code == 1
    refused = run("--against", demo_checkpoint(), "--annotations", demo_annotations())
    assert isinstance(refused.exception, YoloproofError)
    assert "--images DIR" in str(refused.exception)


def test_an_onnx_file_in_an_engines_coat_is_no_engine(
    right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    """Whatever a sidecar of its own says: only what TensorRT or TensorRT-RTX runs is an engine."""
    onnx.save(right["fused-fp32"], tmp_path / "coat.onnx")
    coat = (tmp_path / "coat.onnx").rename(tmp_path / "coat.engine")
    identity = EngineIdentity(
        sha256_of(coat), coat.stat().st_size, "0" * 64, held.network.sha256, Runtime.TENSORRT, "10.13", "current", ("7.5",), None,
        host_platform(), "bfloat16", "fused", {}, {"faults": [], "fused": ["a"] * 8, "attentions": ["a"] * 8},
    )  # fmt: skip
    write_identity(coat, identity)
    opened = open_session(SessionSpec(Runtime.ONNXRUNTIME, coat))
    with opened as session, pytest.raises(YoloproofError, match="does not run engines"):
        verify(coat, held, images[:1], session=session)


def test_the_first_line_says_what_was_examined(
    right: dict[str, onnx.ModelProto], held: Reference, images: Images, tmp_path: Path
) -> None:
    onnx.save(right["explicit-fp32-b4"], tmp_path / "four.onnx")
    said = verify(tmp_path / "four.onnx", held, images[:2]).checks[0]
    assert said.name == "examined"
    for part in ("2 real images", "9 transformed copies", "of 160x160", "4 batch slots", "of 80 classes fire", "onnxruntime",
                 "tolerance of fp32, as the graph computes"):  # fmt: skip
        assert part in said.detail
    assert said.figures["classes_fired"] > 30
    claimed = verify(tmp_path / "four.onnx", held, images[:2], precision="fp16").checks[0]
    assert "tolerance of fp16, as the caller claims" in claimed.detail


def test_a_box_lost_to_a_tie_at_the_limit_is_no_difference_and_another_is() -> None:
    """Two boxes of a class overlap by 0.6970 on one side and by 0.7000 on the other, where the limit is 0.7."""

    def side(*boxes: tuple[float, ...]) -> NDArray[np.float32]:
        return np.array(boxes, np.float32).reshape(-1, 6)

    better, tied = (0, 0, 100, 100, 0.9, 2), (0, 0, 100, 69.85, 0.8, 2)
    apart, other = (0, 0, 100, 30, 0.8, 2), (0, 0, 100, 69.85, 0.8, 3)
    for lost, passed in ((tied, True), (apart, False), (other, False)):
        for pair in ((side(better, lost), side(better)), (side(better), side(better, lost))):
            check = detection_parity([pair], TOLERANCES[Precision.FP16], 0.25)
            assert check.passed is passed, check.detail
    assert (
        "suppressed on one side only"
        in detection_parity([(side(better, tied), side(better))], TOLERANCES[Precision.FP16], 0.25).detail
    )
    alone = detection_parity([(side(tied), side())], TOLERANCES[Precision.FP16], 0.25)
    assert alone.passed is False  # nothing is there that could have suppressed it


def test_float16_ranges_are_reported_by_block(
    right: dict[str, onnx.ModelProto], held: Reference, images: Images
) -> None:
    check = float16_check(right["fused-fp16"], held, images[:1])
    assert check is not None
    assert check.passed is True
    blocks = check.figures["largest_by_block"]
    assert {"model.0", "model.6", "model.9"} <= blocks.keys()
    assert 1 < check.figures["largest"] == max(blocks.values()) < 65504
    assert float16_check(right["fused-fp32"], held, images[:1]) is None
