"""What each place that stays float32 in a float16 network is worth: the same network with that place in float16, too.

    python research/float16.py [--model FILE] [--images DIR] [--json FILE]

PyTorch on the CPU, norms folded, float16 weights and activations; differences to the float32 network over all anchors of
all images (default: the bundled checkpoint and its four images, 640 px). Not a timing: any machine gives the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection.images import find_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.network import Network, load_network
from yoloproof.network.head import DFL, Detect, anchor_points
from yoloproof.network.hypergraph import AdaHyperedgeGen
from yoloproof.simplify.rewrites import simplify


def half_context(self: AdaHyperedgeGen, x: Tensor) -> Tensor:
    context = torch.cat((x.cumsum(1)[:, -1] / x.shape[1], x.amax(1)), -1)  # sums in float16, as a float16 kernel may
    return self.prototype_base + self.context_net(context).unflatten(-1, (self.hyperedges, -1))


def half_participation(self: AdaHyperedgeGen, x: Tensor) -> Tensor:
    d = x.shape[-1] // self.heads
    tokens = self.pre_head_proj(x).unflatten(-1, (self.heads, d)).transpose(1, 2)
    prototypes = self.prototypes(x).unflatten(-1, (self.heads, d)).permute(0, 2, 3, 1)
    logits = (tokens @ prototypes / d**0.5).mean(1)
    powers = torch.exp(logits - logits.amax(1, keepdim=True))
    return powers / powers.cumsum(1)[:, -1:]  # the sum over 1600 tokens in float16


def half_bins(self: DFL, x: Tensor) -> Tensor:
    bins = x.unflatten(1, (4, 16)).transpose(1, 2).softmax(1)
    return F.conv2d(bins, self.conv.weight).squeeze(1)


def half_boxes(self: Detect, levels: list[Tensor]) -> Tensor:
    boxes = torch.cat([branch(x).flatten(2) for branch, x in zip(self.cv2, levels, strict=True)], 2)
    scores = torch.cat([branch(x).flatten(2) for branch, x in zip(self.cv3, levels, strict=True)], 2)
    centres, strides = (
        t.to(boxes.dtype) for t in anchor_points([(x.shape[2], x.shape[3]) for x in levels], boxes.device)
    )
    near, far = self.dfl(boxes).to(boxes.dtype).chunk(2, 1)
    near, far = centres - near, centres + far
    return torch.cat((torch.cat(((near + far) / 2, far - near), 1) * strides, scores.sigmoid()), 1)


PLACES: dict[str, tuple[type, str, Callable[..., Tensor]] | None] = {
    "nothing: as exported": None,
    "the hypergraph's context means": (AdaHyperedgeGen, "prototypes", half_context),
    "the hypergraph's softmax over the tokens": (AdaHyperedgeGen, "forward", half_participation),
    "the expectation over 16 bins": (DFL, "forward", half_bins),
    "box decoding and scores": (Detect, "forward", half_boxes),
}


def output(network: Network, images: np.ndarray) -> np.ndarray:
    kind = next(network.parameters()).dtype
    with torch.inference_mode():
        return np.concatenate([network(torch.from_numpy(i[None]).to(kind)).float().numpy() for i in images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(demo_checkpoint()))
    parser.add_argument("--images", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    files = demo_images() if arguments.images is None else find_images([str(arguments.images)])
    images = letterboxed(files, (640, 640))
    network = simplify(load_network(arguments.model), ("norms",))
    exact = output(network, images)
    clear = exact[:, 4:].max(1) > 0.05  # anchors that may become detections
    half = network.half()
    rows = []
    print(
        f"| in float16 beside the rest | boxes of clear anchors, mean px | worst px | scores, worst | ({clear.sum()} anchors)"
    )
    for name, place in PLACES.items():
        kept = None if place is None else getattr(place[0], place[1])
        if place is not None:
            setattr(place[0], place[1], place[2])
        off = np.abs(output(half, images).astype(np.float64) - exact)
        if place is not None:
            setattr(place[0], place[1], kept)
        boxes = off[:, :4].max(1)[clear]
        rows.append({"place": name, "box_mean_px": boxes.mean(), "box_max_px": boxes.max(), "score_max": off[:, 4:].max(),
                     "non_finite": int((~np.isfinite(off)).sum())})  # fmt: skip
        print(f"| {name} | {boxes.mean():.3f} | {boxes.max():.3f} | {off[:, 4:].max():.2g} |", flush=True)
    if arguments.json:
        with arguments.json.open("x") as file:
            json.dump({"images": len(images), "anchors": int(clear.sum()), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
