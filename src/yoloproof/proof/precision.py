"""Whose rounding is allowed for: the caller's claim, else that of the graph as it computes, never the artifact's words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx

from yoloproof.artifact.graph import Graph
from yoloproof.errors import YoloproofError
from yoloproof.names import Precision, Runtime
from yoloproof.proof.parity import TOLERANCES, Tolerance
from yoloproof.proof.stated import Stated
from yoloproof.runtime import Session


@dataclass(frozen=True)
class Allowed:
    """The precision whose rounding is allowed for, and where it comes from."""

    precision: Precision
    source: str

    @property
    def tolerance(self) -> Tolerance:
        return TOLERANCES[self.precision]


def allowed_for(
    asked: Precision | str | None, model: onnx.ModelProto | None, stated: Stated, session: Session
) -> Allowed:
    """`asked` is the caller's claim; `model` the ONNX file, where the artifact is one. YoloproofError for no precision."""
    if asked is not None:
        try:
            return Allowed(Precision(asked), "as the caller claims")
        except ValueError:
            raise YoloproofError(f"precision '{asked}' is not one of {', '.join(Precision)}") from None
    runs_in = Precision.of_dtype(session.facts.precision) or Precision.FP32
    if model is not None and session.facts.name is not Runtime.OPENVINO:
        return Allowed(computed_precision(Graph(model)), "as the graph computes")
    if stated.engine is not None:
        # what a sidecar states may make the proof stricter, never as lax as bfloat16's
        precision = runs_in if runs_in is Precision.FP32 else Precision.FP16
        return Allowed(precision, "as its sidecar states")
    return Allowed(runs_in, f"as {session.facts.name} computes")


def computed_precision(graph: Graph) -> Precision:
    """Float16 where most weights of the convolutions that reach the output are held or multiplied in it, bfloat16 where
    they are multiplied in that; else float32. An initializer that nothing reads counts for nothing."""
    reaching = graph.behind([graph.output])
    sizes: Counter[Precision] = Counter()
    for node in graph.nodes:
        if node.op_type != "Conv" or node.output[0] not in reaching:
            continue
        held, kind = node.input[1], None
        while (producer := graph.producer.get(held)) is not None and producer.op_type in ("Cast", "Identity"):
            kind = kind or next((a.i for a in producer.attribute if a.name == "to"), None)
            held = producer.input[0]
        array = graph.constants.get(held)
        if array is None:
            continue
        types = {str(array.dtype)} if kind is None else {str(onnx.helper.tensor_dtype_to_np_dtype(kind))}
        if str(array.dtype) == "float16":
            types.add("float16")
        found = Precision.FP16 if "float16" in types else Precision.BF16 if "bfloat16" in types else Precision.FP32
        sizes[found] += int(np.prod(array.shape))
    return sizes.most_common(1)[0][0] if sizes else Precision.FP32
