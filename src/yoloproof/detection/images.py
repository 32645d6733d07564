"""Files → RGB pixels. Whatever cannot be read whole is refused by name; nothing is shown half."""

from __future__ import annotations

import glob
import logging
import struct
import warnings
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from yoloproof.errors import YoloproofError
from yoloproof.files.reading import check_regular

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif"}
)
# Pillow's names of the raster formats above, and no other: it would start Ghostscript for PostScript under any name.
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM", "AVIF")
# 178 megapixels, Pillow's own line between a large photograph and a decompression bomb.
MOST_PIXELS = 178_956_970
MOST_BYTES = 1 << 31
# What Pillow's decoders raise on damaged files, as the fuzz run found them.
DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, RuntimeError, struct.error,
    zlib.error, Image.DecompressionBombError,
)  # fmt: skip

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what its decoders log is in the error raised here


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Pixels [H, W, 3], RGB, 0…255, upright (EXIF orientation applied).

    Grayscale and palette become RGB, alpha is dropped, 16 bits keep their upper 8, CMYK is converted; of an animation
    the first picture is taken. Raises YoloproofError for a missing, foreign, truncated or oversized file.
    """
    path = Path(path)
    if path.is_dir():
        raise YoloproofError(f"{path}: a folder, not an image")
    try:
        # A bomb is refused below by its size; Pillow's warning about it would be printed twice.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(path) as image:
                _check_size(image, path)
                return _rgb(ImageOps.exif_transpose(image), path)
    except FileNotFoundError:
        raise YoloproofError(f"{path}: no such file") from None
    except PermissionError:
        raise YoloproofError(f"{path}: permission denied") from None
    except UnidentifiedImageError:
        raise YoloproofError(f"{path}: {_foreign(path)}") from None
    except Image.DecompressionBombError:
        raise YoloproofError(f"{path}: over {MOST_PIXELS:,} pixels; resize it first") from None
    except MemoryError:
        raise YoloproofError(f"{path}: too large for this machine's memory; make it smaller first") from None
    except DAMAGED as error:
        raise YoloproofError(f"{path}: damaged or truncated image ({error}); fetch it again") from None


def open_image(path: Path) -> Image.Image:
    """The image of one of FORMATS, its pixels not read yet. Raises what Pillow raises, YoloproofError for no file."""
    check_regular(path, MOST_BYTES)
    return Image.open(path, formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # Pillow before 11.3 has no AVIF


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise YoloproofError(f"{path}: {width}x{height} is over {MOST_PIXELS:,} pixels; resize it first")
    if width < 1 or height < 1:
        raise YoloproofError(f"{path}: an image without pixels ({width}x{height})")


def _rgb(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    if image.mode == "F":
        raise YoloproofError(f"{path}: floating-point pixels of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, in Pillow's "I;16…" or, from some formats, in 32
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 0xFFFF:
            raise YoloproofError(f"{path}: more than 16 bits a pixel; save it with 8 or 16")
        return np.repeat((wide >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _foreign(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return "an empty file; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image; run 'git lfs pull'"
    return "not an image, or in a format that is not read here; save it as JPEG or PNG"


def is_image(path: Path) -> bool:
    """By suffix alone: what a folder's listing takes for an image."""
    return path.suffix.lower() in SUFFIXES


def find_images(arguments: Iterable[str | Path]) -> list[Path]:
    """Image files from files, folders (their images, subfolders too, sorted) and glob patterns, in the order given.

    A file named outright is taken whatever its suffix. Raises YoloproofError for a name that matches nothing.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            files = sorted(f for f in path.rglob("*") if is_image(f) and f.is_file())
            if not files:
                raise YoloproofError(f"{path}: no images in this folder")
        elif path.exists():
            files = [path]
        else:
            files = sorted(f for f in map(Path, glob.glob(str(path), recursive=True)) if f.is_file())
            if not files:
                raise YoloproofError(f"{argument}: no such file, folder or pattern")
        found.update(dict.fromkeys(files))
    return list(found)
