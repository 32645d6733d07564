"""AP parity: the artifact and the float32 network on one annotated set."""

from __future__ import annotations

from collections.abc import Callable

from yoloproof.detection.accuracy import EVALUATION, accuracy_of
from yoloproof.detection.coco import CocoSet
from yoloproof.detection.pipeline import Suppression
from yoloproof.names import Precision, Runtime
from yoloproof.network.wiring import Network
from yoloproof.proof.stated import Stated
from yoloproof.proof.suppression import is_suppressed, options_of
from yoloproof.records import Check
from yoloproof.runtime import Session, SessionSpec, open_session

ALLOWED = 0.002  # of AP, in 0…1, in either direction


def accuracy_parity(
    session: Session,
    network: Network,
    data: CocoSet,
    imgsz: tuple[int, int],
    bar: Callable[[str, float], None] | None = None,
    stated: Stated | None = None,
) -> Check:
    """AP of the opened artifact is within 0.002 of that of `network`, which PyTorch runs in float32 on the CPU.

    stated -- what the artifact says of itself: the thresholds of a suppression inside it hold for the network, too
    """
    options = options_of(stated or Stated())
    inside = is_suppressed(session)
    rule = Suppression(options.score, options.iou, options.max_detections) if inside else EVALUATION
    plain = SessionSpec(Runtime.PYTORCH, None, "cpu", None, Precision.FP32, network=lambda: network)
    with open_session(plain) as reference:
        found = {}
        for name, opened in (("AP", session), ("AP_float32", reference)):
            step = (lambda done, of, name=name: bar(name, done / of)) if bar else None
            found[name] = accuracy_of(opened, network.names, data, imgsz=imgsz, rule=rule, progress=step).AP
    if found["AP"] is None or found["AP_float32"] is None:
        return Check("accuracy", None, found, "no annotation of these classes to measure AP by")
    difference = found["AP"] - found["AP_float32"]
    figures = {**found, "difference": difference, "allowed": ALLOWED, "images": len(data.ids)}
    detail = f"AP {found['AP']:.4f} on {len(data.ids)} images, {difference:+.4f} to the float32 network's (allowed {ALLOWED})"
    return Check("accuracy", abs(difference) <= ALLOWED, figures, detail)
