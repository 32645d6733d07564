"""What rows, models and machines are called where people read, and text from a file made safe to print."""

from __future__ import annotations

from collections.abc import Sequence

from yoloproof.names import Attention, Precision, Weights
from yoloproof.records import Entry, Run

NOT_SAID = "–"
KERNELS = "kernels"  # in `Artifact.simplified`: PyTorch runs the network in our own GPU kernels


def plain_text(value: object) -> str:
    """The value on one line, without anything that would steer a terminal or hide in a page: control characters, changes
    of direction and halves of characters show as U+FFFD. A dash for None and for nothing."""
    return printable("" if value is None else " ".join(str(value).split())) or NOT_SAID


def printable(line: str) -> str:
    """The line with U+FFFD for every letter that would steer a terminal, also for an end of line."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def model_label(entry: Entry) -> str:
    """The model's name; random weights are said beside it."""
    random = " (random weights)" if entry.model.weights is Weights.RANDOM else ""
    return plain_text(entry.model.name) + random


def weights_of(entries: Sequence[Entry]) -> list[str]:
    """Whose weights each entry has: the checkpoint's hash, else that of a row of the same run and name, else the name. A native
    file is called otherwise than the checkpoint it was built from."""
    known = {(e.run, model_label(e)): e.artifact.checkpoint_sha256 for e in entries if e.artifact.checkpoint_sha256}
    own = ((e.artifact.checkpoint_sha256, known.get((e.run, model_label(e))), model_label(e)) for e in entries)
    return [next(word for word in words if word) for words in own]


def precision_of(entry: Entry) -> str:
    """What the row computes in: "fp32", "fp16", "bf16"; a dash where nobody said."""
    said = Precision.of_dtype(entry.runtime.precision) or entry.artifact.precision
    return plain_text(said or entry.runtime.precision)


def takes_frames(entry: Entry) -> bool:
    """Whether it is an end-to-end engine: letterbox and suppression are inside its time, too."""
    return "frames" in entry.artifact.metadata


def network_label(entry: Entry) -> str:
    """The attention, and what else tells the network apart: "published", "fused (our kernels)", "fused (compiled)",
    "fused (end to end)" for frames in and detections out, and "fused (published graph)" where the network is as published
    but for its attention."""
    attention, simplified = entry.artifact.attention, entry.artifact.simplified
    marks = ["our kernels"] if KERNELS in simplified else ["compiled"] if entry.runtime.compile else []
    if simplified == ("norms",) and attention in (Attention.FUSED, Attention.EXPLICIT):
        marks.insert(0, "published graph")
    marks += ["end to end"] if takes_frames(entry) else []
    return plain_text(attention) + (f" ({', '.join(marks)})" if marks else "")


def size_label(entry: Entry) -> str:
    """ "640×640"; a dash where nobody said."""
    return NOT_SAID if entry.artifact.imgsz is None else "×".join(map(str, entry.artifact.imgsz))


def row_label(entry: Entry) -> str:
    """A row on one line: "yolov13n fused fp32 onnxruntime"; size and batch where they are not the usual ones."""
    parts = [model_label(entry), network_label(entry), precision_of(entry), str(entry.runtime.name)]
    parts += [size_label(entry)] if entry.artifact.imgsz != (640, 640) else []
    parts += [f"batch {entry.artifact.batch}"] if entry.artifact.batch != 1 else []
    return " ".join(part for part in parts if part != NOT_SAID)


def gpu_name(run: Run) -> str | None:
    """The name of the GPU that a run was on; None for a CPU."""
    gpu = run.machine.gpu if run.machine is not None else None
    return None if gpu is None or not gpu.name else plain_text(gpu.name)


def machine_label(run: Run) -> str:
    """The accelerator's name, else the CPU's with its cores: how a machine is called in a heading."""
    if run.machine is None:
        return f"{plain_text(run.requested)} (not reached)"
    cpu = run.machine.cpu
    return gpu_name(run) or f"{plain_text(cpu.model or 'unknown CPU')} ({cpu.logical_cores or '?'} cores)"


def words_in_all(labels: Sequence[str]) -> list[str]:
    """The words that all labels share, in the first one's order; none where a label has no other."""
    shared = [word for word in labels[0].split() if all(word in label.split() for label in labels)] if labels else []
    return shared if all(set(label.split()) - set(shared) for label in labels) else []


def without(label: str, words: Sequence[str]) -> str:
    """A label without the words that stand elsewhere."""
    return " ".join(word for word in label.split() if word not in words)
