"""Pinned requirement files: one per kind of GPU, CUDA major version and engine library.

The pins are the versions that yoloproof is tested with; `environments/` holds the files this module writes, and a test
keeps the two equal and resolves each.
"""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from yoloproof.doctor.facts import GPUS, Facts
from yoloproof.doctor.knowledge import HOPPER, MINIMUM_DRIVER, MINIMUM_DRIVER_TENSORRT, TURING, row_for
from yoloproof.engine_libraries import ORIN, VERSIONS, VOLTA, Capability, EngineLibrary, cuda_major, engine_pin
from yoloproof.errors import YoloproofError

PINS: dict[str, str] = {
    "numpy": "2.4.6",
    "torch": "2.13.0",
    "onnx": "1.23.2",
    "onnxscript": "0.7.2",
    "onnxruntime": "1.32.0",
    "onnxruntime-gpu cu12": "1.26.0",
    "onnxruntime-gpu cu13": "1.31.1",
    "openvino": "2026.4.1",
    **VERSIONS,
    "cuda-bindings": "12.9.10",
    "safetensors": "0.8.0",
    "pooch": "1.9.0",
    "tqdm": "4.70.1",
    "opencv-python-headless": "5.0.0.93",
    "pillow": "13.0.0",
    "faster-coco-eval": "1.8.0",
    "typer": "0.29.2",
    "rich": "15.0.0",
    "nvidia-ml-py": "13.615.71",
    "packaging": "26.3",
    "pydantic": "2.14.3",
    "psutil": "7.2.2",
    "scipy": "1.17.1",
    "jinja2": "3.1.6",
    "resvg-py": "0.5.0",
    "pyyaml": "6.0.3",
}

TORCH_INDEX = "https://download.pytorch.org/whl"
BASE: tuple[str, ...] = (
    "numpy",
    "onnx",
    "onnxscript",
    "safetensors",
    "pooch",
    "tqdm",
    "opencv-python-headless",
    "pillow",
    "faster-coco-eval",
    "typer",
    "rich",
    "nvidia-ml-py",
    "packaging",
    "pydantic",
    "psutil",
    "scipy",
    "jinja2",
    "resvg-py",
    "pyyaml",
)
"""What every environment holds beside PyTorch and the runtimes."""
NATIVE: tuple[str, ...] = tuple(name for name in BASE if name not in ("onnx", "onnxscript", "pooch"))
"""What a native engine is verified, timed and run with; cuda-bindings 12.9 takes every driver from 525 on."""


@dataclass(frozen=True)
class Environment:
    """A GPU's compute capability (None: CPU only), a CUDA major version (0 without a GPU), an engine library."""

    family: str
    capability: Capability | None
    cuda: int
    engine: EngineLibrary

    @property
    def name(self) -> str:
        """File name without suffix: "t4-cu12-tensorrt10"."""
        if self.capability is None:
            return self.family
        if self.engine == "native":
            return f"{self.family}-native"
        engine = {"10": "-tensorrt10", "11": "-tensorrt11", "rtx": "-rtx", "none": ""}[self.engine]
        return f"{self.family}-cu{self.cuda}{engine}"


ENVIRONMENTS: tuple[Environment, ...] = (
    Environment("cpu", None, 0, "none"),
    Environment("t4", TURING, 12, "10"),
    Environment("t4", TURING, 12, "11"),
    Environment("t4", TURING, 12, "rtx"),
    Environment("t4", TURING, 13, "10"),
    Environment("t4", TURING, 13, "11"),
    Environment("t4", TURING, 13, "rtx"),
    Environment("t4", TURING, 12, "native"),
    Environment("ampere-ada", (8, 6), 12, "10"),
    Environment("ampere-ada", (8, 6), 13, "11"),
    Environment("ampere-ada", (8, 6), 13, "rtx"),
    Environment("hopper", HOPPER, 12, "10"),
    Environment("hopper", HOPPER, 13, "11"),
)
"""The files in `environments/`."""


def cuda_for(facts: Facts) -> int:
    """The CUDA major version to install for: 13 where driver and GPU take it for sure, else 12."""
    return cuda_major(_capability(facts), _takes_13(facts), None)


def cuda_of_packages(facts: Facts) -> int:
    """The CUDA major version of the packages to add: PyTorch's where it has one, else that of `cuda_for`."""
    return cuda_major(_capability(facts), _takes_13(facts), facts.torch_cuda)


def _capability(facts: Facts) -> Capability | None:
    return None if facts.gpu is None else facts.gpu.capability


def _takes_13(facts: Facts) -> bool:
    return _driver_branch(facts) >= MINIMUM_DRIVER[13]


def _driver_branch(facts: Facts) -> int:
    """Major version of the driver; one that is unknown counts as old, since CUDA 12 runs on new drivers too."""
    try:
        return Version(facts.driver or "0").major
    except InvalidVersion:
        return 0


