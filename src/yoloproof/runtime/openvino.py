"""OpenVINO on the CPU.

Left to itself OpenVINO computes in bfloat16 on a CPU that has units for it and says nothing, so the precision is
always set here, and what stands on record is what the compiled model answers, not what was asked.
"""

from __future__ import annotations

import threading
from collections.abc import Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.files.onnx import OnnxFile, load_onnx, read_onnx_file
from yoloproof.names import Precision, Runtime
from yoloproof.records import SessionFacts
from yoloproof.runtime.base import Outputs, Session, SessionSpec, TensorSpec, took_too_long
from yoloproof.runtime.tensors import cast_images, check_images, companion_inputs, image_first, with_filled_inputs
from yoloproof.runtime.threads import physical_cores

# The device capability that a precision needs, and OpenVINO's name of the element type.
ELEMENTS = {Precision.FP32: ("FP32", "f32"), Precision.BF16: ("BF16", "bf16"), Precision.FP16: ("FP16", "f16")}


class OpenVinoSession(Session):
    """An ONNX file compiled by OpenVINO for the CPU.

    `spec.precision` is the precision of the arithmetic: float32 unless bfloat16 or float16 is asked for, whatever
    the file's weights are stored in. Of the options it knows `inputs`, `throughput` and `pinned`.
    """

    def __init__(self, spec: SessionSpec) -> None:
        if spec.path is None:
            raise YoloproofError("openvino opens a file: give a path to an .onnx")
        if spec.device != "cpu":
            raise YoloproofError(f"openvino runs on the CPU here, not on {spec.device}; use --device cpu")
        path = self._path = Path(spec.path)
        file = read_onnx_file(path)
        self._compiled, precision = _compile(path, spec)
        self._requests = [self._compiled.create_infer_request() for _ in range(_requests(self._compiled, spec))]
        self._given = spec.options.inputs
        graph = load_onnx(path, external_data=False).graph
        names = {value.name for value in (*graph.input, *graph.output)}
        self.inputs = image_first([_tensor_spec(port, names) for port in self._compiled.inputs], str(path))
        self.outputs = tuple(_tensor_spec(port, names) for port in self._compiled.outputs)
        self._arrays: dict[str, NDArray[Any]] = {}
        self.facts = replace(
            _facts(self._compiled, file), requests=len(self._requests) if spec.options.throughput else None
        )
        if self.facts.precision != precision.dtype:
            raise YoloproofError(
                f"{path}: OpenVINO computes in {self.facts.precision} though {precision.dtype} was set; "
                "it cannot be timed under that name on this CPU"
            )

    def load(self, images: NDArray[np.float32]) -> None:
        from openvino import Tensor

        check_images(images, self.inputs[0])
        arrays = {self.inputs[0].name: cast_images(images, self.inputs[0].dtype)}
        arrays |= companion_inputs(self.inputs[1:], images.shape, self._given)
        self.facts = with_filled_inputs(self.facts, {spec.name: arrays[spec.name] for spec in self.inputs[1:]})
        for name, array in arrays.items():
            for request in self._requests:
                request.set_tensor(name, Tensor(array, shared_memory=True))
        self._arrays = arrays  # the requests hold views

    def execute(self) -> None:
        for request in self._requests:
            request.start_async()
        for request in self._requests:
            request.wait()

    def execute_within(self, limit_s: float) -> None:
        for request in self._requests:
            request.start_async()
        for request in self._requests:
            if not request.wait_for(int(limit_s * 1000)):
                # OpenVINO cannot leave a loop: a thread keeps what runs alive until the process ends, which would hang else.
                threading.Thread(target=_hold, args=(self._requests, self._compiled), daemon=True).start()
                raise took_too_long(self._path, limit_s)
            request.wait()  # raises what went wrong

    def fetch(self) -> Outputs:
        """The first request's outputs; the others', of the same images, are the same."""
        first = self._requests[0]
        return tuple(np.array(first.get_output_tensor(i).data, copy=True) for i in range(len(self.outputs)))

    def close(self) -> None:
        del self._requests, self._compiled


def _hold(requests: list[Any], compiled: Any) -> None:
    """Keep what runs, and the compiled model, alive until it ends."""
    for request in requests:
        request.wait()
    del compiled


def lacks_precision(precision: Precision) -> str | None:
    """Why OpenVINO cannot compute in a precision on this CPU, and what to do; None where it can."""
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    able = [name for name, (needs, _) in ELEMENTS.items() if needs in capabilities]
    if precision in able:
        return None
    return f"openvino cannot compute in {precision} on this CPU; use --precision {' or '.join(able)}"


def _compile(path: Path, spec: SessionSpec) -> tuple[Any, Precision]:
    """The compiled model and the precision that was set."""
    import openvino
    from openvino import properties
    from openvino.properties import hint, intel_cpu

    core = openvino.Core()
    precision = spec.precision or Precision.FP32
    incapable = lacks_precision(precision)
    if incapable is not None:
        raise YoloproofError(incapable)
    config = {
        hint.inference_precision: getattr(openvino.Type, ELEMENTS[precision][1]),
        hint.performance_mode: getattr(hint.PerformanceMode, "THROUGHPUT" if spec.options.throughput else "LATENCY"),
        properties.inference_num_threads: spec.threads or physical_cores(),
        intel_cpu.denormals_optimization: spec.flush_to_zero,
    }
    if not spec.options.pinned:
        config[hint.enable_cpu_pinning] = False
    try:
        return core.compile_model(core.read_model(path), "CPU", config), precision
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if not line.startswith("Exception from")), lines[0])
        raise YoloproofError(
            f"{path}: openvino {openvino.__version__} cannot take it: {reason[:300]}; "
            "export it again with another opset, or update openvino"
        ) from None


def _requests(compiled: Any, spec: SessionSpec) -> int:
    """How many requests run at once: one, or under the throughput hint as many as OpenVINO says keep its streams busy."""
    from openvino import properties

    return int(compiled.get_property(properties.optimal_number_of_infer_requests)) if spec.options.throughput else 1


def _facts(compiled: Any, file: OnnxFile) -> SessionFacts:
    """What the compiled model says of itself."""
    import openvino
    from openvino import properties
    from openvino.properties import hint, intel_cpu

    names = {ours: precision.dtype for precision, (_, ours) in ELEMENTS.items()}
    element = compiled.get_property(hint.inference_precision).get_type_name()
    return SessionFacts(
        name=Runtime.OPENVINO,
        version=openvino.__version__,
        device="cpu",
        provider="CPU",
        threads=int(compiled.get_property(properties.inference_num_threads)),
        streams=int(compiled.get_property(properties.num_streams)),
        precision=names.get(element, element),
        weights_precision=file.precision,
        opset=file.opset,
        performance_hint=str(compiled.get_property(hint.performance_mode)),
        flush_to_zero=bool(compiled.get_property(intel_cpu.denormals_optimization)),
        pinned=bool(compiled.get_property(hint.enable_cpu_pinning)),
    )


def _tensor_spec(port: Any, names: Set[str]) -> TensorSpec:
    """Of a port's names the one that the file's input or output has; OpenVINO adds those of nodes it removed."""
    shape = tuple(
        dimension.get_length() if dimension.is_static else str(dimension) for dimension in port.get_partial_shape()
    )
    name = min(port.get_names() & names or {port.get_any_name()})
    return TensorSpec(name, shape, str(np.dtype(port.get_element_type().to_dtype())))
