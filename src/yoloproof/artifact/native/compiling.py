"""Kernels → machine code, ahead of time and without a GPU, kept in a cache by what they depend on.

Two Tritons, because neither serves alone: 3.2 is the last that uses Turing's tensor cores (7.5), the installed one is
for 8.0 and later. `results/README.md` has the figures.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

import yoloproof
from yoloproof.artifact.native.targets import CAPABILITIES, Capability
from yoloproof.artifact.native.worker import Task
from yoloproof.errors import YoloproofError
from yoloproof.files.cache import cache_folder
from yoloproof.files.native import CompiledKernel, KernelFacts
from yoloproof.files.plan import Kernel
from yoloproof.names import Progress, no_progress

TURING_TRITON = "3.2.0"
_KERNELS = Path(yoloproof.__file__).parent / "kernels"
_WORKER = Path(yoloproof.__file__).parent / "artifact/native/worker.py"
LEAST_FOR_PIPELINES = (8, 0)  # asynchronous copies to shared memory, with which Triton loads ahead by itself
LEAST_FOR_EARLY_START = (9, 0)  # CUDA's programmatic dependent launch


@dataclass(frozen=True)
class Toolchain:
    """A Triton. path -- a folder to put in front of Python's path; None: the installed one."""

    version: str
    path: Path | None


def compile_kernels(
    kernels: Sequence[Kernel], capability: Capability, progress: Progress = no_progress, processes: int | None = None
) -> list[CompiledKernel | None]:
    """Machine code of every kernel for a compute capability; None where it takes more shared memory than there is.

    Raises YoloproofError for a capability that is not in CAPABILITIES, without its Triton, or where compiling fails.
    """
    if capability not in CAPABILITIES:
        known = ", ".join(f"{major}.{minor}" for major, minor in CAPABILITIES)
        raise YoloproofError(
            f"no native engine for compute capability {capability[0]}.{capability[1]}; choose from {known}"
        )
    toolchain = toolchain_for(capability)
    folder = cache_folder() / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [_task(kernel, capability, toolchain) for kernel in kernels]
    missing = [task for task in tasks if not (folder / f"{task.key}.json").exists()]
    if missing:
        _run_worker(missing, folder, toolchain, progress, processes or len(os.sched_getaffinity(0)))
    compiled = [_read(folder, task.key) for task in tasks]
    return [one if one.facts.shared_bytes <= CAPABILITIES[capability] else None for one in compiled]


def starts_early(capability: Capability) -> bool:
    """Whether a launch may be set up while the one before still runs."""
    return capability >= LEAST_FOR_EARLY_START


def toolchain_for(capability: Capability) -> Toolchain:
    """The Triton that compiles for a capability; YoloproofError with the pip line where it is not there.

    The installed one is needed for every capability: the kernels are read by it before another compiles them.
    """
    try:
        installed = version("triton")
    except PackageNotFoundError:
        raise YoloproofError("building native engines needs Triton: pip install triton (Linux, x86-64)") from None
    if capability < (8, 0):
        folder = cache_folder() / f"triton-{TURING_TRITON}"
        found = next((d for d in distributions(path=[str(folder)]) if d.metadata["Name"] == "triton"), None)
        if found is None or found.version != TURING_TRITON:
            raise YoloproofError(
                "kernels for Turing need the last Triton that uses its tensor cores: "
                f"pip install --no-deps --target {folder} triton=={TURING_TRITON}"
            )
        return Toolchain(TURING_TRITON, folder)
    return Toolchain(installed, None)


@cache
def kernels_digest() -> str:
    """Of the kernels' modules and of the code that hands them to Triton: what plans and machine code depend on."""
    digest = hashlib.sha256(_WORKER.read_bytes())
    for path in sorted(_KERNELS.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def kernel_digest(name: str) -> str:
    """Of one kernel's source and of all that it calls, without layout and comments: what its machine code depends on."""
    known, wanted, taken = _definitions(), [name], dict[str, str]()
    while wanted:
        one = wanted.pop()
        if one in known and one not in taken:
            taken[one] = known[one]
            wanted += re.findall(r"Name\(id='(\w+)'", known[one])
    return hashlib.sha256(repr((sorted(taken.items()), _WORKER.read_text())).encode()).hexdigest()


@cache
def _definitions() -> dict[str, str]:
    """Functions for Triton and constants of the kernels' modules, by name."""
    found: dict[str, str] = {}
    for path in sorted(_KERNELS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.FunctionDef) and any("jit" in ast.dump(one) for one in node.decorator_list):
                names = [node.name]
            elif isinstance(node, ast.Assign) and node.col_offset == 0:
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in names:
                found[name] = found.get(name, "") + ast.dump(node)
    return found


def _task(kernel: Kernel, capability: Capability, toolchain: Toolchain) -> Task:
    constants = {**dict(kernel.constants), "EARLY": int(starts_early(capability))}
    if "AHEAD" in constants:
        constants["AHEAD"] = int(capability < LEAST_FOR_PIPELINES)
    stated = repr((kernel, sorted(constants.items()), capability, toolchain.version, kernel_digest(kernel.name)))
    key = hashlib.sha256(stated.encode()).hexdigest()[:24]
    return Task(key, kernel.name, kernel.arguments, constants, 10 * capability[0] + capability[1])


def _run_worker(tasks: list[Task], folder: Path, toolchain: Toolchain, progress: Progress, processes: int) -> None:
    path = [entry or os.getcwd() for entry in sys.path]
    front = [] if toolchain.path is None else [str(toolchain.path)]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([*front, *path]), "TRITON_DISABLE_LINE_INFO": "1",
        "TRITON_ALWAYS_COMPILE": "1",  # its own cache does not tell a process's first kernel from others (worker.warm_up)
    }  # fmt: skip
    command = [sys.executable, "-m", "yoloproof.artifact.native.worker", str(folder), str(min(processes, len(tasks)))]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([asdict(task) for task in tasks]))
        process.stdin.close()
        for done, _ in enumerate(process.stdout, start=1):
            progress(f"compiling {len(tasks)} kernels", done / len(tasks))
        process.wait()
        errors.seek(0)
        told = errors.read().strip().splitlines()
    if process.returncode != 0:
        raise YoloproofError(
            f"Triton {toolchain.version} could not compile the kernels: {told[-1] if told else 'no reason'}"
        )


def _read(folder: Path, key: str) -> CompiledKernel:
    facts = KernelFacts(**json.loads((folder / f"{key}.json").read_text()))
    return CompiledKernel(facts, (folder / f"{key}.cubin").read_bytes(), (folder / f"{key}.ptx").read_bytes())
