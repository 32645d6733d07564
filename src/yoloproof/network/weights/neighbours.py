"""Which network a checkpoint is of, as its tensors' names tell, and what to do with one that cannot be rebuilt here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from yoloproof.network.variants import FAMILIES

DETECTION = "detection"


@dataclass(frozen=True)
class Architecture:
    """A family that people know by `name`; `marks` are patterns of tensor names, each of which occurs in it.

    Of the rows below the first whose marks all occur is the one; families of this project have its name in `family`.
    """

    name: str
    marks: tuple[str, ...]
    family: str | None = None


def _layer(inside: str) -> str:
    return rf"model\.\d+\.{inside}"


ARCHITECTURES = (
    Architecture("YOLOE", (_layer(r"savpe\."),)),
    Architecture("YOLO-World", (_layer(r"cv4\.0\.(norm|logit_scale|bias)"),)),
    Architecture("YOLOv13", (r"model\.6\.m\.0\.0\.attn\.qk\.", r"model\.9\.(m|fuse|branch1)\."), "yolov13"),
    Architecture("YOLOv12", (r"model\.6\.m\.0\.0\.attn\.qk\.",), "yolov12"),
    Architecture("YOLO12", (r"model\.6\.m\.0\.0\.attn\.qkv\.",), "yolo12"),
    Architecture("YOLOv10", (_layer(r"one2one_cv2\."), r"model\.10\.attn\.")),
    Architecture("YOLO26", (r"model\.22\.m\.0\.1\.attn\.",)),
    Architecture("YOLO11 or YOLO26", (r"model\.9\.m\.0\.attn\.qkv\.",)),  # classifiers alone
    Architecture("YOLO11", (r"model\.10\.m\.0\.attn\.qkv\.",)),
    Architecture("YOLOv7", (_layer(r"rbr_dense\."),)),
    Architecture("YOLOv5 (the original package's)", (_layer(r"anchors"),)),
    Architecture("YOLOv9", (_layer(r"cv2\.(0|1)\.(cv1|m)\."),)),
    Architecture("RT-DETR (ultralytics)", (_layer(r"enc_score_head\."),)),
    Architecture("YOLOv5 (ultralytics)", (r"model\.2\.cv3\.", r"model\.24\.cv2\.0\.")),
    Architecture("YOLOv8", (r"model\.2\.m\.0\.cv1\.", r"model\.2\.cv2\.", r"model\.9\.cv2\.")),
    Architecture("another detector of the ultralytics package", (_layer(r"dfl\.conv\."),)),
    Architecture("RF-DETR", (r"transformer\.decoder\.", r"backbone\.0\.encoder\.")),
    Architecture("RT-DETR, D-FINE or DEIM", (r"decoder\.dec_score_head\.", r"encoder\.input_proj\.")),
    Architecture("YOLOX", (r"head\.cls_preds\.",)),
)


def architecture_from_tensors(tensors: Mapping[str, Tensor]) -> Architecture | None:
    """The row that the tensors' names tell; None for a network that is none of them."""
    text = "\n".join(tensors)
    for row in ARCHITECTURES:
        if all(re.search(rf"^(\w+\.)*?{mark}", text, re.MULTILINE) for mark in row.marks):
            return row
    return None


def task_from_tensors(tensors: Mapping[str, Tensor]) -> str:
    """What the head is for: "detection", "segmentation", "pose", "oriented boxes" or "classification"."""
    names = "\n".join(tensors)
    if re.search(r"\.proto\.", names):
        return "segmentation"
    if re.search(r"cv4_kpts\.", names):
        return "pose"
    extra = next((t for n, t in tensors.items() if re.search(r"model\.\d+\.(one2one_)?cv4\.0\.2\.weight$", n)), None)
    if extra is not None:
        return "oriented boxes" if extra.shape[0] == 1 else "pose"
    if re.search(r"model\.\d+\.linear\.weight$", names, re.MULTILINE):
        return "classification"
    return DETECTION


def refusal(tensors: Mapping[str, Tensor]) -> str | None:
    """Why these tensors are no detector of this project's families, and what to do; None where they look like one."""
    found, task = architecture_from_tensors(tensors), task_from_tensors(tensors)
    rebuilt = "YOLOv13, YOLOv12 and YOLO12 detectors"
    if found is None:
        kind = "" if task == DETECTION else f"a network for {task}; "
        example = next(iter(tensors))
        return f"{kind}not one of the {rebuilt} that this project rebuilds (its tensors are like '{example}')"
    if task != DETECTION:
        return f"{found.name} for {task}, and only {rebuilt} are rebuilt from weights; export it to ONNX: `profile` times that file"
    if found.family not in FAMILIES:
        return (
            f"{found.name}, and only {rebuilt} are rebuilt from weights; export it to ONNX with the package it comes from:"
            " `profile`, `predict`, `val` and `verify` take that file"
        )
    return None
