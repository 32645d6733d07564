"""An end-to-end native engine on a GPU beside the host's letterbox and suppression: right, and how fast. One JSON file.

    python benchmarks/frames.py ENGINE WEIGHTS OUT.json [--codes own,7.5] [--minutes 1.5]

ENGINE is a `.native` file built with --end-to-end, WEIGHTS the checkpoint it was built from. For each code of it, written
as soon as it is known: the file's own proof; the bundled images in several sizes, held to the float32 network with the host's
letterbox and suppression around it; device and wall-clock time of frames beside the network alone, round by round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yoloproof.demo import demo_images
from yoloproof.detection.images import read_image
from yoloproof.detection.letterbox import boxes_to_image, letterbox
from yoloproof.detection.nms import detections_from_output
from yoloproof.files.plan import chosen_launches
from yoloproof.names import Precision, Runtime
from yoloproof.proof.crowds import crowded
from yoloproof.proof.native import verify_by_evidence
from yoloproof.proof.parity import TOLERANCES, detection_parity
from yoloproof.runtime.base import NativeOptions, SessionOptions, SessionSpec
from yoloproof.runtime.native import native_session
from yoloproof.runtime.native_frames import FrameSession

SCALES = (1.0, 0.5, 1.7, 3.0)
TIMED = ((480, 640), (1080, 1920), (2160, 3840))
ROUNDS, RUNS, WARM = 15, 20, 30


def frames() -> Iterator[tuple[str, np.ndarray]]:
    """The bundled images in several sizes."""
    for path in demo_images():
        picture = read_image(path)
        for scale in SCALES:
            size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
            yield f"{path.stem} {size[0]}x{size[1]}", cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)


def predicted(network: Any, frame: np.ndarray, imgsz: tuple[int, int]) -> np.ndarray:
    """Detections of the float32 network with the host's letterbox and suppression, down to below the threshold."""
    import torch

    placed, box = letterbox(frame, imgsz)
    with torch.inference_mode():
        raw = network(torch.from_numpy(placed[None])).numpy()[0]
    low = 0.25 - TOLERANCES[Precision.FP16].detection_score
    return boxes_to_image(detections_from_output(raw, low), box)


def found(session: FrameSession, frame: np.ndarray) -> np.ndarray:
    session.load(frame)
    session.execute()
    detections = session.detections()
    return detections.rows[: detections.count]


def right(session: FrameSession, engine: Path, weights: Path) -> dict[str, Any]:
    """The file's own proof, and detections beside the float32 network's."""
    from yoloproof.network import load_network

    verdict = verify_by_evidence(engine, session)
    network, images = load_network(str(weights)), session.network.plan.images
    names, given, wanted = [], [], []
    for name, frame in frames():
        names.append(name)
        given.append(found(session, frame))
        wanted.append(predicted(network, frame, (images[2], images[3])))
    parity = detection_parity(list(zip(wanted, given, strict=True)), TOLERANCES[Precision.FP16], 0.25)
    return {
        "verified": verdict.passed, "checks": [asdict(check) for check in verdict.checks],
        "beside_float32": asdict(parity),
        "detections": {name: len(rows) for name, rows in zip(names, given, strict=True)},
    }  # fmt: skip


