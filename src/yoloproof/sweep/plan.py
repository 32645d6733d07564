"""The plan of a sweep: a TOML file, and the cells it comes to.

A cell is what one node measures in one go. Its cases differ only in the interleaved axes (the attention, by default), so
that what is to be compared is compared on one machine at one time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

import yoloproof
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.measurement.protocol import PROTOCOLS, protocol_from_name
from yoloproof.names import Attention, Precision, Runtime
from yoloproof.records import Case, Protocol, Record
from yoloproof.results.schema import plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MODEL_FILES = (".pt", ".safetensors", ".onnx", ".engine", ".native")
# Far above any sweep that ends, and read in a second.
MOST_COMBINATIONS, MOST_BYTES = 10_000, 1 << 20


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("text on one line, without control characters")
    return text


def _one_of(words: Sequence[str]) -> Callable[[object], object]:
    def check(word: object) -> object:
        if word not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return word

    return check


def _absolute(path: str) -> str:
    if not Path(path).is_absolute():
        raise ValueError("an absolute path, the same on every node")
    return path


def _demo_or_absolute(path: str) -> str:
    if path != "demo" and not Path(path).is_absolute():
        raise ValueError("demo, or a folder's absolute path, the same on every node")
    return path


def _sides(size: Any) -> Any:
    sides = size if isinstance(size, list) else [size]
    return sides * 2 if len(sides) == 1 else sides


def _distinct(values: tuple[Value, ...]) -> tuple[Value, ...]:
    if len(set(values)) != len(values):
        raise ValueError("each value once")
    return values


Value = TypeVar("Value")
# What stands in a plan file: the types are the check.
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=4096)]
Text = Annotated[str, Field(strict=True, min_length=1), AfterValidator(_printable)]
AttentionName = Annotated[Attention, BeforeValidator(_one_of(list(Attention)))]
PrecisionName = Annotated[Precision, BeforeValidator(_one_of(list(Precision)))]
RuntimeName = Annotated[Runtime, BeforeValidator(_one_of([name for name in Runtime if name is not Runtime.AUTO]))]
ProtocolName = Annotated[str, BeforeValidator(_one_of(list(PROTOCOLS)))]
Side = Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=32)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_sides)]
Axis = Annotated[tuple[Value, ...], Field(min_length=1, max_length=MOST_COMBINATIONS), AfterValidator(_distinct)]
OneOrMore = Annotated[
    tuple[Value, ...], BeforeValidator(lambda value: value if isinstance(value, list) else [value]), Field(min_length=1)
]


@dataclass(frozen=True)
class PlanOptions(Record):
    """The table [options]: what holds for every case.

    threads, flush_to_zero, random_weights -- as in Case; images -- absolute paths, () for the bundled four
    data -- an absolute path: a folder of annotated images whose AP every row gets; or "demo", the bundled ones
    quick -- in seconds, for a first look
    """

    threads: Count | None = None
    flush_to_zero: Flag = False
    random_weights: Flag = False
    images: tuple[Annotated[Text, AfterValidator(_absolute)], ...] = ()
    data: Annotated[Text, AfterValidator(_demo_or_absolute)] | None = None
    quick: Flag = False


@dataclass(frozen=True)
class _Exclusion(Record):
    """Combinations to leave out: those whose value is among these on every axis named; () for an axis that is not."""

    model: OneOrMore[Text] = ()
    attention: OneOrMore[AttentionName] = ()
    runtime: OneOrMore[RuntimeName] = ()
    precision: OneOrMore[PrecisionName] = ()
    imgsz: Annotated[tuple[Size, ...], BeforeValidator(lambda size: [size])] = ()
    batch: OneOrMore[Count] = ()
    protocol: OneOrMore[ProtocolName] = ()
    accelerator: OneOrMore[Text] = ()


@dataclass(frozen=True)
class _PlanFile(Record):
    """The keys of a plan file. Interleaved axes share a cell: it runs on one machine by one protocol, on the same images."""

    models: Axis[Text]
    attentions: Axis[AttentionName] = (Attention.FUSED,)
    runtimes: Axis[RuntimeName] = (Runtime.ONNXRUNTIME,)
    precisions: Axis[PrecisionName] = (Precision.FP32,)
    imgsz: Axis[Size] = ((640, 640),)
    batches: Axis[Count] = (1,)
    protocols: Axis[ProtocolName] = ("latency",)
    accelerators: Axis[Text] = ("cpu",)
    interleave: tuple[Literal["model", "attention", "runtime", "precision"], ...] = ("attention",)
    timeout_s: Annotated[float, Field(strict=True, gt=0, lt=1e6)] = 1800.0
    retries: Annotated[int, Field(strict=True, ge=0, le=1000)] = 1
    exclude: Annotated[tuple[_Exclusion, ...], Field(max_length=1000)] = ()
    options: PlanOptions = field(default_factory=PlanOptions)

    @property
    def axes(self) -> tuple[tuple[Any, ...], ...]:
        """The axes' values, in the order of `_Combination`."""
        return (
            self.models, self.attentions, self.runtimes, self.precisions, self.imgsz, self.batches, self.protocols,
            self.accelerators,
        )  # fmt: skip


