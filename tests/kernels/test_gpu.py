"""The GPU form: what it refuses, that it is made whole, and on a GPU that it computes the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from yoloproof.errors import YoloproofError
from yoloproof.network import load_network
from yoloproof.simplify.rewrites import simplify


def test_gpu_form_without_triton_says_so(monkeypatch):
    from yoloproof.kernels import gpu_network

    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(YoloproofError, match="needs Triton"):
        gpu_network(simplify(load_network("yolov13n", random_weights=True)))


@pytest.mark.parametrize(("attention", "rewrites", "message"), [
    ("fused", ("norms",), "default rewrites"),
    ("stripped", None, "fused, not stripped"),
])  # fmt: skip
def test_gpu_form_refuses_what_it_does_not_know(monkeypatch, attention, rewrites, message):
    from yoloproof.kernels import gpu_network

    monkeypatch.setitem(sys.modules, "triton", sys)  # only its presence is asked for before the refusal
    network = load_network("yolov13n", attention, random_weights=True)
    with pytest.raises(YoloproofError, match=message):
        gpu_network(simplify(network, rewrites))


def test_every_kernel_computes_what_pytorch_does():
    """Under Triton's interpreter, in float32: all tiles, slices, sources, sums and sizes that fill no tile."""
    pytest.importorskip("triton", reason="Triton is not installed")
    script = Path(__file__).with_name("gpu_interpreted.py")
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"}
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert len(found) > 70
    assert {name: worst for name, worst in found.items() if not worst < 1e-4} == {}


def test_compilations_are_known_without_a_gpu():
    pytest.importorskip("triton", reason="Triton is not installed")
    from yoloproof.kernels import gpu_network
    from yoloproof.kernels.launch import compilations

    form = gpu_network(simplify(load_network("yolov13n", random_weights=True)))
    found = compilations(form, (1, 3, 640, 640))
    assert {c.kernel for c in found} >= {"conv_kernel", "attention_kernel", "scatter_kernel", "decode_kernel"}
    assert found == compilations(form, (1, 3, 320, 640))  # sizes of the picture compile nothing anew


def test_compiling_ahead_is_done_once_and_where_it_fails_the_launch_is_left_to_say_why(monkeypatch, tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    from yoloproof.kernels import compiling
    from yoloproof.kernels.launch import Compilation

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    unknown = {Compilation("no_such_kernel", (), ())}
    assert compiling.compile_ahead(unknown, processes=1) == 0
    assert list(tmp_path.iterdir()) == []
    assert compiling.compile_ahead(set(), processes=1) == 0  # nothing to compile, and that is marked
    (mark,) = tmp_path.iterdir()
    started = []
    monkeypatch.setattr(compiling.subprocess, "run", lambda *a, **k: started.append(a))
    assert compiling.compile_ahead(set(), processes=1) == 0
    assert started == [], mark


def test_compiling_ahead_on_a_gpu(monkeypatch, tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is visible")
    from yoloproof.kernels import compiling, gpu_network
    from yoloproof.kernels.launch import compilations

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    form = gpu_network(simplify(load_network("yolov12n", random_weights=True)))
    some = set(sorted(compilations(form, (1, 3, 640, 640)), key=str)[:4])
    assert compiling.compile_ahead(some, processes=2) == 4
    assert compiling.compile_ahead(some, processes=2) == 0


def test_a_tile_without_room_is_not_chosen(monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    from triton.runtime.errors import OutOfResources

    from yoloproof.kernels import choosing

    def seconds(call):
        if call == "too large":
            raise OutOfResources(200_000, 100_000, "shared memory")
        return {"slow": 2.0, "quick": 1.0}[call]

    monkeypatch.setattr(choosing, "graph_seconds", seconds)
    assert choosing.quickest(["too large", "slow", "quick"]) == 2


def test_timing_takes_the_ways_that_were_proved(monkeypatch):
    """What the proving process chose goes with the session's builder into the processes that time it."""
    pytest.importorskip("triton", reason="Triton is not installed")
    import pickle
    from functools import partial

    from yoloproof.kernels import choosing
    from yoloproof.runtime import SessionSpec
    from yoloproof.simplify.choice import in_proved_ways, simplified_network

    key = ("dense", 3, 2, 1, True, (16, 3, 3, 3), (((1, 3, 640, 640), 3),), True, False, True, torch.device("cuda:0"))
    monkeypatch.setattr(choosing, "_CHOSEN", {key: 5})
    load = partial(load_network, "yolov13n", random_weights=True)
    build = partial(simplified_network, load, "fused", "cuda", True)
    sent = pickle.dumps(in_proved_ways(SessionSpec("pytorch", network=build)).network)
    choosing._CHOSEN.clear()
    assert type(pickle.loads(sent)()).__name__ == "Network"
    assert {key: 5} == choosing._CHOSEN


@pytest.mark.parametrize("name", ["yolov13n", "yolov12n", "yolov13l"])
def test_gpu_form_agrees_with_the_network(name):
    pytest.importorskip("triton", reason="Triton is not installed")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is visible")
    from yoloproof.kernels import gpu_network

    network = simplify(load_network(name, random_weights=True))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    form = gpu_network(network).to("cuda", torch.float16).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted = network(images)
        given = form(images.to("cuda", torch.float16).contiguous(memory_format=torch.channels_last)).cpu()
    assert (wanted[:, 4:] - given[:, 4:]).abs().max() < 0.01
    assert (wanted[:, :4] - given[:, :4]).abs().max() < 1.0


@pytest.mark.parametrize(
    ("capability", "missing", "early"),
    [((7, 5), "Triton after 3.2", False), ((8, 6), None, False), ((9, 0), None, True)],
)
def test_what_a_gpu_gets_follows_its_compute_capability(monkeypatch, capability, missing, early):
    """A stand-in for the card: no Turing, programmatic dependent launch from 9.0 on."""
    from yoloproof.kernels import gpu_form_missing, gpu_network
    from yoloproof.simplify.choice import gpu_form

    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    found = gpu_form_missing("cuda")
    assert (missing in found) if missing else found is None
    assert gpu_form("pytorch", "fp16", "fused", "cuda") is (missing is None)
    assert not gpu_form("pytorch", "fp32", "fused", "cuda")
    assert not gpu_form("pytorch", "fp16", "published", "cuda")
    form = gpu_network(simplify(load_network("yolov13n", random_weights=True)))
    assert form.options.early_start is early
    assert form.options.overlap


def test_without_a_gpu_there_is_no_gpu_form():
    from yoloproof.kernels import gpu_form_missing

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert gpu_form_missing("cuda") is not None
