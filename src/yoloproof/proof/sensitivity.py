"""Sensitivity: does the artifact still hear its attention? Works on any artifact that runs, engines too.

For every attention block, the network is run with that block's q and k weights set to zero (each token then attends to
all of its run alike). The artifact must be near the intact network and far from each such network; an artifact that
has lost an attention is about as far from the one as from the other, whatever its graph looks like.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from yoloproof.network.attention import AAttn
from yoloproof.network.wiring import Network
from yoloproof.proof.verdict import Check

Array = NDArray[np.float32]


def sensitivity(
    network: Network, images: Array, output: Array, floor: float = 1e-5, progress: Callable[[], None] | None = None
) -> Check:
    """Compare the artifact's `output` for `images` [1, 3, H, W] with the network's own responses.

    A block passes when the artifact's distance from the intact network is below a third of the block's response.
    A block that is not told apart and whose response is below `floor`, what rounding alone may do, could not be checked.
    """
    blocks = [(path, module) for path, module in network.named_modules() if isinstance(module, AAttn)]
    first = min(int(path.split(".")[1]) for path, _ in blocks)
    with torch.inference_mode():
        early = _prefix(network, torch.from_numpy(images), first)
        intact = _resume(network, early, first)
        responses = {}
        for path, module in blocks:
            weights = {n: p.clone() for n, p in module.qk.named_parameters()}
            for parameter in module.qk.parameters():
                parameter.zero_()
            responses[path] = _distance(_resume(network, early, first), intact)
            for n, p in module.qk.named_parameters():
                p.copy_(weights[n])
            if progress:
                progress()
    if output.shape != intact.shape:
        return Check("sensitivity", False, {"shape": list(output.shape)}, "output has another shape than the network's")
    distance = _distance(output, intact)
    deaf = [path for path, response in responses.items() if not distance < response / 3]
    weakest = min(responses, key=lambda p: responses[p])
    figures = {"distance": distance, "responses": responses}
    if not deaf:
        ratio = responses[weakest] / max(distance, 1e-12)
        detail = f"each of {len(blocks)} attentions moves the output ≥ {ratio:.3g} times more than the artifact differs"
        return Check("sensitivity", True, figures, detail)
    if all(responses[path] < floor for path in deaf):
        return Check(
            "sensitivity", None, figures, f"{deaf[0]} hardly moves the output on this image; try other --images"
        )
    return Check(
        "sensitivity", False, figures, f"the artifact does not follow the attention of {deaf[0]} ({len(deaf)} blocks)"
    )


def _distance(a: Array, b: Array) -> float:
    """Root mean square over scores plus that over boxes in units of 100 px."""
    difference = a.astype(np.float64) - b
    return float(np.sqrt((difference[:, 4:] ** 2).mean()) + np.sqrt((difference[:, :4] ** 2).mean()) / 100)


def _prefix(network: Network, images: torch.Tensor, stop: int) -> list[torch.Tensor]:
    """Outputs of the layers before `stop`, which no attention touches."""
    outputs: list[torch.Tensor] = []
    for index in range(stop):
        outputs.append(network.model[index](*(outputs[s] if s >= 0 else images for s in network.sources[index])))
    return outputs


def _resume(network: Network, early: list[torch.Tensor], start: int) -> Array:
    outputs = list(early)
    for index in range(start, len(network.sources) - 1):
        outputs.append(network.model[index](*(outputs[s] for s in network.sources[index])))
    return np.asarray(network.model[-1]([outputs[s] for s in network.sources[-1]]).numpy(), np.float32)
