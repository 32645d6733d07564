"""Parity block by block: where an artifact departs from the network, in the network's own words."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from yoloproof.artifact.attention_report import module_path
from yoloproof.artifact.graph import Graph
from yoloproof.errors import first_line
from yoloproof.network.attention import AAttn, ABlock
from yoloproof.network.wiring import Network
from yoloproof.proof.parity import Tolerance
from yoloproof.proof.twin import twin
from yoloproof.proof.weights import matched_tensors
from yoloproof.records import Check
from yoloproof.runtime.tensors import cast_images
from yoloproof.simplify.rewrites import simplify

Array = NDArray[np.float32]


def block_outputs(network: Network, images: Array) -> dict[str, Array]:
    """Every layer's output (the head's too), area attention's and attention block's by module path."""
    taps: dict[str, Array] = {}
    looked_into = twin(network)  # hooks on the network itself would see what other threads compute
    for path, module in looked_into.named_modules():
        if re.fullmatch(r"model\.\d+", path) or isinstance(module, ABlock | AAttn):

            def keep(_m: object, _i: object, output: object, path: str = path) -> None:
                if isinstance(output, torch.Tensor) and output.ndim >= 3:
                    taps[path] = output.numpy()

            module.register_forward_hook(keep)
    with torch.inference_mode():
        looked_into(torch.from_numpy(images))
    return taps


def tap_names(model: onnx.ModelProto, paths: Sequence[str]) -> dict[str, str]:
    """Module path → the tensor its last node computes, read off the node names (ours, or /model.6/m.0/… of other exporters)."""
    ends: dict[str, str] = {}
    wanted = set(paths)
    for node in model.graph.node:
        parts = module_path(node.name.rpartition("/")[0]).split(".")
        for length in range(2, len(parts) + 1):
            path = ".".join(parts[:length])
            if path in wanted and node.output:
                ends[path] = node.output[0]
    return ends


def attention_taps(model: onnx.ModelProto, network: Network) -> dict[str, str]:
    """Module path of an area attention → the output of the convolution that holds its `proj` weights, whatever its name."""
    graph = Graph(model)
    found, _ = matched_tensors(graph, [simplify(network, ("norms",))])
    taps = {}
    for path, module in network.named_modules():
        constant = found.get(f"{path}.proj.conv.weight")
        readers = graph.readers_through_casts(constant) if isinstance(module, AAttn) and constant else []
        if len(readers) == 1 and readers[0].op_type == "Conv":
            taps[path] = readers[0].output[0]
    return taps


def block_parity(model: onnx.ModelProto, network: Network, images: Array, tolerance: Tolerance) -> Check:
    """Outputs of the blocks agree; when not, the first that diverges is named. ONNX Runtime, without its optimisations."""
    taps = block_outputs(network, images)
    attentions = [path for path in taps if isinstance(network.get_submodule(path), AAttn)]
    ends = tap_names(model, list(taps))
    if not set(attentions) <= ends.keys():
        ends = {**attention_taps(model, network), **ends}
    if unknown := [path for path in attentions if path not in ends]:
        detail = (
            f"neither node names nor weights say where {unknown[0]} is ({len(unknown)} of {len(attentions)} attentions)"
        )
        return Check("blocks", None, {"unknown": unknown}, detail)
    try:
        values = tapped_values(model, list(dict.fromkeys(ends.values())), images)
    except Exception as error:  # each of ONNX Runtime's errors is a class of its own, below Exception
        detail = f"ONNX Runtime cannot run the file with its blocks' outputs kept: {first_line(error)}; a newer one may"
        return Check("blocks", None, {}, detail)
    worst, checked, reshaped = 0.0, 0, []
    order = {name: i for i, name in enumerate(n.output[0] for n in model.graph.node if n.output)}
    for path in sorted(ends, key=lambda p: order.get(ends[p], 0)):
        reference, value = taps[path], values[ends[path]].astype(np.float32)
        if value.shape != reference.shape:
            reshaped.append(path)  # a simplified layer may compute only a part here; an attention computes all of it
            continue
        checked += 1
        off = float(np.linalg.norm(value - reference) / max(float(np.linalg.norm(reference)), 1e-12))
        worst = max(worst, off)
        if not off <= tolerance.relative:  # NaN too
            kind_name = type(network.get_submodule(path)).__name__
            figures = {"first": path, "relative_error": off, "blocks": checked}
            return Check(
                "blocks", False, figures, f"{path} ({kind_name}) is the first to diverge: relative error {off:.2g}"
            )
    figures = {"blocks": checked, "relative_error": worst, "other_shape": reshaped}
    if lost := [path for path in attentions if path in reshaped]:
        return Check("blocks", False, figures, f"{lost[0]} has an output of another shape than the network's")
    return Check("blocks", True, figures, f"{checked} blocks within {worst:.1g} relative error")


def tapped_values(model: onnx.ModelProto, names: Sequence[str], images: Array) -> dict[str, NDArray[np.generic]]:
    """The named tensors, and the model's outputs, of one run on `images`."""
    count, kept = len(model.graph.output), {output.name for output in model.graph.output}
    try:  # outputs are added for the run alone: a copy of the model would be its weights once more
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in kept)
        with opened_as_written(model) as run:
            return run(images)
    finally:
        del model.graph.output[count:]


@contextmanager
def opened_as_written(model: onnx.ModelProto) -> Iterator[Callable[[Array], dict[str, NDArray[np.generic]]]]:
    """The model in ONNX Runtime on the CPU, asked to rewrite nothing: images [B, 3, H, W] in 0…1 → its outputs by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="yoloproof-") as folder:
        file = Path(folder) / "shown.onnx"
        onnx.save(model, file)
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        image, names = session.get_inputs()[0], [output.name for output in session.get_outputs()]
        kind = {"tensor(float16)": "float16", "tensor(uint8)": "uint8"}.get(image.type, "float32")
        yield lambda images: dict(zip(names, session.run(None, {image.name: cast_images(images, kind)}), strict=True))
