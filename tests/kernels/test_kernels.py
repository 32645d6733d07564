"""Networks in our GPU kernels: what they refuse, that they are built whole, and on a GPU that they compute the same."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from yoloproof.artifact.gpu_network import GpuNetwork, gpu_kernels_missing, network_with_kernels
from yoloproof.errors import YoloproofError
from yoloproof.network import load_network
from yoloproof.simplify.rewrites import simplify


@pytest.fixture
def triton() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")


@pytest.fixture
def gpu(triton: None) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is visible")


def test_without_triton_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(YoloproofError, match="need Triton"):
        network_with_kernels(simplify(load_network("yolov13n", random_weights=True)))
    assert "Triton is not installed" in str(gpu_kernels_missing("cuda"))


@pytest.mark.parametrize(("attention", "rewrites", "message"), [
    ("fused", ("norms",), "default rewrites"),
    ("stripped", None, "fused, not stripped"),
])  # fmt: skip
def test_other_networks_are_refused(
    monkeypatch: pytest.MonkeyPatch, attention: str, rewrites: tuple[str, ...] | None, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "triton", sys)  # only its presence is asked for before the refusal
    network = load_network("yolov13n", attention, random_weights=True)
    with pytest.raises(YoloproofError, match=message):
        network_with_kernels(simplify(network, rewrites))


def test_every_kernel_computes_what_pytorch_does(triton: None) -> None:
    """Under Triton's interpreter, in float32: all configurations, slices, sources, sums and sizes that fill no tile."""
    script = Path(__file__).with_name("gpu_interpreted.py")
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"}
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert len(found) > 80
    assert {name: worst for name, worst in found.items() if not worst < 1e-4} == {}


def test_compilations_are_known_without_a_gpu(triton: None) -> None:
    from yoloproof.kernels.compile_ahead import compilations

    network = network_with_kernels(simplify(load_network("yolov13n", random_weights=True)))
    found = compilations(network, (1, 3, 640, 640))
    assert {c.kernel for c in found} >= {"conv_kernel", "attention_kernel", "scatter_kernel", "decode_kernel"}
    assert found == compilations(network, (1, 3, 320, 640))  # sizes of the picture compile nothing anew
    for one in found:  # each names the module that holds its kernel
        assert hasattr(sys.modules[one.module], one.kernel)


def test_compiling_ahead_is_done_once_and_where_it_fails_the_launch_is_left_to_say_why(
    triton: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from yoloproof.kernels import compile_ahead as module
    from yoloproof.kernels.launch import Compilation

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    unknown = {Compilation("yoloproof.kernels.conv", "no_such_kernel", (), ())}
    assert module.compile_ahead(unknown, processes=1) == 0
    assert list(tmp_path.iterdir()) == []
    assert module.compile_ahead(set(), processes=1) == 0  # nothing to compile, and that is marked
    (mark,) = tmp_path.iterdir()
    started: list[object] = []
    monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: started.append(a))
    assert module.compile_ahead(set(), processes=1) == 0
    assert started == [], mark


