"""An end-to-end plan is what `predict` does, executed with NumPy, for frames of any size; mutants of it must be caught."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from native_engines import RULE, SIZE, check_whole, frame, network, recorded
from native_plan.execution import execute_frame, execute_plan
from native_plan.frame_kernels import letterbox_kernel
from yoloproof.detection.letterbox import boxes_to_image, letterbox
from yoloproof.detection.nms import detections_from_output
from yoloproof.errors import YoloproofError
from yoloproof.files.frames import HEAD, MOST_FRAME_BYTES, fitted, frame_parameters
from yoloproof.files.plan import Launch, Plan, check_plan
from yoloproof.files.plan_json import json_from_plan, plan_from_json
from yoloproof.network import attention_paths
from yoloproof.proof.ends import suppression_check

FRAMES = ((48, 64), (64, 96), (97, 41), (31, 200), (375, 500))


def plan() -> Plan:
    return recorded("yolov13n", 1, True).plan


def agrees(changed: Plan, picture: np.ndarray, **options) -> bool:
    """Whether letterbox and suppression of a plan are those of `predict`, on one frame."""
    weights = recorded("yolov13n", 1, True).weights
    found, raw = execute_frame(changed, weights, picture, **options)
    placed, box = letterbox(picture, SIZE)
    expected = execute_plan(plan(), weights, placed[None])
    if not np.allclose(raw, expected, atol=1e-3):
        return False
    rows = boxes_to_image(detections_from_output(raw[0], RULE.score, RULE.iou, RULE.max_detections), box)
    return found.count == len(rows) and np.allclose(found.rows[: found.count], rows, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), FRAMES)
def test_a_plan_takes_frames_of_any_size_and_gives_what_predict_gives(height, width):
    assert agrees(plan(), frame(height, width))
    assert agrees(plan(), frame(height, width), late=True)


def test_an_end_to_end_plan_holds_together():
    found = recorded("yolov13n", 1, True)
    attentions = len(attention_paths(network("yolov13n").named_modules()))
    check_whole(found.plan, found.weights, attentions)
    assert plan_from_json(json_from_plan(found.plan)) == found.plan
    plain = recorded("yolov13n").plan
    assert len(found.plan.network) == len(plain.operations) == len(found.plan.operations) - 5
    assert found.plan.buffers[found.plan.frames.frame].bytes == MOST_FRAME_BYTES


@pytest.mark.parametrize("imgsz", [(64, 96), (640, 640), (320, 640)])
@pytest.mark.parametrize("image", range(4))
def test_the_letterbox_is_opencvs_bit_for_bit(imgsz, image):
    """On real pictures: enlarged, scaled down a little, by half and by far, and as they are."""
    for height, width in ((427, 640), (640, 640), (97, 211), (1280, 1280), (1080, 1920), (33, 20), (1, 7), (480, 2000)):
        picture = frame(height, width, image)
        expected, _ = letterbox(picture, imgsz)
        given = np.zeros((*imgsz, 3), np.float16)
        parameters = frame_parameters(height, width, imgsz)
        letterbox_kernel(
            picture.reshape(-1),
            parameters[HEAD:],
            given.reshape(-1),
            imgsz[1],
            imgsz[0],
            grid=(99, imgsz[0], 1),
            BM=128,
        )
        assert np.array_equal(given.transpose(2, 0, 1), expected.astype(np.float16)), (height, width)


def test_parameters_say_where_the_picture_lies():
    parameters = frame_parameters(50, 200, (64, 96))
    fit = fitted(50, 200, (64, 96))
    assert (fit.height, fit.width, fit.top, fit.left) == (24, 96, 20, 0)
    assert parameters[:HEAD].view(np.float32).tolist() == pytest.approx([0, 20, 0.48, 200, 50, 0, 0, 0])
    rows = parameters[HEAD + 4 * 96 :].reshape(4, 64)
    assert ((rows[0] >= 0) == ((np.arange(64) >= 20) & (np.arange(64) < 44))).all()
    assert (rows[2:].sum(0)[20:44] == 2048).all()
    assert rows[:2, 20:44].max() == 49 * 200 * 3


# Mutants


def with_operation(changed: Plan, index: int, change) -> Plan:
    operations = list(changed.operations)
    (launch,) = operations[index].tactics[0]
    assert isinstance(launch, Launch)
    operations[index] = replace(operations[index], tactics=((change(launch),),))
    return replace(changed, operations=tuple(operations))


@pytest.mark.parametrize(("index", "axis"), [(0, 0), (0, 1), (-4, 0), (-3, 0), (-2, 0)])
def test_a_grid_too_small_shows(index, axis):
    def change(launch: Launch) -> Launch:
        return replace(launch, grid=tuple(size - (i == axis) for i, size in enumerate(launch.grid)))

    assert not agrees(with_operation(plan(), index, change), frame(97, 41))


@pytest.mark.parametrize(("index", "threshold"), [(-3, 0.99), (-2, 0.35)])
def test_another_threshold_shows(index, threshold):
    """The last number of the order's and of the overlaps' launch: float32's bits."""

    def change(launch: Launch) -> Launch:
        bits = int(np.float32(threshold).view(np.int32))
        return replace(launch, arguments=(*launch.arguments[:-1], bits))

    assert not agrees(with_operation(plan(), index, change), frame(48, 64))


