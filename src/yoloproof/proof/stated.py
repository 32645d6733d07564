"""What an artifact says of itself. Nothing of it is evidence: a check compares it with what was found."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from yoloproof.artifact.nms import NmsOptions
from yoloproof.artifact.stated import metadata_from
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import EngineIdentity, read_identity, sidecar_path
from yoloproof.files.native import SUFFIX, read_native
from yoloproof.files.onnx import load_onnx
from yoloproof.names import Precision

UNREADABLE: Mapping[int, str] = {}  # class names that nobody can read agree with no checkpoint's


@dataclass(frozen=True)
class Stated:
    """The statements of an ONNX file's metadata or an engine's sidecar; None where there is none.

    sha256 -- of the file: not a statement, computed; rewrites -- names of `yoloproof.simplify`
    names -- each list of class names that the file holds, ours and those that other loaders read, by class index
    nms -- thresholds of a suppression inside; raw_type -- NumPy's name of the type that this suppression reads
    engine -- the whole sidecar
    """

    sha256: str = "0" * 64
    precision: Precision | None = None
    rewrites: tuple[str, ...] | None = None
    names: tuple[Mapping[int, str], ...] = ()
    batch: int | None = None
    checkpoint_sha256: str | None = None
    nms: NmsOptions | None = None
    raw_type: str = "float32"
    engine: EngineIdentity | None = None

    @property
    def seed(self) -> int:
        """A number from the artifact's hash: no artifact can be built to expect the noise that is drawn from it."""
        return int(self.sha256[:8], 16)


def stated_of(path: Path | None) -> Stated:
    """What the artifact at `path` states; nothing for None and for an engine without a sidecar.

    Raises YoloproofError for statements of the wrong kind.
    """
    if path is None:
        return Stated()
    if path.suffix == ".onnx":
        model = load_onnx(path, external_data=False)
        return stated_from_properties({p.key: p.value for p in model.metadata_props}, path, sha256_of(path))
    if path.suffix == SUFFIX:
        return stated_from_properties(read_native(path).properties, path, sha256_of(path))
    if not sidecar_path(path).exists():
        return Stated()
    identity = read_identity(path)
    return stated_from_properties(identity.onnx_metadata, path, identity.engine_sha256, identity)


def stated_from_properties(
    properties: Mapping[str, str], path: Path, sha256: str = Stated.sha256, engine: EngineIdentity | None = None
) -> Stated:
    """The statements in an ONNX file's properties; an engine's precision is its sidecar's own."""
    ours = metadata_from(properties, path)
    for key, kind in _KINDS.items():
        if key in ours and not isinstance(ours[key], kind):
            raise YoloproofError(f"{path}: its metadata say {key} = {ours[key]!r:.60}; export it again")
    precision = _precision(ours.get("precision"), path)
    if engine is not None:
        precision = Precision.of_dtype(engine.precision) or _precision(engine.precision, path)
    nms = ours.get("nms")
    return Stated(
        sha256=sha256,
        precision=precision,
        rewrites=tuple(map(str, ours["rewrites"])) if ours.get("rewrites") else None,
        names=_names(ours.get("names"), properties.get("names")),
        batch=ours.get("batch"),
        checkpoint_sha256=ours.get("checkpoint_sha256") or None,
        nms=None if nms is None else _nms(nms, path),
        raw_type="float16" if nms is not None and nms.get("raw_type") == "float16" else "float32",
        engine=engine,
    )


_KINDS: Mapping[str, type] = {
    "precision": str, "rewrites": list, "names": dict, "batch": int, "nms": dict, "checkpoint_sha256": str,
}  # fmt: skip


def _precision(text: str | None, path: Path) -> Precision | None:
    if text is None:
        return None
    try:
        return Precision(text)
    except ValueError:
        raise YoloproofError(f"{path}: its metadata say precision = {text!r:.60}; export it again") from None


def _nms(stated: Mapping[str, object], path: Path) -> NmsOptions:
    known = {field.name: field for field in fields(NmsOptions)}
    options = {key: value for key, value in stated.items() if key in known}
    for key, value in options.items():
        wanted = type(known[key].default)
        if not isinstance(value, (int, float) if wanted is float else wanted) or isinstance(value, bool):
            raise YoloproofError(f"{path}: its metadata say nms.{key} = {value!r:.60}; export it again")
    return NmsOptions(**options)  # type: ignore[arg-type]


def _names(ours: Mapping[str, object] | None, common: str | None) -> tuple[Mapping[int, str], ...]:
    """`common` is Python's text of a list or dictionary, as other loaders of YOLO files read it."""
    found = [] if ours is None else [_numbered(ours)]
    if common is not None:
        try:
            names = ast.literal_eval(common)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            names = None
        if isinstance(names, list | tuple):
            names = dict(enumerate(names))
        found.append(_numbered(names) if isinstance(names, dict) else UNREADABLE)
    return tuple(found)


def _numbered(names: Mapping[Any, object]) -> Mapping[int, str]:
    try:
        return {int(str(index)): str(name) for index, name in names.items()}
    except ValueError:
        return UNREADABLE
