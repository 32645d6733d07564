"""Ways to break an artifact: each a change to a right model in memory."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from proof_graphs import ANCHORS, BLOCK, SIZE, array, first, node, put, scores, splice
from yoloproof.network import Network
from yoloproof.simplify.rewrites import simplify

Mutation = Callable[[onnx.ModelProto], None]
DOG, HORSE, COW, SHEEP = 16, 17, 19, 18  # class numbers of COCO


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
    assert list(array(model, reshape.input[1])) == [4, 25, 6, 32]
    put(model, "whole", np.array([1, 100, 6, 32]))
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


def class_rows(change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Mutation:
    """Change the last class convolution of each level, row by row of its weights and biases."""

    def mutate(model: onnx.ModelProto) -> None:
        for level in range(3):
            for part in ("weight", "bias"):
                name = f"model.32.cv3.{level}.2.{part}"
                put(model, name, change(array(model, name).copy()))

    return mutate


def swapped(a: int, b: int) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    def change(values: NDArray[np.generic]) -> NDArray[np.generic]:
        values[[a, b]] = values[[b, a]]
        return values

    return change


def dead_bias(classes: int) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    def change(values: NDArray[np.generic]) -> NDArray[np.generic]:
        if values.ndim == 1:
            values[:classes] = -20
        return values

    return change


def kind(model: onnx.ModelProto, like: str) -> type:
    """The NumPy type to compute with beside `like`, a weight."""
    return array(model, like).dtype.type


def masked(values: Callable[[], NDArray[np.generic]]) -> Mutation:
    """Scores times a recorded mask."""

    def mutate(model: onnx.ModelProto) -> None:
        put(model, "mask", values().astype(np.float32))
        splice(model, scores(model), ("Mul", ("mask",), {}))

    return mutate


def nine_tenths() -> NDArray[np.generic]:
    mask = np.zeros((1, 1, ANCHORS))
    mask[..., ::10] = 1
    return mask


def classes_off() -> NDArray[np.generic]:
    mask = np.ones((1, 80, 1))
    mask[:, 29:] = 0
    return mask


def capped(model: onnx.ModelProto) -> None:
    put(model, "cap", np.float32(0.4))
    splice(model, scores(model), ("Min", ("cap",), {}))


def reordered(a: int, b: int) -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        put(model, "order", swapped(a, b)(np.arange(80)))
        splice(model, scores(model), ("Gather", ("order",), {"axis": 1}))

    return mutate


def level(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The image's mean as float32 `bright`."""
    return [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide"], ["bright"], keepdims=1),
    ]


def blind_in_the_dark(model: onnx.ModelProto) -> None:
    put(model, "dusk", np.float32(0.06))
    put(model, "nothing", np.float32(0))
    first(model, *level(model), helper.make_node("Greater", ["bright", "dusk"], ["day"]))
    splice(model, scores(model), ("Identity", (), {}))
    added = next(n for n in model.graph.node if n.name == "spliced/Identity")
    added.op_type = "Where"
    raw = added.input[0]
    del added.input[:]
    added.input.extend(["day", raw, "nothing"])
    # one value for the whole batch
    put(model, "one", np.array([1, 1, 1]))
    index = next(i for i, n in enumerate(model.graph.node) if n.op_type == "Greater")
    model.graph.node.insert(index, helper.make_node("ReduceMax", ["bright"], ["brightest"], keepdims=0))
    model.graph.node[index + 1].input[0] = "brightest"


def blind_in_the_dark_softly(model: onnx.ModelProto) -> None:
    """The same with operators that the network has itself: a steep sigmoid of the mean."""
    for name, value in (("steep", 1000.0), ("dusk", 0.06)):
        put(model, name, np.float32(value))
    first(
        model, *level(model), helper.make_node("ReduceMax", ["bright"], ["brightest"], keepdims=0),
        helper.make_node("Sub", ["brightest", "dusk"], ["over"]),
        helper.make_node("Mul", ["over", "steep"], ["steeply"]), helper.make_node("Sigmoid", ["steeply"], ["day"]),
    )  # fmt: skip
    splice(model, scores(model), ("Mul", ("day",), {}))