@dataclass(frozen=True)
class _Combination:
    """One value of each axis."""

    model: str
    attention: Attention
    runtime: Runtime
    precision: Precision
    imgsz: tuple[int, int]
    batch: int
    protocol: str
    accelerator: str


AXES = tuple(one.name for one in fields(_Combination))


@dataclass(frozen=True)
class Cell:
    """Cases that one node of the kind `accelerator` measures side by side; `key` names the cell on disk."""

    key: str
    accelerator: str
    protocol: str
    cases: tuple[Case, ...]
    options: PlanOptions

    @property
    def label(self) -> str:
        """The cell on one line."""
        axes = ("model", "attention", "runtime", "precision", "imgsz", "batch")
        parts = ["+".join(dict.fromkeys(_written(getattr(case, axis)) for case in self.cases)) for axis in axes]
        return " ".join([*parts, self.protocol, f"on {self.accelerator}"])

    @property
    def timing(self) -> Protocol:
        """The protocol, in seconds where the plan says `quick`."""
        return protocol_from_name(self.protocol, quick=self.options.quick)


@dataclass(frozen=True)
class Plan:
    """A plan that was read: its cells in order, the seconds that one may take, and how often a failed one is repeated."""

    path: Path
    cells: tuple[Cell, ...]
    timeout_s: float
    retries: int


def read_plan(path: Path) -> Plan:
    """The plan in a TOML file. Raises YoloproofError for what is not a plan: where, and what was expected."""
    try:
        file = _plan_file(path)
        return Plan(path, _cells(file), file.timeout_s, file.retries)
    except YoloproofError as error:
        raise YoloproofError(f"{path}: {error}") from None


