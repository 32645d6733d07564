"""What became of the attention: in the ONNX graph, in the network TensorRT parsed, and in the kernels it chose.

Three looks, because each can hide what the next shows: an ONNX graph may hold attention spelled out in five ways, the
parser must make each `Attention` one pair of boundary layers, and only the builder's own list of the engine's layers
says which kernel an attention ended in. A fused one is called after "mha" (multi-head attention) and carries the ONNX
nodes it was made from, so every attention is found again by its module path.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# What may stand between the two products of an attention written out by hand; a hypergraph's softmax over tokens has a
# mean over heads or a transposition there, the head's softmax over 16 bins no product at all.
_BETWEEN = {"Mul", "Div", "Sub", "Cast", "Exp", "Softmax", "ReduceMax", "ReduceSum", "Add"}
_FLOATS = {"FLOAT", "HALF", "BF16"}


@dataclass(frozen=True)
class OnnxAttention:
    """One attention of an ONNX graph: module path, `fused` (one operator) or `spelled` (several), operators' names."""

    path: str
    form: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class EngineLayer:
    """One layer of a built engine: its name, the ONNX nodes it was made from, the types it writes."""

    name: str
    onnx_nodes: tuple[str, ...]
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """What a build made of the attention.

    layers -- layers of the parsed network; pairs -- module path of every IAttention input/output pair
    fused -- module path → the fused kernel that computes it; unfused -- paths that no fused kernel computes
    kernels -- layers of the engine, None where the builder did not list them (then fused and unfused are empty)
    layers_by_precision -- type → names of the parsed layers that write it
    casts -- casts between floating-point types, on more than a scalar, that the ONNX file does not hold
    """

    form: str
    attentions: tuple[str, ...]
    layers: int
    pairs: tuple[str, ...]
    kernels: int | None
    fused: Mapping[str, str]
    unfused: tuple[str, ...]
    casts: tuple[str, ...]
    layer_types: Mapping[str, int]
    layers_by_precision: Mapping[str, tuple[str, ...]]
    kernel_precisions: Mapping[str, int]
    activation_bytes: int | None
    scratch_bytes: int | None
    weights_bytes: int | None
    warnings: tuple[str, ...]

    @property
    def layer_precisions(self) -> dict[str, int]:
        """Type → how many of the parsed layers write it."""
        return {dtype: len(names) for dtype, names in self.layers_by_precision.items()}

    def faults(self) -> list[str]:
        """What makes this engine something else than was asked for; empty when all is as it should be."""
        faults = []
        if self.form == "fused" and sorted(self.pairs) != sorted(self.attentions):
            lost = sorted(set(self.attentions) - set(self.pairs))
            faults.append(f"{len(self.pairs)} of {len(self.attentions)} attentions parsed as one, lost {_few(lost)}")
        if self.kernels is None and self.attentions:
            faults.append("the builder did not list its kernels, so nobody knows what became of the attention")
        if self.unfused:
            faults.append(f"no fused kernel computes {_few(self.unfused)}")
        if self.casts:
            faults.append(f"casts that the ONNX file does not hold: {_few(self.casts)}")
        return faults

    def lines(self) -> list[str]:
        """The audit for a person: where every attention went, precisions, memory in bytes, the builder's warnings."""
        kernels = "unknown" if self.kernels is None else str(self.kernels)
        memory = (
            ("activation", self.activation_bytes),
            ("scratch", self.scratch_bytes),
            ("weights", self.weights_bytes),
        )
        said = ", ".join(f"{name} {'unknown' if size is None else size}" for name, size in memory)
        return [
            f"attention: {len(self.attentions)} in the file, {len(self.pairs)} IAttention pairs, {len(self.fused)} fused",
            *(f"  {path} → {kernel}" for path, kernel in self.fused.items()),
            *(f"  {path} → several kernels" for path in self.unfused),
            f"network: {self.layers} layers ({_counted(self.layer_precisions)}), casts of its own: {len(self.casts)}",
            f"engine: {kernels} kernels ({_counted(self.kernel_precisions)})",
            f"memory, bytes: {said}",
            f"builder warnings: {len(self.warnings) or 'none'}",
            *(f"  {warning}" for warning in self.warnings),
        ]

    def record(self) -> dict[str, object]:
        """For the sidecar: plain JSON."""
        record: dict[str, object] = json.loads(json.dumps(asdict(self)))
        return record | {"layer_precisions": self.layer_precisions, "faults": self.faults()}


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def onnx_attentions(model: Any) -> tuple[OnnxAttention, ...]:
    """The attentions of an onnx.ModelProto, in graph order.

    An `Attention` operator is one. So is Softmax, or Exp, over the last dimension that is reached from one MatMul and
    reaches another through pointwise operators alone.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    consumers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    found = []
    for node in model.graph.node:
        if node.op_type == "Attention":
            found.append(OnnxAttention(module_path(node), "fused", (node.name,)))
        elif node.op_type in ("Softmax", "Exp"):
            before = _product(node, lambda at: [producers[name] for name in at.input if name in producers])
            # Attention weights stand left of the values; YOLOv13's hypergraph has its softmax on the right.
            after = _product(node, lambda at: [u for name in at.output for u in consumers.get(name, [])], left=True)
            if before is not None and after is not None:
                found.append(OnnxAttention(module_path(node), "spelled", (before.name, node.name, after.name)))
    return tuple(found)


def _product(start: Any, step: Any, left: bool = False) -> Any:
    """The first MatMul met walking from `start`, past pointwise operators only; None where there is none.

    left -- only one whose first factor the walk came by
    """
    queue, seen = [start], set()
    while queue:
        node = queue.pop(0)
        for following in step(node):
            if following.op_type == "MatMul" and (not left or following.input[0] in node.output):
                return following
            if following.op_type in _BETWEEN and id(following) not in seen:
                seen.add(id(following))
                queue.append(following)
    return None


def module_path(node: Any) -> str:
    """The module a node came from: its exporter's name scopes, else the attention block in its name, else its name."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            modules = [scope for scope in re.findall(r"'([^']*)'", entry.value) if "." in scope]
            if modules:
                return str(modules[-1])
    match = re.search(r"(?:^|/)((?:\w+[./])*?attn)(?:[./]|$)", node.name)
    return match.group(1).strip("/").replace("/", ".") if match else str(node.name)


def kernels_from_log(text: str) -> list[EngineLayer]:
    """The engine's layers as the builder lists them at verbose level, one line `Name: …, LayerType: …` each."""
    kernels = []
    for line in text.splitlines():
        match = re.match(r"Name: ([^,]+), LayerType: ([^,]+), ", line)
        if match is None or match.group(2) in ("signal", "wait"):
            continue
        outputs = line.partition("Outputs: ")[2].partition("TacticName:")[0]
        nodes = re.findall(r"\[ONNX Layer: ([^\]]+)\]", line.partition("Metadata: ")[2])
        kernels.append(EngineLayer(match.group(1), tuple(nodes), tuple(re.findall(r"Datatype: (\w+)", outputs))))
    return kernels


def kernels_from_inspector(information: str) -> list[EngineLayer]:
    """The engine's layers out of `EngineInspector.get_engine_information(JSON)` of a detailed build."""
    kernels = []
    for layer in json.loads(information).get("Layers", []):
        if isinstance(layer, str):  # a build without detailed profiling lists names alone
            kernels.append(EngineLayer(layer, (), ()))
            continue
        nodes = re.findall(r"\[ONNX Layer: ([^\]]+)\]", layer.get("Metadata", ""))
        dtypes = [
            str(output.get("Format/Datatype", output.get("Datatype", "?"))) for output in layer.get("Outputs", [])
        ]
        kernels.append(EngineLayer(layer["Name"], tuple(nodes), tuple(dtypes)))
    return kernels


def audit(
    trt: Any, network: Any, model: Any, kernels: Sequence[EngineLayer] | None, messages: Iterable[tuple[str, str]]
) -> Audit:
    """Compare the ONNX model, the network parsed from it, and the kernels and messages of its build."""
    attentions = onnx_attentions(model)
    forms = {attention.form for attention in attentions}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    fused = _fused(attentions, kernels or ())
    messages = list(messages)
    return Audit(
        form=forms.pop() if len(forms) == 1 else ("mixed" if forms else "none"),
        attentions=tuple(attention.path for attention in attentions),
        layers=len(layers),
        pairs=_pairs(trt, layers, attentions),
        kernels=None if kernels is None else len(kernels),
        fused=fused,
        unfused=() if kernels is None else tuple(a.path for a in attentions if a.path not in fused),
        casts=_foreign_casts(trt, layers, model),
        layer_types=dict(Counter(layer.type.name for layer in layers)),
        layers_by_precision=_by_precision(layers),
        kernel_precisions=dict(Counter(kernel.dtypes[0] for kernel in kernels or () if kernel.dtypes)),
        activation_bytes=_bytes(messages, "Total Activation Memory"),
        scratch_bytes=_bytes(messages, "Max Scratch Memory"),
        weights_bytes=_bytes(messages, "Total Weights Memory"),
        # A second builder in one process is warned that its logger is ignored; it is not, as the kernels' list shows.
        warnings=tuple(text for kind, text in messages if kind == "WARNING" and "The logger passed into" not in text),
    )


def _by_precision(layers: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for layer in layers:
        if layer.num_outputs:
            found.setdefault(layer.get_output(0).dtype.name, []).append(layer.name)
    return {dtype: tuple(names) for dtype, names in found.items()}


def _fused(attentions: Sequence[OnnxAttention], kernels: Sequence[EngineLayer]) -> dict[str, str]:
    """Module path → the multi-head-attention kernel made from all of that attention's operators."""
    heads = [(kernel.name, set(kernel.onnx_nodes)) for kernel in kernels if "mha" in kernel.name.lower()]
    return {
        attention.path: name for attention in attentions for name, nodes in heads if nodes.issuperset(attention.nodes)
    }


def _pairs(trt: Any, layers: Sequence[Any], attentions: Sequence[OnnxAttention]) -> tuple[str, ...]:
    """Module paths of the boundary pairs; a boundary without its partner is left out and so counts as lost."""
    paths = {node: attention.path for attention in attentions for node in attention.nodes}
    sides = []
    for kind, suffix in (("ATTENTION_INPUT", "_AttentionInput"), ("ATTENTION_OUTPUT", "_AttentionOutput")):
        # TensorRT before 10.14 has no such layers.
        layer_type = getattr(trt.LayerType, kind, None)
        sides.append([layer.name.removesuffix(suffix) for layer in layers if layer.type == layer_type])
    return tuple(paths.get(name, name) for name in sides[0] if name in set(sides[1]))


def _foreign_casts(trt: Any, layers: Sequence[Any], model: Any) -> tuple[str, ...]:
    own = {node.name for node in model.graph.node if node.op_type == "Cast"}
    casts = []
    for layer in layers:
        if layer.type != trt.LayerType.CAST or layer.name in own:
            continue
        source, result = layer.get_input(0), layer.get_output(0)
        changes = source.dtype != result.dtype and {source.dtype.name, result.dtype.name} <= _FLOATS
        if changes and any(size != 1 for size in tuple(result.shape)):
            casts.append(f"{layer.name} {source.dtype.name} → {result.dtype.name}")
    return tuple(casts)


def _bytes(messages: Sequence[tuple[str, str]], title: str) -> int | None:
    """The last figure the builder gave under `title`, or None where it gave none."""
    found = [re.search(rf"{title}: (\d+) bytes", text) for _, text in messages]
    values = [int(match.group(1)) for match in found if match]
    return values[-1] if values else None
