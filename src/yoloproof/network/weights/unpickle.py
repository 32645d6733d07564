"""Tensors out of a PyTorch checkpoint without running anything the file asks for.

A `.pt` file is a zip archive: `data.pkl` is a pickle of whole module objects, `data/N` are the tensors' bytes. The
unpickler here builds every module class as an inert stand-in and resolves only the few names that tensors need
(format: torch.serialization's documentation; the danger: pickle's documentation, "restricting globals").
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, ClassVar

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
# Names that a network's parts or a training run's records need (best fitness is a NumPy number, settings hold paths);
# whatever they are, class or function, each becomes a stand-in without behaviour.
INERT_PREFIXES = ("ultralytics.", "models.", "utils.", "torch.nn.", "torch.optim.", "torch.amp.")
INERT_NAMES = {
    *(
        (module, f"{kind}Path")
        for module in ("pathlib", "pathlib._local")
        for kind in ("Posix", "Windows", "PurePosix")
    ),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(("builtins", kind) for kind in ("dict", "list", "int", "float", "str", "bool")),
    *(("datetime", kind) for kind in ("datetime", "timedelta", "timezone")),
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace"),
    ("torch", "device"),
    ("torch", "Tensor"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("_codecs", "encode"),  # how older pickles spell the bytes of a NumPy number
}
MOST_MODULES, MOST_TENSORS, LONGEST_NAME = 20_000, 100_000, 1_000
LARGEST_KEY = 2**60  # larger numbers can be chosen so that all have one hash, and a dictionary of them takes hours


def _key(key: Any) -> Any:
    """A key of a dictionary or set, if hashing it takes no time: nested tuples, each holding the last twice, take 2ⁿ."""
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, tuple) or (isinstance(part, int) and abs(part) >= LARGEST_KEY) for part in parts):
        raise pickle.UnpicklingError("a key that is a nested tuple or an enormous number")
    return key


def _items_of(values: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(values, list | tuple):  # the elements of a tensor would each be a tensor
        raise pickle.UnpicklingError(f"a container made of a {type(values).__name__}")
    return values


# What the few real containers are made by; none is a class that a pickle could change.
PLAIN = {
    ("collections", "OrderedDict"): lambda items=(): collections.OrderedDict((_key(k), v) for k, v in _items_of(items)),
    ("builtins", "set"): lambda items=(): set(map(_key, _items_of(items))),
    ("builtins", "frozenset"): lambda items=(): frozenset(map(_key, _items_of(items))),
    ("torch", "Size"): lambda items=(): tuple(_items_of(items)),
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
            _check_kind(path, archive.namelist())
            pickles = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise YoloproofError(f"{path}: a zip file, but not a PyTorch checkpoint (no data.pkl in it)")
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise YoloproofError(
                    f"{path}: unpacks to more than its own size, which PyTorch's checkpoints never do (compressed, or a zip"
                    " bomb); save it again with torch.save"
                )
            return _Unpickler(path, archive, pickles[0]).load()
    except zipfile.BadZipFile:
        raise YoloproofError(
            f"{path}: not a whole PyTorch zip (truncated download, or saved before PyTorch 1.6); fetch it again"
        ) from None
    except YoloproofError:
        raise
    except Exception as error:  # a damaged pickle or zip member makes its readers raise anything
        raise YoloproofError(f"{path}: damaged checkpoint ({type(error).__name__}: {error}); fetch it again") from None


def _check_kind(path: Path, names: list[str]) -> None:
    """Refuse programs, which PyTorch writes as zips too. Raises YoloproofError."""
    inside = {name.partition("/")[2] for name in names}
    kind = "TorchScript" if "constants.pkl" in inside or any(n.startswith("code/") for n in inside) else None
    if kind is None and "archive_format" in inside:
        kind = "torch.export"
    if kind is not None:
        raise YoloproofError(
            f"{path}: a {kind} program, not a checkpoint: it holds fixed operations instead of a network's weights; name the"
            " .pt file that it was exported from, or that file's ONNX export"
        )


class _Unpickler(pickle._Unpickler):  # type: ignore[misc]
    """Python's own unpickler, in Python: its memo is a dictionary, so that a slot of a huge number takes no memory, and
    each of its steps can be held to what weights need."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, path: Path, archive: zipfile.ZipFile, pickle_name: str) -> None:
        super().__init__(io.BytesIO(archive.read(pickle_name)))
        self.path, self.archive, self.folder = path, archive, pickle_name.rsplit("/", 1)[0]
        self.classes: dict[tuple[str, str], type[Inert]] = {}
        self.storages: dict[str, Tensor] = {}
        if f"{self.folder}/byteorder" in archive.namelist() and archive.read(f"{self.folder}/byteorder") != b"little":
            raise YoloproofError(f"{path}: tensors are big-endian; save it again on a little-endian machine")

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) in PLAIN:
            return PLAIN[module, name]
        if (module, name) == ("builtins", "getattr"):
            return self._bound_method
        if (module, name) == ("collections", "defaultdict"):
            return lambda *_: {}
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return lambda data, *_: data
        if (module, name) == ("torch._tensor", "_rebuild_from_type_v2"):  # a tensor that somebody hung attributes on
            return lambda rebuild, kind, arguments, state: rebuild(*arguments)
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

    def load_build(self) -> None:
        """Give an object its state: stand-ins and dictionaries alone, since a tensor's state is no weights, and that of a
        function or a type would stay for the next load."""
        held, state = self.stack[-2:]
        if not isinstance(held, Inert) and not (isinstance(held, collections.OrderedDict) and isinstance(state, dict)):
            raise pickle.UnpicklingError(f"a state for a {type(held).__name__}")
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]

    def load_setitem(self) -> None:
        _key(self.stack[-2])
        pickle._Unpickler.load_setitem(self)  # type: ignore[attr-defined]

    def load_setitems(self) -> None:
        for key in self.stack[::2]:  # all since the last mark
            _key(key)
        pickle._Unpickler.load_setitems(self)  # type: ignore[attr-defined]

    def load_additems(self) -> None:
        for key in self.stack:
            _key(key)
        pickle._Unpickler.load_additems(self)  # type: ignore[attr-defined]

    dispatch |= {
        pickle.BUILD[0]: load_build, pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems,
        pickle.ADDITEMS[0]: load_additems,
    }  # fmt: skip
    for unneeded in (pickle.DICT, pickle.FROZENSET, pickle.BYTEARRAY8, pickle.NEXT_BUFFER):
        del dispatch[unneeded[0]]

    def persistent_load(self, identifier: Any) -> Tensor:
        kind, dtype, key, _location, count = identifier
        if not (
            kind == "storage" and isinstance(dtype, torch.dtype) and isinstance(key, str) and isinstance(count, int)
        ):
            raise pickle.UnpicklingError("a persistent object that is no storage")
        if key not in self.storages:
            data = self.archive.read(f"{self.folder}/data/{key}")  # zip's CRC is checked by this read
            if len(data) < count * dtype.itemsize:
                raise pickle.UnpicklingError(
                    f"tensor data {key} has {len(data)} bytes, {count * dtype.itemsize} needed"
                )
            self.storages[key] = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self.storages[key]

    def _bound_method(self, module: object, name: object) -> Inert:
        """Where fusing put a method in the place of another (`forward = forward_fuse`), or a head keeps another's
        (`detect = Detect.forward`): a stand-in for it."""
        known = isinstance(module, Inert) or (isinstance(module, type) and issubclass(module, Inert))
        if not known or not isinstance(name, str):
            raise YoloproofError(
                f"{self.path}: refused, nothing was run: its pickle calls builtins.getattr on what is no module"
            )
        return Inert(name)

    @staticmethod
    def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
        if not all(type(number) is int for number in (offset, *size, *stride)):
            raise pickle.UnpicklingError("a tensor whose sizes are no integers")
        reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        elements = prod(size)
        # Not left to as_strided: a stride of 0 makes a terabyte of one number.
        if min((offset, *size, *stride)) < 0 or elements > len(storage) or (elements and reach >= len(storage)):
            raise pickle.UnpicklingError(f"a tensor {list(size)} that leaves its {len(storage)} stored numbers")
        return storage.as_strided(tuple(size), tuple(stride), offset)


def named_tensors(module: Inert) -> dict[str, Tensor]:
    """Every parameter and buffer below a stand-in module by its attribute path, as `state_dict()` would name it.

    Raises ValueError for modules that are nested without end, in depth or in number.
    """
    tensors: dict[str, Tensor] = {}
    waiting = [("", module)]
    for _ in range(MOST_MODULES):
        if not waiting:
            return tensors
        prefix, module = waiting.pop()
        if len(prefix) > LONGEST_NAME or max(len(waiting), len(tensors)) > MOST_TENSORS:
            break
        for kind in ("_parameters", "_buffers"):
            tensors.update((f"{prefix}{n}", t) for n, t in _items(module, kind) if isinstance(t, Tensor))
        waiting += [(f"{prefix}{n}.", child) for n, child in _items(module, "_modules") if isinstance(child, Inert)]
    raise ValueError(f"over {MOST_MODULES} modules, or one that contains itself")


def _items(module: Inert, kind: str) -> list[tuple[str, Any]]:
    table = getattr(module, kind, None)
    return [(n, value) for n, value in table.items() if isinstance(n, str)] if isinstance(table, dict) else []