def environment_for(facts: Facts, cuda: int | None = None, engine: EngineLibrary | None = None) -> Environment:
    """The environment that fits `facts`; `cuda` (12 or 13) and `engine` override the choice.

    Raises YoloproofError for a combination that cannot work, saying which would.
    """
    if facts.gpu is None:
        if cuda is not None or engine not in (None, "none"):
            raise YoloproofError("doctor: --cuda and --tensorrt need a GPU; name one with --gpu, for example --gpu t4")
        return ENVIRONMENTS[0]
    capability = facts.gpu.capability
    if engine == "native":
        if row_for("native engine", capability).support == "no":
            raise YoloproofError(f"doctor: native engines do not run on {facts.gpu.name}; take --tensorrt 10")
        return Environment(_family(capability), capability, 12, engine)
    cuda = cuda or cuda_for(facts)
    engine = engine or "10"
    name = facts.gpu.name
    if cuda not in (12, 13):
        raise YoloproofError(f"doctor: --cuda {cuda} is not supported; take 12 or 13")
    if capability == ORIN:
        raise YoloproofError(
            f"doctor: {name} takes PyTorch and TensorRT from its JetPack, not from PyPI, so there are no pins for it; "
            "install the other packages of `yoloproof doctor --gpu none --requirements`"
        )
    wheel = "PyTorch, CUDA 13 wheel" if cuda == 13 else "PyTorch, CUDA 12.6 wheel"
    if row_for(wheel, capability).support != "yes":
        raise YoloproofError(f"doctor: PyTorch's CUDA {cuda} wheel has no code for {name}; take --cuda {25 - cuda}")
    if engine == "rtx" and row_for("TensorRT-RTX", capability).support != "yes":
        raise YoloproofError(f"doctor: TensorRT-RTX does not run on {name}; take --tensorrt 10")
    if engine == "11" and capability == VOLTA:
        raise YoloproofError(f"doctor: TensorRT 11 does not run on {name}; take --tensorrt 10")
    return Environment(_family(capability), capability, cuda, engine)


def _family(capability: Capability) -> str:
    if capability == VOLTA:
        return "v100"
    if capability == TURING:
        return "t4"
    if capability == HOPPER:
        return "hopper"
    return "ampere-ada" if capability < HOPPER else "blackwell"


def requirements_text(environment: Environment) -> str:
    """The requirement file of `environment`: header, PyTorch's index where needed, one pin a line."""
    return "\n".join([*_header(environment), *_pins(environment)]) + "\n"


def _pins(environment: Environment) -> list[str]:
    cuda, capability = environment.cuda, environment.capability
    if environment.engine == "native":
        return [f"{name}=={PINS[name]}" for name in ("cuda-bindings", *NATIVE)]
    base = [f"{name}=={PINS[name]}" for name in BASE]
    torch = PINS["torch"]
    if capability is None:
        runtimes = [f"onnxruntime=={PINS['onnxruntime']}", f"openvino=={PINS['openvino']}"]
        return [f"--extra-index-url {TORCH_INDEX}/cpu", f"torch=={torch}+cpu", *runtimes, *base]
    engine = engine_pin(capability, cuda, environment.engine)
    runtimes = [f"onnxruntime-gpu=={PINS[f'onnxruntime-gpu cu{cuda}']}", *([engine] if engine else [])]
    if cuda == 12:
        return [f"--extra-index-url {TORCH_INDEX}/cu126", f"torch=={torch}+cu126", *runtimes, *base]
    return [f"torch=={torch}", *runtimes, *base]


def _header(environment: Environment) -> list[str]:
    lines = [
        f"# {environment.name}: written by `yoloproof doctor --requirements`; Python 3.11 or newer, Linux x86-64.",
        "# Install: pip install -r THIS_FILE && pip install --no-deps .   (the second in yoloproof's folder)",
    ]
    if environment.capability is None:
        return [*lines, "# CPU only: ONNX Runtime and OpenVINO."]
    if environment.engine == "native":
        return [
            *lines, f"# NVIDIA driver {MINIMUM_DRIVER[12]} or newer. For .native files, which are built elsewhere:",
            "# a few hundred MB, no PyTorch, ONNX and TensorRT. `yoloproof doctor --native FILE` says whether a file fits.",
        ]  # fmt: skip
    drivers = MINIMUM_DRIVER if environment.engine == "rtx" else MINIMUM_DRIVER_TENSORRT
    lines += [
        f"# NVIDIA driver {drivers[environment.cuda]} or newer. flash-attn is left out on purpose: nothing needs it.",
        "# onnxruntime-gpu stands in for onnxruntime: the two must not be installed together.",
    ]
    if environment.cuda == 13:
        lines.append("# PyTorch's wheel of this version on the default index is its CUDA 13 build.")
    else:
        lines.append("# With uv in place of pip: --index-strategy unsafe-best-match, for two indexes are read.")
    if environment.engine in ("10", "11"):
        lines.append(
            "# The tensorrt package fetches its libraries from pypi.nvidia.com while it installs: 2 to 3 GB, during"
        )
        lines.append("# which pip says `Preparing metadata` and shows no progress. Nothing is stuck.")
    return lines


def install_line(facts: Facts, *replaced: str) -> str:
    """What installs the pinned packages for the machine of `facts`, after removing those `replaced` by other builds.

    Beside a GPU the pins hold onnxruntime-gpu, which must not come to lie beside onnxruntime.
    """
    if facts.gpu is not None and facts.gpu.capability == ORIN:
        return "take PyTorch and TensorRT from the JetPack"
    gpu = "" if facts.gpu is None else next((f" --gpu {key}" for key, row in GPUS.items() if row == facts.gpu), "")
    if facts.gpu is not None and "onnxruntime" in facts.packages:
        replaced += ("onnxruntime",)
    remove = f"pip uninstall -y {' '.join(replaced)} && " if replaced else ""
    return f"{remove}yoloproof doctor{gpu} --requirements > requirements.txt && pip install -r requirements.txt"
