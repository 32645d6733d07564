"""Case → artifact: weights → network → simplified network → ONNX → engine, each format by one builder.

What was built is kept in a folder under a name that holds everything it depends on, so that it is built once and never
taken for something else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

from torch import nn

import yoloproof
from yoloproof.artifact.gpu_network import compile_kernels, gpu_kernels_missing, network_with_kernels
from yoloproof.artifact.nms import NmsOptions
from yoloproof.artifact.onnx import export_onnx, read_artifact
from yoloproof.artifact.options import OnnxOptions
from yoloproof.artifact.stated import artifact_of_engine, artifact_of_native
from yoloproof.demo import demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.errors import YoloproofError
from yoloproof.files.cache import cache_folder
from yoloproof.files.native import SUFFIX, NativeEngine, write_native
from yoloproof.files.new import written
from yoloproof.names import ArtifactFormat, Attention, Precision, Progress, Runtime, no_progress
from yoloproof.network import VARIANTS, Network, load_network
from yoloproof.records import Artifact, Case
from yoloproof.simplify.choice import rewrites_for
from yoloproof.simplify.network import SimplifiedNetwork
from yoloproof.simplify.rewrites import simplify

MOST_CACHED_BYTES = 4 << 30  # of the default folder; the oldest files go first


def build(case: Case, format: ArtifactFormat, folder: Path | None = None, progress: Progress = no_progress) -> Artifact:
    """The artifact of a case in the format that its runtime opens.

    A model that is an artifact already is taken as it is; of an ONNX file TensorRT gets an engine. folder -- where what is
    built is kept; None: the user's cache. Raises YoloproofError for whatever cannot be read or built.
    """
    return BUILDERS[format](case, _folder(folder), progress)


def published_network(case: Case) -> Network:
    """The network as published, with the case's weights and attention."""
    return load_network(case.model, case.attention, random_weights=case.random_weights and case.model in VARIANTS)


def rewrites_of(case: Case) -> tuple[str, ...]:
    """The simplifications in a case's artifact: the ones it names, else those that pay on its runtime."""
    return rewrites_for(case.runtime, case.device, case.attention) if case.rewrites is None else case.rewrites


def simplified_network(case: Case) -> SimplifiedNetwork:
    """The network of a case with its simplifications."""
    return simplify(published_network(case), rewrites_of(case))


def uses_kernels(case: Case) -> bool:
    """Whether PyTorch runs the case in our kernels: fused attention in float16, on a GPU that Triton compiles for."""
    wanted = case.kernels and not case.compiled and case.rewrites is None and case.device.startswith("cuda")
    fits = (case.runtime, case.precision, case.attention) == (Runtime.PYTORCH, Precision.FP16, Attention.FUSED)
    return wanted and fits and gpu_kernels_missing(case.device) is None


def network_artifact(case: Case, folder: Path, progress: Progress = no_progress) -> Artifact:
    """What PyTorch is to run; the network itself is built in the process that runs it (`network_with_kernels`)."""
    progress("loading the weights", None)
    network = published_network(case)
    with_kernels = uses_kernels(case)
    if with_kernels:
        progress("compiling kernels for the GPU", None)
        compile_kernels(network_with_kernels(simplify(network, rewrites_of(case))), case.batch, case.imgsz)
    rewrites = (*rewrites_of(case), *(("kernels",) if with_kernels else ()))
    return Artifact(
        format=ArtifactFormat.PYTORCH, sha256=network.sha256, precision=case.precision, attention=case.attention,
        simplified=rewrites, imgsz=case.imgsz, batch=case.batch, checkpoint_sha256=network.sha256,
        metadata={"variant": network.variant.name, "names": {str(i): name for i, name in network.names.items()}},
    )  # fmt: skip


def network_for_session(case: Case, tuning: Mapping[str, str] | None = None) -> nn.Module:
    """The network that PyTorch runs for a case, built in the process that runs it.

    tuning -- launch configurations of our kernels that were chosen before; None: choose them at the first run
    """
    network = simplified_network(case)
    return network_with_kernels(network, tuning) if uses_kernels(case) else network


def onnx_artifact(case: Case, folder: Path, progress: Progress = no_progress) -> Artifact:
    """The ONNX file of a case; the case's model itself where it is one."""
    if Path(case.model).suffix == ".onnx":
        return read_artifact(Path(case.model))
    progress("loading the weights", None)
    network = published_network(case)
    path = folder / f"{_stem(case, network)}.onnx"
    if not path.exists():
        progress(f"exporting for {case.runtime}", None)
        with written(path, over=True) as scratch:
            onnx_from_network(simplify(network, rewrites_of(case)), case, scratch)
    return read_artifact(path)


def onnx_from_network(
    network: SimplifiedNetwork, case: Case, path: Path, options: OnnxOptions | None = None
) -> Artifact:
    """Write a simplified network as the ONNX file of a case: bfloat16 is the runtime's doing, its file is float32."""
    options = options or OnnxOptions()
    precision = Precision.FP32 if case.precision is Precision.BF16 else case.precision
    return export_onnx(
        network, path, imgsz=case.imgsz, batch=case.batch, precision=precision, input_type=options.input_type,
        dynamic=options.dynamic, opset=options.opset,
    )  # fmt: skip


