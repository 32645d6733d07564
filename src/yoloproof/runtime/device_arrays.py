"""Arrays in a GPU's memory, taken from and given to other libraries without a copy through the host.

Sources: DLPack's C API (`dlpack.h`) and the Python array API's `__dlpack__`; CUDA Array Interface, version 3 (Numba).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from yoloproof.errors import YoloproofError

CPU, CUDA = 1, 2  # DLDeviceType
KINDS = {"i": 0, "u": 1, "f": 2}  # NumPy's kinds → DLDataTypeCode
NAME, USED = b"dltensor", b"used_dltensor"


@dataclass(frozen=True)
class DeviceArray:
    """An array in a GPU's memory, which `torch.from_dlpack`, CuPy and others take as it is.

    address -- of its first value; dtype -- NumPy's name; strides -- in values, None where it is contiguous
    stream -- on which it is ready, None where it is ready already; device -- the GPU's index, kind -- DLPack's device type
    owner -- kept alive as long as the array is in use
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] | None = None
    stream: int | None = None
    device: int = 0
    kind: int = CUDA
    owner: Any = None

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        size = np.dtype(self.dtype).itemsize
        strides = None if self.strides is None else tuple(size * step for step in self.strides)
        return {"version": 3, "shape": self.shape, "typestr": np.dtype(self.dtype).str, "strides": strides,
                "data": (self.address, False), "stream": self.stream}  # fmt: skip

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, self.device

    def __dlpack__(self, **_: object) -> object:
        """A capsule; the array is ready on every stream."""
        return _capsule(self)


def on_cpu(array: Any) -> bool:
    """Whether another library's array lies in the host's memory."""
    return hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] == CPU


@contextmanager
def borrowed(array: Any, stream: int) -> Iterator[DeviceArray]:
    """The array of an object with `__dlpack__` or `__cuda_array_interface__`, given back at the end.

    stream -- the one that will read it: by DLPack the producer makes the array ready there; otherwise `stream` of the
      result says what has to be waited for
    Raises YoloproofError for any other object.
    """
    if isinstance(array, DeviceArray):
        yield array
    elif hasattr(array, "__dlpack__"):
        kind, _ = array.__dlpack_device__()
        capsule = array.__dlpack__(stream=stream) if kind == CUDA else array.__dlpack__()
        with _opened(capsule) as found:
            yield found
    elif hasattr(array, "__cuda_array_interface__"):
        yield _from_interface(array.__cuda_array_interface__, array)
    else:
        raise YoloproofError(
            f"{type(array).__name__} is not an array on a GPU: it has neither __dlpack__ nor __cuda_array_interface__"
        )


def _from_interface(said: dict[str, Any], owner: object) -> DeviceArray:
    kind = np.dtype(said["typestr"])
    strides = said.get("strides")
    return DeviceArray(
        int(said["data"][0]), tuple(said["shape"]), kind.name,
        None if strides is None else tuple(step // kind.itemsize for step in strides), said.get("stream"), owner=owner,
    )  # fmt: skip


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p), ("kind", ctypes.c_int32), ("device", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )  # fmt: skip


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    """DLManagedTensor. context -- a reference to the `_Held` that it lies in"""

    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


class _Held:
    """What has to live until the consumer is done."""

    def __init__(self, array: DeviceArray) -> None:
        kind, count = np.dtype(array.dtype), len(array.shape)
        self.array = array
        self.shape = (ctypes.c_int64 * count)(*array.shape)
        self.strides = None if array.strides is None else (ctypes.c_int64 * count)(*array.strides)
        self.managed = _Managed(
            _Tensor(
                array.address, array.kind, array.device, count, KINDS[kind.kind], 8 * kind.itemsize, 1, self.shape,
                self.strides, 0,
            ),
            id(self), _delete,
        )  # fmt: skip


def _api(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_hold = _api("Py_IncRef", None, ctypes.py_object)
_release = _api("Py_DecRef", None, ctypes.py_object)
_new = _api("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)
_is_named = _api("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer = _api("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_rename = _api("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)


def _give_back(managed: int) -> None:
    context = _Managed.from_address(managed).context
    _release(ctypes.cast(context, ctypes.py_object))


def _destroy_untaken(capsule: int) -> None:
    """Of a capsule that nobody has taken."""
    if _is_named(capsule, NAME):
        _give_back(_pointer(capsule, NAME))


_delete, _destroy = _Deleter(_give_back), _Destructor(_destroy_untaken)


def _capsule(array: DeviceArray) -> object:
    held = _Held(array)
    _hold(held)
    return cast("object", _new(ctypes.addressof(held.managed), NAME, _destroy))


@contextmanager
def _opened(capsule: Any) -> Iterator[DeviceArray]:
    if not _is_named(id(capsule), NAME):
        raise YoloproofError("__dlpack__ gave something else than a capsule that nobody has taken yet")
    address = _pointer(id(capsule), NAME)
    managed = _Managed.from_address(address)
    _rename(capsule, USED)
    try:
        tensor = managed.tensor
        kinds = {code: kind for kind, code in KINDS.items()}
        if tensor.lanes != 1 or tensor.code not in kinds:
            raise YoloproofError(f"a DLPack array of type {tensor.code} in {tensor.lanes} lanes is no image")
        yield DeviceArray(
            (tensor.data or 0) + tensor.byte_offset, tuple(tensor.shape[: tensor.ndim]),
            np.dtype(f"{kinds[tensor.code]}{tensor.bits // 8}").name,
            tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None, None, tensor.device, tensor.kind,
        )  # fmt: skip
    finally:
        if managed.deleter:
            managed.deleter(address)
