"""What several commands ask for: options, sizes, image folders, progress on a terminal, JSON that overwrites nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yoloproof.errors import YoloproofError
from yoloproof.names import Attention, Precision, Runtime

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from yoloproof.records import Case, Result

# The help's groups; what stands in none is under "Options".
MODEL_GROUP, RUN_GROUP, PROOF_GROUP = "The model", "What runs it", "Proof and accuracy"
TIMING_GROUP, DETECTION_GROUP = "Timing", "Detections"

RUNTIMES_HELP = (
    "pytorch, onnxruntime, openvino, tensorrt, tensorrt-rtx, native, onnxruntime-cuda, onnxruntime-tensorrt,"
    " onnxruntime-tensorrt-rtx; auto: the fastest that is installed and verified"
)
ATTENTIONS_HELP = "fused, explicit, published or stripped; a file that is an artifact already has its own"
PRECISIONS_HELP = "fp32, fp16 or bf16 (default: fp32 on a CPU, fp16 on a GPU); an ONNX file or engine has its own"

# Options that several commands have in the same words.
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="write the result to a new file; - for standard output")
]
STDOUT = Path("-")
T4 = "Tesla T4"  # as reported figures and estimates name it
Device = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda, or cuda:1 for the second GPU", rich_help_panel=RUN_GROUP)
]
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="CPU threads (default: one per physical core)", rich_help_panel=RUN_GROUP),
]
RandomWeights = Annotated[
    bool,
    typer.Option(
        "--random-weights", help="seeded random weights where MODEL is an official name", rich_help_panel=MODEL_GROUP
    ),
]
SIZE_HELP = "640, or HEIGHTxWIDTH in multiples of 32"
Imgsz = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", help=f"{SIZE_HELP} (default: 640, or what the artifact takes)", rich_help_panel=MODEL_GROUP
    ),
]
OneRuntime = Annotated[Runtime, typer.Option(metavar="NAME", help=RUNTIMES_HELP, rich_help_panel=RUN_GROUP)]
OneAttention = Annotated[
    Attention | None,
    typer.Option(metavar="NAME", help=f"{ATTENTIONS_HELP} (default: fused)", rich_help_panel=MODEL_GROUP),
]
OnePrecision = Annotated[
    Precision | None, typer.Option(metavar="NAME", help=PRECISIONS_HELP, rich_help_panel=MODEL_GROUP)
]
Confidence = Annotated[
    float, typer.Option(metavar="SCORE", help="keep detections that score above this", rich_help_panel=DETECTION_GROUP)
]
Iou = Annotated[
    float,
    typer.Option(
        metavar="IOU",
        help="of two boxes of a class that overlap by more, drop the lower-scoring one",
        rich_help_panel=DETECTION_GROUP,
    ),
]
Tactics = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="native engine: use the kernel choices that an earlier load saved here",
        rich_help_panel=RUN_GROUP,
    ),
]  # fmt: skip
MaxDetections = Annotated[
    int, typer.Option(metavar="N", help="keep at most this many per image", rich_help_panel=DETECTION_GROUP)
]
ARTIFACTS = (".onnx", ".engine", ".native")  # files that are built already


def case_from_options(
    model: str, runtime: Runtime, device: str, threads: int | None, imgsz: str | None, precision: Precision | None,
    attention: Attention | None, random_weights: bool,
) -> Case:  # fmt: skip
    """The case that `predict` and `val` open: the first that `profile` would try. Raises YoloproofError as `candidates`,
    and for a precision or an attention that a built file does not have."""
    from yoloproof.artifact.stated import stated_size
    from yoloproof.records import Case
    from yoloproof.runtime.choice import candidates, default_precision

    check_options_of_file(model, attention)
    size = (stated_size(model) or (640, 640)) if imgsz is None else imgsz_from_text(imgsz)
    case = Case(
        model, runtime, precision or default_precision(runtime, device), attention or Attention.FUSED, size,
        device=device, threads=threads, random_weights=random_weights,
    )  # fmt: skip
    chosen = candidates(case)[0]
    check_size(chosen, None if imgsz is None else size)
    check_precision(chosen, precision)
    return chosen


def check_options_of_file(model: str, attention: Attention | None) -> None:
    """Refuse an attention for a file that is built already."""
    if attention is not None and Path(model).suffix in ARTIFACTS:
        raise YoloproofError(
            f"{model}: its attention is already built in; leave --attention out (`yoloproof inspect` shows it)"
        )


def check_size(case: Case, wanted: tuple[int, int] | None) -> None:
    """Refuse a size of images that a file does not take: `case` is what it runs as."""
    if wanted not in (None, case.imgsz):
        height, width = case.imgsz
        raise YoloproofError(f"{case.model}: takes {height}x{width} only; leave --imgsz out or export it for that size")


def check_precision(case: Case, wanted: Precision | None) -> None:
    """Refuse a precision that a built file does not compute in: `case` is what it runs as."""
    if wanted is not None and case.precision is not wanted:
        raise YoloproofError(
            f"{case.model}: computes in {case.precision}, not {wanted}; leave --precision out, or export the weights with"
            f" --precision {wanted}"
        )


def imgsz_from_text(text: str) -> tuple[int, int]:
    """ "640" → (640, 640), "384x640" → (384, 640): height, width. YoloproofError for anything but multiples of 32."""
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(p.isdigit() for p in parts):
        raise YoloproofError(f"--imgsz {text}: give one side or HEIGHTxWIDTH, such as 640 or 384x640")
    height, width = int(parts[0]), int(parts[-1])
    if any(side < 64 or side % 32 or side > 4096 for side in (height, width)):
        raise YoloproofError(f"--imgsz {text}: both sides must be multiples of 32 from 64 to 4096")
    return height, width


def image_files(folder: Path | None, most: int = 8) -> tuple[Path, ...]:
    """The images of `folder` (at most `most`), or the four bundled ones."""
    from yoloproof.demo import demo_images
    from yoloproof.detection.images import find_images

    if folder is None:
        return tuple(demo_images())
    if not folder.exists():
        raise YoloproofError(f"{folder}: no such folder")
    found = find_images([str(folder)])
    if not found:
        raise YoloproofError(f"{folder}: no images in this folder")
    return tuple(found[:most])


def check_new(path: Path | None) -> None:
    """Refuse an output that exists or has nowhere to go, before any work is done."""
    if path is None or path == STDOUT:
        return
    folder = path.absolute().parent
    if os.path.lexists(path):
        raise YoloproofError(f"{path} exists; nothing was overwritten. Name another file or remove it")
    if not folder.is_dir():
        raise YoloproofError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise YoloproofError(f"{path}: the folder {path.parent} cannot be written to; choose another place")


def write_json(document: object, path: Path) -> None:
    """Write a new JSON file, whole or not at all; `-` is standard output. YoloproofError where it cannot be written."""
    from yoloproof.files.new import write_new

    if path == STDOUT:
        typer.echo(json_text(document), nl=False)
    else:
        write_new(json_text(document), path)


def json_text(document: object) -> str:
    """The JSON that a command writes, if it is no result."""
    return json.dumps(document, indent=1, default=str) + "\n"


def say(line: str, err: bool = False) -> None:
    """Print one line; what stands in it from a file, its name or its metadata, cannot steer the terminal."""
    from yoloproof.results.labels import printable

    typer.echo(printable(line), err=err)


def console_beside(json_file: Path | None) -> Console:
    """Where people read: standard output, or standard error where the JSON takes the former. It takes no markup: what it
    prints may come from a file."""
    from rich.console import Console

    return Console(stderr=json_file == STDOUT, markup=False)


def models_from_arguments(models: Sequence[str]) -> list[str]:
    """The models, `yolov13n.pt` that is not here as the official `yolov13n`. What is neither a file nor an official name is
    refused before anything heavy is imported. Raises YoloproofError."""
    from yoloproof.names import VARIANT_NAMES

    found = []
    for model in models:
        official = model.removesuffix(".pt")
        if Path(model).is_file() or official not in VARIANT_NAMES:
            _check_file(model)
            found.append(model)
        else:
            found.append(official)
    return found


def _check_file(model: str) -> None:
    from yoloproof.files.reading import MOST_MODEL_BYTES, check_regular
    from yoloproof.names import VARIANT_NAMES

    path = Path(model)
    if path.is_dir():
        raise YoloproofError(f"{model} is a folder; name the .pt, .safetensors, .onnx, .engine or .native file in it")
    if not path.exists() and not path.suffix:
        raise YoloproofError(f"'{model}' is neither a file nor one of {', '.join(VARIANT_NAMES)}")
    if not path.exists():
        raise YoloproofError(f"{model}: no such file")
    check_regular(path, MOST_MODEL_BYTES)


def check_paths(*paths: Path | None) -> None:
    """Refuse a path that is not there, before anything heavy is imported."""
    for path in paths:
        if path is not None and not path.exists():
            raise YoloproofError(f"{path}: no such file or folder")


def device_from_text(text: str) -> str:
    """The device that is meant: "auto" is the first GPU, or the CPU where there is none, which a line on stderr then says.
    YoloproofError for a name that is no device, and for a GPU where the CUDA driver shows none."""
    from yoloproof.devices import gpu_count

    kind, colon, index = text.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (colon and not (kind == "cuda" and index.isdigit())):
        raise YoloproofError(f"--device {text}: give auto, cpu, cuda, or cuda:1 for the second GPU")
    if kind == "cpu":
        return text
    count, why = gpu_count()
    if kind == "auto":
        if not count:
            typer.echo(f"device: cpu ({why})", err=True)
        return "cuda" if count else "cpu"
    if int(index or 0) >= count:
        raise YoloproofError(
            f"--device {text}: {why or f'the highest GPU here is cuda:{count - 1}'}; leave --device out for the CPU"
        )
    return text


def check_folder(path: Path | None) -> None:
    """Refuse a folder to write into that is a file."""
    if path is not None and path.exists() and not path.is_dir():
        raise YoloproofError(f"{path} is a file, not a folder; name another place")


class ProgressBar:
    """A Progress on a terminal's stderr, and lines that stand above it; nothing but the lines in a pipe."""

    BESIDE = 40  # columns of spinner, bar and times

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def __call__(self, what: str, share: float | None = None) -> None:
        from yoloproof.results.labels import printable

        total = None if share is None else 1.0
        words, room = printable(what), max(20, self._bar.console.width - self.BESIDE)
        words = words if len(words) <= room else words[: room - 1] + "…"
        self._bar.update(self._task, description=words, total=total, completed=share or 0.0)

    def line(self, text: str, error: bool = False) -> None:
        """A line of standard output, or of standard error; on a terminal whole, above the bar."""
        from rich.text import Text

        from yoloproof.results.labels import printable

        text = printable(text)
        stream = sys.stderr if error else sys.stdout
        if stream.isatty() and not self._bar.disable:
            self._bar.console.print(Text(text), soft_wrap=True)
        else:
            typer.echo(text, err=error)


@contextmanager
def progress_bar() -> Iterator[ProgressBar]:
    """A bar for as long as the block lasts."""
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # standard output stays itself: redirected into a file it must not end on the terminal
    with Bar(
        *columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:  # fmt: skip
        yield ProgressBar(bar, bar.add_task("", total=None))


def models_to_estimate(results: Sequence[Result]) -> list[str]:
    """Our variants in the results, for what a T4 would take; none where a T4 was measured."""
    from yoloproof.estimate.shapes import layer_shapes
    from yoloproof.names import Weights
    from yoloproof.results.labels import gpu_name
    from yoloproof.results.published import same_gpu, variant_name

    if any(same_gpu(T4, gpu_name(run)) for result in results for run in result.runs):
        return []
    ours = [one for result in results for one in result.entries if one.model.weights is not Weights.FOREIGN]
    return [name for name in dict.fromkeys(map(variant_name, ours)) if name in layer_shapes()]
