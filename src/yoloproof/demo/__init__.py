"""The bundled demo: a trained YOLOv13-N and four real images with their annotations. Sources and licences: NOTICE."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def demo_checkpoint() -> Path:
    """YOLOv13-N trained on COCO128, float16 safetensors."""
    return FOLDER / "yolov13n-coco128.safetensors"


def demo_images() -> list[Path]:
    """Four images of COCO128, in order of name."""
    return sorted(FOLDER.glob("*.jpg"))


def demo_annotations() -> Path:
    """The four images' annotations in COCO format."""
    return FOLDER / "instances.json"
