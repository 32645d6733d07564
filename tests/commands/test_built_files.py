"""Options that a file has decided already: refused in one line, or honoured, never ignored."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tiny_onnx import tiny_detector
from yoloproof.cli import main
from yoloproof.commands.profile import cases_of
from yoloproof.errors import YoloproofError
from yoloproof.names import Attention, Precision, Runtime
from yoloproof.records import Case

REFUSED = {
    "an attention": (["--attention", "explicit"], "its attention is already built in; leave --attention out"),
    "a precision": (["--precision", "fp16"], "computes in fp32, not fp16; leave --precision out"),
    "bfloat16": (["--precision", "bf16"], "computes in fp32, not bf16; leave --precision out"),
    "a size": (["--imgsz", "1024"], "only; leave --imgsz out or export it for that size"),
}


@pytest.mark.parametrize("command", ["profile", "predict", "val"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_the_file_does_not_do_is_refused(
    command: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    options, words = REFUSED[case]
    file = tiny_detector(tmp_path / "best.onnx", "float32")
    image = [str(Path(__file__).parents[2] / "src/yoloproof/demo")] if command == "predict" else []
    monkeypatch.setattr(sys, "argv", ["yoloproof", command, str(file), *image, "--runtime", "onnxruntime", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    errors = capfd.readouterr().err
    assert ended.value.code == 2, errors[-2000:]
    assert errors.count("\n") == 1, errors
    assert words in errors


def test_a_batch_that_the_file_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tiny_detector(tmp_path / "best.onnx", "float32")
    monkeypatch.setattr(sys, "argv", ["yoloproof", "profile", str(file), "--runtime", "onnxruntime", "--batch", "3"])
    with pytest.raises(SystemExit):
        main()
    assert "takes a batch of 1; leave --batch out" in capfd.readouterr().err


def rows(models: list[str], attentions: list[Attention], precisions: list[Precision]) -> list[tuple[str, str, str]]:
    found = cases_of(models, [Runtime.ONNXRUNTIME], attentions, precisions, Case(""))
    return [(Path(case.model).suffix, str(case.attention), str(case.precision)) for case in found]


def test_beside_weights_a_built_file_gets_one_row(tmp_path: Path) -> None:
    """Its rows would be the same file again; attention and precision are of the weights beside it."""
    file = str(tiny_detector(tmp_path / "best.onnx", "float32"))
    both = [Precision.FP32, Precision.FP16]
    found = rows(["best.pt", file], [Attention.FUSED, Attention.EXPLICIT], both)
    assert [row[1:] for row in found if row[0] == ".pt"] == [
        ("fused", "fp32"), ("explicit", "fp32"), ("fused", "fp16"), ("explicit", "fp16"),
    ]  # fmt: skip
    assert [row[1:] for row in found if row[0] == ".onnx"] == [("fused", "fp32")]
    assert rows([file], [], [Precision.FP32]) == [(".onnx", "fused", "fp32")], "what it computes in may be named"
    with pytest.raises(YoloproofError, match="already built in"):
        rows([file], [Attention.FUSED], [])


def test_the_same_weights_twice_are_two_rows() -> None:
    assert len(rows(["best.pt", "best.pt"], [], [])) == 2
