"""Graph audit: without running anything, is the network all there and is its attention whole?

What the users' disaster looked like in the file: an attention's output recorded as a constant, the q and k weights
without a path to the output. Each check here would have named it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloproof.artifact.attention_pattern import GraphAttention, attentions
from yoloproof.artifact.graph import Graph
from yoloproof.names import Precision
from yoloproof.network.wiring import Network, attention_paths
from yoloproof.proof.operators import operators_check, unexplained
from yoloproof.proof.precision import computed_precision
from yoloproof.proof.reference import Reference
from yoloproof.proof.stated import Stated
from yoloproof.proof.weights import kind_of, learned_tensors, matched_tensors
from yoloproof.records import Check
from yoloproof.simplify.network import SimplifiedNetwork

Array = NDArray[np.generic]


def graph_audit(
    model: onnx.ModelProto, network: Network | Reference, stated: Stated, whole: onnx.ModelProto | None = None
) -> list[Check]:
    """Five checks of an ONNX model against the network it is said to be: weights, constants, attention, operators,
    precision. `stated` is what the artifact says of itself (nothing, where it was built elsewhere); `whole` the model with
    what was cut off behind it, which must not draw random numbers or choose either."""
    graph = Graph(model)
    rounded = computed_precision(graph) is Precision.FP16
    # the network as exported: as the artifact says, or norms folded, or untouched, tensor by tensor, or as we export it
    held = network if isinstance(network, Reference) else Reference(network)
    variants = [held.simplified(names) for names in ((stated.rewrites,) if stated.rewrites else (("norms",), ()))]
    found, coarse = matched_tensors(graph, variants, rounded)
    if not stated.rewrites:
        ours = [held.simplified()]
        of_ours = matched_tensors(graph, ours, rounded)
        if learned_tensors(ours[0]).keys() <= of_ours[0].keys():
            variants, (found, coarse) = ours, of_ours
    strange = unexplained(graph, set(found.values()))
    return [
        _weights(graph, variants, found, coarse),
        _constants(graph, strange),
        _attention(graph, variants[0], found, strange),
        operators_check(whole or model, graph),
        _precision(graph, found, coarse, stated),
    ]


def _weights(graph: Graph, variants: list[SimplifiedNetwork], found: dict[str, str], coarse: set[str]) -> Check:
    """Every learned tensor is in the file and reaches the detector's output."""
    reaching = graph.behind([graph.output])
    # a bias of zeros adds nothing, and exporters drop it
    names = [{n for n, t in learned_tensors(one).items() if t.any() or not n.endswith(".bias")} for one in variants]
    # a tensor counts as there in any variant: a folded weight stands for the plain one of the same name
    required = (
        set.union(*names) if len(variants) == 1 else {n for n in names[-1] if n.endswith(".weight") or n in names[0]}
    )
    missing = sorted(n for n in required if n not in found)
    cut = sorted(n for n in required if n in found and found[n] not in reaching)
    rounded = sorted(required & coarse)
    figures = {"tensors": len(required), "missing": len(missing), "unreachable": len(cut), "rounded": len(rounded)}
    if len(missing) > len(required) // 2:
        detail = f"{len(missing)} of {len(required)} learned tensors are not in the file: it holds other weights, or merged ones"
        return Check("weights", False, figures, detail)
    if missing or cut:
        first = (cut or missing)[0]
        how = "has no path to the output" if cut else "is not in the file (replaced by a constant?)"
        return Check("weights", False, figures, f"{first} {how}; {len(missing) + len(cut)} such tensors")
    if rounded:
        detail = (
            f"{len(rounded)} of {len(required)} learned tensors are rounded through a coarser type, {rounded[0]} first"
        )
        return Check("weights", False, figures, detail)
    return Check("weights", True, figures, f"all {len(required)} learned tensors reach the output")


def _constants(graph: Graph, strange: Mapping[str, tuple[int, ...]]) -> Check:
    """No constant in the data path that is neither a learned tensor nor the anchors' coordinates."""
    figures = {"unexplained": len(strange), "elements": int(sum(np.prod(s) for s in strange.values()))}
    for name, shape in strange.items():
        reader = graph.readers_through_casts(name)
        where = f", read by {reader[0].name or reader[0].op_type}" if reader else ""
        detail = f"constant {name} {list(shape)} is neither a weight nor the grid of the network{where}: a recorded result, or a mask"
        return Check("constants", False, figures, detail)
    return Check("constants", True, figures, "no computation was recorded as a constant")


