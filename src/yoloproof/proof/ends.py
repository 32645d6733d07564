"""What stands around the network of an end-to-end engine, on the GPU at hand: letterbox and suppression, each by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloproof.artifact.nms import NmsOptions
from yoloproof.detection.letterbox import Letterbox, boxes_to_image, letterbox
from yoloproof.detection.nms import detections_from_output
from yoloproof.errors import YoloproofError
from yoloproof.proof.crowds import CROWDS, crowded
from yoloproof.proof.stated import Stated
from yoloproof.records import Check
from yoloproof.runtime.native_frames import FrameSession

Array = NDArray[np.float32]
# Sizes of frames (h, w): wide, high, larger and far smaller than the network's input, odd, as large as cameras give.
SIZES = ((480, 640), (500, 375), (720, 1280), (1080, 1920), (97, 211), (33, 20), (640, 640))
PLACED_PX = 0.01  # dividing by the scale
STEPS = 1.0  # of 255 that OpenCV's builds for other processors may round otherwise


def end_checks(session: FrameSession, images: NDArray[np.uint8], stated: Stated) -> list[Check]:
    """Frames of several sizes made of images [n, H, W, 3]: the network's input is what the host's letterbox gives, and the
    detections are what the host's suppression makes of the raw output; so are those of synthetic crowds. Between the two
    the network gives what it gives alone, which is what the other checks look at.

    The thresholds are those that the file states.
    """
    rule = stated.nms or NmsOptions()
    wanted = (rule.score, rule.iou, rule.max_detections)
    pairs: list[tuple[Array, Array]] = []
    worst, other, off, sizes = 0.0, 0, 0, []
    plan, network = session.network.plan, session.network
    imgsz = (plan.images[2], plan.images[3])
    try:
        for frame in frames_of(images):
            session.load(frame)
            session.execute()
            expected, box = letterbox(frame, imgsz)
            given = session.network_input()
            steps = np.abs(given[0] - expected.astype(np.float16).astype(np.float32)) * 255
            worst, other = max(worst, float(steps.max())), other + int((steps > 0.5).sum())
            sizes.append(f"{frame.shape[1]}x{frame.shape[0]}")
            (raw,) = network.fetch()
            pairs.append((_outside(raw, wanted, box), _rows(session)))
            off += not np.array_equal(network.infer(given)[0], raw)
        for draw in range(CROWDS):
            raw = crowded(plan.outputs, imgsz, stated.seed + draw, rule.score)
            found = session.suppressed(raw)
            pairs.append((_outside(raw, wanted, Letterbox(1.0, 0, 0, *imgsz)), found.rows[: found.count]))
    except YoloproofError as error:
        return [Check("letterbox and suppression", False, {}, str(error))]
    figures = {"sizes": sizes, "worst_steps": worst, "other_values": other}
    detail = f"frames of {', '.join(sizes)}: within {worst:.2g} of 255 steps of the host's, {other} values another step"
    same = (
        f"the network's output is the same alone and in the whole graph, on {len(sizes) - off} of {len(sizes)} frames"
    )
    return [
        Check("whole graph", off == 0, {"frames": len(sizes), "frames_off": off}, same),
        # float16 holds a step of 255 to an eighth
        Check("letterbox", worst <= STEPS + 0.25, figures, detail),
        suppression_check(pairs, rule),
    ]


def suppression_check(pairs: Sequence[tuple[Array, Array]], rule: NmsOptions) -> Check:
    """The same rows in the same order. Both sides start from the same raw outputs and round alike until boxes are placed in
    the frame: there is nothing to allow for, also among boxes that lie outside it and have no area left."""
    found, worst_px, other = 0, 0.0, 0
    for wanted, given in pairs:
        found += len(wanted)
        if wanted.shape != given.shape or not np.array_equal(wanted[:, 4:], given[:, 4:]):
            other += 1
        elif len(wanted):
            worst_px = max(worst_px, float(np.abs(wanted[:, :4] - given[:, :4]).max()))
    figures = {
        "detections": found,
        "frames": len(pairs),
        "synthetic": CROWDS,
        "frames_off": other,
        "worst_px": worst_px,
    }
    detail = (
        f"{found} detections of {len(pairs)} frames, {CROWDS} of them synthetic crowds, inside the engine and outside"
    )
    detail += f": within {worst_px:.1g} px" + (f", other ones in {other} frames" if other else "")
    detail += f"; score above {rule.score:g}, overlap {rule.iou:g}, at most {rule.max_detections}"
    return Check("suppression", found > 0 and not other and worst_px <= PLACED_PX, figures, detail)


def frames_of(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The images in turn, in each of SIZES."""
    for index, (height, width) in enumerate(SIZES):
        frame = cv2.resize(images[index % len(images)], (width, height), interpolation=cv2.INTER_AREA)
        yield np.asarray(frame, np.uint8)


def _outside(raw: Array, rule: tuple[float, float, int], box: Letterbox) -> Array:
    return boxes_to_image(detections_from_output(raw[0], *rule), box)


def _rows(session: FrameSession) -> Array:
    found = session.detections()
    return found.rows[: found.count]
