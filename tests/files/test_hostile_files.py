"""Files made to hang or to fill the memory: one line each, at once. What no reading can tell is stopped while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloproof.artifact.stated import stated_names, stated_size
from yoloproof.detection.coco import coco_set
from yoloproof.detection.data_yaml import set_of_yaml
from yoloproof.detection.images import read_image
from yoloproof.errors import YoloproofError
from yoloproof.files.onnx import load_onnx
from yoloproof.network import read_checkpoint
from yoloproof.results.file import read_result
from yoloproof.runtime import SessionSpec, open_session


def write(path: Path, nodes: list[onnx.NodeProto], sides: tuple[int, ...] = (1, 3, 8, 8), **more: object) -> Path:
    """An ONNX file from images to output0 that keeps its input's shape."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in ("images", "output0")]
    values = {"true": np.array(True), "many": np.array(2**62), "one": np.float32(1)}
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9, **more), str(path))
    return path


def copy_of(path: Path, sides: tuple[int, ...]) -> Path:
    return write(path, [helper.make_node("Identity", ["images"], ["output0"])], sides)


def endless(path: Path) -> Path:
    def value(name: str, kind: int, shape: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["still"]), helper.make_node("Add", ["x", "one"], ["y"])], "body",
        [value("i", TensorProto.INT64, []), value("more", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [value("still", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, [1, 3, 8, 8])],
    )  # fmt: skip
    return write(path, [helper.make_node("Loop", ["many", "true", "images"], ["output0"], body=body)])


def calling(path: Path, depth: int) -> Path:
    """Functions each of which calls the one before twice; the first calls the last where depth is 0."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    functions = []
    for k in range(max(depth, 1)):
        inner = "f0" if not depth else f"f{k - 1}"
        domain, kind, inputs = ("f", inner, ["x"]) if k or not depth else ("", "Add", ["x", "x"])
        nodes = [helper.make_node(kind, inputs, ["t"], domain=domain)]
        nodes.append(helper.make_node(kind, ["t"] * len(inputs), ["y"], domain=domain))
        functions.append(helper.make_function("f", f"f{k}", ["x"], ["y"], nodes, opsets))
    last = helper.make_node(functions[-1].name, ["images"], ["output0"], domain="f")
    return write(path, [last], functions=functions)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda p: copy_of(p, (0, 3, 64, 64)), "no detector has"),
        (lambda p: copy_of(p, (10**6, 3, 64, 64)), "no detector has"),
        (lambda p: copy_of(p, (1, 3, 10**6, 10**6)), "no detector has"),
        (lambda p: calling(p, 40), "functions written out"),
        (lambda p: calling(p, 0), "functions written out"),
        (lambda p: calling(p, 5000), "functions written out"),
    ],
    ids=["batch 0", "batch", "size", "exponential", "recursive", "deep"],
)
def test_onnx_files_that_no_detector_is(tmp_path: Path, make: Callable[[Path], Path], line: str) -> None:
    with pytest.raises(YoloproofError, match=line):
        load_onnx(make(tmp_path / "a.onnx"))


def test_what_is_right_is_read(tmp_path: Path) -> None:
    load_onnx(calling(tmp_path / "a.onnx", 8))
    load_onnx(copy_of(tmp_path / "b.onnx", (8, 3, 1280, 1280)))


@pytest.mark.parametrize(
    "read", [read_checkpoint, load_onnx, read_image, read_result, lambda path: coco_set(path.parent, path)]
)
def test_a_pipe_is_not_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(YoloproofError, match="only regular files"):
        read(tmp_path / "pipe")


def test_a_data_yaml_of_aliases_is_not_written_out(tmp_path: Path) -> None:
    """Each line holds the one before twice, and as text the last is 2⁴⁰ words."""
    lines = ["val: .", "a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)), "names: [*a39]"]
    (tmp_path / "data.yaml").write_text("\n".join(lines))
    with pytest.raises(YoloproofError, match="aliases"):
        set_of_yaml(tmp_path / "data.yaml")
    (tmp_path / "data.yaml").write_text("val: .\nnames: [[x]]\n")
    with pytest.raises(YoloproofError, match="neither a list nor numbered"):
        set_of_yaml(tmp_path / "data.yaml")


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(YoloproofError, match="at most"):
        read_result(path)


def test_metadata_allocate_nothing(tmp_path: Path) -> None:
    path = copy_of(tmp_path / "a.onnx", (1, 3, 64, 64))
    model = onnx.load(str(path))
    helper.set_model_props(model, {"imgsz": "[1000000, 1000000]"})
    onnx.save(model, str(path))
    with pytest.raises(YoloproofError, match="sides go from 1 to 8192"):
        stated_size(str(path))
    for names in (
        "{2000000000: 'x'}",
        "{-1: 'x'}",
        "[" * 10**6,
        "5",
        "{'a': []}",
        "{1e400: 'x'}",
        "'" + "x" * 10**7 + "'",
    ):
        with pytest.raises(YoloproofError, match=r"class 2000000000|class -1|cannot be read"):
            stated_names({"names": names})


def test_onnxruntime_stops_an_endless_loop(tmp_path: Path) -> None:
    with open_session(SessionSpec("onnxruntime", endless(tmp_path / "a.onnx"))) as session:
        session.load(np.zeros((1, 3, 8, 8), np.float32))
        with pytest.raises(YoloproofError, match="endless loop"):
            session.execute_within(0.3)


# The loop goes on in a thread until the process is gone, so the process is one of its own.
OPENVINO = """
import sys
import numpy as np
from yoloproof.runtime import SessionSpec, open_session
with open_session(SessionSpec("openvino", sys.argv[1])) as session:
    session.load(np.zeros((1, 3, 8, 8), np.float32))
    session.execute_within(0.3)
"""
# One signal alone, while native code does not return.
KILLED = """
import sys
import numpy as np
from yoloproof import cli
from yoloproof.runtime import SessionSpec, open_session
cli._Interrupts.LONGEST_S = 0.5
interrupts = cli._Interrupts()
with open_session(SessionSpec("onnxruntime", sys.argv[1])) as session:
    session.load(np.zeros((1, 3, 8, 8), np.float32))
    print("runs", flush=True)
    session.execute()
"""


def test_openvino_leaves_an_endless_loop_behind(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", OPENVINO, str(endless(tmp_path / "a.onnx"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "endless loop" in done.stderr.splitlines()[-1]


def test_one_sigterm_ends_what_native_code_holds_on_to(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(endless(tmp_path / "a.onnx"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "runs\n"
            time.sleep(0.2)
            running.send_signal(signal.SIGTERM)
            assert running.wait(timeout=30) == 130
        finally:
            running.kill()
