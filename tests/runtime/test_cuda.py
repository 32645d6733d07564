"""Sessions on a real GPU; skipped by name where there is none."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from tiny_onnx import images
from yoloproof.errors import YoloproofError
from yoloproof.names import Precision, Runtime
from yoloproof.runtime import SessionOptions, SessionSpec, open_session
from yoloproof.runtime.cuda import CudaDevice

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device that PyTorch can use")


class Asks(torch.nn.Module):
    """Asks the host for a value, which no CUDA graph can hold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2) * (2.0 if float(x.sum()) > 0 else 1.0)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 64, 3, 2, 1), torch.nn.SiLU(), torch.nn.Conv2d(64, 84, 3, 4, 1), torch.nn.Flatten(2)]
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_the_gpu_computes_what_the_cpu_does(precision: Precision, cuda_graph: bool) -> None:
    if precision is Precision.BF16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bfloat16 units")
    with open_session(SessionSpec(Runtime.PYTORCH, network=network)) as session:
        expected = [session.infer(images(size=64, seed=seed))[0] for seed in (1, 2)]
    spec = SessionSpec(
        Runtime.PYTORCH,
        network=network,
        device="cuda",
        precision=precision,
        options=SessionOptions(cuda_graph=cuda_graph),
    )
    with open_session(spec) as session:
        found = [session.infer(images(size=64, seed=seed))[0] for seed in (1, 2)]
        assert session.infer(images(2, size=96))[0].shape == (2, 84, 144)  # another shape, captured anew
        assert session.facts.cuda_graph is cuda_graph
        assert session.facts.prepare_s is not None
        assert session.facts.prepare_s > 0
        session.load(images(2, size=96))
        started = time.perf_counter()
        device_s = session.execute()
        assert device_s is not None
        assert 0 < device_s < time.perf_counter() - started
    tolerance = {Precision.FP32: 1e-5, Precision.FP16: 5e-3, Precision.BF16: 5e-2}[precision]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other.astype(np.float32), atol=tolerance)


def test_a_network_that_cannot_be_captured_is_said_to_be(capfd: pytest.CaptureFixture[str]) -> None:
    spec = SessionSpec(Runtime.PYTORCH, network=Asks, device="cuda")
    with open_session(spec) as session, pytest.raises(YoloproofError, match="could not be captured in a CUDA graph"):
        session.load(images())
    with open_session(
        SessionSpec(Runtime.PYTORCH, network=Asks, device="cuda", options=SessionOptions(cuda_graph=False))
    ) as session:
        assert session.infer(images())[0].shape == (1, 3, 1024)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(YoloproofError, match="CUDA devices"):
        CudaDevice(f"cuda:{torch.cuda.device_count()}")
