"""What an engine file is, on record beside it, and why another machine or a later day must not load it.

An engine says nothing readable of itself: which weights, which GPU, which library. Its sidecar `NAME.engine.json`
does, and holds the engine's own hash; the ONNX file's hash is also the network's name inside the engine. Nothing here
needs TensorRT: a refusal comes before the library sees the file.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.new import write_over
from yoloproof.files.reading import MOST_JSON_BYTES, check_regular
from yoloproof.names import Runtime

SCHEMA = 1
REBUILD = "build it again with `yoloproof export MODEL --format engine`"


@dataclass(frozen=True)
class EngineIdentity:
    """The sidecar.

    onnx_sha256, checkpoint_sha256 -- what it was made from (None where the ONNX file does not name its checkpoint)
    compute_capabilities -- where it runs; gpu -- the GPU's name, where it was built for the one present
    inputs, outputs -- (name, shape with -1 where dynamic, dtype) of each
    precision -- that of most layers, NumPy's name; attention -- as the ONNX file states it, else as its graph shows it
    options -- the builder's options; audit -- what became of the attention (`yoloproof.artifact.engine_audit`)
    onnx_metadata -- what the ONNX file says of itself
    """

    engine_sha256: str
    engine_bytes: int
    onnx_sha256: str
    checkpoint_sha256: str | None
    runtime: Runtime
    version: str
    target: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None
    platform: str
    precision: str
    attention: str
    options: Mapping[str, object]
    audit: Mapping[str, object]
    onnx_metadata: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    outputs: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    build_s: float | None = None

    @property
    def version_compatible(self) -> bool:
        """Whether later versions of TensorRT may load it too."""
        return bool(self.options.get("version_compatible"))

    @property
    def hardware_compatible(self) -> str | None:
        """ "ampere+" or "same" where it runs on other GPUs than the one it was built on."""
        level = self.options.get("hardware_compatible")
        return None if level is None else str(level)

    @property
    def largest_batch(self) -> int | None:
        """Of its optimisation profile; None where the batch is fixed."""
        shapes = self.options.get("shapes")
        batches = [largest[0] for _, _, largest in shapes.values()] if isinstance(shapes, Mapping) else []
        return min(batches, default=None)


def host_platform() -> str:
    """Operating system and processor: "linux-x86_64"."""
    return f"{platform.system()}-{platform.machine()}".lower()


@dataclass(frozen=True)
class EngineHost:
    """What an engine is asked to run on: the library's version, the GPU's compute capability and name."""

    runtime: Runtime
    version: str
    compute_capability: str
    gpu: str
    platform: str = field(default_factory=host_platform)


def sidecar_path(engine: Path) -> Path:
    """`yolov13n.engine` → `yolov13n.engine.json`."""
    return engine.with_name(engine.name + ".json")


def network_name(onnx_sha256: str) -> str:
    """The name an engine's network carries inside the file."""
    return f"yoloproof onnx {onnx_sha256}"


def write_identity(engine: Path, identity: EngineIdentity) -> None:
    """Write the sidecar of an engine file, sealed by a hash over itself."""
    record = {"schema": SCHEMA, **asdict(identity)}
    record["seal"] = _seal(record)
    write_over(json.dumps(record, indent=1, sort_keys=True) + "\n", sidecar_path(engine))


