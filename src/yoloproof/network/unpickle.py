"""Tensors out of a PyTorch checkpoint without running anything the file asks for.

A `.pt` file is a zip archive: `data.pkl` is a pickle of whole module objects, `data/N` are the tensors' bytes. The
unpickler here builds every module class as an inert stand-in and resolves only the few names that tensors need
(format: torch.serialization's documentation; the danger: pickle's documentation, "restricting globals").
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yoloproof.errors import YoloproofError

STORAGE_TYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Classes whose objects hold a network's parts or a training run's settings; each becomes a stand-in without behaviour.
INERT_PREFIXES = ("ultralytics.", "torch.nn.", "torch.optim.")
INERT_NAMES = {
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib", "PurePosixPath"),
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace"),
    ("datetime", "datetime"),
    ("torch", "device"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
}
PLAIN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
    ("torch", "Size"): tuple,
}


class Inert:
    """A stand-in for an object of a class that is never imported: it keeps the state and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __new__(cls, *arguments: Any) -> Inert:
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            state = {**(state[0] or {}), **state[1]}  # a class with slots
        if isinstance(state, dict):
            self.__dict__.update(state)
        else:
            self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__.setdefault("items", {})[key] = value

    def append(self, value: Any) -> None:
        self.__dict__.setdefault("items", {})[len(self.__dict__.get("items", {}))] = value

    def extend(self, values: Any) -> None:
        for value in values:
            self.append(value)


def checkpoint_from_pt(path: Path) -> Any:
    """The object pickled in `path`, modules as `Inert` stand-ins with their `_modules`, `_parameters`, `_buffers`.

    Raises YoloproofError, naming the file, when it is not a whole PyTorch zip or asks for any other callable.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise YoloproofError(f"{path}: a zip file, but not a PyTorch checkpoint (no data.pkl in it)")
            return _Unpickler(path, archive, pickles[0]).load()
    except zipfile.BadZipFile:
        raise YoloproofError(
            f"{path}: not a whole PyTorch zip (truncated download, or saved before PyTorch 1.6); fetch it again"
        ) from None
    except YoloproofError:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RuntimeError,
        OverflowError,
        MemoryError,
        UnicodeDecodeError,
        RecursionError,
        NotImplementedError,
        OSError,
        AssertionError,
    ) as error:  # fmt: skip - what a damaged pickle or zip member can make these readers raise
        raise YoloproofError(f"{path}: damaged checkpoint ({type(error).__name__}: {error}); fetch it again") from None


class _Unpickler(pickle.Unpickler):
    def __init__(self, path: Path, archive: zipfile.ZipFile, pickle_name: str) -> None:
        super().__init__(archive.open(pickle_name))
        self.path, self.archive, self.folder = path, archive, pickle_name.rsplit("/", 1)[0]
        self.classes: dict[tuple[str, str], type[Inert]] = {}
        self.storages: dict[str, Tensor] = {}
        if f"{self.folder}/byteorder" in archive.namelist() and archive.read(f"{self.folder}/byteorder") != b"little":
            raise YoloproofError(f"{path}: tensors are big-endian; save it again on a little-endian machine")

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) in PLAIN:
            return PLAIN[module, name]
        if (module, name) == ("collections", "defaultdict"):
            return lambda *_: {}
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) in (("torch._utils", "_rebuild_parameter"), ("torch._tensor", "_rebuild_from_type_v2")):
            return lambda data, *_: data
        if module == "torch" and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) in INERT_NAMES or (module + ".").startswith(INERT_PREFIXES):
            # a class of this load alone, so that no pickle can leave traces in the next
            return self.classes.setdefault((module, name), type(name, (Inert,), {"__module__": module}))
        raise YoloproofError(
            f"{self.path}: refused, nothing was run: its pickle calls {module}.{name}, which weights never need"
        )

    def persistent_load(self, identifier: Any) -> Tensor:
        kind, dtype, key, _location, count = identifier
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown persistent object {kind!r}")
        key = str(key)
        if key not in self.storages:
            data = self.archive.read(f"{self.folder}/data/{key}")  # zip's CRC is checked by this read
            if len(data) < count * dtype.itemsize:
                raise pickle.UnpicklingError(
                    f"tensor data {key} has {len(data)} bytes, {count * dtype.itemsize} needed"
                )
            self.storages[key] = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self.storages[key]

    @staticmethod
    def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
        return storage.as_strided(tuple(size), tuple(stride), offset)  # raises when it would leave the storage


def named_tensors(module: Inert, prefix: str = "", seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer below a stand-in module by its attribute path, as `state_dict()` would name it."""
    if id(module) in seen:
        raise ValueError(f"module {prefix or '(root)'} contains itself")
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (getattr(module, kind, None) or {}).items():
            if isinstance(tensor, Tensor):
                yield f"{prefix}{name}", tensor
    for name, child in (getattr(module, "_modules", None) or {}).items():
        if isinstance(child, Inert):
            yield from named_tensors(child, f"{prefix}{name}.", seen | {id(module)})
