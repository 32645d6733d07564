"""Parity of outputs and detections: the artifact's against the network's own, in float32 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    is lost in rounding. logit bounds all but the outliers among the scores' logits, logit_class the root mean square of
    one class's, logit_max the worst."""

    box_px: float
    score: float
    outliers: float
    relative: float
    iou: float
    detection_score: float
    unmatched: float
    floor: float
    logit: float = math.inf
    logit_class: float = math.inf
    logit_max: float = math.inf

    def beyond_photographs(self) -> Tolerance:
        """For noise and the like, whose activations are larger than a photograph's: twice the rounding of boxes."""
        return replace(self, box_px=2 * self.box_px)


TOLERANCES = {
    Precision.FP32: Tolerance(0.02, 1e-4, 0.0, 1e-4, 0.99, 0.01, 0.0, 1e-5, 0.03, 0.01, 0.03),
    Precision.FP16: Tolerance(1.0, 0.01, 1e-3, 0.02, 0.95, 0.02, 0.02, 1e-3, 0.2, 0.1, 1.0),
    Precision.BF16: Tolerance(8.0, 0.08, 1e-3, 0.1, 0.80, 0.1, 0.05, 1e-2, 1.6, 0.8, 8.0),
}
# Where logits are compared: float16 cannot tell scores nearer to 1 apart, and runtimes' sigmoids err by 1e-7 near 0.
LEAST_SCORE, MOST_SCORE = 2.0**-16, 1 - 2.0**-9


def output_parity(reference: Array, output: Array, tolerance: Tolerance, what: str) -> Check:
    """Raw outputs [B, 4 + nc, A] agree: boxes in pixels, class probabilities and their logits.

    In logits a class that is rare here counts as much as a common one; scores below 2⁻¹⁶ or above 1 - 2⁻⁹ are taken for
    these, so that only what a score of any precision can tell is compared.
    """
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
    logits = np.abs(_logits(reference[:, 4:]) - _logits(output[:, 4:]))
    of_class, worst = np.sqrt(np.square(logits).mean((0, 2))), logits.max((0, 2))
    over = (of_class > tolerance.logit_class) | (worst > tolerance.logit_max)
    figures |= {
        "logit_max": float(worst.max()),
        "logit_quantile": float(np.quantile(logits, 1 - tolerance.outliers)),
        "logit_class": float(of_class.max()),
        "classes_off": int(over.sum()),
    }
    detail = (
        f"boxes within {figures['box_quantile_px']:.2g} px, scores within {figures['score_quantile']:.2g},"
        f" logits within {figures['logit_quantile']:.2g}"
    )
    if figures["box_quantile_px"] > tolerance.box_px or figures["score_quantile"] > tolerance.score:
        detail += f" (allowed {tolerance.box_px:g} px, {tolerance.score:g})"
    elif over.any():
        first = int(np.flatnonzero(over)[0])
        detail += f"; the logits of class {first} are off by up to {worst[first]:.2g} ({int(over.sum())} such classes)"
    elif figures["logit_quantile"] > tolerance.logit:
        detail += f" (allowed {tolerance.logit:g})"
    else:
        return Check(name, True, figures, detail)
    return Check(name, False, figures, detail)


def _logits(scores: Array) -> Array:
    clipped = np.clip(scores.astype(np.float32, copy=False), LEAST_SCORE, MOST_SCORE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), np.float32)


