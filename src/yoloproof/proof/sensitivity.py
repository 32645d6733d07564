"""Sensitivity: does the artifact's output still follow its attention? Works on any artifact that runs, engines too.

For every attention block the network itself is run with that block's q and k zero, so that each token attends to all of
its run alike. An artifact that is three times nearer to the intact network than to that follows the block. Where
rounding is as large as the response, a matched filter decides: the artifact's difference is fitted with what losing each
block would do, with q and k zero (UNIFORM) or with no attention output at all (ABSENT). A lost attention has a share
near 1 of its own loss in the difference; rounding, however large, points elsewhere and has almost none.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloproof.network.attention import HEAD_DIM, AAttn, AAttnV1
from yoloproof.network.wiring import Network
from yoloproof.proof.twin import twin
from yoloproof.records import Check

Array = NDArray[np.float32]
NEAR = 1 / 3  # of a response: nearer to the intact network than that is no loss
LOST = 0.5  # share of a loss from which on it is there: halfway between a right artifact's 0 and a lost attention's 1
UNIFORM, ABSENT = "q and k zero", "absent"  # the two ways an attention is lost


class Responses(Protocol):
    """A detector run as it is and without one attention: `Stages` of a network, `proof.guests.Ablations` of a graph.

    output -- the intact one's [1, 4 + nc, A]; blocks -- what its attentions are called
    """

    blocks: list[str]
    output: Array

    def without(self, path: str, loss: str) -> Array:
        """The output with the attention at `path` lost as `loss` (UNIFORM or ABSENT) names it."""


def response_check(stages: Responses, output: Array, floor: float = 1e-5) -> Check:
    """Compare the artifact's `output` with the responses of what `stages` ran.

    floor -- a distance that rounding alone may cause: what no loss explains fails above it, and "could not be checked"
    below. Distances are root mean squares over scores plus boxes in units of 100 px.
    """
    if output.shape != stages.output.shape:
        return Check("sensitivity", False, {"shape": list(output.shape)}, "output has another shape than the network's")
    difference = _scaled(output, stages.output)
    with np.errstate(over="ignore"):  # an uninitialised output may be too large for a square
        distance = float(np.linalg.norm(difference))
    losses = Losses(difference)
    for path in stages.blocks:
        losses.add(path, UNIFORM, _scaled(stages.without(path, UNIFORM), stages.output))
    figures: dict[str, object] = {"distance": distance, "responses": losses.responses(UNIFORM)}
    unclear = [path for path in stages.blocks if not distance < losses.size[path, UNIFORM] * NEAR]  # NaN is unclear
    if not unclear:
        weakest = min(losses.responses(UNIFORM).values())
        detail = (
            f"each of {len(stages.blocks)} attentions moves the output ≥ {weakest / max(distance, 1e-12):.3g} times"
        )
        return Check("sensitivity", True, figures, f"{detail} more than the artifact differs")
    for path in unclear:
        losses.add(path, ABSENT, _scaled(stages.without(path, ABSENT), stages.output))
    shares, noise = losses.fitted()
    figures |= {"responses_absent": losses.responses(ABSENT), "unexplained": noise}
    figures["shares"] = {f"{path}, {loss}": share for (path, loss), share in shares.items()}
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
    visible = {key: share for key, share in shares.items() if key[0] in unclear and losses.size[key] >= noise}
    lost = [path for path in unclear if any(visible.get((path, loss), 0) >= LOST for loss in (UNIFORM, ABSENT))]
    unknown = [path for path in unclear if all((path, loss) not in visible for loss in (UNIFORM, ABSENT))]
    if lost:
        share = max(visible.get((lost[0], loss), 0.0) for loss in (UNIFORM, ABSENT))
        detail = (
            f"the artifact does not follow the attention of {lost[0]}: it differs by {share:.2f} of what losing it does"
        )
        return Check("sensitivity", False, figures, f"{detail} ({len(lost)} blocks)")
    if unknown and beyond:
        detail = f"the artifact differs by more than the attention of {unknown[0]} does ({len(unknown)} blocks)"
        return Check("sensitivity", False, figures, detail)
    if unknown:
        return Check(
            "sensitivity", None, figures, f"{unknown[0]} hardly moves the output on this image; try other --images"
        )
    worst = max(abs(share) for share in visible.values())
    even = [path for path in unclear if (path, UNIFORM) not in visible]
    detail = f"no attention is lost: the artifact differs by ≤ {worst:.2g} of what losing one does"
    if even:
        size = losses.size[even[0], UNIFORM]
        detail += (
            f"; {len(even)} attend almost evenly here (q and k of {even[0]} move the output by {size:.1g},"
            f" rounding by {noise:.1g}), so of these only the attention's output was checked"
        )
    return Check("sensitivity", True, figures, detail)


@dataclass
class Losses:
    """What losing a block does to the output, by (module path, UNIFORM or ABSENT), against one artifact's difference."""

    difference: NDArray[np.float64]
    vectors: dict[tuple[str, str], Array] = field(default_factory=dict)
    size: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, path: str, loss: str, vector: NDArray[np.float64]) -> None:
        self.vectors[path, loss] = vector.astype(np.float32)
        self.size[path, loss] = float(np.linalg.norm(vector))

    def responses(self, loss: str) -> dict[str, float]:
        return {path: size for (path, kind), size in self.size.items() if kind == loss}

    def fitted(self) -> tuple[dict[tuple[str, str], float], float]:
        """The least-squares share of every loss in the difference, and the norm of what none of them explains.

        A loss below that norm cannot be seen in it; leaving those out of the fit keeps them from disturbing the others.
        """
        keys = [key for key, size in self.size.items() if size > 0]
        while True:
            if not keys:
                return {}, float(np.linalg.norm(self.difference))
            matrix = np.stack([self.vectors[key] / self.size[key] for key in keys], 1).astype(np.float64)
            shares, *_ = np.linalg.lstsq(matrix, self.difference, rcond=1e-6)
            noise = float(np.linalg.norm(self.difference - matrix @ shares))
            visible = [key for key in keys if self.size[key] >= noise]
            if len(visible) == len(keys) or not visible:
                return {key: float(share / self.size[key]) for key, share in zip(keys, shares, strict=True)}, noise
            keys = visible


