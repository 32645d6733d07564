"""`ProfileModels(["yolov13n.pt"]).profile()`: what users' scripts call, on our pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yoloproof.errors import YoloproofError

SUFFIXES = (".pt", ".safetensors", ".onnx", ".engine")


class ProfileModels:
    """Profile models by path, with the arguments of `ultralytics.utils.benchmarks.ProfileModels`.

    paths -- files, official names or folders of files
    num_timed_runs, num_warmup_runs, min_time -- inferences, warm-ups and seconds (at least) of the timed part
    imgsz -- side of the square image; half -- float16 where the device is a GPU; trt -- time TensorRT where it is there
    device -- None (a GPU if there is one), "cpu", "cuda:0" or a GPU's number
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        num_timed_runs: int = 100,
        num_warmup_runs: int = 10,
        min_time: float = 60,
        imgsz: int = 640,
        half: bool = True,
        trt: bool = True,
        device: str | int | None = None,
    ) -> None:
        if not paths:
            raise YoloproofError('name at least one model: ProfileModels(["yolov13n.pt"])')
        self.paths, self.imgsz, self.half, self.trt = list(paths), imgsz, half, trt
        self.num_timed_runs, self.num_warmup_runs, self.min_time = num_timed_runs, num_warmup_runs, min_time
        self.device = _device(device)

    def profile(self) -> list[dict[str, Any]]:
        """Export, prove and time every model; print the table; one dict per model with the keys those scripts read:
        `model/name`, `model/parameters`, `model/GFLOPs`, `model/speed_ONNX(ms)`, `model/speed_TensorRT(ms)` (0.0 where
        it was not run), and ours: `model/proved` and `model/result`, the entries of the result file.

        Raises YoloproofError for models that cannot be read.
        """
        from rich.console import Console

        from yoloproof.demo import demo_images
        from yoloproof.measurement.protocol import PROTOCOLS
        from yoloproof.profiling import Request, Settings, timed
        from yoloproof.results.table import print_result
        from yoloproof.runtime import missing_part

        runtimes = ["onnxruntime"]
        if self.trt and self.device != "cpu":
            runtimes += [name for name in ("tensorrt", "tensorrt-rtx") if missing_part(name) is None][:1]
        precision = "fp16" if self.half and self.device != "cpu" else "fp32"
        protocol = replace(
            PROTOCOLS["latency"], runs=self.num_timed_runs, warmup_runs=self.num_warmup_runs,
            seconds=self.min_time / PROTOCOLS["latency"].processes,
        )  # fmt: skip
        requests = [Request(str(path), name, precision, "fused") for path in self._files() for name in runtimes]
        with tempfile.TemporaryDirectory(prefix="yoloproof-") as folder:
            settings = Settings((self.imgsz, self.imgsz), self.device, images=tuple(demo_images()), folder=Path(folder))
            result = timed(requests, settings, protocol)
        print_result(result, Console())
        entries = result["entries"]
        return [
            _as_their_dict(entries[i : i + len(runtimes)]) for i in range(0, len(entries), len(runtimes))
        ]  # fmt: skip

    def _files(self) -> list[str]:
        found: list[str] = []
        for path in self.paths:
            folder = Path(path)
            if folder.is_dir():
                found += sorted(str(p) for p in folder.iterdir() if p.suffix in SUFFIXES)
            else:
                found.append(str(path))
        if not found:
            raise YoloproofError(f"no model in {', '.join(map(str, self.paths))}; models end in {', '.join(SUFFIXES)}")
        return found


def _device(device: str | int | None) -> str:
    if device is None:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    return f"cuda:{device}" if str(device).isdigit() else str(device)


def _as_their_dict(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    model = entries[0]["model"]
    speeds = {e["runtime"].get("name", ""): e["summary"]["median_s"] * 1e3 for e in entries if e["summary"]}
    return {
        "model/name": model["name"],
        "model/parameters": model["parameters"],
        "model/GFLOPs": None if model["flops"] is None else round(model["flops"] / 1e9, 3),
        "model/speed_ONNX(ms)": round(speeds.get("onnxruntime", 0.0), 3),
        "model/speed_TensorRT(ms)": round(speeds.get("tensorrt", speeds.get("tensorrt-rtx", 0.0)), 3),
        "model/proved": all(e["proof"]["passed"] is True for e in entries),
        "model/result": list(entries),
    }
