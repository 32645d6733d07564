"""Parity of outputs and detections: the artifact's against the network's own, in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloproof.names import Precision
from yoloproof.records import Check

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Tolerance:
    """What rounding may do. box_px and score bound all but the worst `outliers` share of the anchors' values;
    relative bounds ‖difference‖/‖reference‖ at a block; iou and detection_score bound matched detections, of which
    a share of `unmatched` may come or go at the threshold; an attention's response below `floor` (see sensitivity.py)
    is lost in rounding."""

    box_px: float
    score: float
    outliers: float
    relative: float
    iou: float
    detection_score: float
    unmatched: float
    floor: float


TOLERANCES = {
    Precision.FP32: Tolerance(0.02, 1e-4, 0.0, 1e-4, 0.99, 0.01, 0.0, 1e-5),
    Precision.FP16: Tolerance(1.0, 0.01, 1e-3, 0.02, 0.95, 0.02, 0.02, 1e-3),
    Precision.BF16: Tolerance(8.0, 0.08, 1e-3, 0.1, 0.80, 0.1, 0.05, 1e-2),
}


def output_parity(reference: Array, output: Array, tolerance: Tolerance, what: str) -> Check:
    """Raw outputs [B, 4 + nc, A] agree: boxes in pixels, class probabilities."""
    name = f"outputs, {what}"
    if reference.shape != output.shape:
        detail = f"output has shape {list(output.shape)}, the network gives {list(reference.shape)}"
        return Check(name, False, {"shape": list(output.shape)}, detail)
    if not np.isfinite(output).all():
        bad = int((~np.isfinite(output)).sum())
        return Check(name, False, {"non_finite": bad}, f"{bad} outputs are NaN or infinite")
    difference = np.abs(reference.astype(np.float64) - output)
    boxes, scores = difference[:, :4], difference[:, 4:]
    figures = {
        "box_max_px": float(boxes.max()),
        "box_quantile_px": float(np.quantile(boxes, 1 - tolerance.outliers)),
        "score_max": float(scores.max()),
        "score_quantile": float(np.quantile(scores, 1 - tolerance.outliers)),
        "share": 1 - tolerance.outliers,
    }
    passed = figures["box_quantile_px"] <= tolerance.box_px and figures["score_quantile"] <= tolerance.score
    detail = f"boxes within {figures['box_quantile_px']:.2g} px, scores within {figures['score_quantile']:.2g}"
    return Check(
        name, passed, figures, detail + ("" if passed else f" (allowed {tolerance.box_px:g} px, {tolerance.score:g})")
    )


def iou_matrix(a: Array, b: Array) -> Array:
    """Intersection over union of boxes a [n, 4+] and b [m, 4+] (x1, y1, x2, y2): [n, m]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [np.clip(x[:, 2:4] - x[:, :2], 0, None).prod(1) for x in (a, b)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9), np.float32)


def detection_parity(pairs: Sequence[tuple[Array, Array]], tolerance: Tolerance, confidence: float) -> Check:
    """Detections of the network and the artifact [n, 6] match one to one: class, IoU, score.

    A detection whose score is within the score tolerance of `confidence` may be on one side only. Detections must have
    been taken down to `confidence` minus that tolerance.
    """
    found = matched = 0
    worst_iou, worst_score = 1.0, 0.0
    lone = 0
    for reference, given in pairs:
        clear = [d[d[:, 4] >= confidence + tolerance.detection_score] for d in (reference, given)]
        found += len(clear[0])
        lone += _unmatched(clear[1], reference, tolerance)
        free = np.ones(len(given), bool)
        for row in clear[0]:
            same = free & (given[:, 5] == row[5]) & (np.abs(given[:, 4] - row[4]) <= tolerance.detection_score)
            if not same.any():
                lone += 1
                continue
            ious = np.where(same, iou_matrix(row[None], given)[0], -1)
            best = int(ious.argmax())
            if ious[best] < tolerance.iou:
                lone += 1
                continue
            free[best] = False
            matched += 1
            worst_iou = min(worst_iou, float(ious[best]))
            worst_score = max(worst_score, float(abs(given[best, 4] - row[4])))
    figures = {"detections": found, "matched": matched, "unmatched": lone, "images": len(pairs),
               "worst_iou": worst_iou, "worst_score": worst_score}  # fmt: skip
    if not found:
        return Check("detections", None, figures, f"the network detects nothing above {confidence:g} on these images")
    passed = lone <= tolerance.unmatched * found
    detail = f"{matched} of {found} detections match (IoU ≥ {worst_iou:.4f}, scores within {worst_score:.2g})"
    return Check("detections", passed, figures, detail + ("" if passed else f"; {lone} on one side only"))


def _unmatched(rows: Array, others: Array, tolerance: Tolerance) -> int:
    """Rows without any partner of that class, score and place among `others`."""
    count = 0
    for row in rows:
        same = (others[:, 5] == row[5]) & (np.abs(others[:, 4] - row[4]) <= tolerance.detection_score)
        count += not (same & (iou_matrix(row[None], others)[0] >= tolerance.iou)).any() if len(others) else 1
    return count
