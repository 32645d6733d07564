"""TensorRT 10 and 11, which cannot be installed here: what a build asks of the library, on a stand-in, and the names our
code uses, against the published stubs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tensorrt_stand_in
import yoloproof
from tiny_onnx import tiny_detector
from yoloproof.artifact import engine as engine_module
from yoloproof.artifact import tensorrt
from yoloproof.artifact.engine import engine_for_machine, engine_from_onnx
from yoloproof.artifact.engine_targets import target_from_name
from yoloproof.artifact.tensorrt import EngineOptions
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import network_name, read_identity
from yoloproof.names import Runtime

T4 = ("Tesla T4", "7.5")


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    return tiny_detector(tmp_path / "tiny.onnx", "float16")


def use(monkeypatch: pytest.MonkeyPatch, trt: tensorrt_stand_in.Library, gpu: tuple[str, str] | None = T4) -> None:
    monkeypatch.setattr(tensorrt, "library", lambda runtime: trt)
    monkeypatch.setattr(engine_module, "gpu_present", lambda *device: gpu)


def test_a_plain_build(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strongly typed, without TF32, and detailed enough to be audited."""
    trt = tensorrt_stand_in.library("10.16.1.11")
    use(monkeypatch, trt)
    built = engine_from_onnx(onnx, onnx.with_suffix(".engine"), EngineOptions(Runtime.TENSORRT))
    assert ("create_network", 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)) in trt.calls
    assert ("clear_flag", "TF32") in trt.calls
    assert ("build_serialized_network", network_name(sha256_of(onnx))) in trt.calls
    assert built.audit.fused == {"model.6.m.0.0.attn": "_gemm_mha_v2_myl0_4"}
    assert built.audit.activation_bytes == 4096
    assert built.audit.scratch_bytes is None  # unknown, for the stand-in did not say
    assert built.audit.warnings == ("a warning of the builder",)


