"""The help's look: no Python types beside flags."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose flags show no `<bool>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_bool(super().get_params(ctx))


class Group(TyperGroup):
    """The same of the program itself."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_bool(super().get_params(ctx))


def _without_bool(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters
