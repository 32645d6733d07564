"""What the network itself answers, in float32 on the CPU: each input run once, however many artifacts are held to it."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from yoloproof.network.wiring import Network
from yoloproof.proof.sensitivity import Stages

Array = NDArray[np.float32]


class Reference:
    """network -- as loaded, not simplified; its weights must stay what they are as long as this is used"""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._outputs: dict[str, Array] = {}
        self._stages: tuple[str, Stages] | None = None  # of one image only: it keeps the output of every layer

    def output(self, images: Array) -> Array:
        """Raw outputs [B, 4 + nc, A] of images [B, 3, H, W]."""
        key = _digest(images)
        if key not in self._outputs:
            with torch.inference_mode():
                output = self.network(torch.from_numpy(np.ascontiguousarray(images))).numpy()
            self._outputs[key] = np.asarray(output, np.float32)
        return self._outputs[key]

    def stages(self, images: Array) -> Stages:
        """The network's layers on images [1, 3, H, W], and what losing each attention does to its output."""
        key = _digest(images)
        if self._stages is None or self._stages[0] != key:
            self._stages = key, Stages(self.network, images)
        return self._stages[1]


def _digest(images: Array) -> str:
    return f"{images.shape} {hashlib.sha256(images.tobytes()).hexdigest()}"
