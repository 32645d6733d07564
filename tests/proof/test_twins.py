"""One export against another, without weights: layouts, float16, and what a wrong twin must not get past."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from proof_graphs import SIZE, array, as_queries, copied, end_to_end, node, put
from yoloproof.artifact.attention_report import attention_blocks
from yoloproof.artifact.graph import Graph
from yoloproof.names import Precision, Runtime
from yoloproof.opening import opened
from yoloproof.proof.guests import graph_alone, row_parity, verify_guest
from yoloproof.proof.parity import TOLERANCES
from yoloproof.records import Case, Verdict

Models = dict[str, onnx.ModelProto]
Array = NDArray[np.float32]


def verdict(given: onnx.ModelProto, wanted: onnx.ModelProto, images: Array, folder: Path) -> Verdict:
    files = [folder / "given.onnx", folder / "wanted.onnx"]
    for file, model in zip(files, (given, wanted), strict=True):
        onnx.save(model, file)
    cases = [_case(file, model) for file, model in zip(files, (given, wanted), strict=True)]
    with opened(cases[0]) as one, opened(cases[1]) as other:
        return verify_guest(files[0], one.session, files[1], other.session, images[:2])


def _case(file: Path, model: onnx.ModelProto) -> Case:
    from yoloproof.runtime.choice import candidates

    return candidates(Case(str(file), Runtime.ONNXRUNTIME, imgsz=SIZE, threads=1))[0]


@pytest.mark.parametrize(
    ("layout", "twin"),
    [(copied, "fused-fp16"), (end_to_end, "fused-fp32"), (end_to_end, "fused-fp16"), (as_queries, "fused-fp32")],
)
def test_right_twins_pass_in_every_layout(
    layout: Callable[[onnx.ModelProto], onnx.ModelProto], twin: str, right: Models, images: Array, tmp_path: Path
) -> None:
    found = verdict(layout(right[twin]), layout(right["explicit-fp32"]), images, tmp_path)
    assert found.passed is True, [check for check in found.checks if not check.passed]
    assert "8 attentions" in found.checks[0].detail


def _lost(model: onnx.ModelProto) -> None:
    """One attention weighs all tokens alike: its queries are zero."""
    name = "model.8.m.1.0.attn/Softmax"
    scores = node(model, name).input[0]
    index = list(model.graph.node).index(node(model, name))
    model.graph.node.insert(index, onnx.helper.make_node("Sub", [scores, scores], ["even"], "x/Sub"))
    node(model, name).input[0] = "even"


def _classes_turned(model: onnx.ModelProto) -> None:
    for level in range(3):
        for part in ("weight", "bias"):
            name = f"model.32.cv3.{level}.2.{part}"
            put(model, name, np.roll(array(model, name), 1, axis=0))


def _boxes_off(model: onnx.ModelProto) -> None:
    name = "model.32.cv2.0.2.bias"
    put(model, name, array(model, name) + np.linspace(0, 0.5, array(model, name).size, dtype=np.float32))


@pytest.mark.parametrize(
    ("layout", "break_it", "caught"),
    [(copied, _lost, "sensitivity"), (end_to_end, _lost, "sensitivity"), (end_to_end, _classes_turned, "outputs"),
     (copied, _boxes_off, "outputs")],
)  # fmt: skip
def test_a_wrong_twin_fails(
    break_it: Callable[[onnx.ModelProto], None], caught: str, layout: Callable[[onnx.ModelProto], onnx.ModelProto],
    right: Models, images: Array, tmp_path: Path,
) -> None:  # fmt: skip
    wrong = copied(right["explicit-fp32"])
    break_it(wrong)
    found = verdict(layout(wrong), layout(right["explicit-fp32"]), images, tmp_path)
    assert found.passed is False
    assert any(check.name.startswith(caught) and check.passed is False for check in found.checks), found.checks


def test_a_lost_attention_is_caught_in_float16_too(right: Models, images: Array, tmp_path: Path) -> None:
    wrong = copied(right["explicit-fp32"])
    _lost(wrong)
    found = verdict(wrong, right["fused-fp16"], images, tmp_path)
    assert next(check for check in found.checks if check.name == "sensitivity").passed is False


def test_unlike_layouts_are_no_proof(right: Models, images: Array, tmp_path: Path) -> None:
    found = verdict(end_to_end(right["fused-fp32"]), right["fused-fp32"], images, tmp_path)
    assert found.passed is not True
    assert any("only detections can be compared" in check.detail for check in found.checks)


def test_a_file_alone_is_never_proved_but_may_be_wrong(right: Models, tmp_path: Path) -> None:
    file = tmp_path / "file.onnx"
    onnx.save(right["fused-fp32"], file)
    whole = graph_alone(file, file)
    assert whole.passed is None
    assert "8 whole in the graph; not compared with its weights" in whole.detail
    wrong = _without_one(right["fused-fp32"])
    onnx.save(wrong, file)
    assert graph_alone(file, file).passed is False
    del wrong.graph.node[:], wrong.graph.output[:]
    wrong.graph.node.append(onnx.helper.make_node("Identity", ["images"], ["output0"]))
    onnx.save(wrong, file)
    assert "unknown: none is found" in graph_alone(file, file).detail


def _without_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """The output of one attention is a recorded constant."""
    wrong = copied(model)
    attention = node(wrong, "model.8.m.1.0.attn/Attention")
    put(wrong, "recorded", np.zeros((1, 4, 100, 32), np.float32))
    reader = next(n for n in wrong.graph.node if attention.output[0] in n.input)
    reader.input[list(reader.input).index(attention.output[0])] = "recorded"
    wrong.graph.node.remove(attention)
    return wrong


def test_attention_is_found_or_missed_without_weights(right: Models) -> None:
    for name, spelling in (("explicit-fp32", "explicit"), ("fused-fp16", "fused")):
        blocks = attention_blocks(Graph(right[name]))
        assert [block.spelling for block in blocks] == [spelling] * 8
        assert blocks[0].name == "model.6.m.0.0.attn"
    wrong = _without_one(right["fused-fp32"])
    (lost,) = [block for block in attention_blocks(Graph(wrong)) if block.spelling is None]
    assert lost.name == "model.8.m.1.0.attn"
    for one in wrong.graph.node:  # an exporter that keeps no paths
        one.name = one.name.rpartition("/")[2]
    (lost,) = [block for block in attention_blocks(Graph(wrong)) if block.spelling is None]
    assert "recorded constant recorded [1, 4, 100, 32]" in lost.detail


def test_noise_on_which_nothing_stands_out_is_held_to_its_scores() -> None:
    rows = np.column_stack([np.zeros((5, 4)), np.linspace(0.01, 0.012, 5), np.zeros(5)]).astype(np.float32)
    other = rows + np.array([0, 0, 0, 0, 0.004, 0], np.float32)
    tolerance = TOLERANCES[Precision.FP16]
    assert row_parity([rows], [other], tolerance, "random input").passed is True
    assert row_parity([rows], [other + 0.02], tolerance, "random input").passed is False
    assert row_parity([rows], [rows[:4]], tolerance, "random input").passed is False
    assert row_parity([rows], [other], tolerance, "real images").passed is None
