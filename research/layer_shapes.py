"""Layer shapes of ultralytics' YOLO12 from our own network, for `yoloproof estimate yolo12n`.

python research/layer_shapes.py            # write src/yoloproof/estimate/data/layer_shapes.json.gz
python research/layer_shapes.py --check    # write nothing; exit status 1 where the file is out of step

The same procedure must give the committed rows of yolov12 n to x, which came from elsewhere; it does not run where it does not.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yoloproof.network import network_from_variant, variant_from_name

FILE = Path(__file__).parents[1] / "src" / "yoloproof" / "estimate" / "data" / "layer_shapes.json.gz"
SIZE = 640
CONCATENATED = {"model.11": "model.10", "model.14": "model.13", "model.17": "model.16", "model.20": "model.19"}
UPSAMPLED, UPSAMPLED_INTO = (
    {"model.9": "model.8", "model.12": "model.11"},
    {"model.9": "model.10", "model.12": "model.13"},
)
HEAD_DIM = 32


def layers_of(name: str) -> list[list[Any]]:
    """The rows of a YOLOv12 or YOLO12, by the file's `columns`."""
    with torch.device("meta"):
        network = network_from_variant(variant_from_name(name)).eval()
        image = torch.empty(1, 3, SIZE, SIZE)
    modules, rows = dict(network.named_modules()), []

    def convolution(path: str) -> Any:
        def note(module: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            (given,) = inputs
            parent = path.removesuffix(".conv")
            active = path.endswith(".conv") and isinstance(getattr(modules[parent], "act", None), nn.SiLU)
            block = ".".join(path.split(".")[:2])
            if path == f"{block}.cv1.conv" and block in CONCATENATED:
                rows.append(["concat", CONCATENATED[block], given.numel(), given.numel()])
            rows.append(
                ["conv", path, module.kernel_size[0], module.stride[0], module.groups, module.in_channels,
                 module.out_channels, *given.shape[2:], *output.shape[2:], "SiLU" if active else "none"]
            )  # fmt: skip
            if path.endswith(".attn.proj.conv"):
                channels, pixels = module.in_channels, given.shape[2] * given.shape[3]
                areas = modules[path.removesuffix(".proj.conv")].area
                rows.append(
                    [
                        "attention",
                        path.removesuffix(".proj.conv"),
                        channels // HEAD_DIM,
                        HEAD_DIM,
                        HEAD_DIM,
                        pixels // areas,
                        areas,
                    ]
                )

        return note

    for path, module in modules.items():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(convolution(path))
    network(image)
    outputs = {row[1]: row[6] * row[9] * row[10] for row in rows if row[0] == "conv"}
    for upsampled, source in UPSAMPLED.items():
        given = outputs[f"{source}.cv2.conv"]
        at = next(i for i, row in enumerate(rows) if row[:2] == ["concat", UPSAMPLED_INTO[upsampled]])
        rows.insert(at, ["upsample", upsampled, given, 4 * given])
    anchors = sum((SIZE // stride) ** 2 for stride in (8, 16, 32))
    return [
        *rows,
        ["conv", f"{rows[-1][1].rsplit('.', 3)[0]}.dfl.conv", 1, 1, 1, 16, 1, 4, anchors, 4, anchors, "none"],
    ]


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    document = json.loads(gzip.decompress(FILE.read_bytes()))
    models = document["models"]
    for scale in "nsmlx":
        if sorted(layers_of(f"yolov12{scale}")) != sorted(models[f"yolov12{scale}"]):
            print(f"layer_shapes: yolov12{scale} does not come out as committed", file=sys.stderr)
            return 1
    wanted = {**models, **{name: layers_of(name) for name in (f"yolo12{scale}" for scale in "nsmlx")}}
    if wanted == models:
        return 0
    if check:
        print("layer_shapes.json.gz is out of step; run: python research/layer_shapes.py", file=sys.stderr)
        return 1
    text = json.dumps({**document, "models": wanted}, separators=(",", ":"))
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