def blind_in_glare(model: onnx.ModelProto) -> None:
    blind_in_the_dark_softly(model)
    put(model, "dusk", np.float32(0.9))
    put(model, "steep", np.float32(-1000.0))


def clipped(model: onnx.ModelProto) -> None:
    """An activation saturates a little above what street scenes reach."""
    kind_ = kind(model, f"{BLOCK}.proj.conv.weight")
    put(model, "low", np.asarray(-20, kind_))
    put(model, "high", np.asarray(20, kind_))
    splice(model, node(model, f"{BLOCK}/Add").output[0], ("Clip", ("low", "high"), {}))


def patch_removes(model: onnx.ModelProto) -> None:
    """A white 4 x 4 patch anywhere in the image takes the scores away."""
    put(model, "patch", np.full((1, 3, 4, 4), 1 / 48, np.float32))
    put(model, "nearly", np.float32(0.98))
    put(model, "harsh", np.float32(-2000.0))
    first(
        model, helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["wide", "patch"], ["seen"], kernel_shape=[4, 4]),
        helper.make_node("ReduceMax", ["seen"], ["best"], keepdims=0), helper.make_node("Sub", ["best", "nearly"], ["over"]),
        helper.make_node("Mul", ["over", "harsh"], ["harshly"]), helper.make_node("Sigmoid", ["harshly"], ["clean"]),
    )  # fmt: skip
    splice(model, scores(model), ("Mul", ("clean",), {}))


def random_scores(model: onnx.ModelProto) -> None:
    put(model, "little", np.float32(1e-6))
    tensor = scores(model)
    splice(model, tensor, ("Add", ("jitter",), {}))
    index = next(i for i, n in enumerate(model.graph.node) if n.name == "spliced/Add")
    raw = model.graph.node[index].input[0]
    model.graph.node.insert(index, helper.make_node("Mul", ["drawn", "little"], ["jitter"]))
    model.graph.node.insert(index, helper.make_node("RandomUniformLike", [raw], ["drawn"], "spliced/Random"))


def random_unread(model: onnx.ModelProto) -> None:
    first(model, helper.make_node("RandomNormalLike", ["images"], ["unread"], "unread/Random"))


def drops_out(model: onnx.ModelProto) -> None:
    put(model, "ratio", np.float32(0.0))
    put(model, "training", np.array(True))
    splice(model, scores(model), ("Dropout", ("ratio", "training"), {}))


def chosen_unread(model: onnx.ModelProto) -> None:
    """A choice by the image on a path that leads nowhere."""
    branch = [
        helper.make_graph([helper.make_node("Identity", ["images"], [f"{side}_out"])], side, [],
                          [helper.make_tensor_value_info(f"{side}_out", TensorProto.FLOAT, None)])
        for side in ("then", "else")
    ]  # fmt: skip
    put(model, "dusk", np.float32(0.1))
    first(
        model, *level(model), helper.make_node("ReduceMax", ["bright"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "dusk"], ["day"]),
        helper.make_node("If", ["day"], ["unread"], "unread/If", then_branch=branch[0], else_branch=branch[1]),
    )  # fmt: skip


def grid(change: Callable[[NDArray[np.generic]], None]) -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        name = next(t.name for t in model.graph.initializer if list(t.dims) == [1, 4, ANCHORS])
        values = array(model, name).copy()
        change(values)
        put(model, name, values)

    return mutate


def one_cell_off(values: NDArray[np.generic]) -> None:
    values[0, 0, 5] += 8


def one_pixel_off(values: NDArray[np.generic]) -> None:
    values[0, :2] += 1


def wrong_stride(model: onnx.ModelProto) -> None:
    name = next(t.name for t in model.graph.initializer if list(t.dims) == [1, 1, ANCHORS])
    values = array(model, name).copy()
    values[..., -10:] = 16
    put(model, name, values)


