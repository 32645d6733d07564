"""Our Triton kernels for Turing (compute capability 7.5): compiled, inspected, and run from their PTX on any newer GPU.

    python benchmarks/turing.py --compile FOLDER     # Triton 3.2, the last with Turing; no GPU needed
    python benchmarks/turing.py --run FOLDER         # a GPU and CuPy: the driver compiles the PTX; compared with PyTorch

`--compile` writes one PTX a kernel and kernels.json: registers, spilled bytes, shared memory, tensor-core instructions.
One tile of each kind and every other kernel are taken, at the shapes of `cases`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloproof.artifact.gpu_blocks import hypergraph_weights
from yoloproof.kernels import attention, conv, decode, depthwise, gated_sum, hypergraph, pool, separable
from yoloproof.kernels.attention import FusedAreaAttention
from yoloproof.kernels.autotune import LIBRARY, Autotuner
from yoloproof.kernels.conv import DenseConv
from yoloproof.kernels.depthwise import DepthwiseConv
from yoloproof.kernels.launch import Compilation, Options, compilation, recorded
from yoloproof.kernels.separable import SeparableConv
from yoloproof.network import load_network
from yoloproof.simplify.attention import MergedAttention, attended
from yoloproof.simplify.modules import BranchPair
from yoloproof.simplify.rewrites import simplify

OPTIONS = Options(overlap=False, ahead=True)
TUNER = Autotuner()  # every case names its configuration
LAUNCHERS = (attention, conv, decode, depthwise, gated_sum, hypergraph, pool, separable)


def cases(device: str) -> Iterator[tuple[str, Callable[[], Tensor], Callable[[], Tensor] | None]]:
    """Name, the call through our kernels, and the same through PyTorch (float16 in, computed in float32)."""
    network = simplify(load_network("yolov13n", random_weights=True)).to(device)

    def image(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).half().contiguous(memory_format=torch.channels_last)

    def rounded(module: nn.Module) -> nn.Module:
        return module.to(device).half().float()

    x, add = image(1, 64, 40, 40), image(1, 64, 40, 40)
    plain_conv = rounded(nn.Conv2d(64, 64, 3, 1, 1))
    for tile in conv.CONFIGURATIONS:
        dense = DenseConv(plain_conv, True, OPTIONS, TUNER).half()
        name = f"convolution 3x3, tile {tile.rows}x{tile.columns}x{tile.depth}"
        reference = lambda: F.silu(plain_conv(x.float())) + add.float()  # noqa: E731
        yield name, lambda d=dense, t=tile: d.run(t, [x], add, False), reference
    dw, pw = rounded(nn.Conv2d(64, 64, 7, 1, 3, groups=64, bias=False)), rounded(nn.Conv2d(64, 64, 1))
    # a bias that a convolution lacks is made on the CPU
    deep = DepthwiseConv(dw, False, OPTIONS, TUNER).to(device).half()
    both = SeparableConv(dw, pw, OPTIONS, TUNER).to(device).half()
    one_row, parallel = depthwise.CONFIGURATIONS[0], depthwise.CONFIGURATIONS[1]
    yield "depthwise 7x7", lambda: deep.run(one_row, [x], None, False), lambda: dw(x.float())
    yield "depthwise 7x7, rows side by side", lambda: deep.run(parallel, [x], None, False), lambda: dw(x.float())
    tile = separable.CONFIGURATIONS[2]
    yield "depthwise 7x7 and 1x1", lambda: both.run(tile, [x], None, False), lambda: F.silu(pw(dw(x.float())))
    core, qkv = next(m for m in network.modules() if isinstance(m, MergedAttention)).core, image(1, 192, 40, 40)
    area = FusedAreaAttention(core.heads, core.area, core.scale, partial(attended, core), OPTIONS, TUNER)
    for keys in attention.CONFIGURATIONS:
        name = f"area attention, {keys.queries} queries × {keys.keys} keys"
        reference = lambda: area.run(LIBRARY, [qkv.float()], None, False)  # noqa: E731
        yield name, lambda t=keys: area.run(t, [qkv], None, False), reference
    pair, y = next(m for m in network.modules() if isinstance(m, BranchPair)), image(1, 256, 40, 40)
    half = simplify(load_network("yolov13n", random_weights=True)).to(device).half()
    weights = hypergraph_weights(next(m for m in half.modules() if isinstance(m, BranchPair)).hgnn)

    def plain() -> Tensor:
        tokens = y.float().reshape(1, 2, 128, 1600)[:, :, :64]
        return pair.hgnn(tokens).reshape(1, 128, 40, 40)

    yield "hypergraph", lambda: hypergraph.hypergraph(weights, y, OPTIONS), plain
    gate = torch.tensor(0.3, device=device).half()
    yield (
        "gated sum",
        lambda: gated_sum.gated_sum(x, add, gate, OPTIONS),
        lambda: x.float() + gate.float() * add.float(),
    )
    yield "pooling", lambda: pool.pooled(x, OPTIONS), lambda: F.avg_pool2d(x.float(), 2)
    boxes, scores = ([image(1, c, s, s) for s in (80, 40, 20)] for c in (64, 80))
    yield "decoding", lambda: decode.decoded(boxes, scores, 80, OPTIONS), None


def wanted() -> dict[str, list[Compilation]]:
    """Case → its compilations, from meta tensors."""
    found = {}
    with torch.inference_mode():
        for name, call, _ in cases("meta"):
            with recorded() as compilations:
                call()
            found[name] = sorted(compilations, key=str)
    return found


def compile_all(folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = []
    for name, compilations in wanted().items():
        for one in compilations:
            compiled, argument_indices = compiled_for_turing(one)
            file = folder / f"{len(rows):02d}.ptx"
            file.write_text(compiled.asm["ptx"])
            rows.append(
                {
                    "case": name, "kernel": one.kernel, "key": str(one), "ptx": file.name,
                    "entry": compiled.metadata.name, "threads": 32 * compiled.metadata.num_warps,
                    "shared_bytes": compiled.metadata.shared, "arguments": argument_indices,
                    **inspected(compiled.asm["cubin"]),
                }
            )  # fmt: skip
            print(
                f"{name}: {one.kernel}, {rows[-1]['registers']} registers, {rows[-1]['spilled_bytes']} B spilled",
                flush=True,
            )
    (folder / "kernels.json").write_text(json.dumps(rows, indent=1) + "\n")


def compiled_for_turing(one: Compilation) -> tuple[Any, list[int]]:
    """The compiled kernel, and which of the launch's arguments it takes (integers that are 1 are compiled in)."""
    import triton
    from triton.backends.compiler import AttrsDescriptor, GPUTarget  # as Triton 3.2 has it
    from triton.compiler import ASTSource

    kernel = getattr(importlib.import_module(one.module), one.kernel)
    constants = dict(one.constants)
    options = {key: constants.pop(key) for key in ("num_warps", "num_stages") if key in constants}
    signature, aligned, taken = {}, [], []
    for i, (parameter, argument) in enumerate(zip(kernel.params, one.arguments, strict=False)):
        free = parameter.do_not_specialize
        if argument == 1 and not free:
            constants[parameter.name] = 1
            continue
        kinds = {"float16": "*fp16", "float32": "*fp32"}
        signature[parameter.name] = kinds[argument] if isinstance(argument, str) else "i32"
        taken.append(i)
        if isinstance(argument, str) or (argument == 16 and not free):
            aligned.append(i)
    source = ASTSource(kernel, signature, constants, AttrsDescriptor.from_hints(dict.fromkeys(aligned, 16)))
    return triton.compile(source, target=GPUTarget("cuda", 75, 32), options=options), taken