def iou_matrix(a: Array, b: Array) -> Array:
    """Intersection over union of boxes a [n, 4+] and b [m, 4+] (x1, y1, x2, y2): [n, m]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [np.clip(x[:, 2:4] - x[:, :2], 0, None).prod(1) for x in (a, b)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9), np.float32)


def detection_parity(
    pairs: Sequence[tuple[Array, Array]], tolerance: Tolerance, confidence: float, suppression: float = 0.7
) -> Check:
    """Detections of the network and the artifact [n, 6] match one to one: class, IoU, score.

    A detection whose score is within the score tolerance of `confidence` may be on one side only, and so may one that
    overlaps a better one of its class by `suppression` up to rounding: a tie that either side may break. Detections must
    have been taken down to `confidence` minus that tolerance.
    """
    found = matched = lone = ties = 0
    worst_iou, worst_score = 1.0, 0.0
    for reference, given in pairs:
        clear = [d[d[:, 4] >= confidence + tolerance.detection_score] for d in (reference, given)]
        found += len(clear[0])
        extra = _unmatched(clear[1], reference, tolerance)
        free = np.ones(len(given), bool)
        missing = []
        for row in clear[0]:
            same = free & (given[:, 5] == row[5]) & (np.abs(given[:, 4] - row[4]) <= tolerance.detection_score)
            ious = np.where(same, iou_matrix(row[None], given)[0], -1) if len(given) else np.array([-1.0])
            best = int(ious.argmax())
            if ious[best] < tolerance.iou:
                missing.append(row)
                continue
            free[best] = False
            matched += 1
            worst_iou = min(worst_iou, float(ious[best]))
            worst_score = max(worst_score, float(abs(given[best, 4] - row[4])))
        tied = [_is_tie(row, rows, suppression, 1 - tolerance.iou) for some, rows in ((missing, given), (extra, reference))
                for row in some]  # fmt: skip
        ties += sum(tied)
        lone += len(tied) - sum(tied)
    figures = {"detections": found, "matched": matched, "unmatched": lone, "ties": ties, "images": len(pairs),
               "worst_iou": worst_iou, "worst_score": worst_score}  # fmt: skip
    if not found:
        return Check("detections", None, figures, f"the network detects nothing above {confidence:g} on these images")
    passed = lone <= tolerance.unmatched * found
    detail = f"{matched} of {found} detections match (IoU ≥ {worst_iou:.4f}, scores within {worst_score:.2g})"
    detail += f"; {ties} suppressed on one side only, at the limit of {suppression:g}" if ties else ""
    return Check("detections", passed, figures, detail + ("" if passed else f"; {lone} on one side only"))


def _unmatched(rows: Array, others: Array, tolerance: Tolerance) -> list[Array]:
    """Rows without any partner of that class, score and place among `others`."""
    alone = []
    for row in rows:
        same = (others[:, 5] == row[5]) & (np.abs(others[:, 4] - row[4]) <= tolerance.detection_score)
        if not len(others) or not (same & (iou_matrix(row[None], others)[0] >= tolerance.iou)).any():
            alone.append(row)
    return alone


def _is_tie(row: Array, others: Array, limit: float, margin: float) -> bool:
    """Whether the side that lacks `row` may have suppressed it by rounding: a better box of its class overlaps it by `limit`."""
    better = others[(others[:, 5] == row[5]) & (others[:, 4] >= row[4] - margin)]
    return bool(len(better)) and bool((np.abs(iou_matrix(row[None], better)[0] - limit) <= margin).any())


def anchor_parity(pairs: Sequence[tuple[Array, Array]], tolerance: Tolerance, why: str) -> Check:
    """Raw outputs [4 + nc, A] anchor by anchor, before suppression: the same best class (or a tie within the tolerance),
    its score, and the box's IoU. why -- detections are not what is compared"""
    a, b = (np.concatenate([pair[side].T for pair in pairs]) for side in (0, 1))
    best = a[:, 4:].argmax(1)
    rows = np.arange(len(a))
    score = np.abs(a[rows, 4 + best] - b[rows, 4 + best])
    tie = b[:, 4:].max(1) - b[rows, 4 + best]
    low = np.maximum(a[:, :2] - a[:, 2:4] / 2, b[:, :2] - b[:, 2:4] / 2)
    high = np.minimum(a[:, :2] + a[:, 2:4] / 2, b[:, :2] + b[:, 2:4] / 2)
    shared = np.clip(high - low, 0, None).prod(1)
    iou = shared / np.maximum(a[:, 2:4].prod(1) + b[:, 2:4].prod(1) - shared, 1e-9)
    same = (score <= tolerance.detection_score) & (tie <= tolerance.detection_score) & (iou >= tolerance.iou)
    figures = {
        "anchors": len(a),
        "matched": int(same.sum()),
        "worst_iou": float(iou.min()),
        "worst_score": float(score.max()),
    }
    passed = bool(same.mean() >= 1 - tolerance.unmatched)
    return Check("detections", passed, figures, f"{int(same.sum())} of {len(a)} anchors match ({why})")
