"""The words of the domain: each set of names once, as an enum whose members are the text that files and options hold."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

MOST_CLASSES = 32_768  # of any detector: ImageNet-21k has 21,841


class Name(str, Enum):
    """A member is its own text: it compares, formats and goes into JSON as the plain string."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(str(self.value), spec)


class Precision(Name):
    """What an artifact computes in. The sessions' facts use NumPy's names (`dtype`)."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    @property
    def dtype(self) -> str:
        """NumPy's name: "float32", "float16", "bfloat16"."""
        return {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[self.value]

    @classmethod
    def of_dtype(cls, dtype: str | None) -> Precision | None:
        """The precision of NumPy's name; None for any other type."""
        return next((precision for precision in cls if precision.dtype == dtype), None)


class TurnReason(Name):
    """Why the samples of a turn count or not, on a host whose speed is watched."""

    UNDISTURBED = "undisturbed"  # kept: neither reading was slow by the run's best until then
    TIME_UP = "time up"  # kept: a reading was slow, but the time for repeating was over
    SLOWED = "slowed"  # repeated: a reading was slow
    PROCESS_SET_ASIDE = "process set aside"  # kept, but too many turns of its process were slow by the whole run's best


class Attention(Name):
    """How area attention is computed.

    fused -- one operator; explicit -- q scaled first, then MatMul, Softmax, MatMul; published -- as the official code
    spells it: a hand-written softmax, of YOLO12 the same as explicit; stripped -- none, which is what an export through
    flash-attn 1.0.9 leaves: never verified
    """

    FUSED = "fused"
    EXPLICIT = "explicit"
    PUBLISHED = "published"
    STRIPPED = "stripped"


class Runtime(Name):
    """What runs an artifact. `auto` is the first of `yoloproof.runtime.AUTO_ORDER` that is installed and verified."""

    AUTO = "auto"
    PYTORCH = "pytorch"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    ONNXRUNTIME_CUDA = "onnxruntime-cuda"
    ONNXRUNTIME_TENSORRT = "onnxruntime-tensorrt"
    ONNXRUNTIME_TENSORRT_RTX = "onnxruntime-tensorrt-rtx"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"
    NATIVE = "native"

    @property
    def builds_engines(self) -> bool:
        """Whether it runs engines of its own, built from ONNX files."""
        return self in (Runtime.TENSORRT, Runtime.TENSORRT_RTX)


class ArtifactFormat(Name):
    """What an artifact is on disk; `pytorch` is a network that is built in the process that runs it."""

    PYTORCH = "pytorch"
    ONNX = "onnx"
    ENGINE = "engine"
    NATIVE = "native"
    TRITON = "triton"


# Official models; `yoloproof.network.variants` holds a row for each.
VARIANT_NAMES = (
    *(f"yolov13{scale}" for scale in "nslx"),
    *(f"yolov12{scale}" for scale in "nsmlx"),
    *(f"yolo12{scale}" for scale in "nsmlx"),
)


class Weights(Name):
    """Where a model's weights come from; `foreign`: a file that was made elsewhere."""

    TRAINED = "trained"
    RANDOM = "random"
    FOREIGN = "foreign"


# Told what is being done and the share of it that is done, 0…1; None where nobody knows the share.
Progress = Callable[[str, "float | None"], None]


def no_progress(what: str, share: float | None = None) -> None:
    """A Progress for callers that show none."""