def inspected(cubin: bytes) -> dict[str, Any]:
    """Registers, spilled bytes and tensor-core instructions, by the cuobjdump that comes with Triton."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
        code = subprocess.run([tool, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage.stdout)[0]
    products = re.findall(r"\b(HMMA[.\w]*)", code)
    return {
        "registers": int(registers), "spilled_bytes": int(stack), "tensor_core_instructions": len(products),
        "instruction": products[0] if products else None,
    }  # fmt: skip


def run_all(folder: Path) -> None:
    """Each case through its PTX; the largest difference from PyTorch, relative to the largest value."""
    import cupy

    rows = {row["key"]: row for row in json.loads((folder / "kernels.json").read_text())}
    modules: dict[str, Any] = {}

    def from_ptx(kernel: Any, grid: tuple[int, ...], *arguments: Any, options: Options, **constants: Any) -> None:
        row = rows[str(compilation(kernel, arguments, options, constants))]
        if row["key"] not in modules:
            modules[row["key"]] = cupy.RawModule(path=str(folder / row["ptx"])).get_function(row["entry"])
        function = modules[row["key"]]
        function.max_dynamic_shared_size_bytes = max(row["shared_bytes"], 48 * 1024)
        given = [arguments[i] for i in row["arguments"]]
        cast = [cupy.uint64(a.data_ptr()) if isinstance(a, Tensor) else cupy.int32(a) for a in given]
        stream = cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
        with stream:
            function((*grid, 1, 1)[:3], (row["threads"], 1, 1), tuple(cast), shared_mem=row["shared_bytes"])

    torch.manual_seed(0)
    print(f"PTX for 7.5 on {torch.cuda.get_device_name()} ({'.'.join(map(str, torch.cuda.get_device_capability()))})")
    for name, call, reference in cases("cuda"):
        with torch.inference_mode():
            direct = reference() if reference else call()  # decoding is held to our kernel as Triton compiles it here
            with contextlib.ExitStack() as patched:
                for module in LAUNCHERS:
                    patched.enter_context(patch.object(module, "launch", from_ptx))
                given = call()
            torch.cuda.synchronize()
            worst = float((given.float() - direct.float()).abs().max() / direct.float().abs().max())
        print(f"{name}: {worst:.1e} {'ok' if worst < 5e-3 else 'WRONG'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", type=Path, metavar="FOLDER")
    parser.add_argument("--run", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.compile:
        compile_all(arguments.compile)
    if arguments.run:
        run_all(arguments.run)


if __name__ == "__main__":
    main()
