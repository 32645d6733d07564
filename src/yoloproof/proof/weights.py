"""Which constant of an ONNX file holds which learned tensor of a network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from yoloproof.artifact.graph import Graph
from yoloproof.network.wiring import Network
from yoloproof.simplify.network import SimplifiedNetwork

Array = NDArray[np.generic]
Array32 = NDArray[np.float32]
# Half a unit in the last place is 2⁻¹¹ of a float16's value and 2⁻⁸ of a bfloat16's. Batch norms folded in float16, as
# the official exporter does after `.half()`, are off by 1.44 × 2⁻¹⁰ of a weight and, since a bias is a difference, by 6.2
# of a bias. A tensor that went through bfloat16 is off by up to 4, and its low bits are zero.
STEP = {"float16": 2.0**-9, "bfloat16": 2.0**-7}
BIAS_STEP = 2.0**-7
LEAST = 2.0**-24  # what float16 knows of the smallest numbers
STATISTICS = ("running_mean", "running_var", "bn.weight", "bn.bias")


def kind_of(array: Array) -> str:
    """An array's type as `precision` names it: "fp32", "fp16", "bf16", or NumPy's name."""
    name = str(array.dtype)
    return {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}.get(name, name)


def learned_tensors(network: Network | SimplifiedNetwork, norms: bool = False) -> dict[str, Array32]:
    """Parameters and buffers that carry weights, as float32; batch norms' on demand: elsewhere they are folded away."""
    skip = ("num_batches_tracked", "dfl.conv.weight", *(() if norms else STATISTICS))
    return {n: t.numpy().astype(np.float32) for n, t in network.state_dict().items() if not n.endswith(skip)}


def matched_tensors(
    graph: Graph, variants: Iterable[Network | SimplifiedNetwork], rounded: bool = False
) -> tuple[dict[str, str], set[str]]:
    """Learned tensor's name → the constant of the graph that holds its values (by name, else by value); and the names
    of those that are there only roughly, as rounded through bfloat16 (or float16, in a float32 constant).

    variants -- the network and simplifications of it; rounded -- all constants went through float16, also those that are
    float32 again
    """
    by_size: dict[int, list[str]] = {}
    for name, array in graph.constants.items():
        if kind_of(array) in ("fp32", "fp16", "bf16"):
            by_size.setdefault(array.size, []).append(name)
    found: dict[str, str] = {}
    coarse: set[str] = set()
    taken: set[str] = set()
    for variant in variants:
        for name, wanted in learned_tensors(variant, norms=True).items():
            if name in found and name not in coarse:
                continue
            candidates = [n for n in by_size.get(wanted.size, ()) if n != name and n not in taken]
            if name in graph.constants and graph.constants[name].size == wanted.size:
                candidates.insert(0, name)
            bias = name.endswith(".bias")
            held = next((n for n in candidates if _holds(graph.constants[n], wanted, rounded, bias)), None)
            if held is None and wanted.size > 64:
                near = (n for n in candidates if _near(graph.constants[n], wanted, STEP["bfloat16"]))
                held = next((n for n in near if _is_coarse(graph.constants[n])), None)
                if held is not None:
                    coarse.add(name)
            else:
                coarse.discard(name)
            if held is not None:
                found[name] = held
                if wanted.size > 64:  # small vectors may well be equal in two places
                    taken.add(held)
    return found, coarse


def _holds(constant: Array, wanted: Array32, rounded: bool, bias: bool) -> bool:
    kind = str(constant.dtype)
    step = STEP.get(kind, STEP["float16"] if rounded else 0.0)
    return _near(constant, wanted, BIAS_STEP if bias and step == STEP["float16"] else step, step if bias else 0.0)


def _near(constant: Array, wanted: Array32, step: float, of_largest: float = 0.0) -> bool:
    """Every value within `step` of itself, and 2e-6 of the largest, which folding in another order may do, or `of_largest`."""
    given = constant.astype(np.float32)
    largest = float(np.abs(wanted).max(initial=0.0)) or 1.0
    allowed = step * np.abs(wanted) + max(2e-6, of_largest) * largest + (LEAST if step else 0.0)
    for array in (given, given.T) if given.ndim == 2 else (given,):
        if (np.abs(array.ravel() - wanted.ravel()) <= allowed.ravel()).all():
            return True
    return False


def _is_coarse(constant: Array) -> bool:
    """Whether nearly all values are those of a coarser type than the constant's: their low bits are zero."""
    given = constant.astype(np.float32).ravel()
    through_bfloat16 = (given.view(np.uint32) & 0xFFFF) == 0
    if kind_of(constant) == "fp32":
        with np.errstate(over="ignore"):
            through_bfloat16 |= given.astype(np.float16).astype(np.float32) == given
    return bool(through_bfloat16.mean() > 0.99)
