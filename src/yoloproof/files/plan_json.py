"""A launch plan as JSON, and back: every key is there and none other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from yoloproof.errors import YoloproofError
from yoloproof.files.plan import (
    Argument,
    Buffer,
    BufferPointer,
    Frames,
    Kernel,
    Launch,
    Operation,
    Plan,
    WeightPointer,
)

SCHEMA = 1
T = TypeVar("T")


def json_from_plan(plan: Plan) -> str:
    """One line of JSON."""
    document = {
        "schema": SCHEMA,
        "images": plan.images, "outputs": plan.outputs, "input": plan.input, "output": plan.output,
        "arena_bytes": plan.arena_bytes,
        "buffers": [[buffer.bytes, buffer.offset] for buffer in plan.buffers],
        "kernels": [[kernel.name, kernel.arguments, dict(kernel.constants)] for kernel in plan.kernels],
        "operations": [_plain_step(operation) for operation in plan.operations],
    }  # fmt: skip
    if plan.frames is not None:
        document["frames"] = asdict(plan.frames)
    return json.dumps(document, separators=(",", ":"))


def plan_from_json(text: str | bytes) -> Plan:
    """Raises YoloproofError where the text is no plan of this schema."""
    try:
        document = json.loads(text)
        if document.pop("schema") != SCHEMA:
            raise ValueError(f"another schema than {SCHEMA}")
        plan = Plan(
            images=_four(document.pop("images")), outputs=_three(document.pop("outputs")),
            input=_int(document.pop("input")), output=_int(document.pop("output")),
            arena_bytes=_int(document.pop("arena_bytes")),
            buffers=tuple(Buffer(_int(size), _int(offset)) for size, offset in document.pop("buffers")),
            kernels=tuple(_kernel(*parts) for parts in document.pop("kernels")),
            operations=tuple(_operation(one) for one in document.pop("operations")),
            frames=_frames(document.pop("frames")) if "frames" in document else None,
        )  # fmt: skip
        if document:
            raise ValueError(f"unknown keys {', '.join(document)}")
        return plan
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise YoloproofError(f"launch plan: damaged or of another version ({type(error).__name__}: {error})") from None


def _plain_step(step: Launch | Operation) -> dict[str, Any]:
    if isinstance(step, Launch):
        arguments = [_plain_argument(argument) for argument in step.arguments]
        return {"kernel": step.kernel, "grid": step.grid, "arguments": arguments, "reads": step.reads,
                "writes": step.writes}  # fmt: skip
    return {
        "name": step.name, "kind": step.kind, "shape": step.shape, "flops": step.flops, "default": step.default,
        "tactics": [[_plain_step(one) for one in tactic] for tactic in step.tactics],
    }  # fmt: skip


def _plain_argument(argument: Argument) -> int | str | list[int]:
    if isinstance(argument, BufferPointer):
        return [argument.buffer, argument.offset]
    return argument.weight if isinstance(argument, WeightPointer) else argument


def _frames(record: Mapping[str, Any]) -> Frames:
    return Frames(*(_int(value) for value in _only(record, *(field.name for field in fields(Frames)))))


def _kernel(name: str, arguments: list[str], constants: Mapping[str, int]) -> Kernel:
    named = tuple((str(key), _int(value)) for key, value in constants.items())
    return Kernel(str(name), tuple(map(str, arguments)), named)


def _operation(record: Mapping[str, Any]) -> Operation:
    name, kind, shape, flops, default, tactics = _only(record, "name", "kind", "shape", "flops", "default", "tactics")
    taken = tuple(tuple(_step(step) for step in tactic) for tactic in tactics)
    if not taken or not all(taken) or not 0 <= _int(default) < len(taken):
        raise ValueError(f"operation {name} lacks tactics")
    return Operation(str(name), str(kind), _all(shape, _int), _int(flops), taken, default)


def _step(record: Mapping[str, Any]) -> Launch | Operation:
    if "tactics" in record:
        return _operation(record)
    kernel, grid, arguments, reads, writes = _only(record, "kernel", "grid", "arguments", "reads", "writes")
    return Launch(_int(kernel), _three(grid), _all(arguments, _argument), _all(reads, _int), _all(writes, _int))


def _argument(value: object) -> Argument:
    if isinstance(value, list):
        buffer, offset = value
        return BufferPointer(_int(buffer), _int(offset))
    return WeightPointer(value) if isinstance(value, str) else _int(value)


def _only(record: Mapping[str, Any], *names: str) -> list[Any]:
    if set(record) != set(names):
        raise ValueError(f"keys {', '.join(record)} instead of {', '.join(names)}")
    return [record[name] for name in names]


def _int(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no integer")
    return value


def _all(values: object, one: Callable[[object], T]) -> tuple[T, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return tuple(one(value) for value in values)


def _three(values: object) -> tuple[int, int, int]:
    first, second, third = _all(values, _int)
    return first, second, third


def _four(values: object) -> tuple[int, int, int, int]:
    first, second, third, fourth = _all(values, _int)
    return first, second, third, fourth
