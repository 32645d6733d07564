"""The file of a native engine, `NAME.native`: a zip of plan, weights, machine code and the evidence that it is right.

    manifest.json           what the file is, and the hash of every other member
    plan.json               the launch plan
    weights.safetensors     float16, by the names in the plan
    evidence.safetensors    `images` uint8 [n, H, W, 3] and what the float32 network makes of them, `outputs`
    code/7.5.json, .cubin   per compute capability: each kernel's facts, and the machine code one after the other
    code/7.5.ptx            of the lowest capability, for GPUs that have no machine code in the file

Reading it executes nothing, on the host or a GPU: JSON, arrays of numbers, and machine code that only the CUDA driver reads.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from yoloproof.errors import YoloproofError
from yoloproof.files.new import written
from yoloproof.files.plan import Plan, WeightPointer, all_launches, check_plan
from yoloproof.files.plan_json import json_from_plan, plan_from_json

SCHEMA = 1
PLATFORM = "cuda"
SUFFIX = ".native"
REBUILD = "build it again with `yoloproof export MODEL --format native`"
MOST_BYTES = 2 << 30  # of a member: more is no detector
STORED = (
    "weights.safetensors",
)  # float16 hardly shrinks, and takes long to inflate where it is much; the rest is deflated


@dataclass(frozen=True)
class KernelFacts:
    """What a launch needs to know of a compiled kernel, and what the proof asks of it.

    parameters -- how many the entry takes; those behind the plan's arguments are unused scratch addresses
    tensor_cores -- tensor-core instructions in the machine code
    """

    entry: str
    threads: int
    shared_bytes: int
    parameters: int
    registers: int
    spilled_bytes: int
    tensor_cores: int
    triton: str


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel for one compute capability; either text of it may be empty where the file has none."""

    facts: KernelFacts
    cubin: bytes
    ptx: bytes


# Machine code by the capability it was compiled for; None for a kernel that takes more shared memory than there is.
Code = Mapping[tuple[int, int], tuple["CompiledKernel | None", ...]]


@dataclass(frozen=True)
class Evidence:
    """images -- uint8 [n, H, W, 3], letterboxed RGB; outputs -- of the float32 network on images / 255: [n, 4 + classes, A]"""

    images: NDArray[np.uint8]
    outputs: NDArray[np.float32]


@dataclass(frozen=True)
class NativeEngine:
    """An opened file.

    properties -- what it states of itself, under the same keys as our ONNX files
    built -- how it was built: versions of yoloproof, and of Triton by capability
    """

    properties: Mapping[str, str]
    built: Mapping[str, str]
    plan: Plan
    weights: Mapping[str, NDArray[np.float16]]
    code: Code
    evidence: Evidence


def write_native(engine: NativeEngine, path: Path) -> None:
    """Write a new file; the PTX of the lowest capability alone."""
    members = {
        "plan.json": json_from_plan(engine.plan).encode(),
        "weights.safetensors": save(dict(engine.weights)),
        "evidence.safetensors": save({"images": engine.evidence.images, "outputs": engine.evidence.outputs}),
    }
    lowest = min(engine.code)
    for capability, kernels in engine.code.items():
        members |= _code_members(capability, kernels, capability == lowest)
    manifest: dict[str, Any] = {
        "schema": SCHEMA, "platform": PLATFORM, "capabilities": [_text(one) for one in sorted(engine.code)],
        "properties": dict(engine.properties), "built": dict(engine.built),
        "members": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }  # fmt: skip
    manifest["seal"] = _seal(manifest)
    members = {"manifest.json": json.dumps(manifest, indent=1).encode(), **members}
    with written(path) as scratch, zipfile.ZipFile(scratch, "x") as archive:
        for name, content in members.items():
            # a fixed date: the same engine is the same file
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_STORED if name in STORED else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def read_native(path: Path) -> NativeEngine:
    """The engine in a file, every member held to its hash, the plan checked.

    Raises YoloproofError for a file that is missing, truncated, edited, of another schema or platform, or whose plan does
    not hold together, so that what is launched stays in its own memory as far as the plan tells.
    """
    members = _members(path)
    manifest = _manifest(path, members)
    try:
        plan = plan_from_json(members["plan.json"])
        check_plan(plan)
        code = {_capability(one): _kernels(one, members, len(plan.kernels)) for one in manifest["capabilities"]}
        if not code:
            raise ValueError("no machine code")
        weights = load(members["weights.safetensors"])
        engine = NativeEngine(
            _texts(manifest["properties"]), _texts(manifest["built"]), plan, weights, code,
            _evidence(members["evidence.safetensors"], plan),
        )  # fmt: skip
    except YoloproofError as error:
        raise YoloproofError(f"{path}: {error}; {REBUILD}") from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, SafetensorError) as error:
        raise YoloproofError(f"{path} is damaged ({type(error).__name__}: {error}); {REBUILD}") from None
    for launch in all_launches(plan.operations):
        for argument in launch.arguments:
            if isinstance(argument, WeightPointer) and argument.weight not in weights:
                raise YoloproofError(f"{path} lacks the weight {argument.weight}; {REBUILD}")
    return engine


