"""Network → ONNX file, in float32 or strongly typed float16, that says of itself what it is."""

from __future__ import annotations

import ast
import collections
import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxscript.optimizer
import torch

import yoloproof
from yoloproof.artifact.options import OPSET, TORCH_OPSET
from yoloproof.artifact.stated import PREFIX, artifact_from_metadata
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.new import write_new
from yoloproof.files.onnx import read_onnx_file
from yoloproof.names import ArtifactFormat, Precision
from yoloproof.network.wiring import Network
from yoloproof.records import Artifact
from yoloproof.simplify.network import SimplifiedNetwork

DTYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16}
INPUTS = {"float32": torch.float32, "float16": torch.float16, "uint8": torch.uint8}
SWISH_OPSET = 24  # the first with Swish
# Attributes that came with opset 18; PyTorch writes them with their defaults.
NEWER_ATTRIBUTES = {("Split", "num_outputs"), ("Resize", "antialias"), ("Resize", "keep_aspect_ratio_policy")} | {
    (f"Reduce{kind}", "noop_with_empty_axes") for kind in ("Max", "Mean", "Min")
}


def export_onnx(
    network: Network | SimplifiedNetwork,
    path: Path,
    *,
    imgsz: tuple[int, int] = (640, 640),
    batch: int = 1,
    precision: Precision | str = Precision.FP32,
    input_type: str = "float32",
    dynamic: bool = False,
    opset: int = OPSET,
) -> Artifact:
    """Write `network` as one ONNX file and return its identity.

    imgsz -- height and width, multiples of 32; dynamic -- any batch and such size instead of just these
    precision -- "fp32", or "fp16": weights, activations and casts in the graph itself, as strongly typed runtimes need
    input_type -- "float32" or "float16" images in 0…1, or "uint8" pixels (for a network simplified with "pixels")
    opset -- from 17; below 23 there is no Attention operator; 24 and later spell SiLU as one Swish operator
    Node names begin with the module path of the block they compute. Raises YoloproofError for a bad argument or an
    existing file.
    """
    path = Path(path)
    _check(pixel_scale_of(network), path, imgsz, batch, precision, input_type)
    dtype = DTYPES[Precision(precision)]
    typed = copy.deepcopy(network).to(dtype) if dtype != torch.float32 else network
    example = torch.zeros((max(batch, 2) if dynamic else batch, 3, *imgsz), dtype=INPUTS[input_type])
    dynamic_shapes = None
    if dynamic:
        height, width = (torch.export.Dim(f"cells_{side}", min=2, max=128) * 32 for side in ("y", "x"))
        dynamic_shapes = ({0: torch.export.Dim("batch", min=1, max=256), 2: height, 3: width},)
    with _quiet():
        program = torch.onnx.export(
            typed, (example,), dynamo=True, opset_version=max(opset, TORCH_OPSET), optimize=False, verbose=False,
            input_names=["images"], output_names=["output0"], dynamic_shapes=dynamic_shapes,
        )  # fmt: skip
        assert program is not None
        # large enough that anchors and strides of a fixed size are constants in the file
        onnxscript.optimizer.optimize(program.model, input_size_limit=1 << 20, output_size_limit=1 << 20)
        model = program.model_proto
    _name_nodes(model)
    if opset < TORCH_OPSET:
        _lower(model, opset)
    if opset >= SWISH_OPSET:
        _spell_swish(model)
    metadata = onnx_metadata(network, imgsz, batch, precision, input_type, dynamic, opset)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()})
    model.producer_name, model.producer_version = "yoloproof", yoloproof.__version__
    model.doc_string = ""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new(model.SerializeToString(), path)
    return read_artifact(path)


def pixel_scale_of(network: Network | SimplifiedNetwork) -> float:
    return network.pixel_scale if isinstance(network, SimplifiedNetwork) else 1.0


def onnx_metadata(
    network: Network | SimplifiedNetwork,
    imgsz: tuple[int, int],
    batch: int,
    precision: str,
    input_type: str,
    dynamic: bool,
    opset: int,
) -> dict[str, Any]:
    """What the file says of itself: our keys under `yoloproof.`, and the few that other loaders of YOLO files read."""
    ours = {
        "variant": network.variant.name,
        "checkpoint_sha256": network.sha256 or "",
        "weights": network.source if network.sha256 is None else "trained",
        "attention": network.attention,
        "rewrites": list(network.rewrites) if isinstance(network, SimplifiedNetwork) else [],
        "precision": precision,
        "input": input_type,
        "pixel_scale": pixel_scale_of(network),
        "imgsz": list(imgsz),
        "batch": batch,
        "dynamic": dynamic,
        "opset": opset,
        "torch": torch.__version__,
    }
    names = {str(i): name for i, name in network.names.items()}
    common = {
        "task": "detect",
        "stride": "32",
        "batch": str(batch),
        "imgsz": str(list(imgsz)),
        "names": str(network.names),
    }
    return {**{PREFIX + k: json.dumps(v) for k, v in {**ours, "names": names}.items()}, **common}