def test_rows_read_as_columns_show():
    def change(launch: Launch) -> Launch:
        *others, width, height = launch.arguments
        return replace(launch, arguments=(*others, height, width))

    with_swapped = with_operation(plan(), 0, change)
    with contextlib.suppress(IndexError):
        assert not agrees(with_swapped, frame(48, 64))


@pytest.mark.parametrize("index", [0, -4, -3, -2, -1])
def test_none_of_them_can_be_dropped(index):
    found = recorded("yolov13n", 1, True)
    operations = list(found.plan.operations)
    del operations[index]
    mutant = replace(found.plan, operations=tuple(operations))
    with pytest.raises(YoloproofError):
        check_whole(mutant, found.weights, len(attention_paths(network("yolov13n").named_modules())))


@pytest.mark.parametrize(
    "change",
    [{"detections": 9999}, {"parameters": 0}, {"most": 300}, {"first": 0}, {"last": 10_000}, {"frame": -1}],
)
def test_ends_that_do_not_lie_in_the_plan_are_refused(change):
    with pytest.raises(YoloproofError, match="does not lie in it") as caught:
        check_plan(replace(plan(), frames=replace(plan().frames, **change)))
    assert "\n" not in str(caught.value)


def test_frame_and_detections_share_space_with_nothing():
    found = plan()
    for kept in (found.frames.frame, found.frames.parameters, found.frames.detections, found.input):
        for other in range(0, len(found.buffers), 7):
            if other == kept:
                continue
            buffers = list(found.buffers)
            buffers[other] = replace(buffers[other], offset=buffers[kept].offset)
            with pytest.raises(YoloproofError, match="share space"):
                check_plan(replace(found, buffers=tuple(buffers), arena_bytes=found.arena_bytes + buffers[other].bytes))


def test_boxes_without_area_are_held_to_each_other_too():
    """What a network finds in the border lies outside the frame: no overlap tells such boxes apart."""
    rows = np.array([[0, 5, 0, 9, 0.9, 1], [3, 3, 8, 9, 0.8, 2], [96, 0, 96, 7, 0.7, 1]], np.float32)
    assert suppression_check([(rows, rows)], RULE).passed
    for wrong in (rows[:2], rows[[1, 0, 2]], rows + np.array([0, 0.1, 0, 0, 0, 0], np.float32)):
        assert not suppression_check([(rows, rows), (rows, wrong)], RULE).passed
    assert not suppression_check([(rows[:0], rows[:0])], RULE).passed
