"""Compiling kernels in processes of their own, by whichever Triton stands first on the path: 3.2, or 3.3 and later.

Run as a module by `compiling.py`. The kernels come as JSON on standard input; each result is one folder entry
`KEY.json` (a `KernelFacts`) with `KEY.cubin` and `KEY.ptx` beside it.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from yoloproof.files.native import KernelFacts

OPTIONS = ("num_warps", "num_stages")
TENSOR_CORE_OPCODES = frozenset({0x03C, 0x1F0, 0x1EA})  # HMMA, Hopper's HGMMA, Blackwell's UTCHMMA
_PROGBITS, _EXECUTABLE = 1, 4  # of a section, in ELF


@dataclass(frozen=True)
class Task:
    """A kernel to compile. key -- the name of its files; arguments, constants -- as `files.plan.Kernel`."""

    key: str
    name: str
    arguments: tuple[str, ...]
    constants: Mapping[str, int]
    capability: int


@cache
def kernel_named(name: str) -> Any:
    """The kernel of that name in `yoloproof.kernels`, whichever module it stands in."""
    import yoloproof.kernels as package

    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        kernel = getattr(import_module(module.name), name, None)
        if kernel is not None:
            return kernel
    raise LookupError(f"yoloproof.kernels has no kernel {name}")


def warm_up(task: Task) -> None:
    """Compile a kernel for nothing, so that every other comes out the same wherever it stands in its process.

    Triton 3.2 has optimised the first kernel before it sets LLVM's `nvptx-short-ptr`, which then holds for the process.
    """
    with suppress(Exception):  # told where the kernel is compiled in earnest
        _compiled(task)


def compile_task(task: Task, folder: Path) -> None:
    """Compile one kernel; its files appear whole, the JSON last."""
    import triton

    compiled = _compiled(task)
    ptx, cubin, metadata = compiled.asm["ptx"], compiled.asm["cubin"], compiled.metadata
    facts = KernelFacts(
        metadata.name,
        32 * metadata.num_warps,
        metadata.shared,
        _parameters(ptx),
        *_inspected(cubin),
        triton.__version__,
    )
    for suffix, content in (
        ("ptx", ptx.encode()),
        ("cubin", cubin),
        ("json", json.dumps(asdict(facts)).encode()),
    ):
        scratch = folder / f".{os.getpid()}-{task.key}.{suffix}"
        scratch.write_bytes(content)
        scratch.replace(folder / f"{task.key}.{suffix}")


def _compiled(task: Task) -> Any:
    """What Triton makes of a kernel."""
    import triton
    from triton.backends.compiler import GPUTarget

    constants = dict(task.constants)
    options: dict[str, Any] = {name: constants.pop(name) for name in OPTIONS if name in constants}
    options["enable_fp_fusion"] = bool(constants.pop("enable_fp_fusion", True))
    source = _source(kernel_named(task.name), task.arguments, constants)
    return triton.compile(source, target=GPUTarget("cuda", task.capability, 32), options=options)


def _source(kernel: Any, arguments: tuple[str, ...], constants: dict[str, int]) -> Any:
    """Triton's description of a specialisation, as its version wants it."""
    from triton.compiler import ASTSource

    names = [p.name for p in kernel.params]
    ones = {name: 1 for name, kind in zip(names, arguments, strict=False) if kind.endswith("=1")}
    signature = {name: kind.partition(":")[0] for name, kind in zip(names, arguments, strict=False) if name not in ones}
    aligned = [i for i, kind in enumerate(arguments) if kind.endswith(":16")]
    try:
        from triton.backends.compiler import AttrsDescriptor
    except ImportError:
        fixed = {**ones, **constants}
        types = {name: "constexpr" if name in fixed else signature[name] for name in names}
        attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
        return ASTSource(kernel, types, {(names.index(name),): value for name, value in fixed.items()}, attributes)
    hints = AttrsDescriptor.from_hints(dict.fromkeys(aligned, 16))
    return ASTSource(kernel, signature, {**ones, **constants}, hints)


def _parameters(ptx: str) -> int:
    declared = re.search(r"\.entry\s+\w+\s*\(([^)]*)\)", ptx)
    assert declared is not None
    return declared[1].count(".param")


def _inspected(cubin: bytes) -> tuple[int, int, int]:
    """Registers a thread, spilled bytes a thread, and tensor-core instructions; the first two by the cuobjdump that Triton brings."""
    import triton

    brought = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    tool = brought if brought.exists() else "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, spilled = (int(value) for value in re.findall(r"REG:(\d+) STACK:(\d+)", usage)[0])
    return registers, spilled, tensor_core_instructions(cubin)


def tensor_core_instructions(cubin: bytes) -> int:
    """How many there are in the code of a cubin (ELF, 64 bits; instructions of 16 bytes, the lowest 9 bits the opcode).

    Reading the opcodes takes no time; the disassembler took a third of the build.
    """
    sections, size, count = struct.unpack_from("<Q", cubin, 40)[0], *struct.unpack_from("<HH", cubin, 58)
    found = 0
    for index in range(count):
        kind, flags, _, offset, length = struct.unpack_from("<IQQQQ", cubin, sections + index * size + 4)
        if kind == _PROGBITS and flags & _EXECUTABLE:
            opcodes = struct.iter_unpack("<H14x", cubin[offset : offset + length])
            found += sum(opcode & 0x1FF in TENSOR_CORE_OPCODES for (opcode,) in opcodes)
    return found


def main() -> None:
    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    tasks = [Task(**one) for one in json.load(sys.stdin)]
    spawned = get_context("spawn")
    with ProcessPoolExecutor(processes, spawned, initializer=warm_up, initargs=(tasks[0],)) as pool:
        for done in [pool.submit(compile_task, task, folder) for task in tasks]:
            done.result()
            print(flush=True)


if __name__ == "__main__":
    main()
