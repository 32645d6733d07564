"""An engine is what its sidecar says, or it is not loaded: each refusal with its reason and its remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yoloproof.artifact.build import artifact_of_engine
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import (
    EngineHost,
    EngineIdentity,
    _seal,
    check_engine,
    read_identity,
    sidecar_path,
    write_identity,
)
from yoloproof.names import Runtime
from yoloproof.records import Case
from yoloproof.runtime.choice import candidates

T4 = EngineHost(Runtime.TENSORRT_RTX, "1.7.1.116", "7.5", "Tesla T4", "linux-x86_64")
T4_TENSORRT = replace(T4, runtime=Runtime.TENSORRT, version="10.16.1.11")


def written(path: Path, **changes: object) -> EngineIdentity:
    """An engine file of a few bytes and its sidecar, for the T4."""
    path.write_bytes(b"the engine's bytes")
    identity = EngineIdentity(
        engine_sha256=sha256_of(path),
        engine_bytes=path.stat().st_size,
        onnx_sha256="a" * 64,
        checkpoint_sha256="c" * 64,
        runtime=Runtime.TENSORRT_RTX,
        version="1.7.1.116",
        target="t4",
        compute_capabilities=("7.5",),
        gpu=None,
        platform="linux-x86_64",
        precision="float16",
        attention="fused",
        options={"version_compatible": False, "hardware_compatible": None},
        audit={"pairs": ["model.6.m.0.0.attn"]},
        inputs=(("images", (1, 3, 640, 640), "float16"),),
        outputs=(("output0", (1, 84, 8400), "float16"),),
    )
    identity = replace(identity, **changes)  # type: ignore[arg-type]
    write_identity(path, identity)
    return identity


def test_an_identity_is_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "n.engine"
    identity = written(path)
    assert read_identity(path) == identity
    assert check_engine(path, T4, onnx_sha256="a" * 64) == identity


WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([10**400, 2**63]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from([one.name for one in fields(EngineIdentity)]), WILD, min_size=1, max_size=3))
def test_whatever_a_sealed_sidecar_holds_it_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.engine"
    written(path)
    record = json.loads(sidecar_path(path).read_text()) | values
    record.pop("seal")
    sidecar_path(path).write_text(json.dumps(record | {"seal": _seal(record)}))
    for use in (
        lambda: artifact_of_engine(path),
        lambda: check_engine(path, T4),
        lambda: candidates(Case(str(path), Runtime.AUTO)),
    ):
        with suppress(YoloproofError):  # anything else is a failure
            use()


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "edited, truncated or replaced"),
    "edited": (lambda path: path.write_bytes(b"The engine's bytes"), "edited, truncated or replaced"),
    "foreign": (lambda path: sidecar_path(path).unlink(), r"no n\.engine\.json beside it"),
    "broken sidecar": (lambda path: sidecar_path(path).write_text("{"), "not an engine's sidecar"),
    "other sidecar": (lambda path: sidecar_path(path).write_text('{"schema": 1}'), "not an engine's sidecar"),
    "edited sidecar": (lambda path: edit(path, compute_capabilities=["7.5", "9.0"]), "was edited after the build"),
    "newer sidecar": (lambda path: edit(path, schema=2), "schema 2, this version reads 1"),
}


def edit(path: Path, **changes: object) -> None:
    record = json.loads(sidecar_path(path).read_text())
    sidecar_path(path).write_text(json.dumps(record | changes))


@pytest.mark.parametrize("fault", FILES)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "n.engine"
    written(path)
    damage, words = FILES[fault]
    damage(path)
    with pytest.raises(YoloproofError, match=words) as caught:
        check_engine(path, T4)
    assert "yoloproof export" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_engine_of_another_tool_is_named(tmp_path: Path) -> None:
    path = tmp_path / "n.engine"
    header = json.dumps({"description": "Ultralytics"}).encode()
    path.write_bytes(len(header).to_bytes(4, "little") + header + b"engine")
    with pytest.raises(YoloproofError, match="written by ultralytics"):
        read_identity(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(YoloproofError, match="git lfs pull"):
        read_identity(path)


@pytest.mark.parametrize(
    ("changes", "host", "words"),
    [
        ({}, replace(T4, compute_capability="8.6", gpu="NVIDIA A10"), "not for NVIDIA A10 .* --target sm86"),
        ({}, replace(T4, compute_capability="9.0", gpu="NVIDIA H100"), "not for NVIDIA H100"),
        ({}, replace(T4, version="1.8.0.1"), "install 1.7.1.116"),
        ({}, T4_TENSORRT, "--runtime tensorrt-rtx"),
        ({"runtime": Runtime.TENSORRT}, T4, "--runtime tensorrt$"),
        (
            {"runtime": Runtime.TENSORRT, "version": "10.16.1.11", "platform": "windows-amd64", "gpu": "Tesla T4"},
            T4_TENSORRT,
            "cannot be moved",
        ),
        (
            {"runtime": Runtime.TENSORRT, "version": "10.16.1.11", "gpu": "NVIDIA GeForce RTX 2080"},
            T4_TENSORRT,
            "chosen on NVIDIA GeForce RTX 2080, not on Tesla T4",
        ),
        (
            {
                "runtime": Runtime.TENSORRT,
                "version": "11.0.0",
                "gpu": "Tesla T4",
                "options": {"version_compatible": True},
            },
            T4_TENSORRT,
            "10.16.1.11 here cannot load",
        ),
    ],
)
def test_an_engine_for_another_machine_is_refused(
    tmp_path: Path, changes: dict[str, object], host: EngineHost, words: str
) -> None:
    path = tmp_path / "n.engine"
    written(path, **changes)
    with pytest.raises(YoloproofError, match=words):
        check_engine(path, host)


def test_a_stale_engine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.engine"
    written(path)
    with pytest.raises(YoloproofError, match="another ONNX file"):
        check_engine(path, T4, onnx_sha256="b" * 64)


@pytest.mark.parametrize(
    ("changes", "host"),
    [
        ({"platform": "windows-amd64"}, T4),  # TensorRT-RTX engines travel between Linux and Windows
        (
            {
                "runtime": Runtime.TENSORRT,
                "version": "10.16.1.11",
                "gpu": "RTX 2080",
                "options": {"hardware_compatible": "same"},
            },
            T4_TENSORRT,
        ),
        (
            {"runtime": Runtime.TENSORRT, "version": "10.16.1.11", "options": {"hardware_compatible": "ampere+"}},
            replace(T4_TENSORRT, compute_capability="8.9", gpu="NVIDIA L4"),
        ),
        (
            {
                "runtime": Runtime.TENSORRT,
                "version": "10.14.0",
                "gpu": "Tesla T4",
                "options": {"version_compatible": True},
            },
            T4_TENSORRT,
        ),
    ],
)
def test_what_an_engine_may_be_loaded_on(tmp_path: Path, changes: dict[str, object], host: EngineHost) -> None:
    path = tmp_path / "n.engine"
    written(path, **changes)
    assert check_engine(path, host).engine_sha256 == sha256_of(path)