def test_tensorrt_11_networks_are_strongly_typed_without_a_flag(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = tensorrt_stand_in.library("11.4.0.106")
    use(monkeypatch, trt)
    engine_from_onnx(onnx, onnx.with_suffix(".engine"), EngineOptions(Runtime.TENSORRT))
    assert ("create_network", 0) in trt.calls


def test_every_option_reaches_the_builder(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = tensorrt_stand_in.library("10.16.1.11", images=(-1, 3, 32, 32))
    use(monkeypatch, trt)
    cache = onnx.with_suffix(".timing")
    cache.write_bytes(b"times")
    shapes = ((1, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32))
    options = EngineOptions(
        Runtime.TENSORRT,
        shapes={"images": shapes},
        version_compatible=True,
        hardware_compatible="ampere+",
        timing_cache=cache,
    )
    seen: list[float] = []
    engine_from_onnx(onnx, onnx.with_suffix(".engine"), options, progress=lambda done, phase: seen.append(done))
    assert {
        ("set_shape", "images", *shapes),
        ("add_optimization_profile",),
        ("set_flag", "VERSION_COMPATIBLE"),
        ("set", "hardware_compatibility_level", "AMPERE_PLUS"),
        ("create_timing_cache", b"times"),
        ("set_timing_cache", False),
    } <= set(trt.calls)
    assert cache.read_bytes() == b"times+timed"
    assert seen == sorted(seen)
    assert seen[-1] == 1
    identity = read_identity(onnx.with_suffix(".engine"))
    assert (identity.hardware_compatible, identity.version_compatible, identity.largest_batch) == ("ampere+", True, 4)
    assert (identity.gpu, identity.compute_capabilities) == ("Tesla T4", ("7.5",))


def test_an_attention_that_the_engine_lost_is_an_error(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, tensorrt_stand_in.library("10.16.1.11", fused=False))
    path = onnx.with_suffix(".engine")
    with pytest.raises(YoloproofError, match=r"no fused kernel computes model\.6\.m\.0\.0\.attn"):
        engine_from_onnx(onnx, path, EngineOptions(Runtime.TENSORRT))
    assert not path.exists()
    built = engine_from_onnx(onnx, path, EngineOptions(Runtime.TENSORRT, require_fused=False))
    assert built.audit.unfused == ("model.6.m.0.0.attn",)
    assert built.identity.audit["faults"] == ["no fused kernel computes model.6.m.0.0.attn"]


def test_what_tensorrt_cannot_do_is_refused(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = onnx.with_suffix(".engine")
    trt = tensorrt_stand_in.library("10.16.1.11")
    use(monkeypatch, trt, gpu=None)
    with pytest.raises(YoloproofError, match="no CUDA device"):
        engine_from_onnx(onnx, path, EngineOptions(Runtime.TENSORRT))
    with pytest.raises(YoloproofError, match="--runtime tensorrt-rtx"):
        engine_from_onnx(onnx, path, EngineOptions(Runtime.TENSORRT, target="t4"))
    use(monkeypatch, trt)
    with pytest.raises(YoloproofError, match="builds only for the GPU in the machine"):
        engine_from_onnx(onnx, path, EngineOptions(Runtime.TENSORRT, target="sm86"))
    with pytest.raises(YoloproofError, match="knows ampere\\+ and same"):
        engine_from_onnx(onnx, path, EngineOptions(Runtime.TENSORRT, hardware_compatible="all"))
    shapes = {"images": ((1, 3, 32, 32),) * 3}
    with pytest.raises(YoloproofError, match="not a dynamic input"):
        engine_from_onnx(onnx, path, EngineOptions(Runtime.TENSORRT, shapes=shapes))
    cache = onnx.with_suffix(".timing")
    cache.write_bytes(b"other GPU")
    with pytest.raises(YoloproofError, match="another GPU"):
        engine_from_onnx(onnx, path, EngineOptions(Runtime.TENSORRT, timing_cache=cache))
    use(monkeypatch, tensorrt_stand_in.library("10.16.1.11", images=(-1, 3, 32, 32)))
    with pytest.raises(YoloproofError, match="is dynamic"):
        engine_from_onnx(onnx, path, EngineOptions(Runtime.TENSORRT))
    assert not path.exists()


def test_an_engine_is_used_again_only_where_it_is_the_one(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, tensorrt_stand_in.library("10.16.1.11"))
    path, options = onnx.with_suffix(".engine"), EngineOptions(Runtime.TENSORRT)
    first = engine_for_machine(onnx, path, options)
    assert engine_for_machine(onnx, path, options) == first
    use(monkeypatch, tensorrt_stand_in.library("10.17.0.1"))
    with pytest.raises(YoloproofError, match=r"built by tensorrt 10\.16\.1\.11, which 10\.17\.0\.1 here cannot load"):
        engine_for_machine(onnx, path, options)
    use(monkeypatch, tensorrt_stand_in.library("10.16.1.11"), ("NVIDIA L4", "8.9"))
    with pytest.raises(YoloproofError, match=r"built for compute capability 7\.5, not for NVIDIA L4"):
        engine_for_machine(onnx, path, options)
    onnx.unlink()
    tiny_detector(onnx, "float16", scale=0.2)
    use(monkeypatch, tensorrt_stand_in.library("10.16.1.11"))
    with pytest.raises(YoloproofError, match="stale: made from another ONNX file"):
        engine_for_machine(onnx, path, options)
    path.with_name(path.name + ".json").unlink()
    with pytest.raises(YoloproofError, match="no telling what it is"):
        engine_for_machine(onnx, path, options)


def test_what_is_tensorrts_alone_is_not_ignored_by_tensorrt_rtx(onnx: Path) -> None:
    for option in ({"version_compatible": True}, {"hardware_compatible": "same"}, {"timing_cache": Path("t")}):
        with pytest.raises(YoloproofError, match="is an option of TensorRT alone"):
            engine_from_onnx(onnx, onnx.with_suffix(".engine"), EngineOptions(target="t4", **option))


def test_a_missing_library_names_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(YoloproofError, match="pip install tensorrt-cu1"):
        tensorrt.library(Runtime.TENSORRT)
    with pytest.raises(YoloproofError, match="onnxruntime does not"):
        tensorrt.library(Runtime.ONNXRUNTIME)


def test_stubs_alone_are_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(YoloproofError, match="is not installed; pip install tensorrt-cu1"):
        tensorrt.library(Runtime.TENSORRT)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [("t4", ("7.5",)), ("SM75", ("7.5",)), ("sm86, sm75", ("7.5", "8.6")), ("l4,rtx5090", ("8.9", "12.0"))],
)
def test_targets_by_name(name: str, capabilities: tuple[str, ...]) -> None:
    assert target_from_name(name).compute_capabilities == capabilities


@pytest.mark.parametrize("name", ["h100", "sm90", "", "t4,", "sm"])
def test_a_target_nobody_builds_for_is_refused(name: str) -> None:
    with pytest.raises(YoloproofError, match="not one of t4"):
        target_from_name(name)


# What tensorrt-stubs 10.13 does not know: attention layers came with TensorRT 10.14, the rest is TensorRT-RTX's.
NOT_IN_STUBS = {
    "IAttentionInputLayer",
    "attention",
    "num_compute_capabilities",
    "ComputeCapability",
    "set_compute_capability",
    "DynamicShapesKernelSpecializationStrategy",
    "EngineValidity",
    "EngineInvalidityDiagnostics",
}


def test_the_names_we_call_are_the_published_ones(tmp_path: Path) -> None:
    """mypy over our two TensorRT modules with `Any` replaced by the stubs' types: only what is newer may be unknown."""
    found = importlib.util.find_spec("tensorrt_bindings")
    if found is None or not found.submodule_search_locations:
        pytest.skip("tensorrt-stubs is not installed")
    stubs = Path(next(iter(found.submodule_search_locations))).parent
    if not (stubs / "tensorrt_bindings" / "tensorrt.pyi").is_file():
        pytest.skip("tensorrt is installed, without the stubs of tensorrt-stubs")
    mended_stubs(stubs, tmp_path / "stubs")
    for module in ("artifact/tensorrt.py", "runtime/tensorrt.py"):
        source = (Path(yoloproof.__file__).parent / module).read_text(encoding="utf-8")
        (tmp_path / module.replace("/", "_")).write_text(with_stub_types(source), encoding="utf-8")
    # Only TensorRT's types matter here; reading those of PyTorch and others took a minute.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nignore_missing_imports = True\nfollow_imports = skip\n"
        "[mypy-tensorrt.*,tensorrt_bindings.*]\nfollow_imports = silent\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", f"--cache-dir={tmp_path / 'cache'}"]
    command += ["artifact_tensorrt.py", "runtime_tensorrt.py"]
    paths = f"{tmp_path / 'stubs'}:{Path(yoloproof.__file__).parents[1]}"
    result = subprocess.run(command, cwd=tmp_path, env={"MYPYPATH": paths}, capture_output=True, text=True, check=False)
    errors = [line for line in result.stdout.splitlines() if re.match(r"(artifact|runtime)_tensorrt", line)]
    unknown = {name for line in errors for name in re.findall(r'has no attribute "(\w+)"', line)}
    assert unknown == NOT_IN_STUBS
    # The stubs' Dims is no sequence, which the real one is.
    assert [line for line in errors if re.search(r"\[(call-arg|arg-type)\]", line) and '"Dims"' not in line] == []


def test_the_sessions_names_are_those_of_the_library_that_is_here() -> None:
    """No session runs here, for there is no GPU; but what it calls is in the TensorRT-RTX that is installed."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    source = (Path(yoloproof.__file__).parent / "runtime" / "tensorrt.py").read_text(encoding="utf-8")
    classes = {
        r"self\._context": trt.IExecutionContext,
        r"(?:self\._)?engine": trt.ICudaEngine,
        r"config": trt.IRuntimeConfig,
        r"(?:self\._)?cache": trt.IRuntimeCache,
        r"runtime": trt.Runtime,
        r"(?:self\._)?trt": trt,
    }
    for owner, kind in classes.items():
        names = set(re.findall(rf"(?<![\w.]){owner}\.(?!_)(\w+)", source)) - {"engine", "nvidia"}
        assert names, owner
        assert [name for name in sorted(names) if not hasattr(kind, name)] == [], owner
    for name in NOT_IN_STUBS - {"attention", "num_compute_capabilities", "set_compute_capability"}:
        assert hasattr(trt, name)
    assert hasattr(trt.IAttentionInputLayer, "attention")
    assert {"num_compute_capabilities", "set_compute_capability"} <= set(dir(trt.IBuilderConfig))
    assert hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION")
    assert hasattr(trt.IExecutionContext, "is_stream_capturable")


def with_stub_types(source: str) -> str:
    source = (
        source.replace("trt: Any, ", "").replace("(trt: Any)", "()").replace("(trt)", "()").replace("(self._trt)", "()")
    )
    source = source.replace("self._trt = import_module(_LIBRARIES[spec.runtime])", "")
    source = re.sub(r"(?<!hasattr)\((self\._)?trt, ", "(", source).replace("self._trt", "trt")
    for name, kind in (("builder", "Builder"), ("network", "INetworkDefinition"), ("config", "IBuilderConfig")):
        source = source.replace(f"{name}: Any", f"{name}: trt.{kind}")
    return source.replace("engine: Any", "engine: trt.ICudaEngine").replace(
        "from typing import Any", "from typing import Any\n\nimport tensorrt as trt"
    )


def mended_stubs(source: Path, target: Path) -> None:
    """The published stubs with what is no Python mended: parameters called `in`, a default before a plain parameter."""
    for part in ("tensorrt/__init__.pyi", "tensorrt_bindings/__init__.pyi", "tensorrt_bindings/tensorrt.pyi"):
        text = (source / part).read_text(encoding="utf-8")
        text = re.sub(r"([(,] *)in: ", r"\1in_: ", text)
        text = text.replace("power: Weights = None, channel_axis: int", "power: Weights = None, channel_axis: int = 0")
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        (target / part).write_text(text, encoding="utf-8")
