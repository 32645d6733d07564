"""What `make profile` runs on, offline: a small trained checkpoint, four COCO images and their annotations (see NOTICE)."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def demo_checkpoint() -> Path:
    """YOLOv13-N trained on COCO128 by this project, float16 safetensors."""
    return FOLDER / "yolov13n-coco128.safetensors"


def demo_images() -> list[Path]:
    """Four photographs under licences that allow redistribution, sorted by name."""
    return sorted(FOLDER.glob("*.jpg"))


def demo_annotations() -> Path:
    """Their boxes, COCO format."""
    return FOLDER / "instances.json"
