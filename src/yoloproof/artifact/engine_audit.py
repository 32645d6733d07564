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

from yoloproof.artifact.attention_pattern import attentions
from yoloproof.artifact.graph import Graph

_FLOATS = {"FLOAT", "HALF", "BF16"}


@dataclass(frozen=True)
class EngineKernel:
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
            faults.append("the builder did not list its kernels, so what became of the attention is unknown")
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


def module_path(node: Any) -> str:
    """The module a node came from: its exporter's name scopes, else the attention block in its name, else its name."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            modules = [scope for scope in re.findall(r"'([^']*)'", entry.value) if "." in scope]
            if modules:
                return str(modules[-1])
    match = re.search(r"(?:^|/)((?:\w+[./])*?attn)(?:[./]|$)", node.name)
    return match.group(1).strip("/").replace("/", ".") if match else str(node.name)


def kernels_from_log(text: str) -> list[EngineKernel]:
    """The engine's layers as the builder lists them at verbose level, one line `Name: …, LayerType: …` each."""
    kernels = []
    for line in text.splitlines():
        match = re.match(r"Name: ([^,]+), LayerType: ([^,]+), ", line)
        if match is None or match.group(2) in ("signal", "wait"):
            continue
        outputs = line.partition("Outputs: ")[2].partition("TacticName:")[0]
        nodes = re.findall(r"\[ONNX Layer: ([^\]]+)\]", line.partition("Metadata: ")[2])
        kernels.append(EngineKernel(match.group(1), tuple(nodes), tuple(re.findall(r"Datatype: (\w+)", outputs))))
    return kernels


def kernels_from_inspector(information: str) -> list[EngineKernel]:
    """The engine's layers out of `EngineInspector.get_engine_information(JSON)` of a detailed build."""
    kernels = []
    for layer in json.loads(information).get("Layers", []):
        if isinstance(layer, str):  # a build without detailed profiling lists names alone
            kernels.append(EngineKernel(layer, (), ()))
            continue
        nodes = re.findall(r"\[ONNX Layer: ([^\]]+)\]", layer.get("Metadata", ""))
        dtypes = [
            str(output.get("Format/Datatype", output.get("Datatype", "?"))) for output in layer.get("Outputs", [])
        ]
        kernels.append(EngineKernel(layer["Name"], tuple(nodes), tuple(dtypes)))
    return kernels


def audit(
    trt: Any, network: Any, model: Any, kernels: Sequence[EngineKernel] | None, messages: Iterable[tuple[str, str]]
) -> Audit:
    """Compare the ONNX model, the network parsed from it, and the kernels and messages of its build."""
    found = {module_path(one.weights): one for one in attentions(Graph(model))}
    forms = {"fused" if one.spelling == "fused" else "spelled" for one in found.values()}
    nodes = {path: tuple(node.name for node in one.core) for path, one in found.items()}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    fused = _fused(nodes, kernels or ())
    messages = list(messages)
    return Audit(
        form=forms.pop() if len(forms) == 1 else ("mixed" if forms else "none"),
        attentions=tuple(nodes),
        layers=len(layers),
        pairs=_pairs(trt, layers, nodes),
        kernels=None if kernels is None else len(kernels),
        fused=fused,
        unfused=() if kernels is None else tuple(path for path in nodes if path not in fused),
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


def _fused(attentions: Mapping[str, tuple[str, ...]], kernels: Sequence[EngineKernel]) -> dict[str, str]:
    """Module path → the multi-head-attention kernel made from all of that attention's operators."""
    heads = [(kernel.name, set(kernel.onnx_nodes)) for kernel in kernels if "mha" in kernel.name.lower()]
    return {path: name for path, nodes in attentions.items() for name, made in heads if made.issuperset(nodes)}


def _pairs(trt: Any, layers: Sequence[Any], attentions: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Module paths of the boundary pairs; a boundary without its partner is left out and so counts as lost."""
    paths = {node: path for path, nodes in attentions.items() for node in nodes}
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
