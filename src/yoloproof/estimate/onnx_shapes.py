"""The shape of every tensor of an ONNX file at a given batch and image size."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError
from yoloproof.files.onnx import load_onnx

Shape = tuple[int, ...]


def model_with_shapes(path: Path, batch: int, imgsz: int) -> tuple[Any, dict[str, Shape]]:
    """The model, and its shapes by tensor; a dynamic image input becomes [batch, 3, imgsz, imgsz].

    Where ONNX's own inference does not reach the end (shapes computed by the graph itself), ONNX Runtime folds the
    constants first, and the folded graph is what is returned. A tensor whose shape stays unknown has no entry.
    Raises YoloproofError for a file that is no ONNX model or whose shapes contradict each other.
    """
    model = load_onnx(path, external_data=False)
    _fix_inputs(model.graph, batch, imgsz)
    inferred, shapes = _inferred(model, path)
    if all(name in shapes for node in inferred.graph.node for name in node.output if name):
        return inferred, shapes
    folded = _folded(path, batch, imgsz)
    return (inferred, shapes) if folded is None else _inferred(folded, path)


def _fix_inputs(graph: Any, batch: int, imgsz: int) -> None:
    """Give dynamic dimensions their sizes: the image's by place, other inputs' by the same symbol, or as a batch."""
    initialised = {tensor.name for tensor in graph.initializer}
    symbols: dict[str, int] = {}
    inputs = [value for value in graph.input if value.name not in initialised]
    for index, value in enumerate(inputs):
        dims = value.type.tensor_type.shape.dim
        image = index == 0 and len(dims) == 4
        for place, dim in enumerate(dims):
            if dim.WhichOneof("value") == "dim_value":
                continue
            symbol, size = dim.dim_param, (batch, 3, imgsz, imgsz)[place] if image or place == 0 else None
            size = symbols.get(symbol, size) if symbol else size
            if size is not None:
                dim.dim_value = size
                symbols[symbol] = size


def _inferred(model: Any, path: Path) -> tuple[Any, dict[str, Shape]]:
    import onnx

    # What the exporter noted down may be symbolic or of another size: it is inferred anew.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=False)
    except onnx.shape_inference.InferenceError as error:
        raise YoloproofError(f"{path}: shapes cannot be inferred ({str(error).splitlines()[0]})") from None
    shapes: dict[str, Shape] = {}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.WhichOneof("value") == "dim_value" for dim in tensor.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer})
    return model, shapes


def _folded(path: Path, batch: int, imgsz: int) -> Any | None:
    """The graph after ONNX Runtime's constant folding; None where it cannot take it (an operator it does not have)."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="yoloproof-") as folder:
        model = load_onnx(path)
        _fix_inputs(model.graph, batch, imgsz)
        del model.graph.value_info[:]
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception:  # whatever the runtime objects to, the caller names the tensor it could not place
            return None
        return onnx.load(options.optimized_model_filepath)