def _attention(
    graph: Graph, variant: SimplifiedNetwork, found: dict[str, str], strange: Mapping[str, tuple[int, ...]]
) -> Check:
    """One complete attention per area attention block: its output depends on its q, k and v."""
    paths, complete = attention_paths(variant.named_modules()), attentions(graph)
    lost = []
    for path in paths:
        missing = _recorded(graph, path, found, strange) or _incomplete(graph, path, found, complete)
        if missing:
            lost.append((path, missing))
    figures = {"blocks": len(paths), "complete": len(paths) - len(lost)}
    if lost:
        path, missing = lost[0]
        return Check(
            "attention",
            False,
            {**figures, "lost": [p for p, _ in lost]},
            f"{path}: {missing} ({len(lost)} of {len(paths)} blocks)",
        )
    return Check(
        "attention", True, figures, f"{len(paths)} of {len(paths)} blocks attend, from q, k and v to the output"
    )


def _recorded(graph: Graph, path: str, found: dict[str, str], strange: Mapping[str, tuple[int, ...]]) -> str | None:
    """What to say where a constant stands for the attention's output, as a trace through flash-attn leaves it."""
    exits = found.get(f"{path}.proj.conv.weight")
    if exits is None:
        return None
    entries = [found[n] for part in ("qkv", "qk", "v") if (n := f"{path}.{part}.conv.weight") in found]
    flowing = graph.ahead(o for e in entries for o in _outputs_of_readers(graph, e))
    into = graph.behind(i for node in graph.readers_through_casts(exits) for i in node.input if i != exits)
    for node in graph.nodes:
        if node.output[0] not in into & flowing:
            continue
        for name in node.input:
            behind = graph.behind([name]) if name not in flowing else set()
            held = behind & strange.keys() if not behind & graph.inputs else None  # what the image reaches is computed
            if held:
                constant = min(held)
                return (
                    f"its output is the recorded constant {constant} {list(strange[constant])}, as an export traced"
                    " through flash-attn leaves it (the tracer cannot see into a CUDA extension)"
                )
    return None


def _incomplete(graph: Graph, path: str, found: dict[str, str], complete: list[GraphAttention]) -> str | None:
    """What is missing of the attention at `path`, or None where one of `complete` stands between its convolutions."""
    entries = [f"{path}.{part}.conv.weight" for part in ("qkv", "qk", "q", "k", "v")]
    exits = found.get(f"{path}.proj.conv.weight")
    merged = next((name for name in entries[:2] if name in found), None)
    if merged is None and not all(name in found for name in entries[2:4]):
        return "its q and k weights are not in the file"
    if exits is None:
        return "its output projection is not in the file"
    ahead = {name: graph.ahead(_outputs_of_readers(graph, found[name])) for name in entries if name in found}
    flowing = set().union(*ahead.values())
    readers = graph.readers_through_casts(exits)
    inside = graph.behind(name for node in readers for name in node.input if name in flowing) & flowing
    q, k = (ahead[merged], ahead[merged]) if merged else (ahead[name] for name in entries[2:4])
    if any(one.output in inside and one.is_fed_by(q, k, flowing) for one in complete):
        return None
    return "between its q, k, v convolutions and its projection there is no attention"


def _outputs_of_readers(graph: Graph, constant: str) -> list[str]:
    """What is computed directly from a constant."""
    return [name for node in graph.readers_through_casts(constant) for name in node.output]


def _precision(graph: Graph, found: dict[str, str], coarse: set[str], stated: Stated) -> Check:
    """Convolution weights have the type the artifact claims, and its values."""
    weights = {
        n: graph.constants[c] for n, c in found.items() if n.endswith(".weight") and graph.constants[c].ndim == 4
    }
    kinds = dict(Counter(kind_of(array) for array in weights.values()))
    rounded = len(weights.keys() & coarse)
    claim = None if stated.precision is None else stated.precision.value
    figures = {"weights": kinds, "claimed": claim, "rounded": rounded}
    if not kinds:
        return Check("precision", None, {}, "none of the network's convolution weights was found")
    if rounded:
        detail = f"{rounded} of {len(weights)} weights are stored as {', '.join(kinds)} but were rounded through a coarser type"
        return Check("precision", False, figures, detail)
    says = "the file states no precision" if claim is None else f"claimed {claim}"
    passed = len(kinds) == 1 and (claim is None or claim in kinds)
    return Check("precision", passed, figures, f"weights are {', '.join(kinds)}, {says}")
