"""The knowledge table: whole, sourced, and in step with what the packages themselves declare."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from datetime import date
from pathlib import Path

import pytest

from yoloproof.doctor import diagnosis
from yoloproof.doctor.knowledge import CAPABILITIES, ROWS, SOURCES, SUBJECTS, knowledge_markdown, row_for
from yoloproof.errors import YoloproofError


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_says_one_thing_of_every_capability(subject: str) -> None:
    covered = [capability for row in ROWS if row.subject == subject for capability in row.capabilities]
    assert sorted(covered) == sorted(CAPABILITIES)


def test_every_row_has_a_source_and_every_source_is_used_and_dated() -> None:
    findings = "".join(path.read_text(encoding="utf-8") for path in Path(diagnosis.__file__).parent.glob("*_checks.py"))
    cited = {row.source for row in ROWS} | set(re.findall(r'"([a-z0-9-]+)"', findings)) & set(SOURCES)
    assert cited == set(SOURCES)
    for source in SOURCES.values():
        assert date.fromisoformat(source.read) <= date.today()
        assert source.url.startswith("https://") or "measured by us" in source.title or "metadata" in source.title


def test_the_last_versions_for_old_gpus() -> None:
    assert row_for("PyTorch, CUDA 12.6 wheel", (7, 0)).maximum == "2.14"
    assert row_for("PyTorch, CUDA 13 wheel", (7, 5)).support == "yes"
    assert row_for("PyTorch, CUDA 13 wheel", (7, 0)).support == "no"
    assert row_for("Triton on tensor cores", (7, 5)).maximum == "3.2"


def test_unknown_is_a_value() -> None:
    assert row_for("TensorRT", (15, 0)).support == "unknown"
    with pytest.raises(YoloproofError, match="no subject 'cuDF'"):
        row_for("cuDF", (7, 5))


def test_page_is_what_the_table_says(repository: Path) -> None:
    page = repository / "docs" / "compatibility.md"
    assert page.read_text(encoding="utf-8") == knowledge_markdown(), "write it anew: yoloproof doctor --knowledge"


def test_tensorrt_rtx_rows_are_its_own_enum() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    declared = {divmod(int(name[2:]), 10) for name in trt.ComputeCapability.__members__ if re.fullmatch(r"SM\d+", name)}
    ours = {capability for capability in CAPABILITIES if row_for("TensorRT-RTX", capability).support == "yes"}
    assert ours == declared & set(CAPABILITIES)
    assert declared <= set(CAPABILITIES), "TensorRT-RTX names a GPU generation that the table lacks"


def test_engine_targets_are_the_rows_of_tensorrt_rtx() -> None:
    """The builder keeps its own list of what it builds for; the two must say the same."""
    from yoloproof.artifact.engine_targets import COMPUTE_CAPABILITIES

    ours = {f"{c[0]}.{c[1]}" for c in CAPABILITIES if row_for("TensorRT-RTX", c).support == "yes"}
    assert ours == set(COMPUTE_CAPABILITIES)


def test_sdpa_rows_are_what_pytorch_tests() -> None:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        pytest.skip("PyTorch is not installed")
    path = Path(spec.origin).parent / "testing" / "_internal" / "common_cuda.py"
    if not path.is_file():
        pytest.skip("this PyTorch comes without torch/testing/_internal/common_cuda.py")
    source = path.read_text(encoding="utf-8")
    assert "SM80OrLater" in _on_cuda(source, "flash_attention")
    assert _on_cuda(source, "efficient_attention") == "return True"
    for capability in CAPABILITIES:
        assert (row_for("PyTorch SDPA, flash", capability).support == "yes") == (capability >= (8, 0))
        assert row_for("PyTorch SDPA, memory-efficient", capability).support == "yes"


def _on_cuda(source: str, kind: str) -> str:
    """What PyTorch's own `evaluate_platform_supports_KIND` answers on CUDA."""
    body = source.split(f"def evaluate_platform_supports_{kind}():")[1]
    return body.split("if TEST_CUDA:\n")[1].splitlines()[0].strip()


def test_torch_wheel_rows_are_its_own_architecture_list() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.version.cuda:
        pytest.skip("this PyTorch is a CPU build: a CUDA build declares its architectures")
    subject = "PyTorch, CUDA 13 wheel" if torch.version.cuda.startswith("13") else "PyTorch, CUDA 12.6 wheel"
    built = {
        divmod(int(name[3:]), 10) for name in torch._C._cuda_getArchFlags().split() if re.fullmatch(r"sm_\d+", name)
    }
    for capability in built & set(CAPABILITIES):
        assert row_for(subject, capability).support == "yes"


def test_onnxruntime_needs_the_python_we_say() -> None:
    try:
        declared = importlib.metadata.metadata("onnxruntime")["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("onnxruntime is not installed")
    if importlib.metadata.version("onnxruntime") != "1.32.0":
        pytest.skip("another onnxruntime than the pinned one is installed")
    assert declared == ">=3.11"
