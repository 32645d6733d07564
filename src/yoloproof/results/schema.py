"""What a result file of schema 1 holds, as one table; everything that reads one may rely on it.

A rule is a test of one value, a record ({key: rule}, "key?" may be missing; other keys are free), a list ([rule] for
every item) or a pair (None, rule) for what may be null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and bool(value > 0)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_number, value))


WARNING = {"code": _text, "evidence?": _text, "advice?": _text, "level_factor?": (None, _positive)}
CHECK = {"name": _text, "passed?": (None, _flag), "detail?": (None, _text)}
CPU = {"model?": (None, _text), "logical_cores?": (None, _count)}
RUN = {
    "machine": {"cpu?": (None, CPU), "gpu?": (None, {"name?": (None, _text)}), "libraries?": (None, {})},
    "protocol": {"name?": _text, "quick?": _flag},
    "warnings?": [WARNING],
}
PROCESS = {"samples_s?": [_positive], "warmup_s?": [_number], "process?": _count, "complete?": _flag}
SUMMARY = {
    "median_s": _positive,
    "mad_s?": _number,
    "fps?": _number,
    "interval_s?": (None, _pair),
    "p90_s?": (None, _number),
    "p99_s?": (None, _number),
    "clipped_mean_s?": (None, _positive),
    "clipped_std_s?": (None, _number),
}
PUBLISHED = {
    "latency_s": _positive, "gpu": _text, "source": _text, "runtime?": (None, _text), "precision?": (None, _text),
    "imgsz?": (None, _count), "batch?": (None, _count),
}  # fmt: skip
ENTRY = {
    "model": {
        "name": _text, "family?": (None, _text), "scale?": (None, _text), "parameters?": (None, _number),
        "flops?": (None, _number), "weights?": (None, _text),
    },
    "artifact": {"precision?": (None, _text), "attention?": (None, _text), "batch?": (None, _count)},
    "runtime": {"name?": (None, _text), "precision?": (None, _text)},
    "proof": {"passed?": (None, _flag), "checks?": [CHECK]},
    "processes": [PROCESS],
    "summary": (None, SUMMARY),
    "warnings": [WARNING],
    "accuracy?": (None, {"AP?": (None, _number), "AP50?": (None, _number)}),
    "published?": (None, PUBLISHED),
    "partial?": _flag,
}  # fmt: skip


def first_wrong(value: Any, rule: Any, name: str = "") -> str | None:
    """Where `value` first departs from `rule`, like "processes[1].samples_s"; None where it does not."""
    if isinstance(rule, tuple):
        return None if value is None else first_wrong(value, rule[1], name)
    if isinstance(rule, list):
        if not isinstance(value, list):
            return name
        found = (first_wrong(item, rule[0], f"{name}[{i}]") for i, item in enumerate(value))
        return next((place for place in found if place is not None), None)
    if not isinstance(rule, Mapping):
        return None if rule(value) else name
    if not isinstance(value, Mapping):
        return name
    for key, inner in rule.items():
        place = f"{name}.{key}".strip(".?")
        if key.rstrip("?") in value:
            if (wrong := first_wrong(value[key.rstrip("?")], inner, place)) is not None:
                return wrong
        elif not key.endswith("?"):
            return place
    return None
