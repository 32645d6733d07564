"""Where the time of yolov13n goes, in each CPU runtime's own profile of its operators: one thread, the trained weights.

    python research/operators.py [--runtime onnxruntime openvino] [--attention published fused]

Also how many of the softmaxes' results are subnormal numbers, on the four bundled images as ONNX Runtime computes them; and
what OpenVINO's arithmetic alone would take at the rate of its fastest layer, and what its activations take.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloproof.artifact.build import build
from yoloproof.demo import demo_checkpoint, demo_images
from yoloproof.detection.letterbox import letterboxed
from yoloproof.files.onnx import load_onnx
from yoloproof.names import ArtifactFormat, Attention, Runtime
from yoloproof.records import Case

Images = NDArray[np.float32]
ARITHMETIC = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul", "attention")
LARGE_FLOP = 1e8  # a layer of so many takes long enough for the profile's microseconds to tell its rate


def operators(path: Path, runtime: str, runs: int = 25) -> dict[str, list[float]]:
    """Operator → [how many, seconds of all of them in one inference], each operator's shortest of `runs`; one thread."""
    image = letterboxed(demo_images(), (640, 640))[:1]
    taken = (onnxruntime_times if runtime == "onnxruntime" else openvino_times)(path, image, runs)
    table: dict[str, list[float]] = {}
    for kind, seconds in taken:
        row = table.setdefault(kind, [0, 0.0])
        row[0] += 1
        row[1] += seconds
    return dict(sorted(table.items(), key=lambda item: -item[1][1]))


