"""`ProfileModels(["yolov13n.pt"]).profile()`: what users' scripts call, on our pipeline."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from yoloproof.errors import YoloproofError
from yoloproof.names import VARIANT_NAMES

if TYPE_CHECKING:
    from yoloproof.names import Runtime
    from yoloproof.records import Case, Entry

SUFFIXES = (".pt", ".safetensors", ".onnx", ".engine", ".native")
BUILT = (".engine", ".native")  # for one GPU


class ProfileModels:
    """Profile models by path, with the arguments of `ultralytics.utils.benchmarks.ProfileModels`.

    paths -- files, folders of files, patterns (`*.pt`) or official names; `yolov13n.pt` that is not here is the official one
    num_timed_runs, num_warmup_runs, min_time -- inferences, warm-ups and seconds (at least) of the timed part
    imgsz -- side of the square image; half -- float16 where the device is a GPU; trt -- time TensorRT where it is there
    native -- ours: time our own engine, too, where the device is a GPU; a `.native` file is timed in any case
    device -- None (a GPU if there is one), "cpu", "cuda:0", a torch.device or a GPU's number
    ONNX Runtime is timed on the GPU where its package can use it, else on the CPU.
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
        device: object = None,
        native: bool = False,
    ) -> None:
        if not paths:
            raise YoloproofError('name at least one model: ProfileModels(["yolov13n.pt"])')
        self.paths, self.imgsz, self.half, self.trt, self.native = list(paths), imgsz, half, trt, native
        self.num_timed_runs, self.num_warmup_runs, self.min_time = num_timed_runs, num_warmup_runs, min_time
        self.device = _device(device)

    def profile(self) -> list[dict[str, object]]:
        """Export, prove and time every model; print the table; one dict per model with the keys those scripts read:
        `model/name`, `model/parameters`, `model/GFLOPs`, `model/speed_ONNX(ms)`, `model/speed_TensorRT(ms)` (0.0 where
        it was not run), and ours: `model/speed_native(ms)`, `model/proved` and `model/result`, the entries of the result file.

        Raises YoloproofError for models that cannot be read.
        """
        from rich.console import Console

        from yoloproof.demo import demo_images
        from yoloproof.measurement.protocol import PROTOCOLS
        from yoloproof.pipeline import Options
        from yoloproof.pipeline import profile as result_of
        from yoloproof.results.table import print_result

        protocol = replace(
            PROTOCOLS["latency"], runs=self.num_timed_runs, warmup_runs=self.num_warmup_runs,
            seconds=self.min_time / PROTOCOLS["latency"].processes,
        )  # fmt: skip
        entries: dict[str, list[Entry]] = {}
        for cases in self._cases().values():
            result = result_of(cases, protocol, Options(tuple(demo_images())))
            print_result(result, Console(markup=False))
            for case, entry in zip(cases, result.entries, strict=True):
                entries.setdefault(case.model, []).append(entry)
        return [_as_their_dict(rows) for rows in entries.values()]

    def _cases(self) -> dict[str, list[Case]]:
        """What is timed, by the device it runs on: every model by ONNX Runtime, weights by TensorRT where it can be."""
        from yoloproof.files.engine import read_identity
        from yoloproof.names import Precision, Runtime
        from yoloproof.records import Case

        files = self._files()
        by_onnx = any(Path(file).suffix not in BUILT for file in files)
        onnx_device = self.device if by_onnx and self.device != "cpu" and _onnx_runs_on_gpu() else "cpu"
        trt = _tensorrt() if self.trt and self.device != "cpu" else None
        asked: dict[str, list[Case]] = {}
        for file in files:
            suffix = Path(file).suffix
            runs = [] if suffix in BUILT else [(Runtime.ONNXRUNTIME, onnx_device)]
            if suffix == ".engine":
                runs.append((Runtime(read_identity(Path(file)).runtime), self.device))
            elif trt is not None and suffix not in (".onnx", ".native"):
                runs.append((trt, self.device))
            if suffix == ".native" or (self.native and self.device != "cpu" and suffix not in (".onnx", ".engine")):
                runs.append((Runtime.NATIVE, self.device))
            for runtime, device in runs:
                half = runtime is Runtime.NATIVE or (self.half and device != "cpu")
                precision = Precision.FP16 if half else Precision.FP32
                size = (self.imgsz, self.imgsz)
                asked.setdefault(device, []).append(Case(file, runtime, precision, imgsz=size, device=device))
        return asked

    def _files(self) -> list[str]:
        found: list[str] = []
        for path in map(str, self.paths):
            given = Path(path)
            if given.is_dir():
                # an engine beside its weights is made anew from them, never taken for theirs
                found += sorted(str(p) for p in given.iterdir() if p.suffix in SUFFIXES and p.suffix not in BUILT)
            elif not given.exists() and any(sign in path for sign in "*?["):
                found += sorted(p for p in glob.glob(path, recursive=True) if Path(p).suffix in SUFFIXES)
            elif not given.exists() and path.removesuffix(".pt") in VARIANT_NAMES:
                found.append(path.removesuffix(".pt"))
            else:
                found.append(path)
        if not found:
            raise YoloproofError(f"no model in {', '.join(map(str, self.paths))}; models end in {', '.join(SUFFIXES)}")
        return list(dict.fromkeys(found))


def _onnx_runs_on_gpu() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _tensorrt() -> Runtime | None:
    from yoloproof.names import Runtime
    from yoloproof.runtime import missing_part

    return next((name for name in (Runtime.TENSORRT, Runtime.TENSORRT_RTX) if missing_part(name) is None), None)


def _device(device: object) -> str:
    if device in (None, ""):
        try:
            import torch
        except ImportError:  # beside a .native file there may be none
            from yoloproof.runtime.cuda_driver import driver_missing

            return "cpu" if driver_missing() else "cuda"
        return "cuda" if torch.cuda.is_available() else "cpu"
    return f"cuda:{device}" if str(device).isdigit() else str(device)


def _as_their_dict(entries: Sequence[Entry]) -> dict[str, object]:
    model = entries[0].model
    speeds = {str(entry.runtime.name): entry.summary.median_s * 1e3 for entry in entries if entry.summary is not None}
    return {
        "model/name": model.name,
        "model/parameters": model.parameters,
        "model/GFLOPs": None if model.flops is None else round(model.flops / 1e9, 3),
        "model/speed_ONNX(ms)": round(speeds.get("onnxruntime", 0.0), 3),
        "model/speed_TensorRT(ms)": round(speeds.get("tensorrt", speeds.get("tensorrt-rtx", 0.0)), 3),
        "model/speed_native(ms)": round(speeds.get("native", 0.0), 3),
        "model/proved": all(entry.proof.passed is True for entry in entries),
        "model/result": list(entries),
    }
