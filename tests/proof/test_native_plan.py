"""The launch plan is the network: executed with NumPy, and mutants of it that must be caught."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from native_engines import SIZE, check_whole, images, network, recorded
from native_plan.execution import PLAN_TOLERANCE, execute_plan
from yoloproof.artifact.native.recording import _flops, _Launch, plan_from_network
from yoloproof.errors import YoloproofError
from yoloproof.files.plan import BufferPointer, Launch, Operation, Plan, all_operations, check_plan, shareable
from yoloproof.files.plan_json import json_from_plan, plan_from_json
from yoloproof.network import VARIANTS, attention_paths, load_network
from yoloproof.proof.parity import output_parity
from yoloproof.proof.plan import check_covers
from yoloproof.simplify.rewrites import simplify


def attentions(name: str) -> int:
    return len(attention_paths(network(name).named_modules()))


def parity(plan: Plan, name: str = "yolov13n", **options):
    outputs = execute_plan(plan, recorded(name).weights, images(plan.images[0]), **options)
    expected = network(name)(torch.from_numpy(images(plan.images[0]))).numpy()
    return output_parity(expected, outputs, PLAN_TOLERANCE, "plan")


@pytest.mark.parametrize("name", ["yolov13n", "yolov12n"])
def test_a_plan_computes_the_network_in_every_order_that_its_dependencies_allow(name):
    plan = recorded(name).plan
    check_whole(plan, recorded(name).weights, attentions(name))
    assert parity(plan, name).passed
    assert parity(plan, name, late=True).passed


@pytest.mark.parametrize("name", ["yolov13n", "yolov12n"])
def test_every_tactic_of_every_operation_gives_the_same(name):
    plan = recorded(name).plan
    operations = list(all_operations(plan.operations))
    for index in range(max(len(operation.tactics) for operation in operations)):
        choice = {one.name: min(index, len(one.tactics) - 1) for one in operations}
        assert parity(plan, name, choice=choice, late=True).passed


def test_a_batch_is_computed_image_by_image():
    found = recorded("yolov13n", 2)
    outputs = execute_plan(found.plan, found.weights, images(2))
    expected = network("yolov13n")(torch.from_numpy(images(2))).numpy()
    assert output_parity(expected, outputs, PLAN_TOLERANCE, "plan").passed


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_has_a_plan_that_reads_every_learned_tensor_and_launches_every_attention(name):
    built = load_network(name, random_weights=True)
    simplified = simplify(built)
    found = plan_from_network(simplified, 1, (64, 64))
    check_whole(found.plan, found.weights, len(attention_paths(built.named_modules())))
    learned = sum(p.numel() for p in simplified.parameters())
    zeros = sum(w.size for w in found.weights.values()) - learned
    assert zeros >= 0  # of grouped convolutions and of biases that a convolution lacks
    assert zeros < 0.3 * learned
    kinds = {kernel.name for kernel in found.plan.kernels}
    assert kinds <= {kernel.name for one in ("yolov13n", "yolov12n") for kernel in recorded(one).plan.kernels}


def test_a_kernel_whose_products_nobody_counts_is_told():
    launch = _Launch(SimpleNamespace(__name__="new_kernel", params=[]), (1, 1, 1), (), (), (), ())
    with pytest.raises(YoloproofError, match="does not count the products of new_kernel"):
        _flops(launch)


def test_buffers_share_most_of_the_arena():
    plan = recorded("yolov13n").plan
    assert plan.arena_bytes < 0.5 * sum(buffer.bytes for buffer in plan.buffers)


def test_a_plan_survives_json():
    plan = recorded("yolov13n").plan
    assert plan_from_json(json_from_plan(plan)) == plan


@pytest.mark.parametrize(
    ("old", "new"),
    [('"schema":1', '"schema":2'), ('"images":[1,', '"images":[1.0,'), ('"kernels"', '"kernel"'), ("{", "["),
     ('"default":', '"tactic":')],
)  # fmt: skip
def test_a_damaged_plan_is_refused_in_one_line(old, new):
    text = json_from_plan(recorded("yolov13n").plan)
    assert old in text
    with pytest.raises(YoloproofError, match="launch plan") as caught:
        plan_from_json(text.replace(old, new, 1))
    assert "\n" not in str(caught.value)


# Mutants: a plan that is not the network must not pass.


def without(plan: Plan, index: int) -> Plan:
    return replace(plan, operations=plan.operations[:index] + plan.operations[index + 1 :])


def rewritten(plan: Plan, index: int, change) -> Plan:
    """The plan with every launch of one operation changed."""

    def changed(step):
        if isinstance(step, Launch):
            return change(step)
        return replace(step, tactics=tuple(tuple(changed(one) for one in tactic) for tactic in step.tactics))

    operations = list(plan.operations)
    operations[index] = changed(operations[index])
    return replace(plan, operations=tuple(operations))


def index_of(plan: Plan, kernel: str) -> int:
    def first(step: Operation | Launch) -> Launch:
        return step if isinstance(step, Launch) else first(step.tactics[0][0])

    return next(i for i, one in enumerate(plan.operations) if plan.kernels[first(one).kernel].name == kernel)


def test_no_operation_can_be_dropped():
    found = recorded("yolov13n")
    for index in range(0, len(found.plan.operations), 5):
        with pytest.raises(YoloproofError):
            check_whole(without(found.plan, index), found.weights, attentions("yolov13n"))


def test_no_two_buffers_can_be_laid_over_each_other_too_early():
    plan = recorded("yolov13n").plan
    sharing = shareable(plan.operations, len(plan.buffers), plan.given, plan.kept)
    pairs = [(i, j) for i in range(len(plan.buffers)) for j in range(i) if not sharing[i] >> j & 1]
    assert len(pairs) > 1000
    for a, b in pairs[:: len(pairs) // 30]:
        buffers = list(plan.buffers)
        buffers[a] = replace(buffers[a], offset=buffers[b].offset)
        roomy = replace(plan, buffers=tuple(buffers), arena_bytes=plan.arena_bytes + buffers[a].bytes)
        with pytest.raises(YoloproofError, match="share space"):
            check_plan(roomy)


def test_the_result_of_a_residual_laid_over_what_is_still_read_shows_in_the_outputs():
    """The structure's check aside, the execution itself tells: a block's input lies where its inner result is written."""
    plan = recorded("yolov12n").plan
    split = next(one for one in plan.operations if any(len(launch.reads) == 2 for launch in one.tactics[0]))
    launch = split.tactics[0][0]
    first, second = launch.reads
    buffers = list(plan.buffers)
    buffers[second] = replace(buffers[second], offset=buffers[first].offset)
    assert not parity(replace(plan, buffers=tuple(buffers)), "yolov12n").passed


@pytest.mark.parametrize(
    "kernel", ["conv_kernel", "depthwise_kernel", "attention_kernel", "gated_sum_kernel", "pool_kernel"]
)
def test_a_wrong_stride_shows(kernel):
    plan = recorded("yolov13n").plan
    index = index_of(plan, kernel) if kernel != "conv_kernel" else index_of(plan, "conv_kernel") + 1
    operation = plan.operations[index]
    launch = operation.tactics[operation.default][0]
    while isinstance(launch, Operation):
        launch = launch.tactics[launch.default][0]
    first = next(a for a in launch.arguments if isinstance(a, BufferPointer))
    # the first integer behind the pointers is the first source's spacing, of a convolution its channels
    position = next(i for i, a in enumerate(launch.arguments) if isinstance(a, int))
    if plan.kernels[launch.kernel].name == "conv_kernel":
        position += 6
    assert isinstance(first, BufferPointer)

    def change(one: Launch) -> Launch:
        arguments = list(one.arguments)
        if not isinstance(arguments[position], int):  # another kernel's tactic of the same operation
            return one
        arguments[position] -= 8
        return replace(one, arguments=tuple(arguments))

    try:
        check = parity(rewritten(plan, index, change))
    except (IndexError, ValueError):
        return
    assert not check.passed


def test_an_attention_replaced_by_a_copy_of_v_shows():
    """Whoever read the attention's result reads v instead, where it lies in q, k and v."""
    found = recorded("yolov13n")
    plan = found.plan
    index = index_of(plan, "attention_kernel")
    launch = plan.operations[index].tactics[0][0]
    assert isinstance(launch, Launch)
    (result,), (qkv,) = launch.writes, launch.reads
    c = plan.operations[index].shape[1]

    def change(one: Launch) -> Launch:
        arguments = list(one.arguments)
        for i, argument in enumerate(arguments):
            if argument == BufferPointer(result, 0):
                arguments[i], arguments[i + 1] = BufferPointer(qkv, 2 * 2 * c), 3 * c
        reads = tuple(sorted({qkv if buffer == result else buffer for buffer in one.reads}))
        return replace(one, arguments=tuple(arguments), reads=reads)

    mutant = plan
    for reader in range(len(plan.operations)):
        mutant = rewritten(mutant, reader, change) if reader != index else mutant
    mutant = without(mutant, index)
    with pytest.raises(YoloproofError, match="7 attention launches for the network's 8"):
        check_covers(mutant, found.weights, attentions("yolov13n"))
    assert not np.allclose(
        execute_plan(mutant, found.weights, images()), execute_plan(plan, found.weights, images()), atol=1e-4
    )


def test_a_launch_that_waits_for_nothing_is_caught():
    plan = recorded("yolov13n").plan
    index = index_of(plan, "attention_kernel")
    with pytest.raises(YoloproofError, match="without saying so"):
        check_plan(rewritten(plan, index, lambda one: replace(one, reads=())))


@pytest.mark.parametrize(("name", "axis"), [("model.0", 0), ("model.0", 1), ("model.3", 2), ("model.4.cv1", 0)])
def test_a_grid_too_small_shows(name: str, axis: int):
    """A column or a row of pixels, a group of channels."""
    plan = recorded("yolov13n").plan

    def change(one: Launch) -> Launch:
        return replace(one, grid=tuple(size - (i == axis) for i, size in enumerate(one.grid)))

    index = next(i for i, operation in enumerate(plan.operations) if operation.name == name)
    assert not parity(rewritten(plan, index, change)).passed


def test_size_of_the_test_images_tells_height_from_width():
    assert SIZE[0] != SIZE[1]
