"""Detections drawn over a picture: boxes and labels that stay readable from thumbnails to posters."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]


def colour_of(index: int) -> Colour:
    """A class's colour, the same in every picture: hues a golden section apart, in three strengths."""
    hue = (index * 0.61803398875 + 0.58) % 1.0
    lightness, saturation = ((0.50, 0.85), (0.42, 0.65), (0.62, 0.75))[index % 3]
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
    for box, score, index in reversed(rows):
        _label(pen, box, f"{names.get(index, f'class{index}')} {score:.2f}", colour_of(index), font, (width, height))
    return np.asarray(canvas)


def _label(
    pen: ImageDraw.ImageDraw,
    box: list[float],
    text: str,
    colour: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """A filled plate above the box's left corner; inside it where the picture ends above, shifted where it ends aside."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    pad = max((bottom - top) * 0.22, 1.0)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = max(min(box[0], size[0] - width), 0)
    y = box[1] - height if box[1] >= height else max(min(box[1], size[1] - height), 0)
    pen.rounded_rectangle((x, y, x + width, y + height), radius=pad, fill=colour)
    pen.text((x + pad - left, y + pad - top), text, fill=_ink(colour), font=font)


def _ink(colour: Colour) -> Colour:
    """Black or white, whichever stands out more (relative luminance, WCAG 2)."""
    red, green, blue = ((c / 255) ** 2.2 for c in colour)
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else (255, 255, 255)