def read_artifact(path: Path) -> Artifact:
    """The record of an ONNX file, ours or anybody's. YoloproofError when it is no ONNX file."""
    path = Path(path)
    header = read_onnx_file(path)
    return artifact_from_metadata(
        path, ArtifactFormat.ONNX, sha256_of(path), path.stat().st_size, header.metadata, {},
        Precision.of_dtype(header.precision), header.opset,
    )  # fmt: skip


def _check(pixel_scale: float, path: Path, imgsz: tuple[int, int], batch: int, precision: str, input_type: str) -> None:
    if path.exists():
        raise YoloproofError(f"{path} exists; nothing was overwritten. Name another file or remove it")
    if any(side < 64 or side % 32 for side in imgsz):
        raise YoloproofError(f"image size {imgsz[0]}x{imgsz[1]}: both sides must be multiples of 32, at least 64")
    if batch < 1:
        raise YoloproofError(f"batch {batch}: must be at least 1")
    if precision not in DTYPES:
        raise YoloproofError(f"precision '{precision}' is not one of {', '.join(DTYPES)}")
    if input_type not in INPUTS:
        raise YoloproofError(f"input type '{input_type}' is not one of {', '.join(INPUTS)}")
    if (input_type == "uint8") != (pixel_scale == 255.0):
        raise YoloproofError(
            "uint8 input and the rewrite 'pixels' (1/255 in the first weights) go together; use both or neither"
        )


def _name_nodes(model: onnx.ModelProto) -> None:
    """Name every node `module path/operator`, with a number where that repeats; drop the exporter's stack traces."""
    scope_of: dict[str, str] = {}
    counts: collections.Counter[str] = collections.Counter()
    for node in model.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "")
        # ['', 'model.6', 'model.6.cv1', 'silu']: the last path with a module's name; a fused node inherits its input's
        paths = [s for s in ast.literal_eval(scopes or "[]") if s.startswith("model")]
        scope = paths[-1] if paths else next((scope_of[i] for i in node.input if i in scope_of), "")
        for output in node.output:
            scope_of[output] = scope
        name = f"{scope}/{node.op_type}" if scope else node.op_type
        counts[name] += 1
        node.name = name if counts[name] == 1 else f"{name}_{counts[name]}"
        del node.metadata_props[:]
        node.doc_string = ""
    for info in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del info.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]  # shapes follow from the operators


def _lower(model: onnx.ModelProto, opset: int) -> None:
    """From opset 18 to 17, where reductions have their axes as an attribute, and Split into equal parts no number of them."""
    from onnx import helper, numpy_helper

    constants = {t.name: t for t in model.graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
    for node in model.graph.node:
        if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum" and len(node.input) > 1:
            axes = numpy_helper.to_array(constants[node.input.pop(1)])
            node.attribute.append(helper.make_attribute("axes", axes.reshape(-1).tolist()))
        for attribute in [a for a in node.attribute if (node.op_type, a.name) in NEWER_ATTRIBUTES]:
            node.attribute.remove(attribute)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)


def _spell_swish(model: onnx.ModelProto) -> None:
    """x·sigmoid(x) as one Swish operator."""
    readers = collections.Counter(name for node in model.graph.node for name in node.input)
    sigmoids = {n.output[0]: n for n in model.graph.node if n.op_type == "Sigmoid" and readers[n.output[0]] == 1}
    spelled = set()
    for node in model.graph.node:
        gate = next((name for name in node.input if name in sigmoids), None)
        if node.op_type == "Mul" and gate is not None and sigmoids[gate].input[0] in node.input:
            node.op_type, node.name = "Swish", node.name.replace("/Mul", "/Swish")
            del node.input[:]
            node.input.append(sigmoids[gate].input[0])
            spelled.add(gate)
    kept = [n for n in model.graph.node if n.op_type != "Sigmoid" or n.output[0] not in spelled]
    del model.graph.node[:]
    model.graph.node.extend(kept)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's progress notes and its warnings about packages it can do without."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