def engine_artifact(case: Case, folder: Path, progress: Progress = no_progress) -> Artifact:
    """The engine of a case for the GPU here; the case's model itself where it is one."""
    from yoloproof.artifact.engine import engine_for_machine
    from yoloproof.artifact.tensorrt import EngineOptions

    if Path(case.model).suffix == ".engine":
        return artifact_of_engine(Path(case.model))
    onnx = onnx_artifact(case, folder, progress)
    assert onnx.path is not None
    assert onnx.sha256 is not None
    engine = folder / f"{onnx.path.stem}-{onnx.sha256[:12]}.{case.runtime}.engine"
    device = case.device if case.device.startswith("cuda") else "cuda"
    foreign = Path(case.model).suffix == ".onnx"  # a foreign file need not fuse
    options = EngineOptions(
        case.runtime, "current", require_fused=case.attention is Attention.FUSED and not foreign, device=device
    )
    progress(f"building for {case.runtime}", None)
    engine_for_machine(onnx.path, engine, options, lambda share, phase: progress(phase, share))
    return artifact_of_engine(engine)


def native_artifact(case: Case, folder: Path, progress: Progress = no_progress) -> Artifact:
    """The native engine of a case for the GPU here; the case's model itself where it is one."""
    if Path(case.model).suffix == SUFFIX:
        return artifact_of_native(Path(case.model))
    from yoloproof.artifact.native.compiling import kernels_digest
    from yoloproof.artifact.native.targets import capabilities_from_targets

    capabilities = capabilities_from_targets(("current",))
    progress("loading the weights", None)
    network = published_network(case)
    target = "-".join(f"sm{major}{minor}" for major, minor in capabilities)
    path = folder / f"{_stem(case, network)}-{target}-{kernels_digest()[:10]}{SUFFIX}"
    if not path.exists():
        with written(path, over=True) as scratch:
            write_native(native_engine(case, network, capabilities, progress), scratch)
    return artifact_of_native(path)


def native_engine(
    case: Case, network: Network, capabilities: Sequence[tuple[int, int]], progress: Progress = no_progress,
    images: Sequence[Path] = (), suppression: NmsOptions | None = None,
) -> NativeEngine:  # fmt: skip
    """The native engine of a published network for some compute capabilities.

    images -- its evidence, the first two of which it keeps; (): the bundled ones
    suppression -- of an end-to-end engine
    """
    from yoloproof.artifact.native.compiling import toolchain_for

    if case.precision is not Precision.FP16 or case.attention is not Attention.FUSED:
        raise YoloproofError(
            f"native engines compute fused attention in fp16, not {case.attention} in {case.precision}"
        )
    for capability in capabilities:
        toolchain_for(capability)  # before the kernels, which cannot be imported without Triton
    from yoloproof.artifact.native.build import native_from_network

    pictures = letterboxed(images or demo_images(), case.imgsz)
    return native_from_network(network, capabilities, pictures, case.batch, progress, suppression)


BUILDERS: dict[ArtifactFormat, Callable[[Case, Path, Progress], Artifact]] = {
    ArtifactFormat.PYTORCH: network_artifact,
    ArtifactFormat.ONNX: onnx_artifact,
    ArtifactFormat.ENGINE: engine_artifact,
    ArtifactFormat.NATIVE: native_artifact,
}


def _stem(case: Case, network: Network) -> str:
    """A file name that holds all that an ONNX file depends on."""
    weights = f"{Path(case.model).stem}-{network.sha256[:12] if network.sha256 else 'random'}"
    precision = Precision.FP32 if case.precision is Precision.BF16 else case.precision
    size = f"{case.imgsz[0]}x{case.imgsz[1]}-b{case.batch}"
    rest = [rewrites_of(case), asdict(OnnxOptions()), network.sha256 or network.source, _code_digest()]
    digest = hashlib.sha256(json.dumps(rest).encode()).hexdigest()[:10]
    return f"{weights}-{case.attention}-{precision}-{size}-{digest}"


@cache
def _code_digest() -> str:
    """Of the code and the libraries that write an ONNX file."""
    digest = hashlib.sha256(yoloproof.__version__.encode())
    for name in ("torch", "onnx", "onnxscript"):
        digest.update(f"{name} {version(name)}".encode())
    root = Path(yoloproof.__file__).parent
    for part in ("network", "simplify", "artifact"):
        for path in sorted((root / part).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _folder(folder: Path | None) -> Path:
    chosen = folder if folder is not None else cache_folder() / "artifacts"
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise YoloproofError(
            f"{chosen}: cannot be used as a folder ({error.strerror}); name another with --artifacts"
        ) from None
    if folder is None:
        _prune(chosen)
    return chosen


def _prune(folder: Path) -> None:
    """Keep the cache below MOST_CACHED_BYTES: what was not used for longest goes first."""
    files = sorted((file for file in folder.iterdir() if file.is_file()), key=lambda file: -file.stat().st_atime)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > MOST_CACHED_BYTES:
            file.unlink(missing_ok=True)
