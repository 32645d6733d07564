"""The plan of a sweep: a TOML file, and the cells it comes to.

A cell is what one node measures in one go. Its measurements differ only in the interleaved axes (the attention, by
default), so that what is to be compared is compared on one machine at one time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yoloproof
from yoloproof.errors import YoloproofError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The axes of a plan, and the key of the plan file that lists each one's values.
AXES = {
    "model": "models",
    "attention": "attentions",
    "runtime": "runtimes",
    "precision": "precisions",
    "imgsz": "imgsz",
    "batch": "batches",
    "protocol": "protocols",
    "accelerator": "accelerators",
}
DEFAULTS: dict[str, list[Any]] = {
    "attentions": ["fused"],
    "runtimes": ["onnxruntime"],
    "precisions": ["fp32"],
    "imgsz": [640],
    "batches": [1],
    "protocols": ["latency"],
    "accelerators": ["cpu"],
}
SETTINGS: dict[str, Any] = {
    "interleave": ["attention"],
    "timeout_s": 1800.0,
    "retries": 1,
    "exclude": [],
    "options": {},
}
# One task runs on one machine by one protocol, on the same images: only these can be interleaved.
INTERLEAVED = ("model", "attention", "runtime", "precision")


@dataclass(frozen=True)
class Measurement:
    """One artifact on one runtime: one entry of the result file. `imgsz` is (height, width) in px."""

    model: str
    attention: str
    runtime: str
    precision: str
    imgsz: tuple[int, int]
    batch: int


@dataclass(frozen=True)
class Cell:
    """Measurements that one node of the kind `accelerator` takes interleaved; `key` names it on disk."""

    key: str
    accelerator: str
    protocol: str
    measurements: tuple[Measurement, ...]

    @property
    def label(self) -> str:
        """The cell on one line."""
        parts: list[str] = []
        for axis in (*INTERLEAVED, "imgsz", "batch"):
            values = dict.fromkeys(_written(getattr(one, axis)) for one in self.measurements)
            parts.append("+".join(values))
        return " ".join([*parts, self.protocol, f"on {self.accelerator}"])


@dataclass(frozen=True)
class Plan:
    """A plan that was read: its cells in order, and how each is run. `options` go to the runner as they are."""

    path: Path
    cells: tuple[Cell, ...]
    options: Mapping[str, Any]
    timeout_s: float
    retries: int


def read_plan(path: Path) -> Plan:
    """The plan in a TOML file. Raises YoloproofError for what is not a plan: where, and what was expected."""
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise YoloproofError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise YoloproofError(f"{path}: not a TOML file: {error}") from error
    known = {*AXES.values(), *SETTINGS}
    if unknown := sorted(set(written) - known):
        raise YoloproofError(f"{path}: no such key: {', '.join(unknown)}; a plan has {', '.join(sorted(known))}")
    axes = {axis: _values(path, key, written.get(key, DEFAULTS.get(key))) for axis, key in AXES.items()}
    settings = {key: written.get(key, default) for key, default in SETTINGS.items()}
    _check_settings(path, settings)
    combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    rules = [_rule(path, rule, axes) for rule in settings["exclude"]]
    kept = [one for one in combinations if not any(_matches(one, rule) for rule in rules)]
    if not kept:
        raise YoloproofError(f"{path}: every combination is excluded; nothing is left to measure")
    digests = {model: _model_digest(path, model) for model in axes["model"]}
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in kept:
        fixed = {axis: value for axis, value in one.items() if axis not in settings["interleave"]}
        groups.setdefault(json.dumps(fixed, sort_keys=True), []).append(one)
    cells = tuple(_cell(group, settings["options"], digests) for group in groups.values())
    return Plan(path, cells, settings["options"], float(settings["timeout_s"]), settings["retries"])


def _values(path: Path, key: str, values: Any) -> list[Any]:
    """An axis's values: a non-empty list without doubles; an image size becomes (height, width)."""
    if not isinstance(values, list) or not values:
        raise YoloproofError(f'{path}: {key} must be a list that names at least one, such as {key} = ["…"]')
    expected: type = int if key in ("imgsz", "batches") else str
    made = []
    for value in values:
        sides = value if key == "imgsz" and isinstance(value, list) else [value]
        plain = all(isinstance(side, expected) and not isinstance(side, bool) for side in sides)
        positive = expected is str or (plain and all(side > 0 for side in sides))
        if not plain or not positive or (key == "imgsz" and len(sides) not in (1, 2)):
            wanted = {str: "text", int: "a whole number above 0"}[expected]
            raise YoloproofError(f"{path}: {key} holds {value!r}; expected {wanted}")
        made.append((sides[0], sides[-1]) if key == "imgsz" else value)
    if len(set(made)) != len(made):
        raise YoloproofError(f"{path}: {key} names a value twice")
    return made


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    interleave, timeout_s, retries = (settings[key] for key in ("interleave", "timeout_s", "retries"))
    if not isinstance(interleave, list) or not set(map(str, interleave)) <= set(INTERLEAVED):
        raise YoloproofError(f"{path}: interleave is {interleave!r}; a list of {', '.join(INTERLEAVED)}")
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not 0 < timeout_s < 1e6:
        raise YoloproofError(f"{path}: timeout_s is {timeout_s!r}; seconds above 0 and below a million")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise YoloproofError(f"{path}: retries is {retries!r}; 0 or more")
    if not isinstance(settings["options"], dict):
        raise YoloproofError(f"{path}: options must be a table: [options]")
    exclude = settings["exclude"]
    if not isinstance(exclude, list) or not all(isinstance(rule, dict) and rule for rule in exclude):
        raise YoloproofError(f'{path}: exclude must be tables, such as [[exclude]] runtime = "tensorrt"')