def _members(path: Path) -> dict[str, bytes]:
    if not path.is_file():
        raise YoloproofError(f"{path}: no such file; {REBUILD}")
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.file_size > MOST_BYTES for entry in archive.infolist()):
                raise YoloproofError(f"{path} holds a member of over {MOST_BYTES} bytes, which no detector has")
            return {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError, RuntimeError) as error:
        raise YoloproofError(f"{path} is not a native engine, or is truncated ({error}); {REBUILD}") from None


def _manifest(path: Path, members: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(members["manifest.json"])
        schema, platform, hashes = manifest["schema"], manifest["platform"], dict(manifest["members"])
        sealed = manifest["seal"] == _seal(manifest)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise YoloproofError(f"{path} is not a native engine: it has no manifest ({error!r}); {REBUILD}") from None
    if schema != SCHEMA:
        raise YoloproofError(f"{path} has schema {schema}, this version reads {SCHEMA}; {REBUILD}")
    if platform != PLATFORM:
        raise YoloproofError(f"{path} is for {platform}, this version runs {PLATFORM}; {REBUILD}")
    for name in {*hashes, *members} - {"manifest.json"}:
        if hashes.get(name) != hashlib.sha256(members.get(name, b"")).hexdigest():
            raise YoloproofError(f"{path}: {name} was edited after the build; {REBUILD}")
    if not sealed:
        raise YoloproofError(f"{path}: manifest.json was edited after the build; {REBUILD}")
    return manifest


def _texts(values: object) -> dict[str, str]:
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise TypeError("properties and built are texts by name")
    return values


def _evidence(content: bytes, plan: Plan) -> Evidence:
    tensors = load(content)
    images, outputs = tensors["images"], tensors["outputs"]
    _, channels, height, width = plan.images
    wanted = (images.dtype == np.uint8, outputs.dtype == np.float32, len(images) == len(outputs) > 0)
    if not all(wanted) or images.shape[1:] != (height, width, channels) or outputs.shape[1:] != plan.outputs[1:]:
        raise ValueError("the evidence does not fit the plan")
    return Evidence(images, outputs)


def _code_members(
    capability: tuple[int, int], kernels: Sequence[CompiledKernel | None], with_ptx: bool
) -> dict[str, bytes]:
    """The facts with each text's length; then the texts, one after the other."""
    stem = f"code/{_text(capability)}"
    facts = [
        None if one is None else {**asdict(one.facts), "cubin": len(one.cubin), "ptx": len(one.ptx) if with_ptx else 0}
        for one in kernels
    ]
    members = {
        f"{stem}.json": json.dumps(facts).encode(),
        f"{stem}.cubin": b"".join(one.cubin for one in kernels if one),
    }
    if with_ptx:
        members[f"{stem}.ptx"] = b"".join(one.ptx for one in kernels if one)
    return members


def _kernels(capability: str, members: Mapping[str, bytes], count: int) -> tuple[CompiledKernel | None, ...]:
    stem = f"code/{capability}"
    texts = {suffix: members.get(f"{stem}.{suffix}", b"") for suffix in ("cubin", "ptx")}
    at = dict.fromkeys(texts, 0)
    found: list[CompiledKernel | None] = []
    for facts in json.loads(members[f"{stem}.json"]):
        if facts is None:
            found.append(None)
            continue
        cut: dict[str, bytes] = {}
        for suffix, text in texts.items():
            length = facts.pop(suffix)
            cut[suffix] = text[at[suffix] : at[suffix] + length]
            at[suffix] += length
        if any(type(facts.get(field.name)).__name__ != field.type for field in fields(KernelFacts)):
            raise TypeError(f"the facts of a kernel for {capability} are of another type")
        found.append(CompiledKernel(KernelFacts(**facts), cut["cubin"], cut["ptx"]))
    if len(found) != count or any(at[suffix] != len(text) for suffix, text in texts.items()):
        raise ValueError(f"machine code for {capability} does not fit the plan")
    return tuple(found)


def _seal(manifest: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _text(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _capability(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