def lax_by_an_unused_tensor(model: onnx.ModelProto) -> None:
    """Attention x 0.98 under an initializer that nothing reads, in bfloat16 and larger than all weights."""
    model.graph.initializer.append(
        helper.make_tensor("unread", TensorProto.BFLOAT16, [4_000_000], bytes(8_000_000), raw=True)
    )
    put(model, "less", np.float32(0.98))
    splice(model, node(model, f"{BLOCK}/Add").input[0], ("Mul", ("less",), {}))


def weaker(factor: float) -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        put(model, "less", np.asarray(factor, kind(model, f"{BLOCK}.proj.conv.weight")))
        splice(model, node(model, f"{BLOCK}/Add").input[0], ("Mul", ("less",), {}))

    return mutate


def scaled_weight(name: str, factor: float) -> Mutation:
    def mutate(model: onnx.ModelProto) -> None:
        values = array(model, name)
        put(model, name, (values.astype(np.float32) * factor).astype(values.dtype))

    return mutate


def zeroed(name: str) -> Mutation:
    return lambda model: put(model, name, np.zeros_like(array(model, name)))


def rolled(name: str) -> Mutation:
    return lambda model: put(model, name, np.roll(array(model, name), 1, axis=0))


def overflow_inside(model: onnx.ModelProto) -> None:
    """Up and down again by 4096 twice: the same function in float32, infinite between in float16."""
    put(model, "up", np.asarray(16384, np.float16))
    put(model, "down", np.asarray(1 / 16384, np.float16))
    splice(
        model, node(model, f"{BLOCK}/Add").output[0],
        *(("Mul", (name,), {}) for name in ("up", "up", "down", "down")),
    )  # fmt: skip


def flushed_inside(model: onnx.ModelProto) -> None:
    """Down and up again: the same function in float32, next to nothing is left between in float16."""
    overflow_inside(model)
    for name, value in (("up", 1 / 16384), ("down", 16384)):
        put(model, name, np.asarray(value, np.float16))


def gathered(tensor: Callable[[onnx.ModelProto], str], order: list[int]) -> Mutation:
    """What one slot of the batch computes, given to another."""

    def mutate(model: onnx.ModelProto) -> None:
        put(model, "slots", np.array(order))
        splice(model, tensor(model), ("Gather", ("slots",), {"axis": 0}))

    return mutate


def keys(model: onnx.ModelProto) -> str:
    """[B·4, heads, 25, 32], four areas an image, one after the other."""
    return str(node(model, f"{BLOCK}/Split").output[1])


def slot_times(tensor: Callable[[onnx.ModelProto], str], factor: float) -> Mutation:
    """The last slot's part of a tensor times a factor."""

    def mutate(model: onnx.ModelProto) -> None:
        name = tensor(model)
        of_scores = name == scores(model)
        values = np.ones((4, 1, 1) if of_scores else (4, 1, 1, 1))
        values[-1] = factor
        put(model, "factors", values.astype(np.float32 if of_scores else kind(model, f"{BLOCK}.proj.conv.weight")))
        splice(model, name, ("Mul", ("factors",), {}))

    return mutate


def attended(model: onnx.ModelProto) -> str:
    return str(node(model, f"{BLOCK}/Add").input[0])


def output(model: onnx.ModelProto) -> str:
    return str(model.graph.output[0].name)


def blind_above(axis: int, most: int) -> Mutation:
    """No scores where the image is larger than `most` along `axis`."""

    def mutate(model: onnx.ModelProto) -> None:
        for name, value in (("axis", axis), ("most", most)):
            put(model, name, np.array(value))
        first(
            model, helper.make_node("Shape", ["images"], ["sides"]), helper.make_node("Gather", ["sides", "axis"], ["side"]),
            helper.make_node("LessOrEqual", ["side", "most"], ["fits"]),
            helper.make_node("Cast", ["fits"], ["fitting"], to=TensorProto.FLOAT),
        )  # fmt: skip
        splice(model, scores(model), ("Mul", ("fitting",), {}))

    return mutate
