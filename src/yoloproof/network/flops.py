"""Floating-point operations of a network, two for each multiply-add."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from yoloproof.names import Attention
from yoloproof.network.wiring import Network, network_with_attention


def flops(network: Network, imgsz: tuple[int, int] = (640, 640)) -> int:
    """Operations for one image of `imgsz` (height, width): convolutions, linear layers and attention's products.

    Counted on the network's shapes alone, nothing is computed. Counters that look at modules only (thop, behind the
    published figures) leave attention's products out.
    """
    stripped = network.attention == Attention.STRIPPED
    shapes = network_with_attention(network, Attention.STRIPPED if stripped else Attention.EXPLICIT).to("meta")
    with FlopCounterMode(display=False) as counter:
        shapes(torch.empty(1, 3, *imgsz, device="meta"))
    return int(counter.get_total_flops())
