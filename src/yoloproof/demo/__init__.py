<<<<<<< HEAD
"""What `make profile` runs on, offline: a small trained checkpoint, four COCO images and their annotations (see NOTICE)."""
=======
"""The bundled demo: a trained YOLOv13-N and four real images with their annotations. Sources and licences: NOTICE."""
>>>>>>> main

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def demo_checkpoint() -> Path:
<<<<<<< HEAD
    """YOLOv13-N trained on COCO128 by this project, float16 safetensors."""
=======
    """YOLOv13-N trained on COCO128, float16 safetensors."""
>>>>>>> main
    return FOLDER / "yolov13n-coco128.safetensors"


def demo_images() -> list[Path]:
<<<<<<< HEAD
    """Four photographs under licences that allow redistribution, sorted by name."""
=======
    """Four images of COCO128, in order of name."""
>>>>>>> main
    return sorted(FOLDER.glob("*.jpg"))


def demo_annotations() -> Path:
<<<<<<< HEAD
    """Their boxes, COCO format."""
=======
    """The four images' annotations in COCO format."""
>>>>>>> main
    return FOLDER / "instances.json"