def _rule(path: Path, rule: Mapping[str, Any], axes: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """An exclusion as axis → values. One that could match nothing is a slip of the pen, and refused."""
    if unknown := sorted(set(rule) - set(AXES)):
        raise YoloproofError(f"{path}: exclude names {', '.join(unknown)}; axes are {', '.join(AXES)}")
    made = {}
    for axis, wanted in rule.items():
        values = wanted if isinstance(wanted, list) and axis != "imgsz" else [wanted]
        made[axis] = [_values(path, AXES[axis], [value])[0] for value in values]
        if absent := [value for value in made[axis] if value not in axes[axis]]:
            raise YoloproofError(
                f"{path}: exclude {axis} {_written(absent[0])}: the plan's {AXES[axis]} have no such value"
            )
    return made


def _matches(one: Mapping[str, Any], rule: Mapping[str, list[Any]]) -> bool:
    return all(one[axis] in values for axis, values in rule.items())


def _model_digest(path: Path, model: str) -> str:
    """The SHA-256 of a model that is a file (a path relative to where the command runs); its name otherwise."""
    file = Path(model)
    if file.suffix and not file.is_file():
        raise YoloproofError(f"{path}: model {model}: no such file from {Path.cwd()}")
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.suffix else model


def _cell(group: Sequence[Mapping[str, Any]], options: Mapping[str, Any], digests: Mapping[str, str]) -> Cell:
    axes = [axis for axis in AXES if axis not in ("protocol", "accelerator")]
    measurements = tuple(Measurement(**{axis: one[axis] for axis in axes}) for one in group)
    first = group[0]
    # What was measured is what the key stands for: other weights, options or code are another cell.
    stands_for = {
        "measurements": [{**asdict(one), "model": digests[one.model]} for one in measurements],
        "protocol": first["protocol"],
        "accelerator": first["accelerator"],
        "options": options,
        "version": yoloproof.__version__,
    }
    written = json.dumps(stands_for, sort_keys=True, default=str)
    key = hashlib.sha256(written.encode()).hexdigest()[:20]
    return Cell(key, first["accelerator"], first["protocol"], measurements)


def _written(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)
