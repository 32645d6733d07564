"""Draw docs/gallery: the four bundled pictures by PyTorch, ONNX float16, OpenVINO and the stripped network, side by side.

`python benchmarks/gallery.py docs/gallery`
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from yoloproof.models import open_model

from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection.draw import draw
from yoloproof.detection.images import read_image
from yoloproof.detection.pipeline import Suppression, detect

COLUMNS = (
    ("PyTorch float32", {"runtime": "pytorch"}),
    ("ONNX Runtime float16", {"runtime": "onnxruntime", "precision": "fp16"}),
    ("OpenVINO float32", {"runtime": "openvino"}),
    ("attention stripped", {"runtime": "openvino", "attention": "stripped"}),
)
WIDTH, HEADING, GAP = 420, 26, 6


def main(folder: Path) -> None:
    """One picture per image: its four drawings beside each other, with what drew them and how many boxes above."""
    columns: dict[str, list[Image.Image]] = {path.stem: [] for path in demo_images()}
    for title, how in COLUMNS:
        with open_model(demo_checkpoint(), threads=2, **how) as model:  # type: ignore[arg-type]
            for found in detect(model.session, demo_images(), read_image, model.imgsz, Suppression()):
                assert found.image is not None
                drawn = Image.fromarray(draw(found.image, found.detections, model.names))
                height = round(drawn.height * WIDTH / drawn.width)
                tile = Image.new("RGB", (WIDTH, height + HEADING), "white")
                tile.paste(drawn.resize((WIDTH, height), Image.Resampling.LANCZOS), (0, HEADING))
                count = len(found.detections)
                text = f"{title}: {count} box{'es' if count != 1 else ''}"
                ImageDraw.Draw(tile).text((2, 4), text, fill="black", font=ImageFont.load_default(15))
                columns[found.item.stem].append(tile)
                print(
                    f"{found.item.stem} {text}, mean score {np.mean(found.detections[:, 4] if len(found.detections) else 0):.2f}"
                )
    folder.mkdir(parents=True, exist_ok=True)
    for stem, tiles in columns.items():
        sheet = Image.new("RGB", (2 * WIDTH + GAP, 2 * tiles[0].height + GAP), "white")
        for i, tile in enumerate(tiles):
            sheet.paste(tile, ((i % 2) * (WIDTH + GAP), (i // 2) * (tile.height + GAP)))
        for quality in (85, 78, 70, 62, 54):  # under 150 KB each
            sheet.save(folder / f"{stem}.jpg", quality=quality, optimize=True)
            if (folder / f"{stem}.jpg").stat().st_size < 150_000:
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
