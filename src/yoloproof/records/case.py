"""What is asked for, what is built for it, and how a session runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yoloproof.names import ArtifactFormat, Attention, Precision, Runtime, Weights
from yoloproof.records.base import Record


@dataclass(frozen=True)
class Case(Record):
    """What is asked for: one row of a table.

    model -- an official name or a path; imgsz -- (height, width) in px; device -- "cpu", "cuda", "cuda:1"
    threads -- of a CPU; None leaves the choice to the runtime
    random_weights -- seeded ones instead of the official; a file keeps its own
    rewrites -- names of `yoloproof.simplify`; None: those that pay on the runtime
    kernels -- PyTorch on a GPU: our own kernels, where the case allows them; compiled -- PyTorch: torch.compile
    cuda_graph -- on a GPU a run is one launch of a captured graph, where the runtime can
    throughput -- OpenVINO: its throughput hint, and a request for each of its streams at once
    sessions -- that are served side by side in one process
    """

    model: str
    runtime: Runtime = Runtime.AUTO
    precision: Precision = Precision.FP32
    attention: Attention = Attention.FUSED
    imgsz: tuple[int, int] = (640, 640)
    batch: int = 1
    device: str = "cpu"
    threads: int | None = None
    flush_to_zero: bool = False
    random_weights: bool = False
    rewrites: tuple[str, ...] | None = None
    kernels: bool = True
    compiled: bool = False
    cuda_graph: bool = True
    throughput: bool = False
    sessions: int = 1

    @property
    def label(self) -> str:
        """The case on one line: "yolov13n fused fp32 onnxruntime"."""
        name = Path(self.model).stem if Path(self.model).suffix else self.model
        return f"{name} {self.attention} {self.precision} {self.runtime}"


@dataclass(frozen=True, kw_only=True)
class Artifact(Record):
    """What was built or found, and what it states of itself.

    path -- None for a network that PyTorch builds where it runs; sha256 -- of the file, else of the checkpoint
    simplified -- the rewrites in it; metadata -- what the file (or its sidecar) states, as stated
    """

    format: ArtifactFormat
    path: Path | None = None
    sha256: str | None = None
    bytes: int | None = None
    opset: int | None = None
    precision: Precision | None = None
    attention: Attention | None = None
    simplified: tuple[str, ...] = ()
    imgsz: tuple[int, int] | None = None
    batch: int = 1
    checkpoint_sha256: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelFacts(Record):
    """The network behind a row. flops -- floating-point operations for one image of the row's size; source -- the file or
    release the weights are from; sha256 -- of that file, None for random weights"""

    name: str
    family: str | None = None
    scale: str | None = None
    classes: int | None = None
    parameters: int | None = None
    flops: int | None = None
    weights: Weights | None = None
    source: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class SessionFacts(Record):
    """How a session really runs, as the runtime itself says.

    version -- of the library; provider -- what computes: a GPU's name, an execution provider, "CPU"
    precision -- that of the computation, NumPy's name; weights_precision -- that of the file's weights
    caller_flushes_to_zero -- whether the calling thread treats subnormal numbers as zero, which outlives a session
    nodes_by_provider -- ONNX Runtime: operators per provider; copies_timed -- transfers are inside `execute`
    filled_inputs -- further inputs of a foreign file, and what they were filled with
    performance_hint, streams, pinned -- OpenVINO; channels_last, compile, cuda_graph, tf32 -- PyTorch
    requests -- OpenVINO: that one `execute` runs at once, each on a whole batch; None: one
    tuning -- launch configurations that were chosen for our kernels
    prepare_s -- compiling and capturing; deserialize_s, first_run_s, capture_s -- of an engine
    engine_sha256, target, attention, compute_capability, runtime_cache -- of an engine, see its sidecar
    """

    name: Runtime
    version: str | None = None
    device: str | None = None
    provider: str | None = None
    provider_options: Mapping[str, str] | None = None
    nodes_by_provider: Mapping[str, int] | None = None
    threads: int | None = None
    precision: str | None = None
    weights_precision: str | None = None
    flush_to_zero: bool | None = None
    caller_flushes_to_zero: bool | None = None
    opset: int | None = None
    copies_timed: bool | None = None
    filled_inputs: Mapping[str, str] | None = None
    performance_hint: str | None = None
    streams: int | None = None
    requests: int | None = None
    pinned: bool | None = None
    channels_last: bool | None = None
    compile: bool | None = None
    cuda_graph: bool | None = None
    tf32: bool | None = None
    tuning: Mapping[str, str] | None = None
    prepare_s: float | None = None
    deserialize_s: float | None = None
    first_run_s: float | None = None
    capture_s: float | None = None
    compute_capability: str | None = None
    attention: str | None = None
    engine_sha256: str | None = None
    target: str | None = None
    runtime_cache: str | None = None
