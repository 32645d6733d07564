"""Where the time goes on a GPU: a network layer by layer against the chip's two ceilings, and attention's back ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from yoloproof.artifact.gpu_network import GpuNetwork
from yoloproof.kernels.attention import FusedAreaAttention
from yoloproof.kernels.autotune import LIBRARY, Autotuner, graph_seconds
from yoloproof.kernels.launch import Options
from yoloproof.names import Attention
from yoloproof.network import Network, network_with_attention
from yoloproof.simplify import SimplifiedNetwork, simplify
from yoloproof.simplify.attention import MergedAttention, attended


def ceilings() -> dict[str, float]:
    """Bytes per second of a large device copy (read and written) and float16 operations per second of a matrix product."""
    a = torch.randn(1 << 28, device="cuda", dtype=torch.float16)
    b = torch.empty_like(a)
    copied = 2 * a.numel() * 2 / _seconds(lambda: b.copy_(a))
    n = 8192
    x, y = (torch.randn(n, n, device="cuda", dtype=torch.float16) for _ in range(2))
    return {"copy_bytes_per_s": copied, "float16_flops_per_s": 2 * n**3 / _seconds(lambda: x @ y)}


def _seconds(call: Callable[[], Any], repeats: int = 20) -> float:
    taken = []
    for _ in range(repeats + 3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1e3)
    return sorted(taken[3:])[repeats // 2]


def layer_costs(network: Network, imgsz: tuple[int, int]) -> list[dict[str, Any]]:
    """Of each layer at batch 1: operations (two a multiply-add), and the bytes it must move in float16, each input,
    output and parameter once, batch norms folded. Counted on shapes alone."""
    # explicit: products that the counter knows
    shapes = simplify(network_with_attention(network, Attention.EXPLICIT), ("norms",)).to("meta")
    moved: dict[int, int] = {}
    handles = []
    for index, layer in enumerate(shapes.model):

        def keep(module: nn.Module, inputs: Any, output: Any, index: int = index) -> None:
            tensors = (*_tensors(inputs), *_tensors(output), *module.parameters())
            moved[index] = 2 * sum(t.numel() for t in tensors)

        handles.append(layer.register_forward_hook(keep))
    with FlopCounterMode(display=False, depth=None) as counter:
        shapes(torch.empty(1, 3, *imgsz, device="meta"))
    counts = counter.get_flop_counts()
    return [
        {
            "layer": index, "block": type(network.model[index]).__name__, "bytes": moved[index],
            "flops": int(sum(next((v for k, v in counts.items() if k.endswith(f".model.{index}")), {}).values())),
        }
        for index in sorted(moved)
    ]  # fmt: skip


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [t for v in values for t in _tensors(v)] if isinstance(values, tuple | list) else []


def layer_seconds(network: SimplifiedNetwork | GpuNetwork, images: Tensor) -> dict[int, tuple[float, int]]:
    """Layer → device seconds of that layer alone, replayed from a CUDA graph, and its kernels."""
    outputs: list[Any] = []
    taken: dict[int, tuple[float, int]] = {}
    with torch.inference_mode():
        for index, sources in enumerate(network.sources):
            layer, inputs = network.model[index], [outputs[s] if s >= 0 else images for s in sources]
            if not sources:
                outputs.append(images)
                continue
            outputs.append(layer(*inputs))
            taken[index] = (
                graph_seconds(lambda layer=layer, inputs=inputs: layer(*inputs)),
                _kernels(lambda layer=layer, inputs=inputs: layer(*inputs)),
            )
    return taken


def _kernels(call: Callable[[], Any]) -> int:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    return sum(event.count for event in seen.key_averages() if event.self_device_time_total > 0)


def attention_seconds(network: SimplifiedNetwork, imgsz: tuple[int, int]) -> list[dict[str, Any]]:
    """Device seconds of one area attention of each stage at batch 1: PyTorch's back ends and our kernel's tiles."""
    rows = []
    cores = {m.core.area: m.core for m in network.modules() if isinstance(m, MergedAttention)}
    for area, core in sorted(cores.items()):
        stride = 16 if area > 1 else 32
        shape = (1, 3 * 32 * core.heads, imgsz[0] // stride, imgsz[1] // stride)
        qkv = torch.randn(shape, device="cuda", dtype=torch.float16).contiguous(memory_format=torch.channels_last)
        module = FusedAreaAttention(core.heads, area, core.scale, partial(attended, core), Options(), Autotuner())

        def seconds(configuration: object, module: Any = module, qkv: Tensor = qkv) -> float | None:
            with torch.inference_mode():
                return _or_none(lambda: module.run(configuration, [qkv], None, False))

        for backend in (
            SDPBackend.CUDNN_ATTENTION,
            SDPBackend.FLASH_ATTENTION,
            SDPBackend.EFFICIENT_ATTENTION,
            SDPBackend.MATH,
        ):
            with sdpa_kernel(backend):
                row = {"area": area, "heads": core.heads, "way": backend.name.lower(), "seconds": seconds(LIBRARY)}
            rows.append(row)
        for tile in module.configurations():
            if tile != LIBRARY:
                rows.append({"area": area, "heads": core.heads, "way": f"our kernel, {tile}", "seconds": seconds(tile)})
    return rows


def _or_none(call: Callable[[], Any]) -> float | None:
    try:
        return graph_seconds(call)
    except RuntimeError:  # a back end that does not take this shape
        return None
