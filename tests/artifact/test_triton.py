"""A Triton model repository: what stands in it, and its configuration against Triton's own protobuf schema."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from tiny_onnx import tiny_detector
from yoloproof.artifact.triton import triton_repository
from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import EngineIdentity, write_identity
from yoloproof.names import Runtime
from yoloproof.records import Check, Verdict

VERIFIED = Verdict((Check("outputs", True, {"largest": 0.001}, "equal"),))


def schema() -> Any:
    """Triton's ModelConfig as `tritonclient` ships it; loaded by file, for the package itself wants grpc."""
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("tritonclient, which ships Triton's model_config schema, is not installed")
    path = Path(next(iter(found.submodule_search_locations))) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def configuration(folder: Path) -> Any:
    module = schema()
    return text_format.Parse((folder / "config.pbtxt").read_text(), module.ModelConfig()), module


def test_the_files_and_the_record(tmp_path: Path) -> None:
    artifact = tiny_detector(tmp_path / "yolov13n.onnx")
    folder = triton_repository(artifact, tmp_path / "models", VERIFIED)
    assert folder == tmp_path / "models" / "yolov13n"
    assert (folder / "1" / "model.onnx").read_bytes() == artifact.read_bytes()
    record = json.loads((folder / "yoloproof.json").read_text())
    assert record["sha256"] == sha256_of(artifact)
    check = {"name": "outputs", "passed": True, "figures": {"largest": 0.001}, "detail": "equal"}
    assert record["proof"] == {"passed": True, "checks": [check]}
    text = (folder / "config.pbtxt").read_text()
    assert 'backend: "onnxruntime"' in text
    assert "dims: [1, 3, 32, 32]" in text


def test_a_fixed_batch_is_served_as_it_is(tmp_path: Path) -> None:
    artifact = tiny_detector(tmp_path / "tiny.onnx", "float16", batch=2)
    folder = triton_repository(artifact, tmp_path, VERIFIED, name="fixed", device="cpu")
    config, module = configuration(folder)
    assert config.name == "fixed"
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [2, 3, 32, 32]
    assert config.input[0].data_type == module.TYPE_FP16
    assert (config.instance_group[0].count, config.instance_group[0].kind) == (1, module.ModelInstanceGroup.KIND_CPU)
    (warmup,) = config.model_warmup
    assert warmup.batch_size == 0
    assert list(warmup.inputs["images"].dims) == [2, 3, 32, 32]
    assert warmup.inputs["images"].random_data


def test_a_dynamic_batch_is_batched_and_warmed_at_both_ends(tmp_path: Path) -> None:
    artifact = tiny_detector(tmp_path / "tiny.onnx", batch="batch")
    config, module = configuration(triton_repository(artifact, tmp_path / "models", VERIFIED))
    assert config.max_batch_size == 8
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert list(config.input[0].dims) == [3, 32, 32]
    assert list(config.output[0].dims) == [84, 16]
    assert config.instance_group[0].kind == module.ModelInstanceGroup.KIND_GPU
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 8]


def engine(path: Path, runtime: Runtime) -> Path:
    path.write_bytes(b"a plan")
    shapes = {"images": [[1, 3, 640, 640], [4, 3, 640, 640], [4, 3, 640, 640]]}
    identity = EngineIdentity(
        engine_sha256=sha256_of(path),
        engine_bytes=6,
        onnx_sha256="a" * 64,
        checkpoint_sha256=None,
        runtime=runtime,
        version="10.16.1.11",
        target="current",
        compute_capabilities=("7.5",),
        gpu="Tesla T4",
        platform="linux-x86_64",
        precision="float16",
        attention="fused",
        options={"shapes": shapes},
        audit={},
        inputs=(("images", (-1, 3, 640, 640), "float16"),),
        outputs=(("output0", (-1, 84, 8400), "float16"),),
    )
    write_identity(path, identity)
    return path


def test_an_engine_is_batched_within_its_profile(tmp_path: Path) -> None:
    path = engine(tmp_path / "n.engine", Runtime.TENSORRT)
    folder = triton_repository(path, tmp_path / "models", VERIFIED)
    assert (folder / "1" / "model.plan").read_bytes() == b"a plan"
    config, _ = configuration(folder)
    assert config.backend == "tensorrt"
    assert config.max_batch_size == 4


def test_what_must_not_be_served_is_refused(tmp_path: Path) -> None:
    artifact = tiny_detector(tmp_path / "tiny.onnx")
    models = tmp_path / "models"
    for proof in (Verdict(), *(Verdict((Check("outputs", passed, {}, ""),)) for passed in (False, None))):
        with pytest.raises(YoloproofError, match="not verified"):
            triton_repository(artifact, models, proof)
    with pytest.raises(YoloproofError, match="no such file"):
        triton_repository(tmp_path / "none.onnx", models, VERIFIED)
    with pytest.raises(YoloproofError, match="cannot name"):
        triton_repository(artifact, models, VERIFIED, name="a/b")
    with pytest.raises(YoloproofError, match="gpu or cpu"):
        triton_repository(artifact, models, VERIFIED, device="tpu")
    (tmp_path / "n.pt").write_bytes(b"weights")
    with pytest.raises(YoloproofError, match=r"\.onnx or a TensorRT \.engine"):
        triton_repository(tmp_path / "n.pt", models, VERIFIED)
    rtx = engine(tmp_path / "rtx.engine", Runtime.TENSORRT_RTX)
    with pytest.raises(YoloproofError, match="not those of tensorrt-rtx"):
        triton_repository(rtx, models, VERIFIED)
    with pytest.raises(YoloproofError, match="needs a GPU"):
        triton_repository(rtx, models, VERIFIED, device="cpu")
    assert not models.exists()
    triton_repository(artifact, models, VERIFIED)
    with pytest.raises(YoloproofError, match="exists"):
        triton_repository(artifact, models, VERIFIED)
