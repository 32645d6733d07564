"""Compiling kernels by all CPUs before the first launches, which would take them one after the other."""

from __future__ import annotations

import copy
import hashlib
import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from yoloproof.kernels.launch import Compilation, recorded


def compilations(network: nn.Module, shape: Sequence[int]) -> set[Compilation]:
    """Every kernel compilation that a network of this package's operations may ask for at images [B, 3, H, W]; needs no GPU."""
    network = copy.deepcopy(network).to(device="meta", dtype=torch.float16)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's types
    images = torch.empty(tuple(shape), dtype=torch.float16, device="meta").to(memory_format=torch.channels_last)
    with recorded() as found, torch.inference_mode():
        network(images)
    return found


def compile_ahead(wanted: set[Compilation], processes: int | None = None) -> int:
    """Compile into Triton's cache on disk, in `processes` processes (default: one per CPU); the number compiled.

    0 where an earlier call has compiled the same, or where it failed: the first launch then compiles, and says why not.
    The processes are children of one started as a module, so that a script that calls this need not guard its main part.
    """
    done = _cache_folder() / f"yoloproof-{_identity(wanted)}"
    if done.exists():
        return 0
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    started = subprocess.run(
        [sys.executable, "-m", "yoloproof.kernels.compile_ahead", str(processes or os.cpu_count() or 1)],
        input=pickle.dumps(wanted), capture_output=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    if started.returncode != 0:
        return 0
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()
    return len(wanted)


def _cache_folder() -> Path:
    """Triton's, so that who empties it also takes the mark away."""
    return Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")


def _identity(wanted: set[Compilation]) -> str:
    """Of the compilations, the kernels' source, Triton and the GPU: what a compiled kernel depends on."""
    import triton

    gpu = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    sources = [path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))]
    stated = repr((sorted(wanted, key=str), sources, triton.__version__, gpu))
    return hashlib.sha256(stated.encode()).hexdigest()[:16]


def _compiled(wanted: Compilation) -> None:
    kernel = getattr(importlib.import_module(wanted.module), wanted.kernel)
    arguments = [getattr(torch, a) if isinstance(a, str) else a for a in wanted.arguments]
    kernel.warmup(*arguments, grid=(1,), **dict(wanted.constants))


def main() -> None:
    """The compilations come pickled on standard input."""
    wanted, count = sorted(pickle.load(sys.stdin.buffer), key=str), int(sys.argv[1])
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        list(pool.map(_compiled, wanted, chunksize=max(1, len(wanted) // (8 * count))))


if __name__ == "__main__":
    main()