def timings(session: FrameSession) -> dict[str, Any]:
    """Seconds: of the device for the network alone and end to end, and by the wall clock with copies to and from the host."""
    network = session.network
    plan, placed = network.plan, {}
    imgsz = (plan.images[2], plan.images[3])
    pictures = {size: cv2.resize(read_image(demo_images()[0]), size[::-1]) for size in TIMED}
    rows: dict[str, Callable[[], float]] = {"network alone, device": lambda: float(network.execute() or 0)}

    def host(frame: np.ndarray) -> float:
        started = time.perf_counter()
        images, box = letterbox(frame, imgsz)
        network.load(images[None])
        network.execute()
        boxes_to_image(detections_from_output(network.fetch()[0][0]), box)
        return time.perf_counter() - started

    def inside(frame: np.ndarray) -> float:
        started = time.perf_counter()
        session.load(frame)
        session.execute()
        session.fetch()
        return time.perf_counter() - started

    def device(frame: np.ndarray) -> float:
        if placed.get("frame") is not frame:
            session.load(frame)
            placed["frame"] = frame
        return float(session.execute() or 0)

    def images_in(images: np.ndarray) -> float:
        started = time.perf_counter()
        network.load(images)
        return time.perf_counter() - started

    images = letterbox(pictures[TIMED[0]], imgsz)[0][None]
    rows["network alone, images from NumPy, wall clock"] = lambda: images_in(images)
    for (height, width), picture in pictures.items():
        rows[f"{width}x{height} end to end, device"] = lambda frame=picture: device(frame)
        rows[f"{width}x{height} end to end, wall clock"] = lambda frame=picture: inside(frame)
        rows[f"{width}x{height} letterbox and suppression on the host, wall clock"] = lambda frame=picture: host(frame)
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(ROUNDS):
        for name, run in rows.items():
            placed.clear()
            slow = "wall" in name
            for _ in range(2 if turn else (5 if slow else WARM)):
                run()
            taken[name].append(statistics.median(run() for _ in range(5 if slow else RUNS)))
    return {name: {"median_s": statistics.median(v), "least_s": min(v), "rounds_s": v} for name, v in taken.items()}


def parts(session: FrameSession) -> dict[str, float]:
    """Device seconds of the operations around the network, each alone, on a picture and on a crowd of 256 candidates."""
    plan, told = session.network.plan, {}
    ends = [one for one in plan.operations if one not in plan.network]
    session.load(read_image(demo_images()[0]))
    session.execute()
    told |= {f"{one.kind}, a picture": _alone(session, one) for one in ends}
    session.suppressed(crowded(plan.outputs, (plan.images[2], plan.images[3]), 0))
    return told | {f"{one.kind}, a crowd": _alone(session, one) for one in ends[1:]}


def _alone(session: FrameSession, operation: Any) -> float:
    return session.network._seconds(chosen_launches([operation], session.network.choice), 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--codes", default="own", help="own: the best for this GPU; 7.5: that code, else its PTX")
    parser.add_argument("--minutes", type=float, default=3, help="no code is begun after these")
    given = parser.parse_args()
    until, report = time.time() + 60 * given.minutes, {}

    def keep(code: str, **facts: Any) -> None:
        report.setdefault(code, {}).update(facts)
        given.out.write_text(json.dumps(report, indent=1, default=str) + "\n")

    for code in given.codes.split(","):
        if time.time() > until:
            keep(code, error="no time was left")
            continue
        options = SessionOptions(native=NativeOptions(code=None if code == "own" else code))
        started = time.perf_counter()
        with native_session(SessionSpec(Runtime.NATIVE, given.engine, "cuda", options=options)) as session:
            assert isinstance(session, FrameSession), f"{given.engine} was built without --end-to-end"
            keep(code, prepare_s=time.perf_counter() - started, facts=asdict(session.facts))
            for name, stage in (
                ("right", lambda: right(session, given.engine, given.weights)),
                ("timings", lambda: timings(session)),
                ("parts_s", lambda: parts(session)),
            ):
                try:
                    keep(code, **{name: stage()})
                except Exception as error:  # what else there is to know is still of use
                    traceback.print_exc()
                    keep(code, **{name: {"error": f"{type(error).__name__}: {error}"}})
    print(json.dumps({code: facts.get("timings") and {
        name: round(row["median_s"] * 1e3, 4) for name, row in facts["timings"].items()
    } for code, facts in report.items() if "error" not in (facts.get("timings") or {})}, indent=1))  # fmt: skip
    for code, facts in report.items():
        proof = facts.get("right", {})
        print(code, "verified", proof.get("verified"), proof.get("beside_float32"), proof.get("error"))
        for check in proof.get("checks", ()):
            print(" ", check["passed"], check["name"], check["detail"])


if __name__ == "__main__":
    main()
