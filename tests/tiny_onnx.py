"""Tiny real detectors for the runtimes' tests: convolutions, one attention block, output [B, 84, A]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEADS, HEAD_DIM, WIDTH = 2, 32, 64


def tiny_detector(
    path: Path,
    precision: str = "float32",
    batch: int | str = 1,
    size: int = 32,
    opset: int = 23,
    scale: float = 0.1,
    extra: list[onnx.ValueInfoProto] | None = None,
) -> Path:
    """Write an opset-23 model: conv 8×8 stride 8, attention of 2 heads × 32 named `model.6.m.0.0.attn`, conv 1×1."""
    rng = np.random.default_rng(0)
    kind = TensorProto.FLOAT16 if precision == "float16" else TensorProto.FLOAT
    rows = 0 if isinstance(batch, str) else batch  # 0 keeps the dimension in Reshape
    tokens = (size // 8) ** 2

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(precision), name)

    def shape(name: str, *sizes: int) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(sizes, np.int64), name)

    attention = "model.6.m.0.0.attn"
    nodes = [
        helper.make_node("Conv", ["images", "w0"], ["x"], "model.0.conv/Conv", kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["x", "w1"], ["qkv"], f"{attention}.qk.conv/Conv", kernel_shape=[1, 1]),
        helper.make_node("Reshape", ["qkv", "s1"], ["r"], f"{attention}/Reshape"),
        helper.make_node("Transpose", ["r"], ["t"], f"{attention}/Transpose", perm=[0, 1, 3, 2]),
        helper.make_node("Split", ["t"], ["q", "k", "v"], f"{attention}/Split", axis=1, num_outputs=3),
        helper.make_node("Attention", ["q", "k", "v"], ["a"], f"{attention}/Attention", scale=HEAD_DIM**-0.5),
        helper.make_node("Transpose", ["a"], ["at"], f"{attention}/Transpose_1", perm=[0, 1, 3, 2]),
        helper.make_node("Reshape", ["at", "s2"], ["ar"], f"{attention}/Reshape_1"),
        helper.make_node("Conv", ["ar", "w2"], ["o"], "model.32.cv3/Conv", kernel_shape=[1, 1]),
        helper.make_node("Reshape", ["o", "s3"], ["output0"], "model.32/Reshape"),
    ]
    weights = [
        weight("w0", WIDTH, 3, 8, 8),
        weight("w1", 3 * WIDTH, WIDTH, 1, 1),
        weight("w2", 84, WIDTH, 1, 1),
        shape("s1", rows, 3 * HEADS, HEAD_DIM, tokens),
        shape("s2", rows, WIDTH, size // 8, size // 8),
        shape("s3", rows, 84, tokens),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, [batch, 3, size, size]), *(extra or [])],
        [helper.make_tensor_value_info("output0", kind, [batch, 84, tokens])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)
    onnx.save(model, str(path))
    return path


def images(batch: int = 1, size: int = 32, seed: int = 1) -> np.ndarray:
    """Random images [B, 3, size, size] in 0…1."""
    return np.random.default_rng(seed).random((batch, 3, size, size), dtype=np.float32)
