"""`ProfileModels(["yolov13n.pt"]).run()`: what users' scripts call, on our pipeline."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Mapping, Sequence
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
    """Profile models by path, with the arguments of `ultralytics.utils.benchmarks.ProfileModels` 8.0 to 8.4.

    paths -- files, folders of files, patterns (`*.pt`) or official names; `yolov13n.pt` that is not here is the official
        one, `yolov13n.yaml` the network with seeded random weights
    num_timed_runs, num_warmup_runs, min_time -- inferences, warm-ups and seconds (at least) of the timed part
    imgsz -- side of the square image; trt -- time TensorRT where it is there
    quantize -- 16 (or True, as `half` was): float16 where the device is a GPU; 32, None, False: float32
    native -- ours: time our own engine, too, where the device is a GPU; a `.native` file is timed in any case
    device -- None (a GPU if there is one), "cpu", "cuda:0", a torch.device or a GPU's number
    half, int8 -- what 8.0 to 8.3 had for `quantize`; others -- arguments that no such class had: named in a warning
    ONNX Runtime is timed on the GPU where its package can use it, else on the CPU.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        num_timed_runs: int = 100,
        num_warmup_runs: int = 10,
        min_time: float = 60,
        imgsz: int = 640,
        quantize: int | str | bool | None = 16,
        trt: bool = True,
        device: object = None,
        *,
        half: bool | None = None,
        int8: bool | None = None,
        native: bool = False,
        **others: object,
    ) -> None:
        if not paths:
            raise YoloproofError('name at least one model: ProfileModels(["yolov13n.pt"])')
        warn_of_unknown("ProfileModels", others)
        self.paths, self.imgsz, self.trt, self.native = list(paths), imgsz, trt, native
        self.half = wants_float16(quantize, half, int8)
        self.num_timed_runs, self.num_warmup_runs, self.min_time = num_timed_runs, num_warmup_runs, min_time
        self.device = device_name(device)

    def run(self) -> list[dict[str, object]]:
        """As `profile`, which 8.3 renamed to this."""
        return self.profile()

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
                name, random = (Path(file).stem, True) if suffix == ".yaml" else (file, False)
                case = Case(name, runtime, precision, imgsz=size, device=device, random_weights=random)
                asked.setdefault(device, []).append(case)
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
            elif path.endswith(".yaml") and (given.exists() or given.stem not in VARIANT_NAMES):
                raise YoloproofError(
                    f"{path}: only official names can be built from a .yaml: {', '.join(VARIANT_NAMES)}"
                )
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


def device_name(device: object) -> str:
    """What a script passes as `device` in our words; None is a GPU where there is one."""
    if device in (None, ""):
        try:
            import torch
        except ImportError:  # beside a .native file there may be none
            from yoloproof.runtime.cuda_driver import driver_missing

            return "cpu" if driver_missing() else "cuda"
        return "cuda" if torch.cuda.is_available() else "cpu"
    return f"cuda:{device}" if str(device).isdigit() else str(device)


def wants_float16(quantize: int | str | bool | None, half: bool | None, int8: bool | None) -> bool:
    """Whether these ask for float16: `quantize` since 8.4, `half` and `int8` before, which win where they are given.

    Raises YoloproofError for what none of them can be. INT8 is not built here: a warning, and float16.
    """
    if half is not None or int8 is not None:
        quantize = 8 if int8 else 16 if half else 32
    scheme = str(quantize).strip().lower()
    if scheme in ("8", "int8") or scheme.startswith("w8a"):
        warnings.warn("yoloproof builds no INT8: the rows are float16 on a GPU, float32 on a CPU", stacklevel=3)
        return True
    if scheme not in ("16", "fp16", "true", "w16a16", "32", "fp32", "none", "false", "w32a32"):
        raise YoloproofError(f"quantize={quantize!r}: give 16, or 32 (None) for float32")
    return scheme in ("16", "fp16", "true", "w16a16")


def warn_of_unknown(function: str, others: Mapping[str, object]) -> None:
    """One warning that names arguments without effect, as ultralytics' own functions have gained and lost some."""
    if others:
        names = ", ".join(f"{name}={value!r:.40}" for name, value in others.items())
        warnings.warn(f"{function}: ignored by yoloproof: {names}", stacklevel=3)


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