def test_compiling_ahead_on_a_gpu(gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from yoloproof.kernels.compile_ahead import compilations, compile_ahead

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    network = network_with_kernels(simplify(load_network("yolov12n", random_weights=True)))
    some = set(sorted(compilations(network, (1, 3, 640, 640)), key=str)[:4])
    assert compile_ahead(some, processes=2) == 4
    assert compile_ahead(some, processes=2) == 0


def test_a_configuration_without_room_is_not_chosen(triton: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.runtime.errors import OutOfResources

    from yoloproof.kernels import autotune

    def run(name: str) -> torch.Tensor:
        if name == "too large":
            raise OutOfResources(200_000, 100_000, "shared memory")
        return torch.tensor({"slow": 2.0, "quick": 1.0}[name])

    monkeypatch.setattr(autotune, "graph_seconds", lambda call: float(call()))
    assert autotune.fastest(["too large", "slow", "quick"], run) == "quick"


def timed_in_turn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No GPU to time on: of each operation that is timed, another configuration is the fastest; all that were timed."""
    from yoloproof.kernels import autotune

    timed: list[str] = []

    def fastest(names: list[str], run: object) -> str:
        timed.append(names[len(timed) % len(names)])
        return timed[-1]

    monkeypatch.setattr(autotune, "fastest", fastest)
    return timed


def configurations_run(network: GpuNetwork, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The configurations in which the network's operations run, one after the other; nothing is computed."""
    from yoloproof.kernels.autotune import Tunable

    run: list[str] = []

    def note(
        self: Tunable, configuration: object, sources: list[torch.Tensor], add: object, coarse: bool
    ) -> torch.Tensor:
        run.append(f"{self.kind} {configuration}")
        return sources[0]

    operations = [module for module in network.modules() if isinstance(module, Tunable)]
    for kind in {type(operation) for operation in operations}:
        monkeypatch.setattr(kind, "run", note)
    for operation in operations:
        operation(torch.zeros(1, 8, 4, 4))
    return run


def test_another_process_takes_the_configurations_that_were_verified(
    triton: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tuning is plain data that goes to the processes that time; what it holds is not timed again."""
    timed = timed_in_turn(monkeypatch)
    simplified = simplify(load_network("yolov12n", random_weights=True))
    first = network_with_kernels(simplified)
    verified = configurations_run(first, monkeypatch)
    assert len(set(timed)) > 10
    tuning = pickle.loads(pickle.dumps(first.tuning))
    assert len(tuning) == len(timed)
    timed.clear()
    second = network_with_kernels(simplified, tuning)
    assert configurations_run(second, monkeypatch) == verified
    assert timed == []
    assert second.tuning == tuning


def test_a_tuning_of_other_configurations_is_refused(triton: None, monkeypatch: pytest.MonkeyPatch) -> None:
    timed_in_turn(monkeypatch)
    simplified = simplify(load_network("yolov12n", random_weights=True))
    first = network_with_kernels(simplified)
    configurations_run(first, monkeypatch)
    stale = dict.fromkeys(first.tuning, "a tile of last year")
    with pytest.raises(YoloproofError, match=r"asks for a tile of last year of .*; choose from library"):
        configurations_run(network_with_kernels(simplified, stale), monkeypatch)


@pytest.mark.parametrize("name", ["yolov13n", "yolov12n", "yolov13l"])
def test_it_agrees_with_the_network(gpu: None, name: str) -> None:
    network = simplify(load_network(name, random_weights=True))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    kernels = network_with_kernels(network).to("cuda", torch.float16).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted = network(images)
        given = kernels(images.to("cuda", torch.float16).contiguous(memory_format=torch.channels_last)).cpu()
    assert kernels.tuning
    assert (wanted[:, 4:] - given[:, 4:]).abs().max() < 0.01
    assert (wanted[:, :4] - given[:, :4]).abs().max() < 1.0


@pytest.mark.parametrize(
    ("capability", "missing", "early"),
    [((7, 5), "Triton after 3.2", False), ((8, 6), None, False), ((9, 0), None, True)],
)
def test_what_a_gpu_gets_follows_its_compute_capability(
    triton: None, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], missing: str | None, early: bool
) -> None:
    """A stand-in for the card: no Turing, programmatic dependent launch from 9.0 on."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    found = gpu_kernels_missing("cuda")
    assert found is None if missing is None else missing in str(found)
    network = network_with_kernels(simplify(load_network("yolov13n", random_weights=True)))
    assert network.options.early_start is early
    assert network.options.overlap


def test_the_network_it_was_built_from_is_left_alone(triton: None) -> None:
    network = simplify(load_network("yolov12n", random_weights=True))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network_with_kernels(network).to(torch.float16)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_without_a_gpu_the_message_says_so(triton: None) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert gpu_kernels_missing("cuda") == "no CUDA device is visible"


def test_few_channels_have_tiles_of_both_kernels(triton: None) -> None:
    """A 3x3 convolution of 16 channels fills half of `conv_kernel`'s depth; which kernel is quicker, the GPU says."""
    from yoloproof.kernels.autotune import Autotuner
    from yoloproof.kernels.conv import DenseConv, DenseTile
    from yoloproof.kernels.launch import Options
    from yoloproof.kernels.thin_conv import ThinTile

    def kinds(conv: nn.Conv2d) -> set[type]:
        return {type(one) for one in DenseConv(conv, True, Options(), Autotuner()).configurations()} - {str}

    assert kinds(nn.Conv2d(16, 32, 3, 2, 1)) == {DenseTile, ThinTile}
    assert kinds(nn.Conv2d(16, 32, 1)) == {DenseTile}
    assert kinds(nn.Conv2d(32, 32, 3, 1, 1)) == {DenseTile}
    assert kinds(nn.Conv2d(3, 16, 3, 2, 1)) == {ThinTile}
