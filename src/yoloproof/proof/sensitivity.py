"""Sensitivity: does the artifact still hear its attention? Works on any artifact that runs, engines too.

For every attention block the network itself is run with that block deafened: its q and k weights zero ("flat": each
token attends to all of its run alike). An artifact that is three times nearer to the intact network than that hears
the block. Where rounding is as large as the response, a matched filter decides: the artifact's difference is fitted
with what losing each block would do, flat or altogether ("silent": no attention output at all). A lost attention has
a share near 1 of its own loss in the difference; rounding, however large, points elsewhere and has almost none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from yoloproof.network.attention import AAttn
from yoloproof.network.wiring import Network
from yoloproof.proof.verdict import Check

Array = NDArray[np.float32]
NEAR = 1 / 3  # of a response: nearer to the intact network than that is no loss
LOST = 0.5  # share of a loss from which on it is there: halfway between a right artifact's 0 and a lost attention's 1


def sensitivity(
    network: Network, images: Array, output: Array, floor: float = 1e-5, progress: Callable[[], None] | None = None
) -> Check:
    """Compare the artifact's `output` for `images` [1, 3, H, W] with the network's own responses, as `heard`."""
    return heard(Stages(network, images), output, floor, progress)


def heard(stages: Stages, output: Array, floor: float = 1e-5, progress: Callable[[], None] | None = None) -> Check:
    """Compare the artifact's `output` with the responses of the network that `stages` ran.

    floor -- a distance that rounding alone may make: what no loss explains fails above it, and "could not be checked"
    below. Distances are root mean squares over scores plus boxes in units of 100 px.
    """
    if output.shape != stages.output.shape:
        return Check("sensitivity", False, {"shape": list(output.shape)}, "output has another shape than the network's")
    difference = _scaled(output, stages.output)
    with np.errstate(over="ignore"):  # an uninitialised output may be too large for a square
        distance = float(np.linalg.norm(difference))
    losses = Losses(difference)
    for path in stages.blocks:
        losses.add(path, "flat", _scaled(stages.without(path, "flat"), stages.output))
        if progress:
            progress()
    figures: dict[str, object] = {"distance": distance, "responses": losses.responses("flat")}
    unclear = [path for path in stages.blocks if not distance < losses.size[path, "flat"] * NEAR]  # NaN is unclear
    if not unclear:
        weakest = min(losses.responses("flat").values())
        detail = (
            f"each of {len(stages.blocks)} attentions moves the output ≥ {weakest / max(distance, 1e-12):.3g} times"
        )
        return Check("sensitivity", True, figures, f"{detail} more than the artifact differs")
    for path in unclear:
        losses.add(path, "silent", _scaled(stages.without(path, "silent"), stages.output))
        if progress:
            progress()
    shares, noise = losses.fitted()
    figures |= {"silent": losses.responses("silent"), "unexplained": noise}
    figures["shares"] = {f"{path}, {how}": share for (path, how), share in shares.items()}
    return _matched(unclear, losses, shares, noise, figures, beyond=not distance < floor)


def _matched(
    unclear: list[str],
    losses: Losses,
    shares: dict[tuple[str, str], float],
    noise: float,
    figures: dict[str, object],
    beyond: bool,
) -> Check:
    """The verdict on blocks whose response is no larger than the artifact's distance from the network."""
    audible = {key: share for key, share in shares.items() if key[0] in unclear and losses.size[key] >= noise}
    lost = [path for path in unclear if any(audible.get((path, how), 0) >= LOST for how in ("flat", "silent"))]
    open_ = [path for path in unclear if all((path, how) not in audible for how in ("flat", "silent"))]
    if lost:
        share = max(audible.get((lost[0], how), 0.0) for how in ("flat", "silent"))
        detail = (
            f"the artifact does not follow the attention of {lost[0]}: it differs by {share:.2f} of what losing it does"
        )
        return Check("sensitivity", False, figures, f"{detail} ({len(lost)} blocks)")
    if open_ and beyond:
        detail = f"the artifact differs by more than the attention of {open_[0]} does ({len(open_)} blocks)"
        return Check("sensitivity", False, figures, detail)
    if open_:
        return Check(
            "sensitivity", None, figures, f"{open_[0]} hardly moves the output on this image; try other --images"
        )
    worst = max(abs(share) for share in audible.values())
    even = [path for path in unclear if (path, "flat") not in audible]
    detail = f"no attention is lost: the artifact differs by ≤ {worst:.2g} of what losing one does"
    if even:
        size = losses.size[even[0], "flat"]
        detail += (
            f"; {len(even)} attend almost evenly here (q and k of {even[0]} move the output by {size:.1g},"
            f" rounding by {noise:.1g}), so of these only the output was heard"
        )
    return Check("sensitivity", True, figures, detail)


