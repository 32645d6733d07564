"""The model on a GPU it was not calibrated on, with that GPU's measured ceilings, against this project's own timings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yoloproof.errors import YoloproofError
from yoloproof.estimate.gpus import GPUS, GpuRates, gpu_with_ceilings
from yoloproof.estimate.kernels import table_from_kernels
from yoloproof.estimate.posterior import Posterior
from yoloproof.estimate.shapes import kernels_from_shapes, layer_shapes
from yoloproof.names import Precision, Runtime
from yoloproof.records import Entry, Result
from yoloproof.results.labels import KERNELS, gpu_name, precision_of, takes_frames
from yoloproof.results.published import same_gpu

# Measured on this project's H200s, 2026-10-28 and 2026-11-04.
H200_MATRIX_FLOPS_S = 788e12  # float16, 8192³, random data; 769 to 798 TFLOP/s on all H200s seen
H200_COPY_BYTES_S = 4.3e12  # from the device's memory to itself, bytes read and bytes written
H200 = gpu_with_ceilings(GPUS["h200"], H200_MATRIX_FLOPS_S, H200_COPY_BYTES_S)


@dataclass(frozen=True)
class TransferRow:
    """A row of a result file beside the estimate for it, in seconds. model -- the architecture, whatever its file is called"""

    entry: Entry
    model: str
    measured_s: float
    estimated_s: float

    @property
    def title(self) -> str:
        """ "yolov13n ×32": the model and its batch, if that is not 1."""
        batch = self.entry.artifact.batch
        return self.model + (f" ×{batch}" if batch > 1 else "")

    @property
    def how(self) -> str:
        """What ran the network, in words."""
        if self.entry.runtime.name is Runtime.NATIVE or KERNELS in self.entry.artifact.simplified:
            return "our kernels"
        return "PyTorch, compiled" if self.entry.runtime.compile else "PyTorch, eager"

    @property
    def error(self) -> float:
        """Estimated over measured, less one."""
        return self.estimated_s / self.measured_s - 1


def transfer_rows(posterior: Posterior, result: Result) -> list[TransferRow]:
    """Every timing of a network that the model describes, in the file's order.

    Raises YoloproofError for a row of another machine: the ceilings are an H200's.
    """
    rows = []
    for entry in result.entries:
        name = gpu_name(result.run_of(entry))
        if not same_gpu(H200.title, name):
            raise YoloproofError(f"a row of {name or 'a CPU'}: the ceilings are those of an {H200.title}")
        network = _network(entry)
        if network is None or entry.summary is None:
            continue
        measured_s = entry.summary.device_median_s or entry.summary.median_s  # a graph's kernels, by the device's clock
        rows.append(TransferRow(entry, network[0], measured_s, kernel_seconds(posterior, H200, *network)))
    return rows


def kernel_seconds(posterior: Posterior, gpu: GpuRates, model: str, attention: str, batch: int, imgsz: int) -> float:
    """Seconds of the kernels alone: within a CUDA graph nothing of a table's offset or factor applies."""
    table = table_from_kernels([kernels_from_shapes(model, attention, batch, imgsz)])
    return float(posterior.point.kernel_s(table, gpu)[0])


def _network(entry: Entry) -> tuple[str, str, int, int] | None:
    """Model, attention, batch and the image's side, if the model describes the row: float16 in a CUDA graph, by PyTorch
    or our kernels. None for the rest: also for an end-to-end engine, whose graph prepares frames and picks boxes, and for
    Turing's code run from PTX, whose tiles are not an H200's."""
    artifact, runtime, published = entry.artifact, entry.runtime, entry.published
    if runtime.name not in (Runtime.PYTORCH, Runtime.NATIVE) or not runtime.cuda_graph:
        return None
    if precision_of(entry) != Precision.FP16 or takes_frames(entry) or "PTX" in (runtime.target or ""):
        return None
    if published is None or published.model not in layer_shapes() or artifact.attention is None:
        return None
    height, width = artifact.imgsz or (0, 0)
    return (published.model, artifact.attention, artifact.batch, height) if height == width > 0 else None


def mean_error(rows: Sequence[TransferRow]) -> tuple[int, float, float]:
    """How many timings, their mean error with its sign, and the mean absolute error."""
    errors = np.array([row.error for row in rows])
    return len(errors), float(errors.mean()), float(np.abs(errors).mean())
