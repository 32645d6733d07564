from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Letterbox:
    scale: float
    left: int
    top: int
    height: int
    width: int


def letterbox(image, imgsz=(640, 640)):
    h, w = image.shape[:2]
    s = min(imgsz[0] / h, imgsz[1] / w)
    nw, nh = round(w * s), round(h * s)
    r = cv2.resize(image, (nw, nh), interpolation=cv2.INTER_LINEAR) if (nw, nh) != (w, h) else image
    c = np.full((*imgsz, 3), 114, np.uint8)
    top, left = round((imgsz[0] - nh) / 2 - 0.1), round((imgsz[1] - nw) / 2 - 0.1)
    c[top : top + nh, left : left + nw] = r
    return np.ascontiguousarray(c.transpose(2, 0, 1).astype(np.float32) / 255), Letterbox(s, left, top, h, w)