def _plan_file(path: Path) -> _PlanFile:
    try:
        if path.exists() and not path.is_file():
            raise YoloproofError("not a file")
        if path.stat().st_size > MOST_BYTES:
            raise YoloproofError(f"{path.stat().st_size:,} bytes; a plan has at most {MOST_BYTES:,}")
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise YoloproofError(error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:
        raise YoloproofError(f"not a TOML file: {error}") from None
    try:
        return TypeAdapter(_PlanFile).validate_python(written)
    except ValidationError as error:
        raise YoloproofError(_first_error(error)) from None


def _first_error(error: ValidationError) -> str:
    """What is wrong with a plan file first: the key's path, what it is, what it should be."""
    first = error.errors(include_url=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    if first["type"] == "unexpected_keyword_argument":
        group = first["loc"][0] if len(first["loc"]) > 1 else "a plan"
        records = {"options": PlanOptions, "exclude": _Exclusion}
        known = ", ".join(one.name for one in fields(records.get(str(group), _PlanFile)))
        return f"no such key: {place}; {group} has {known}"
    if first["type"] == "missing":
        return f'{place} is missing; a plan names at least one, such as {place} = ["yolov13n"]'
    try:
        value = repr(first["input"])
    except ValueError:  # a number of thousands of digits
        value = "an enormous number"
    ours = {"dataclass_type": "a table", "tuple_type": "a list", "too_short": "more values", "too_long": "fewer values"}
    said = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = ours.get(first["type"], said)
    return f"{place} is {value if len(value) <= 60 else value[:60] + '…'}; expected: {expected}"


def _cells(file: _PlanFile) -> tuple[Cell, ...]:
    combinations = math.prod(map(len, file.axes))
    if combinations > MOST_COMBINATIONS:
        raise YoloproofError(
            f"{combinations:,} combinations; a plan has at most {MOST_COMBINATIONS:,}: make several plans of it"
        )
    rules = [_rule(exclusion, file) for exclusion in file.exclude]
    identities = {model: _identity(model) for model in file.models}
    groups: dict[tuple[object, ...], list[_Combination]] = {}
    for values in itertools.product(*file.axes):
        one = _Combination(*values)
        if not any(all(getattr(one, axis) in wanted for axis, wanted in rule.items()) for rule in rules):
            fixed = tuple(getattr(one, axis) for axis in AXES if axis not in file.interleave)
            groups.setdefault(fixed, []).append(one)
    if not groups:
        raise YoloproofError("every combination is excluded; nothing is left to measure")
    return tuple(_cell(group, file.options, identities) for group in groups.values())


def _rule(exclusion: _Exclusion, file: _PlanFile) -> dict[str, set[object]]:
    """The axes that an exclusion names, with their values. What could match nothing is a slip of the pen, and refused."""
    rule: dict[str, set[object]] = {}
    for axis, planned in zip(AXES, file.axes, strict=True):
        if wanted := set(getattr(exclusion, axis)):
            if absent := wanted.difference(planned):
                raise YoloproofError(f"exclude {axis} {_written(absent.pop())}: the plan has no such value")
            rule[axis] = wanted
    if not rule:
        raise YoloproofError('an empty exclude; name what to leave out, such as [[exclude]] runtime = "tensorrt"')
    return rule


def _identity(model: str) -> str:
    """What tells a model from others: of a file (a path relative to where the command runs) its name and SHA-256."""
    from yoloproof.network import VARIANTS

    if model in VARIANTS:
        return model
    file = Path(model)
    if file.suffix not in MODEL_FILES:
        raise YoloproofError(f"model {model}: a file ({', '.join(MODEL_FILES)}) or one of {', '.join(VARIANTS)}")
    if not file.is_file():
        raise YoloproofError(f"model {model}: no such file from {Path.cwd()}")
    return f"{file.name} {sha256_of(file)}"


def _cell(group: list[_Combination], options: PlanOptions, identities: Mapping[str, str]) -> Cell:
    first = group[0]
    cases = tuple(_case(one, options) for one in group)
    # What was measured is what the key stands for: other weights, options or code are another cell.
    known_by = [replace(case, model=identities[case.model]) for case in cases]
    stands_for = [known_by, first.protocol, first.accelerator, options, yoloproof.__version__]
    key = hashlib.sha256(json.dumps(plain(stands_for), sort_keys=True).encode()).hexdigest()[:20]
    return Cell(key, first.accelerator, first.protocol, cases, options)


def _case(one: _Combination, options: PlanOptions) -> Case:
    native = one.runtime is Runtime.NATIVE
    on_gpu = native or one.runtime.builds_engines or one.runtime.startswith("onnxruntime-")
    if on_gpu and one.accelerator == "cpu":
        raise YoloproofError(f"runtime {one.runtime} needs a GPU: name its accelerator, or exclude it on cpu")
    if native and (one.precision, one.attention) != (Precision.FP16, Attention.FUSED):
        raise YoloproofError(
            f"runtime native computes fused attention in fp16: exclude {one.attention} in {one.precision} of it"
        )
    return Case(
        one.model, one.runtime, one.precision, one.attention, one.imgsz, one.batch,
        device="cpu" if one.accelerator == "cpu" else "cuda", threads=options.threads,
        flush_to_zero=options.flush_to_zero, random_weights=options.random_weights,
    )  # fmt: skip


def _written(value: object) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)