class Stages:
    """The network run once with every layer's output kept, so that a run without one attention starts at its layer.

    output -- the intact network's [1, 4 + nc, A]; blocks -- module paths of its area attentions, in order of execution
    Thread-safe, and only reads the network: an attention is taken out of a twin of its layer.
    """

    def __init__(self, network: Network, images: Array) -> None:
        self.network, self.images = network, torch.from_numpy(np.ascontiguousarray(images))
        self.blocks = [path for path, module in network.named_modules() if isinstance(module, AAttn)]
        self._lost: dict[tuple[str, str], Array] = {}
        self._lock = threading.RLock()
        with torch.inference_mode():
            self._kept = self._layers([])
            self.output = self._head(self._kept)

    def without(self, path: str, loss: str) -> Array:
        """The output [1, 4 + nc, A] with the attention at `path` lost as `loss` (UNIFORM or ABSENT) names it."""
        with self._lock:
            if (path, loss) not in self._lost:
                self._lost[path, loss] = self._without(path, loss)
            return self._lost[path, loss]

    def _without(self, path: str, loss: str) -> Array:
        _, number, inside = path.split(".", 2)
        index, layer = int(number), self.network.model[int(number)]
        if loss == UNIFORM:
            block = layer.get_submodule(inside)
            assert isinstance(block, AAttn)
            layer = twin(layer, {f"{inside}.{name}": tensor for name, tensor in _without_q_and_k(block).items()})
        else:
            layer = twin(layer)
            layer.get_submodule(inside).register_forward_hook(_values_alone)
        with torch.inference_mode():
            changed = layer(*self._inputs(index, self._kept))
            return self._head(self._layers([*self._kept[:index], changed]))

    def _inputs(self, index: int, outputs: list[Tensor]) -> list[Tensor]:
        return [outputs[s] if s >= 0 else self.images for s in self.network.sources[index]]

    def _layers(self, done: list[Tensor]) -> list[Tensor]:
        """The outputs of all layers but the head, of which the first are `done`."""
        outputs = list(done)
        for index in range(len(done), len(self.network.sources) - 1):
            outputs.append(self.network.model[index](*self._inputs(index, outputs)))
        return outputs

    def _head(self, outputs: list[Tensor]) -> Array:
        levels = [outputs[s] for s in self.network.sources[-1]]
        return np.asarray(self.network.model[-1](levels).numpy(), np.float32)


def _without_q_and_k(block: AAttn) -> dict[str, nn.Parameter]:
    """The parameters that make q and k, by name in the block, with zeros in their place."""
    if not isinstance(block, AAttnV1):
        return {f"qk.{n}": nn.Parameter(torch.zeros_like(p), False) for n, p in block.qk.named_parameters()}
    zeroed = {f"qkv.{name}": p.clone() for name, p in block.qkv.named_parameters()}
    for values in zeroed.values():
        values.view(block.heads, 3, HEAD_DIM, -1)[:, :2] = 0.0
    return {name: nn.Parameter(values, False) for name, values in zeroed.items()}


def _values_alone(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """What an area attention gives where attention itself adds nothing: the projection of its depthwise convolution."""
    assert isinstance(block, AAttn)
    return block.proj(block.pe(block.values(inputs[0])))  # type: ignore[no-any-return]


def _scaled(output: Array, reference: Array) -> NDArray[np.float64]:
    """The difference as one vector, whose norm is the root mean square of the scores' and of the boxes' in 100 px."""
    difference = output.astype(np.float64) - reference
    boxes, scores = difference[:, :4], difference[:, 4:]
    return np.concatenate((boxes.ravel() / (100 * boxes.size**0.5), scores.ravel() / scores.size**0.5))
