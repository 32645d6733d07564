"""Graph audit: without running anything, is the network all there and is its attention whole?

What the users' disaster looked like in the file: an attention's output recorded as a constant, the q and k weights
without a way to the output. Each check here would have named it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloproof.network.simplify import simplify
from yoloproof.network.wiring import Network, attention_paths
from yoloproof.proof.graph import Graph
from yoloproof.proof.verdict import Check

Array = NDArray[Any]
PRODUCTS = ("MatMul", "Einsum", "Gemm", "FusedMatMul")
FUSED = ("Attention", "MultiHeadAttention")


def graph_audit(model: onnx.ModelProto, network: Network, metadata: Mapping[str, Any]) -> list[Check]:
    """Five checks of an ONNX model against the network it is said to be: weights, constants, attention, operators,
    precision. `metadata` is what the artifact says of itself (empty for one made elsewhere)."""
    graph = Graph(model)
    # the network as exported: as the artifact says, or norms folded, or untouched, tensor by tensor
    rewrites = metadata.get("rewrites")
    forms = [simplify(network, rewrites)] if rewrites else [simplify(network, ("norms",)), simplify(network, ())]
    found = matched_tensors(graph, forms, half=metadata.get("precision") == "fp16")
    return [
        _weights(graph, forms, found),
        _constants(graph, found, metadata),
        _attention(graph, forms, found),
        _operators(model),
        _precision(graph, found, metadata),
    ]


def matched_tensors(graph: Graph, forms: list[Network], half: bool = False) -> dict[str, str]:
    """Learned tensor's name → the constant of the graph that holds its values (by name, else by value).

    half -- the constants went through float16, also those that are float32 again
    """
    by_size: dict[int, list[str]] = {}
    for name, array in graph.constants.items():
        if array.dtype.kind == "f":
            by_size.setdefault(array.size, []).append(name)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for form in forms:
        for name, tensor in _learned(form).items():
            wanted = tensor.ravel()
            candidates = [n for n in by_size.get(wanted.size, ()) if n not in taken or n == name]
            candidates.sort(key=lambda n: n != name)
            for candidate in candidates:
                if _same_values(graph.constants[candidate], tensor, half):
                    found[name] = candidate
                    if wanted.size > 64:  # small vectors may well be equal in two places
                        taken.add(candidate)
                    break
    return found


def _learned(form: Network) -> dict[str, Array]:
    """Parameters and buffers that carry weights, as float32; batch-norm statistics and counters are left to the parity."""
    skip = ("num_batches_tracked", "running_mean", "running_var", "bn.weight", "bn.bias", "dfl.conv.weight")
    return {n: t.numpy().astype(np.float32) for n, t in form.state_dict().items() if not n.endswith(skip)}


def _same_values(constant: Array, wanted: Array, half: bool) -> bool:
    given = constant.astype(np.float32)
    scale = float(np.abs(wanted).max()) or 1.0
    tolerance = 1e-3 * scale if half or constant.dtype == np.float16 else 2e-6 * scale
    for array in (given, given.T) if given.ndim == 2 else (given,):
        if np.abs(array.ravel() - wanted.ravel()).max(initial=0.0) <= tolerance:
            return True
    return False


def _weights(graph: Graph, forms: list[Network], found: dict[str, str]) -> Check:
    """Every learned tensor is in the file and has a way to the output."""
    reaching = graph.behind(graph.outputs)
    names = [set(_learned(form)) for form in forms]
    # a tensor counts as there in any form: a folded weight stands for the plain one of the same name
    required = (
        set.union(*names) if len(forms) == 1 else {n for n in names[-1] if n.endswith(".weight") or n in names[0]}
    )
    missing = sorted(n for n in required if n not in found)
    cut = sorted(n for n in required if n in found and found[n] not in reaching)
    figures = {"tensors": len(required), "missing": len(missing), "unreachable": len(cut)}
    if len(missing) > len(required) // 2:
        detail = f"{len(missing)} of {len(required)} learned tensors are not in the file: it holds other weights, or merged ones"
        return Check("weights", False, figures, detail)
    if missing or cut:
        first = (cut or missing)[0]
        how = "has no way to the output" if cut else "is not in the file (replaced by a constant?)"
        return Check("weights", False, figures, f"{first} {how}; {len(missing) + len(cut)} such tensors")
    return Check("weights", True, figures, f"all {len(required)} learned tensors reach the output")


def _constants(graph: Graph, found: dict[str, str], metadata: Mapping[str, Any]) -> Check:
    """No large constant in the data path that is neither a learned tensor nor the anchors' coordinates."""
    known = set(found.values())
    reaching = graph.behind(graph.outputs)
    anchors = _anchor_count(graph)
    strange = []
    for name, array in graph.constants.items():
        grid = anchors is not None and array.size in (anchors, 2 * anchors, 4 * anchors)
        if array.dtype.kind == "f" and array.size >= 256 and name in reaching and name not in known and not grid:
            strange.append((name, array.shape))
    figures = {"unexplained": len(strange), "elements": int(sum(np.prod(s) for _, s in strange))}
    if strange:
        name, shape = strange[0]
        reader = graph.readers_through_casts(name)
        where = f", read by {reader[0].name or reader[0].op_type}" if reader else ""
        detail = (
            f"constant {name} {list(shape)} is no weight of the network{where}: a computation was recorded as its value"
        )
        return Check("constants", False, figures, detail)
    return Check("constants", True, figures, "no computation was recorded as a constant")


