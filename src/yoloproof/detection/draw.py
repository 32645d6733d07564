"""Detections drawn over a picture: boxes and labels that stay readable from thumbnails to posters."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Plate = tuple[float, float, float, float]  # x1, y1, x2, y2


# Chosen so that no two of COCO's 80 classes come close (CIE Lab distance), cat and couch least of all.
LIGHTNESSES = (0.36, 0.55, 0.72)
SATURATIONS = (0.95, 0.70)


def colour_of(index: int) -> Colour:
    """A class's colour, the same in every picture: hues 1/1.3247 (plastic number) of a turn apart, in three lightnesses."""
    hue = (index * 0.7548776662 + 0.58) % 1.0
    lightness, saturation = LIGHTNESSES[index % len(LIGHTNESSES)], SATURATIONS[index % len(SATURATIONS)]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(image: NDArray[np.uint8], detections: NDArray[np.float32], names: Mapping[int, str]) -> NDArray[np.uint8]:
    """A copy of image [H, W, 3] RGB with detections [n, 6] in its pixels drawn over it, the best on top."""
    height, width = image.shape[:2]
    unit = max(min((height * width) ** 0.5 / 640, min(height, width) / 120), 0.35)
    thick, font = max(round(2 * unit), 1), ImageFont.load_default(max(13 * unit, 8.0))
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    rows = [(row[:4], row[4], int(row[5])) for row in detections.tolist()]
    for box, _, index in reversed(rows):
        x1, y1, x2, y2 = box
        corners = (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))
        pen.rounded_rectangle(corners, radius=2 * thick, outline=colour_of(index), width=thick)
    # All labels over all boxes: a box never runs through another's name.
    taken: list[Plate] = []
    for box, score, index in rows:
        text = f"{names.get(index, f'class{index}')} {score:.2f}"
        plate, pad = _plate(pen, box, text, font, (width, height), taken)
        if plate is not None:
            taken.append(plate)
            pen.rounded_rectangle(plate, radius=pad, fill=colour_of(index))
            left, top, *_ = pen.textbbox((0, 0), text, font=font)
            pen.text((plate[0] + pad - left, plate[1] + pad - top), text, fill=_ink(colour_of(index)), font=font)
    return np.asarray(canvas)


def _plate(
    pen: ImageDraw.ImageDraw,
    box: list[float],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
    taken: list[Plate],
) -> tuple[Plate | None, float]:
    """Where a box's label goes, and the margin of its text: above the box, in its upper or lower edge, or below it.

    The first of these that lies in the picture and on no better detection's label; None in a crowd, where the box's
    colour has to say it.
    """
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    pad = max((bottom - top) * 0.22, 1.0)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = max(min(box[0], size[0] - width), 0.0)
    for y in (box[1] - height, box[1], box[3] - height, box[3]):
        plate = (x, y, x + width, y + height)
        inside = y >= 0 and y + height <= size[1]
        if inside and not any(_touch(plate, other) for other in taken):
            return plate, pad
    if not taken:  # a picture smaller than its first label still gets one
        return (x, 0.0, x + width, height), pad
    return None, pad


def _touch(a: Plate, b: Plate) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink(colour: Colour) -> Colour:
    """Black or white, whichever stands out more (relative luminance, WCAG 2)."""
    red, green, blue = ((c / 255) ** 2.2 for c in colour)
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else (255, 255, 255)
