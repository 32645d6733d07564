from __future__ import annotations

import cv2
import numpy as np


def detections_from_output(output, confidence=0.25, iou=0.7, max_detections=300):
    scores = output[4:]
    best = scores.argmax(0)
    top = scores[best, np.arange(scores.shape[1])]
    keep = np.flatnonzero(top > confidence)
    b = output[:4, keep].T
    xy = b[:, :2] - b[:, 2:] / 2
    boxes = np.concatenate([xy, b[:, 2:]], 1).astype(np.float64)
    if not len(keep):
        return np.zeros((0, 6), np.float32)
    off = boxes.copy()
    off[:, :2] += best[keep, None] * 7680.0
    order = np.asarray(cv2.dnn.NMSBoxes(off.tolist(), top[keep].tolist(), 0.0, iou)).ravel()[:max_detections]
    return np.concatenate(
        [xy[order], xy[order] + b[order, 2:], top[keep][order, None], best[keep][order, None]], 1
    ).astype(np.float32)