def _anchor_count(graph: Graph) -> int | None:
    for output in graph.model.graph.output:
        shape = [d.dim_value for d in output.type.tensor_type.shape.dim]
        if len(shape) == 3 and shape[2] > 0:
            return int(shape[2])
    return None


def _attention(graph: Graph, forms: list[Network], found: dict[str, str]) -> Check:
    """One complete attention per area attention block: its output depends on its q, k and v."""
    form = forms[0]
    paths = attention_paths(form.named_modules())
    lost = []
    for path in paths:
        missing = _incomplete(graph, path, found)
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
    return Check("attention", True, figures, f"{len(paths)} of {len(paths)} blocks attend, q, k and v to output")


def _incomplete(graph: Graph, path: str, found: dict[str, str]) -> str | None:
    """What is missing of the attention at `path`, or None."""
    entries = [f"{path}.{part}.conv.weight" for part in ("qkv", "qk", "q", "k", "v")]
    sources = [found[name] for name in entries if name in found]
    exits = found.get(f"{path}.proj.conv.weight")
    merged = next((name for name in entries[:2] if name in found), None)
    if merged is None and not all(name in found for name in entries[2:4]):
        return "its q and k weights are not in the file"
    if exits is None:
        return "its output projection is not in the file"
    projections = graph.readers_through_casts(exits)
    flowing = graph.ahead(o for s in sources for node in graph.readers_through_casts(s) for o in node.output)
    inside = graph.behind(i for node in projections for i in node.input if i in flowing) & flowing
    nodes = [n for n in graph.nodes if n.output[0] in inside]
    q_flow, k_flow = (
        graph.ahead(o for node in graph.readers_through_casts(found[name]) for o in node.output)
        for name in ((merged, merged) if merged else entries[2:4])
    )
    for node in nodes:
        if node.op_type in FUSED and all(name in flowing for name in node.input[:3]):
            return None
    for node in nodes:
        if node.op_type != "Softmax" and not (node.op_type == "Div" and _sums_exponentials(graph, node)):
            continue
        before, after = graph.behind([node.input[0]]) & inside, graph.ahead(node.output) & inside
        scores = [
            m for m in nodes
            if m.op_type in PRODUCTS and m.output[0] in before and _reads(m, q_flow | k_flow) >= 2
            and _reads(m, q_flow) and _reads(m, k_flow)
        ]  # fmt: skip
        mixed = [
            m for m in nodes
            if m.op_type in PRODUCTS and _reads(m, after) == 1 and any(i in flowing and i not in after for i in m.input)
        ]  # fmt: skip
        if scores and mixed:
            return None
    return "between its q, k, v convolutions and its projection there is no attention"


def _reads(node: onnx.NodeProto, tensors: set[str]) -> int:
    return sum(name in tensors for name in node.input)


def _sums_exponentials(graph: Graph, node: onnx.NodeProto) -> bool:
    """exp(x) / sum(exp(x)), softmax written by hand."""
    made = graph.producer.get(node.input[0])
    below = graph.producer.get(node.input[1])
    return made is not None and made.op_type == "Exp" and below is not None and below.op_type == "ReduceSum"


def _operators(model: onnx.ModelProto) -> Check:
    """Only standard ONNX operators, so that the file means the same everywhere."""
    foreign = sorted({f"{n.domain}::{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")})
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if foreign:
        return Check(
            "operators",
            False,
            {"foreign": foreign, "opset": opset},
            f"operators of a foreign domain: {', '.join(foreign)}",
        )
    return Check(
        "operators", True, {"opset": opset, "nodes": len(model.graph.node)}, f"opset {opset}, standard operators only"
    )


def _precision(graph: Graph, found: dict[str, str], metadata: Mapping[str, Any]) -> Check:
    """Convolution weights have the type the artifact claims."""
    kinds: dict[str, int] = {}
    for name in (constant for learned, constant in found.items() if learned.endswith(".weight")):
        if graph.constants[name].ndim == 4:
            kind = {"float32": "fp32", "float16": "fp16"}.get(
                str(graph.constants[name].dtype), str(graph.constants[name].dtype)
            )
            kinds[kind] = kinds.get(kind, 0) + 1
    claim = metadata.get("precision")
    if not kinds:
        return Check("precision", None, {}, "no convolution weight of the network was found to look at")
    if claim is None:
        return Check(
            "precision", len(kinds) == 1, {"weights": kinds}, f"weights are {', '.join(kinds)}; the file claims nothing"
        )
    return Check(
        "precision",
        set(kinds) == {claim},
        {"weights": kinds, "claimed": claim},
        f"weights are {', '.join(kinds)}, claimed {claim}",
    )
