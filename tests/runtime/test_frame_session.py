"""An end-to-end engine on the driver that computes with NumPy: frames in, detections out, as `predict` gives them."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from cuda_stand_in import BASE, CudaStandIn, put_in_place
from native_engines import RULE, SIZE, engine, frame, images
from yoloproof.detection.letterbox import boxes_to_image, letterbox
from yoloproof.detection.nms import detections_from_output
from yoloproof.detection.pipeline import Suppression, detect, end_to_end, takes_frames
from yoloproof.errors import YoloproofError
from yoloproof.files.frames import MOST_FRAME_BYTES
from yoloproof.files.native import write_native
from yoloproof.names import Runtime
from yoloproof.runtime.base import NativeOptions, SessionOptions, SessionSpec
from yoloproof.runtime.device_arrays import DeviceArray
from yoloproof.runtime.native import native_session
from yoloproof.runtime.native_frames import FrameSession

FRAMES = ((48, 64), (97, 41), (375, 500), (64, 96), (97, 41))
RULE_OF_DETECT = Suppression(RULE.score, RULE.iou, RULE.max_detections)


@pytest.fixture
def driver(monkeypatch):
    stand_in = CudaStandIn(engine(end_to_end=True).plan)
    put_in_place(stand_in, partial(monkeypatch.setitem, sys.modules))
    return stand_in


@pytest.fixture
def session(driver, tmp_path):
    path = tmp_path / "tiny.native"
    write_native(engine(end_to_end=True), path)
    spec = SessionSpec(Runtime.NATIVE, path, "cuda", options=SessionOptions(native=NativeOptions(measured=False)))
    with native_session(spec) as opened:
        assert isinstance(opened, FrameSession)
        yield opened


def predicted(session: FrameSession, picture: np.ndarray) -> np.ndarray:
    """What `predict` makes of a frame with the network of the same engine alone."""
    placed, box = letterbox(picture, SIZE)
    (raw,) = session.network.infer(placed[None])
    return boxes_to_image(detections_from_output(raw[0], RULE.score, RULE.iou, RULE.max_detections), box)


def rows(session: FrameSession) -> np.ndarray:
    count, boxes, scores, classes = session.fetch()
    assert (classes[0, count[0] :] == -1).all()
    return np.column_stack((boxes[0], scores[0], classes[0]))[: count[0]]


def test_frames_of_any_size_give_what_predict_gives(session):
    for height, width in FRAMES:
        picture = frame(height, width)
        wanted = predicted(session, picture)
        session.load(picture)
        assert session.execute() == pytest.approx(1e-3)  # the stand-in's clock
        assert len(wanted) > 5
        assert np.allclose(rows(session), wanted, atol=1e-3)


def test_letterboxed_images_stand_for_their_bytes(session):
    session.load(images())
    session.execute()
    assert np.array_equal(session.network_input(), images().astype(np.float16).astype(np.float32))
    pixels = np.rint(images() * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    found = rows(session)
    session.load(torch.from_numpy(pixels))  # of the host's, by DLPack
    session.execute()
    assert np.array_equal(rows(session), found)


def test_detect_hands_over_pictures_as_they_are(session):
    """Also one that the engine has no room for: it comes out with its error, and the rest goes on."""
    large = np.zeros((2500, 4000, 3), np.uint8)
    assert takes_frames(session)
    assert not takes_frames(session.network)
    pictures = [frame(48, 64), large, frame(97, 41)]
    found = list(detect(session, pictures, lambda picture: picture, SIZE, RULE_OF_DETECT))
    assert "has 30000000 bytes, the engine takes 24883200" in str(found[1].error)
    for one in (found[0], found[2]):
        assert one.error is None
        assert np.allclose(one.detections, predicted(session, one.item), atol=1e-3)


def test_stages_are_timed_with_letterbox_and_suppression_inside(session, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), frame(48, 64))
    ticks = iter(range(100))
    stages = end_to_end(session, [tmp_path / "a.png"], lambda: float(next(ticks)), SIZE)
    assert stages.total_s == 3


def on_gpu(driver: CudaStandIn, values: np.ndarray, **fields) -> DeviceArray:
    _, address = driver.cuMemAlloc(values.nbytes)
    driver.memory[address - BASE :][: values.nbytes] = np.frombuffer(values.tobytes(), np.uint8)
    return DeviceArray(address, values.shape, values.dtype.name, **fields)


def test_frames_come_from_the_gpu_and_detections_stay_there(driver, session):
    picture = frame(97, 41)
    wanted = predicted(session, picture)
    given, taken = on_gpu(driver, picture, stream=5), on_gpu(driver, np.zeros((RULE.max_detections, 6), np.float32))
    session.load(given)
    assert driver.waits == 1
    session.execute()
    assert np.allclose(rows(session), wanted, atol=1e-3)
    outputs = session.device_outputs()
    assert outputs.shape == taken.shape
    session.load(frame(48, 64))  # another size in between
    session.execute()
    driver.streams.clear()
    session.enqueue(given, taken, 123)
    session.enqueue(given, taken.address, 123)
    assert driver.streams == [123] * 6
    there = driver.memory[taken.address - BASE :][: taken.bytes].view(np.float32).reshape(taken.shape)
    assert np.allclose(there[: len(wanted)], wanted, atol=1e-3)
    assert not there[len(wanted) :].any()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.zeros((8, 8, 3), np.float32), r"uint8 \[H, W, 3\], RGB, not float32 \[8, 8, 3\]"),
        (np.zeros((8, 8, 4), np.uint8), r"not uint8 \[8, 8, 4\]"),
        (np.zeros((0, 8, 3), np.uint8), r"not uint8 \[0, 8, 3\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"not uint8 \[2, 8, 8, 3\]"),
        (np.zeros((MOST_FRAME_BYTES // 300 + 1, 100, 3), np.uint8), "make it smaller first"),
    ],
)
def test_what_is_no_frame_is_refused_in_one_line(session, values, told):
    with pytest.raises(YoloproofError, match=told) as caught:
        session.load(values)
    assert "\n" not in str(caught.value)


def test_a_frame_on_the_gpu_in_other_memory_is_refused(driver, session):
    given = on_gpu(driver, frame(48, 64), strides=(400, 3, 1))
    with pytest.raises(YoloproofError, match="contiguous memory"):
        session.load(given)
    with pytest.raises(YoloproofError, match="another device than the engine's cuda:0"):
        session.load(on_gpu(driver, frame(48, 64), device=1))
    with pytest.raises(YoloproofError, match="neither __dlpack__ nor"):
        session.load([1])


def test_more_candidates_than_are_put_in_order_are_told(driver, session):
    session.load(frame(48, 64))
    session.execute()
    found = session.detections()
    place = session.network.address(session.network.plan.frames.detections) - BASE
    counts = driver.memory[place + 24 * RULE.max_detections :][:8].view(np.int32)
    assert counts.tolist() == [found.count, found.candidates]
    counts[1] = 3000
    with pytest.raises(YoloproofError, match="3000 boxes above the threshold, of which the engine orders the best 128"):
        session.fetch()
    counts[0] = RULE.max_detections  # so many are found among the best: more would change nothing
    session.fetch()


def test_a_callers_stream_is_told_of_more_candidates_by_the_counts(driver, session, monkeypatch):
    given, taken = on_gpu(driver, frame(48, 64)), on_gpu(driver, np.zeros((RULE.max_detections, 6), np.float32))
    session.enqueue(given, taken, 123)
    there = session.device_counts()
    counts = driver.memory[there.address - BASE :][: there.bytes].view(there.dtype)
    found = session.detections()
    assert counts.tolist() == [found.count, found.candidates]
    session.check_counts(*counts.tolist())
    monkeypatch.setattr(session, "_ends", replace(session._ends, candidates=found.candidates - 1, most=found.count + 1))
    with pytest.raises(YoloproofError, match=f"{found.candidates} boxes above the threshold"):
        session.check_counts(*counts.tolist())


def test_synthetic_outputs_are_suppressed_alone(session):
    raw = np.zeros(session.network.outputs[0].shape, np.float32)
    raw[0, :4, 7], raw[0, 9, 7] = (30, 20, 10, 8), 0.9
    found = session.suppressed(raw)
    assert found.count == 1
    assert found.rows[0].tolist() == pytest.approx([25, 16, 35, 24, 0.9, 5])
