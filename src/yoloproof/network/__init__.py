"""The networks as published: blocks, wiring, checkpoints."""

from __future__ import annotations

from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.names import Attention
from yoloproof.network.variants import VARIANTS, Variant, variant_from_name
from yoloproof.network.weights.checkpoint import (
    network_from_checkpoint,
    random_tensors,
    read_checkpoint,
    save_safetensors,
)
from yoloproof.network.weights.download import official_weights
from yoloproof.network.wiring import Network, attention_paths, network_from_variant, network_with_attention

__all__ = [
    "VARIANTS",
    "Network",
    "Variant",
    "attention_paths",
    "load_network",
    "network_from_checkpoint",
    "network_from_variant",
    "network_with_attention",
    "read_checkpoint",
    "save_safetensors",
    "variant_from_name",
]


def load_network(
    model: str | Path,
    attention: str = Attention.FUSED,
    *,
    random_weights: bool = False,
    classes: int = 80,
    seed: int = 0,
) -> Network:
    """The network `model` names: an official name ("yolov13n": fetched once) or a `.pt` / `.safetensors` file.

    random_weights -- seeded random weights for the named variant instead of a file; `classes` and `seed` apply to these
    Raises YoloproofError for an unknown name, an unreadable or foreign file, or no network to fetch it over.
    """
    name = str(model)
    if random_weights:
        network = Network(variant_from_name(name), classes, attention, source=f"random weights, seed {seed}")
        network.load_state_dict(random_tensors(network, seed), strict=True)
        return network
    if name in VARIANTS:
        return network_from_checkpoint(read_checkpoint(official_weights(VARIANTS[name])), attention)
    path = Path(model)
    if not path.exists() and not path.suffix:
        raise YoloproofError(f"'{name}' is neither a file nor one of {', '.join(VARIANTS)}")
    return network_from_checkpoint(read_checkpoint(path), attention)
