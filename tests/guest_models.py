"""Detectors of other families as the ultralytics package of today exports and saves them, made with it at test time.

The package is AGPL and no dependency: it is installed into a folder of its own, without what it depends on, and runs in a
process of its own. torchvision, which it imports and which nothing here calls, is an empty stand-in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VERSION = "8.4.190"
TORCHVISION = """
import sys, types
__version__ = "0.28.0"
for name in ("ops", "transforms", "datasets", "models"):
    setattr(sys.modules[__name__], name, sys.modules.setdefault(f"torchvision.{name}", types.ModuleType(name)))
"""
SCRIPT = """
import math, os
import torch
from ultralytics import YOLO

SIZE = 160

def spread(network):
    "Seeded weights under which anchors differ: an untrained head scores all of them alike."
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1 and parameter.requires_grad:
            gain = 2.0 if len(parameter) == 80 else 1.4
            parameter.data.normal_(0, gain / math.sqrt(parameter[0].numel()))
        elif parameter.numel() == 80:  # classes
            parameter.data.fill_(-1.0)
    return network

for name, options in (("yolo11n", {}), ("yolo26n", {"nms": False})):
    model = YOLO(f"{name}.yaml")
    spread(model.model)
    model.save(f"{name}.pt")
    os.rename(model.export(format="onnx", imgsz=SIZE, simplify=False, opset=17, **options), f"{name}-fp32.onnx")
for name in ("yolov10n", "yolo12n-seg", "yolo12n-pose", "yolo12n-obb", "yolo12n-cls", "yolo12n"):
    model = YOLO(f"{name}.yaml")
    model.save(f"{name}.pt")
torch.save({"model": model.model.fuse().half(), "ema": None, "train_args": {}}, "yolo12n-fused.pt")
"""


def guest_models(folder: Path) -> None:
    """Write what SCRIPT makes into `folder`. Raises CalledProcessError where the package cannot be installed or fails."""
    package = folder / "package"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", package,
         f"ultralytics=={VERSION}"],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    (package / "torchvision").mkdir()
    (package / "torchvision/__init__.py").write_text(TORCHVISION)
    facts = package / "torchvision-0.28.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n")
    own = {
        "PYTHONPATH": str(package),
        "YOLO_CONFIG_DIR": str(folder),
        "YOLO_AUTOINSTALL": "False",
        "YOLO_OFFLINE": "True",
    }
    subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, cwd=folder, env=os.environ | own,
        timeout=300,
    )  # fmt: skip
