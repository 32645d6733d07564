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
from yoloproof.network import Network, load_network
from yoloproof.proof.blocks import module_path
from yoloproof.proof.verify import verify
from yoloproof.records import Check
from yoloproof.simplify.rewrites import simplify

Images = NDArray[np.float32]
pytestmark = pytest.mark.xdist_group("mutants")  # the right artifacts are exported once


def checks_of(path: Path, network: Network, images: Images) -> dict[str, Check]:
    return {check.name: check for check in verify(path, network, images).checks}


@pytest.fixture(scope="module")
def suppressed(right: dict[str, onnx.ModelProto], tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    folder = tmp_path_factory.mktemp("suppressed")
    onnx.save(right["fused-fp32"], folder / "raw.onnx")
    add_nms(folder / "raw.onnx", folder / "nms.onnx", NmsOptions(score=0.05))
    return onnx.load(folder / "nms.onnx")


def test_suppression_inside_is_cut_off_and_proved_by_itself(
    suppressed: onnx.ModelProto, network: Network, images: Images, tmp_path: Path
) -> None:
    onnx.save(suppressed, tmp_path / "right.onnx")
    verdict = verify(tmp_path / "right.onnx", network, images[:2])
    assert verdict.passed is True, verdict.failures
    check = next(c for c in verdict.checks if c.name == "suppression")
    assert check.figures["detections"] > 50  # the synthetic boxes are there whatever the images show


def test_another_overlap_than_stated_is_caught(
    suppressed: onnx.ModelProto, network: Network, images: Images, tmp_path: Path
) -> None:
    mutant = copied(suppressed)
    for entry in mutant.metadata_props:
        if entry.key == "yoloproof.nms":
            entry.value = json.dumps({**json.loads(entry.value), "iou": 0.3})
    onnx.save(mutant, tmp_path / "other.onnx")
    failed = {c.name for c in verify(tmp_path / "other.onnx", network, images[:1]).failures}
    assert failed == {"suppression"}


def test_a_suppression_that_reads_more_than_the_output_is_caught(
    suppressed: onnx.ModelProto, network: Network, images: Images, tmp_path: Path
) -> None:
    mutant = copied(suppressed)
    mutant.graph.node.append(helper.make_node("Shape", ["images"], ["nms/size"], "nms/Shape_999"))
    onnx.save(mutant, tmp_path / "more.onnx")
    (check,) = verify(tmp_path / "more.onnx", network, images[:1]).checks
    assert check.name == "suppression"
    assert check.passed is False


def test_a_size_baked_into_a_file_for_any_size_is_caught(
    right: dict[str, onnx.ModelProto], network: Network, images: Images, tmp_path: Path
) -> None:
    baked = copied(right["fused-fp32"])
    for value, axes in (
        (baked.graph.input[0], {0: "batch", 2: "height", 3: "width"}),
        (baked.graph.output[0], {0: "batch", 2: "anchors"}),
    ):
        for axis, name in axes.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(baked, tmp_path / "baked.onnx")
    checks = checks_of(tmp_path / "baked.onnx", network, images[:1])
    assert checks["outputs, real images"].passed is True
    assert checks["outputs, random input"].passed is False
    assert checks["outputs, random input"].figures["shape"] == [2, 3, 256, 384]


def test_pixels_as_bytes_pass(network: Network, images: Images, tmp_path: Path) -> None:
    from yoloproof.simplify.rewrites import DEFAULT_REWRITES

    path = tmp_path / "bytes.onnx"
    export_onnx(simplify(network, (*DEFAULT_REWRITES, "pixels")), path, imgsz=SIZE, input_type="uint8")
    verdict = verify(path, network, images[:1])
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
    name: str, foreign: dict[str, Path], network: Network, images: Images
) -> None:
    verdict = verify(foreign[name], network, images[:2])
    assert verdict.passed is True, verdict.failures
    blocks = next(c for c in verdict.checks if c.name == "blocks")
    assert blocks.figures["blocks"] >= 40  # its attentions too, by names that repeat a list's


def test_an_attention_that_the_tracer_could_not_see_is_told_as_that(
    foreign: dict[str, Path], network: Network, images: Images
) -> None:
    checks = checks_of(foreign["blind"], network, images[:1])
    assert "recorded constant" in checks["attention"].detail
    assert "flash-attn" in checks["attention"].detail
    assert "(8 of 8 blocks)" in checks["attention"].detail
    assert "qk.conv.weight is not in the file" in checks["weights"].detail
    assert checks["blocks"].detail.startswith("model.6.m.0.0.attn (AAttn)")


def test_nodes_without_names_are_found_by_their_weights(
    foreign: dict[str, Path], network: Network, images: Images, tmp_path: Path
) -> None:
    model = onnx.load(foreign["float32"])
    for n in model.graph.node:
        n.name = ""
    onnx.save(model, tmp_path / "nameless.onnx")
    blocks = checks_of(tmp_path / "nameless.onnx", network, images[:1])["blocks"]
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
    key: str, value: str, right: dict[str, onnx.ModelProto], network: Network, images: Images, tmp_path: Path
) -> None:
    mutant = copied(right["fused-fp32"])
    kept = [p for p in mutant.metadata_props if p.key != f"yoloproof.{key}"]
    del mutant.metadata_props[:]
    mutant.metadata_props.extend([*kept, onnx.StringStringEntryProto(key=f"yoloproof.{key}", value=value)])
    onnx.save(mutant, tmp_path / "odd.onnx")
    with pytest.raises(YoloproofError, match="metadata"):
        verify(tmp_path / "odd.onnx", network, images[:1])


def test_an_artifact_that_cannot_run_is_a_finding(
    right: dict[str, onnx.ModelProto], network: Network, images: Images, tmp_path: Path
) -> None:
    mutant = copied(right["explicit-fp32"])
    put(mutant, "impossible", np.array([1, 400, 7, 32]))
    node(mutant, "model.6.m.0.1.attn/Reshape").input[1] = "impossible"
    del mutant.graph.value_info[:]
    onnx.save(mutant, tmp_path / "stuck.onnx")
    failed = {c.name: c.detail for c in verify(tmp_path / "stuck.onnx", network, images[:1]).failures}
    assert "does not run" in failed["outputs, real images"]
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
