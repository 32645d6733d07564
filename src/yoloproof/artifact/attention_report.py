"""Where an ONNX graph attends and where it lost an attention, told without weights: by what it computes and by its names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yoloproof.artifact.attention_pattern import GraphAttention, attentions
from yoloproof.artifact.graph import Graph

if TYPE_CHECKING:
    import onnx

# A module called `attn` and what is in it, as exporters write paths: /model.6/m.0/attn/qk/conv/Conv, model.6.m.0.attn.qk
SCOPE = re.compile(r"^/?((?:.*?[./])?attn)(?=[./])")
LEAST_RECORDED = 256  # elements of a constant that may be a recorded activation


@dataclass(frozen=True)
class AttentionBlock:
    """name -- of the module, as the graph's node names tell; spelling -- as `GraphAttention`, None where it is lost"""

    name: str
    spelling: str | None
    detail: str = ""


def attention_blocks(graph: Graph) -> list[AttentionBlock]:
    """Every attention of the graph in its order, and every module called `attn` or constant that stands where one was.

    An empty list says that none was found: the network has none, or spells it in a way that nobody here knows.
    """
    whole = attentions(graph)
    found = [AttentionBlock(block_name(one), one.spelling) for one in whole]
    held = {scope for one in whole for node in one.nodes if (scope := _scope(node.name))}
    scopes = dict.fromkeys(scope for node in graph.nodes if (scope := _scope(node.name)))
    reasons = _recorded(graph)
    for scope in scopes:
        if scope not in held:
            detail = reasons.pop(scope, "the module is there, but computes no softmax(q·kᵀ)·v")
            found.append(AttentionBlock(module_path(scope), None, detail))
    found += [AttentionBlock(module_path(name), None, detail) for name, detail in reasons.items() if name not in held]
    return found


def block_name(attention: GraphAttention) -> str:
    """The module an attention is in: the path of its softmax without the operator."""
    name = attention.weights.name
    return module_path(_scope(name) or name.rpartition("/")[0] or name or attention.output)


def _scope(name: str) -> str | None:
    found = SCOPE.match(name)
    return None if found is None else found[1]


def module_path(name: str) -> str:
    """ "/model.6/m.0/m.0.0/attn" → "model.6.m.0.0.attn"; ours is one already.

    TorchScript's exporter repeats the name of a list that was not called itself in front of its member's number.
    """
    parts: list[str] = []
    for part in name.strip("/").split("/"):
        if parts and part.startswith(parts[-1] + "."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def _recorded(graph: Graph) -> dict[str, str]:
    """Scope (or node) → what to say of a convolution that reads, alone or in a sum, a constant the size of an activation."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        if node.op_type != "Conv":
            continue
        names = [node.input[0]]
        before = graph.producer_through_casts(node.input[0])
        if before is not None and before.op_type == "Add":
            names += before.input
        for name in names:
            constant = _constant_behind(graph, name)
            if constant is not None:
                shape = list(graph.constants[constant].shape)
                found[_scope(node.name) or node.name] = f"its output is the recorded constant {constant} {shape}"
    return found


def _constant_behind(graph: Graph, name: str) -> str | None:
    """The large constant that `name` is, or is another layout of; None for what the image reaches."""
    if name not in graph.fixed and name not in graph.constants:
        return None
    node: onnx.NodeProto | None
    while (node := graph.producer.get(name)) is not None and node.input:
        name = node.input[0]
    array = graph.constants.get(name)
    return name if array is not None and array.ndim >= 3 and array.size >= LEAST_RECORDED else None
