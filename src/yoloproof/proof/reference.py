"""What the network itself answers, in float32 on the CPU: each input run once, however many artifacts are held to it.

The network is only read. What needs a changed network, or looks into one, works on a `twin` that shares its tensors.
"""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import torch
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.network.wiring import Network
from yoloproof.proof.probes import excited
from yoloproof.proof.sensitivity import Stages
from yoloproof.simplify.network import SimplifiedNetwork
from yoloproof.simplify.rewrites import DEFAULT_REWRITES, simplify

Array = NDArray[np.float32]


class Reference:
    """network -- as loaded, with attention "fused" and not simplified; it is never written to.

    Thread-safe: several threads may hold artifacts to one Reference, or to several of one network, at the same time.
    Nobody may train, convert or otherwise write to the network meanwhile; where somebody did, `check_unchanged` raises.
    Raises YoloproofError for a network that is simplified or has no attention.
    """

    def __init__(self, network: Network) -> None:
        if not isinstance(network, Network):
            raise YoloproofError("the reference is the network as loaded, not a simplified one")
        if network.attention == "stripped":
            raise YoloproofError("a network without attention is no reference; load it with attention 'fused'")
        self.network = network
        self._state = _state_of(network)
        self._lock = threading.RLock()
        self._outputs: dict[str, Array] = {}
        self._stages: tuple[str, Stages] | None = None  # of one image only: it keeps the output of every layer
        self._excited: dict[tuple[int, int], Array] = {}
        self._simplified: dict[tuple[str, ...], SimplifiedNetwork] = {}

    def output(self, images: Array) -> Array:
        """Raw outputs [B, 4 + nc, A] of images [B, 3, H, W]."""
        key = _digest(images)
        with self._lock:
            if key not in self._outputs:
                with torch.inference_mode():
                    output = self.network(torch.from_numpy(np.ascontiguousarray(images))).numpy()
                self._outputs[key] = np.asarray(output, np.float32)
            return self._outputs[key]

    def stages(self, images: Array) -> Stages:
        """The network's layers on images [1, 3, H, W], and what losing each attention does to its output."""
        key = _digest(images)
        with self._lock:
            if self._stages is None or self._stages[0] != key:
                self._stages = key, Stages(self.network, images)
            return self._stages[1]

    def excited(self, shape: tuple[int, int]) -> Array:
        """Images [n, 3, H, W] of `shape` (H, W) in which the network's classes fire, as far as its gradient finds them."""
        with self._lock:
            if shape not in self._excited:
                self._excited[shape] = excited(self.network, shape)
            return self._excited[shape]

    def simplified(self, rewrites: tuple[str, ...] = DEFAULT_REWRITES) -> SimplifiedNetwork:
        """The network simplified by these rewrites; only to be read."""
        with self._lock:
            if rewrites not in self._simplified:
                self._simplified[rewrites] = simplify(self.network, rewrites)
            return self._simplified[rewrites]

    def check_unchanged(self) -> None:
        """Raises YoloproofError where a tensor of the network was replaced or written to since this was constructed."""
        if _state_of(self.network) != self._state:
            raise YoloproofError("the reference network was written to while artifacts were held to it; load it again")


def _state_of(network: Network) -> tuple[tuple[str, int, int], ...]:
    """Name, identity and version of every tensor; PyTorch counts writes to one in its version."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    return tuple((name, id(t), 0 if t.is_inference() else t._version) for name, t in tensors)


def _digest(images: Array) -> str:
    return f"{images.shape} {hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()}"