def onnxruntime_times(path: Path, image: Images, runs: int) -> list[tuple[str, float]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = 1, True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(runs):
        session.run(None, {"images": image})
    shortest: dict[tuple[str, str], float] = {}
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"], event["args"]["op_name"]
            shortest[key] = min(shortest.get(key, np.inf), event["dur"] * 1e-6)
    return [(kind, seconds) for (_, kind), seconds in shortest.items()]


def openvino_times(path: Path, image: Images, runs: int) -> list[tuple[str, float]]:
    import openvino

    return [
        (kind, seconds) for kind, seconds, _ in openvino_profile(openvino.Core().read_model(path), {0: image}, runs)
    ]


def openvino_profile(model: Any, feeds: dict[int, Images], runs: int) -> list[tuple[str, float, float]]:
    """Each operator of an `openvino.Model`: kind, seconds, FLOP; "attention": the subgraph of two products and softmax."""
    import openvino
    from openvino import properties
    from openvino.properties import hint

    compiled = openvino.Core().compile_model(
        model, "CPU",
        {hint.inference_precision: openvino.Type.f32, hint.performance_mode: hint.PerformanceMode.LATENCY,
         properties.inference_num_threads: 1, properties.enable_profiling: True},
    )  # fmt: skip
    request, shortest = compiled.create_infer_request(), dict[tuple[str, str], float]()
    for _ in range(runs):
        request.infer(feeds)
        for node in request.get_profiling_info():
            if node.status == openvino.ProfilingInfo.Status.EXECUTED:
                attention = node.node_type == "Subgraph" and ".attn/Transpose" in node.node_name
                key = node.node_name, "attention" if attention else node.node_type
                shortest[key] = min(shortest.get(key, np.inf), node.real_time.total_seconds())
    operators = {one.get_friendly_name(): one for one in compiled.get_runtime_model().get_ordered_ops()}
    return [(kind, s, flop_of(kind, operators[name])) for (name, kind), s in shortest.items()]


def flop_of(kind: str, operator: Any) -> float:
    """Two for each multiplication of a convolution or product of an OpenVINO runtime model; 0 of any other operator."""
    if kind not in ARITHMETIC:
        return 0.0
    first, second, *_ = (list(port.get_shape()) for port in operator.inputs())
    if kind == "attention":  # q [B, n, heads, 32]
        return float(4.0 * np.prod(first) * first[1])
    terms = np.prod(second[-3:]) if "Convolution" in kind else first[-1]
    return float(2.0 * np.prod(operator.get_output_shape(0)) * terms)


def openvino_bounds(path: Path, runs: int = 40) -> tuple[float, float, float]:
    """FLOP of an ONNX file's convolutions and products, FLOP/s of the fastest large one, and seconds that SiLU takes."""
    import openvino

    feeds = {0: letterboxed(demo_images(), (640, 640))[:1]}
    whole, linear = openvino.Core().read_model(path), openvino.Core().read_model(path)
    drop_silu(linear)
    passes = [openvino_profile(model, feeds, runs) for model in (whole, linear)]
    taken = [sum(seconds for kind, seconds, _ in one if kind in ARITHMETIC) for one in passes]
    rates = [flop / seconds for one in passes for _, seconds, flop in one if flop >= LARGE_FLOP]
    return sum(flop for *_, flop in passes[0]), max(rates), taken[0] - taken[1]


def drop_silu(model: Any) -> int:
    """Put x in the place of each x·sigmoid(x) of an `openvino.Model`; how many there were."""
    dropped = 0
    for one in model.get_ordered_ops():
        factors = [port.get_source_output() for port in one.inputs()] if one.get_type_name() == "Multiply" else []
        for i, factor in enumerate(factors):
            sigmoid = factor.get_node()
            if sigmoid.get_type_name() == "Sigmoid" and sigmoid.input_value(0) == factors[1 - i]:
                one.output(0).replace(factors[1 - i])
                dropped += 1
    return dropped


def openvino_products(runs: int = 40) -> float:
    """Seconds of the attention's products alone: eight blocks of 400 tokens and heads of 32, half with 8 heads (areas
    included), half with 4; each product as one matrix multiplication."""
    import openvino
    from openvino import opset13

    total = 0.0
    for heads in (8, 4):
        for left, right in (((heads, 400, 32), (heads, 32, 400)), ((heads, 400, 400), (heads, 400, 32))):
            inputs = [opset13.parameter(shape, np.float32) for shape in (left, right)]
            model = openvino.Model([opset13.matmul(*inputs, False, False)], inputs)
            feeds = {0: np.ones(left, np.float32), 1: np.ones(right, np.float32)}
            total += 4 * sum(seconds for kind, seconds, _ in openvino_profile(model, feeds, runs) if kind == "MatMul")
    return total


def subnormal_share(path: Path) -> tuple[int, int]:
    """How many results of the Softmax operators are subnormal numbers, of how many; (0, 0) where there is no Softmax."""
    import onnxruntime

    model = load_onnx(path)
    names = [node.output[0] for node in model.graph.node if node.op_type == "Softmax"]
    if not names:
        return 0, 0
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    count = size = 0
    for image in letterboxed(demo_images(), (640, 640)):
        for weights in session.run(names, {"images": image[None]}):
            count += int(((weights != 0) & (np.abs(weights) < np.finfo(np.float32).tiny)).sum())
            size += weights.size
    return count, size


def print_operators(runtime: str, files: dict[str, Path]) -> None:
    tables = {name: operators(path, runtime) for name, path in files.items()}
    kinds = list(dict.fromkeys(kind for table in tables.values() for kind in table))
    print(f"| {runtime}, ms (how many) | {' | '.join(tables)} |")
    print("|---" * (1 + len(tables)) + "|")
    for kind in kinds:
        cells = [table.get(kind, [0, 0.0]) for table in tables.values()]
        if max(seconds for _, seconds in cells) >= 1e-4:
            print(f"| {kind} | {' | '.join(f'{seconds * 1e3:.2f} ({count:.0f})' for count, seconds in cells)} |")
    print(f"| all | {' | '.join(f'{sum(s for _, s in t.values()) * 1e3:.2f}' for t in tables.values())} |")
    shares = [subnormal_share(path) for path in files.values()]
    counts = [f"{count} of {size}" if size else "unknown" for count, size in shares]
    print(f"| subnormal results of softmaxes | {' | '.join(counts)} |", flush=True)
    if runtime == "openvino":
        print(f"The attentions' products alone take {openvino_products() * 1e3:.2f} ms.", flush=True)
        for name, path in files.items():
            flop, rate, silu = openvino_bounds(path)
            print(
                f"{name}: {flop * 1e-9:.2f} GFLOP at the fastest layer's {rate * 1e-9:.0f} GFLOP/s take"
                f" {flop / rate * 1e3:.1f} ms; SiLU takes {silu * 1e3:.1f} ms.",
                flush=True,
            )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runtime", nargs="+", default=["onnxruntime", "openvino"])
    options.add_argument("--attention", nargs="+", default=list(Attention))
    given = options.parse_args()
    for runtime in given.runtime:
        with tempfile.TemporaryDirectory() as folder:  # ONNX Runtime writes its profiles beside the files
            files = {}
            for attention in map(Attention, given.attention):
                case = Case(str(demo_checkpoint()), Runtime(runtime), attention=attention)
                path = build(case, ArtifactFormat.ONNX, Path(folder)).path
                assert path is not None
                files[str(attention)] = path
            print_operators(runtime, files)


if __name__ == "__main__":
    main()
