"""The images an artifact is shown besides the user's: transformed copies, noise, and images that make every class fire.

Four street scenes show a tenth of COCO's classes, no dark room and no glare. What an artifact does there must not stay
unseen: none of these images needs a label, since the float32 network is asked about each of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from yoloproof.network.head import STRIDES
from yoloproof.network.wiring import Network

Array = NDArray[np.float32]
FIRES = 0.5  # the score from which on a class counts as seen
TILE = 32  # pixels of an excited image that each class gets for itself
CANVAS = 320  # px: larger images repeat an excited one of this size
STEPS, RATE = 30, 0.04  # of Adam, values in 0…1
LONGEST_S = 20.0


def transformed(images: Array) -> Array:
    """Nine copies [9, 3, H, W] of the images, in turn: mirrored, turned, shifted, dark, darker, pale, bright, saturated,
    inverted."""
    copies = [np.clip(change(images[i % len(images)]), 0, 1) for i, change in enumerate(_CHANGES)]
    return np.ascontiguousarray(np.stack(copies), np.float32)


def _saturated(image: Array) -> Array:
    grey = image.mean(0, keepdims=True)
    return np.asarray(grey + 3 * (image - grey), np.float32)


_CHANGES: tuple[Callable[[Array], Array], ...] = (
    lambda x: x[:, :, ::-1],
    lambda x: x[:, ::-1, ::-1],
    lambda x: np.roll(x, (x.shape[1] // 3, x.shape[2] // 3), (1, 2)),
    lambda x: x * 0.1,
    lambda x: x * 0.02,
    lambda x: x * 0.5 + 0.5,
    lambda x: x * 3,
    _saturated,
    lambda x: 1 - x,
)
BRIGHTEST = slice(6, 8)  # of these copies: the largest activations


def noise(shape: tuple[int, int], seed: int) -> Array:
    """Five images [5, 3, H, W] of noise: fine, coarse, coarser, faint, and black and white."""
    rng = np.random.default_rng(seed)
    height, width = shape
    coarse = [
        rng.random((3, -(-height // cell), -(-width // cell)), np.float32).repeat(cell, 1).repeat(cell, 2)
        for cell in (8, 64)
    ]
    return np.stack([
        rng.random((3, height, width), np.float32),
        *(one[:, :height, :width] for one in coarse),
        0.5 + 0.1 * (rng.random((3, height, width), np.float32) - 0.5),
        np.rint(rng.random((3, height, width), np.float32)),
    ])  # fmt: skip


def excited(network: Network, shape: tuple[int, int]) -> Array:
    """Images [n, 3, H, W], found by gradient ascent on the network, in which its classes fire, each in a tile of
    its own and at the finest level, where pixels reach a class most easily. None for random weights, where none can.

    The network is only read.
    """
    if network.sha256 is None:
        return np.empty((0, 3, *shape), np.float32)
    with torch.inference_mode(False), torch.enable_grad():
        return _ascended(network, shape)


def _ascended(network: Network, shape: tuple[int, int]) -> Array:
    height, width = (min(side, CANVAS) for side in shape)
    across, down = width // TILE, height // TILE
    per_image = across * down
    count = -(-network.classes // per_image)
    order = np.random.default_rng(0).permutation(count * per_image)
    places = [(image, place) for image, place in (divmod(int(order[c]), per_image) for c in range(network.classes))]
    anchors = torch.tensor([_anchor(place, across) for _, place in places])
    which = torch.tensor([image for image, _ in places])
    classes = torch.arange(network.classes)
    images = torch.from_numpy(np.random.default_rng(0).random((count, 3, height, width), np.float32) * 0.5 + 0.25)
    started, mean, square = time.monotonic(), torch.zeros_like(images), torch.zeros_like(images)
    for step in range(1, STEPS + 1):  # Adam (arXiv 1412.6980)
        images.requires_grad_(True)
        scores = network(images)[:, 4:][which, classes, anchors].clamp(1e-12, 1 - 1e-6)
        if bool((scores > FIRES).all()) or time.monotonic() - started > LONGEST_S:
            break
        # of the logarithm: those that fire already pull less
        (gradient,) = torch.autograd.grad(scores.log().sum(), images)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
        change = (mean / (1 - 0.9**step)) / ((square / (1 - 0.99**step)).sqrt() + 1e-12)
        images = (images.detach() + RATE * change).clamp(0, 1)
    found = np.rint(images.detach().numpy() * 255).astype(np.float32) / np.float32(255)
    repeats = (1, 1, -(-shape[0] // height), -(-shape[1] // width))
    return np.ascontiguousarray(np.tile(found, repeats)[:, :, : shape[0], : shape[1]])


def _anchor(place: int, across: int) -> int:
    """The index of the finest level's anchor at the centre of a tile."""
    cells = TILE // STRIDES[0]
    row, column = divmod(place, across)
    return (row * cells + cells // 2) * across * cells + column * cells + cells // 2