@dataclass
class Losses:
    """What losing a block does to the output, by (module path, "flat" or "silent"), against one artifact's difference."""

    difference: NDArray[np.float64]
    vectors: dict[tuple[str, str], Array] = field(default_factory=dict)
    size: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, path: str, how: str, vector: NDArray[np.float64]) -> None:
        self.vectors[path, how] = vector.astype(np.float32)
        self.size[path, how] = float(np.linalg.norm(vector))

    def responses(self, how: str) -> dict[str, float]:
        return {path: size for (path, kind), size in self.size.items() if kind == how}

    def fitted(self) -> tuple[dict[tuple[str, str], float], float]:
        """The least-squares share of every loss in the difference, and the norm of what none of them explains.

        A loss below that norm cannot be heard in it; leaving those out of the fit keeps them from disturbing the others.
        """
        keys = [key for key, size in self.size.items() if size > 0]
        while True:
            matrix = np.stack([self.vectors[key] / self.size[key] for key in keys], 1).astype(np.float64)
            shares, *_ = np.linalg.lstsq(matrix, self.difference, rcond=1e-6)
            noise = float(np.linalg.norm(self.difference - matrix @ shares))
            audible = [key for key in keys if self.size[key] >= noise]
            if len(audible) == len(keys) or not audible:
                return {key: float(share / self.size[key]) for key, share in zip(keys, shares, strict=True)}, noise
            keys = audible


class Stages:
    """The network run once with every layer's output kept, so that a run without one attention starts at its layer.

    output -- the intact network's; blocks -- module paths of its area attentions, in order of execution
    """

    def __init__(self, network: Network, images: Array) -> None:
        self.network, self.images = network, torch.from_numpy(images)
        self.blocks = [path for path, module in network.named_modules() if isinstance(module, AAttn)]
        self._lost: dict[tuple[str, str], Array] = {}
        with torch.inference_mode():
            self.kept = self._layers([], 0)
            self.output = self._head(self.kept)

    def without(self, path: str, how: str) -> Array:
        """The output [1, 4 + nc, A] with the attention at `path` "flat" (q and k zero) or "silent" (its output zero)."""
        if (path, how) not in self._lost:
            self._lost[path, how] = self._without(path, how)
        return self._lost[path, how]

    def _without(self, path: str, how: str) -> Array:
        block = self.network.get_submodule(path)
        assert isinstance(block, AAttn)
        start = int(path.split(".")[1])
        attention, weights = block.attention, {n: p.clone() for n, p in block.qk.named_parameters()}
        with torch.inference_mode():
            try:
                if how == "silent":
                    block.attention = "stripped"
                else:
                    for parameter in block.qk.parameters():
                        parameter.zero_()
                return self._head(self._layers(self.kept[:start], start))
            finally:
                block.attention = attention
                for name, parameter in block.qk.named_parameters():
                    parameter.copy_(weights[name])

    def _layers(self, done: list[torch.Tensor], start: int) -> list[torch.Tensor]:
        outputs = list(done)
        for index in range(start, len(self.network.sources) - 1):
            inputs = (outputs[s] if s >= 0 else self.images for s in self.network.sources[index])
            outputs.append(self.network.model[index](*inputs))
        return outputs

    def _head(self, outputs: list[torch.Tensor]) -> Array:
        levels = [outputs[s] for s in self.network.sources[-1]]
        return np.asarray(self.network.model[-1](levels).numpy(), np.float32)


def _scaled(output: Array, reference: Array) -> NDArray[np.float64]:
    """The difference as one vector, whose norm is the root mean square of the scores' and of the boxes' in 100 px."""
    difference = output.astype(np.float64) - reference
    boxes, scores = difference[:, :4], difference[:, 4:]
    return np.concatenate((boxes.ravel() / (100 * boxes.size**0.5), scores.ravel() / scores.size**0.5))