def _seal(record: Mapping[str, object]) -> str:
    """SHA-256 of a record as JSON, without its own seal."""
    plain = {key: value for key, value in record.items() if key != "seal"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_identity(engine: Path) -> EngineIdentity:
    """The identity of an engine file, held to the file itself.

    Raises YoloproofError where the file is missing, empty or not the one its sidecar describes, or where there is no
    readable, unedited sidecar: an engine that came from elsewhere, which nothing proves to be what its name says.
    """
    if not engine.is_file():
        raise YoloproofError(f"{engine}: no such file; {REBUILD}")
    size = engine.stat().st_size
    if size == 0:
        raise YoloproofError(f"{engine} is empty, a build that broke off; {REBUILD}")
    sidecar = sidecar_path(engine)
    if not sidecar.is_file():
        raise YoloproofError(
            f"{engine} has no {sidecar.name} beside it, so there is no telling what it is; {_origin(engine)}"
        )
    identity = _identity_from_json(sidecar)
    if identity.engine_bytes != size or identity.engine_sha256 != sha256_of(engine):
        raise YoloproofError(
            f"{engine} is not the file that {sidecar.name} describes: edited, truncated or replaced; {REBUILD}"
        )
    return identity


def _origin(engine: Path) -> str:
    """A remedy that names the tool an engine without a sidecar came from, where its first bytes tell."""
    with engine.open("rb") as file:
        head = file.read(4096)
    if b"version https://git-lfs" in head:
        return "it is a Git-LFS pointer: fetch it with `git lfs pull`"
    if len(head) > 5 and head[4:5] == b"{" and 0 < int.from_bytes(head[:4], "little") < 1 << 20:
        return (
            f"it was written by ultralytics (JSON in front of the engine); give the ONNX file or weights and {REBUILD}"
        )
    return f"give the ONNX file or weights and {REBUILD}"


def _identity_from_json(sidecar: Path) -> EngineIdentity:
    from pydantic import TypeAdapter

    check_regular(sidecar, MOST_JSON_BYTES)
    try:
        record = json.loads(sidecar.read_text(encoding="utf-8"))
        schema = record.pop("schema")
        if schema != SCHEMA:
            raise YoloproofError(f"{sidecar} has schema {schema}, this version reads {SCHEMA}; {REBUILD}")
        if record.pop("seal") != _seal({"schema": schema, **record}):
            raise YoloproofError(f"{sidecar} was edited after the build; {REBUILD}")
        if unknown := set(record) - {one.name for one in fields(EngineIdentity)}:
            raise ValueError(f"unknown {min(unknown)}")
        identity: EngineIdentity = TypeAdapter(EngineIdentity).validate_json(json.dumps(record), strict=True)
        if identity.largest_batch is not None and type(identity.largest_batch) is not int:
            raise ValueError("a batch that is no number")
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise YoloproofError(
            f"{sidecar} is not an engine's sidecar ({type(error).__name__}: {reason}); {REBUILD}"
        ) from None
    return identity


def check_engine(engine: Path, host: EngineHost, *, onnx_sha256: str | None = None) -> EngineIdentity:
    """The engine's identity if this machine may load it, and, where a hash is given, if it was made from that ONNX file.

    Raises YoloproofError with the reason and the remedy otherwise.
    """
    identity = read_identity(engine)
    reason = _refusal(identity, host, onnx_sha256)
    if reason is not None:
        raise YoloproofError(f"{engine}: {reason}")
    return identity


def _refusal(identity: EngineIdentity, host: EngineHost, onnx_sha256: str | None) -> str | None:
    if onnx_sha256 is not None and onnx_sha256 != identity.onnx_sha256:
        made_from = identity.onnx_sha256[:12]
        return f"stale: made from another ONNX file (sha256 {made_from}, not {onnx_sha256[:12]}); {REBUILD}"
    if identity.runtime != host.runtime:
        return f"{host.runtime} cannot load a {identity.runtime} engine; open it with --runtime {identity.runtime}"
    if not _version_fits(identity, host.version):
        return (
            f"built by {identity.runtime} {identity.version}, which {host.version} here cannot load; "
            f"{REBUILD} or install {identity.version}"
        )
    if identity.platform != host.platform and identity.runtime == Runtime.TENSORRT:
        return f"built on {identity.platform}, not for {host.platform}: TensorRT engines cannot be moved between platforms; {REBUILD}"
    return _gpu_refusal(identity, host)


def _version_fits(identity: EngineIdentity, version: str) -> bool:
    """The very version; a version-compatible TensorRT engine also loads in later ones (TensorRT 10.16, 11.1 docs)."""
    if identity.version == version:
        return True
    if identity.runtime != Runtime.TENSORRT or not identity.version_compatible:
        return False
    return _numbers(version) >= _numbers(identity.version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _gpu_refusal(identity: EngineIdentity, host: EngineHost) -> str | None:
    here = f"{host.gpu} (compute capability {host.compute_capability})"
    compatible = identity.hardware_compatible
    if compatible == "ampere+" and _numbers(host.compute_capability) >= (8, 0):
        return None
    if host.compute_capability not in identity.compute_capabilities:
        target = f"sm{host.compute_capability.replace('.', '')}"
        built_for = ", ".join(identity.compute_capabilities)
        return f"built for compute capability {built_for}, not for {here}; {REBUILD} --target {target}"
    if identity.runtime == Runtime.TENSORRT and compatible is None and identity.gpu != host.gpu:
        return (
            f"its kernels were chosen on {identity.gpu}, not on {here}; {REBUILD} here, or with hardware compatibility"
        )
    return None
