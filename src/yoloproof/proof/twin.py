"""A copy of modules that shares their tensors: to be looked into or changed where the original must not be touched."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def twin(module: Module, replaced: Mapping[str, Tensor] | None = None) -> Module:
    """A copy of `module` that shares every tensor with it, except those in `replaced` (name → tensor instead).

    Hooks on the copy, and modules put into it, never reach the original; in-place writes to shared tensors would.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    instead = dict(replaced or {})
    if unknown := instead.keys() - tensors.keys():
        raise KeyError(f"no tensor is called {', '.join(sorted(unknown))}")
    memo: dict[int, object] = {id(tensor): instead.get(name, tensor) for name, tensor in tensors.items()}
    return copy.deepcopy(module, memo)
