"""The network's own answers: computed once for all artifacts that are held against it, and nothing is ever written to it."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from proof_graphs import BLOCK, SIZE, copied
from yoloproof.artifact.nms import NmsOptions, add_nms
from yoloproof.demo import demo_checkpoint
from yoloproof.errors import YoloproofError
from yoloproof.network import Network, load_network
from yoloproof.proof.reference import Reference
from yoloproof.proof.sensitivity import ABSENT, UNIFORM, Stages
from yoloproof.proof.twin import twin
from yoloproof.proof.verify import verify
from yoloproof.records import Verdict
from yoloproof.simplify.rewrites import simplify

Images = NDArray[np.float32]


def fingerprint(network: Network) -> tuple[object, ...]:
    """Everything that a write changes: values, storage, versions, modules, their plain attributes and hooks."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    values = hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in network.state_dict().values())).hexdigest()
    versions = [(name, id(t), t._version, t.data_ptr()) for name, t in tensors.items()]
    modules = [
        (path, id(m), getattr(m, "attention", None), len(m._forward_hooks), len(m._forward_pre_hooks), m.training)
        for path, m in network.named_modules()
    ]
    return values, versions, modules


def test_what_was_asked_before_is_not_run_again() -> None:
    network = load_network("yolov13n", random_weights=True)
    runs = []
    network.model[0].register_forward_hook(lambda *_: runs.append(1))
    reference = Reference(network)
    images = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(images)).numpy()
    runs.clear()
    assert np.array_equal(reference.output(images), wanted)
    assert np.array_equal(reference.output(images.copy()), wanted)
    assert len(runs) == 1
    other = reference.output(images[:1] + 0.1)
    assert len(runs) == 2
    assert not np.allclose(other, wanted[:1])

    stages = reference.stages(images[:1])
    runs.clear()
    assert reference.stages(images[:1].copy()) is stages
    lost = stages.without(stages.blocks[0], UNIFORM)
    assert stages.without(stages.blocks[0], UNIFORM) is lost
    assert not np.array_equal(lost, stages.without(stages.blocks[0], ABSENT))
    assert runs == []
    assert reference.stages(images[1:]) is not stages


@pytest.mark.parametrize("name", ["yolov13n", "yolov12n"])
def test_a_lost_attention_is_what_a_network_without_it_computes(name: str) -> None:
    images = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    network = load_network(name, random_weights=True, classes=4)
    before = fingerprint(network)
    stages = Stages(network, images)
    path = stages.blocks[2]
    lost = {loss: stages.without(path, loss) for loss in (UNIFORM, ABSENT)}
    assert fingerprint(network) == before
    attn = network.get_submodule(path)
    with torch.inference_mode():
        attn.attention = "stripped"
        assert np.array_equal(lost[ABSENT], network(torch.from_numpy(images)).numpy())
        attn.attention = "fused"
        for parameter in attn.qk.parameters():
            parameter.zero_()
        assert np.array_equal(lost[UNIFORM], network(torch.from_numpy(images)).numpy())


def test_a_twin_shares_tensors_and_nothing_else() -> None:
    network = load_network("yolov13n", random_weights=True, classes=2)
    before = fingerprint(network)
    other = twin(network, {"model.12.gate": torch.tensor(0.5)})
    other.model[0].register_forward_hook(lambda *_: None)
    assert fingerprint(network) == before
    assert other.model[0].conv.weight is network.model[0].conv.weight
    assert float(other.model[12].gate) == 0.5
    with pytest.raises(KeyError, match="gaet"):
        twin(network, {"model.12.gaet": torch.tensor(0.5)})


@pytest.fixture(scope="module")
def artifacts(right: dict[str, onnx.ModelProto], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Right ones in float32, float16 and with suppression inside, and one without attention."""
    folder = tmp_path_factory.mktemp("reference")
    for name in ("fused-fp32", "fused-fp16"):
        onnx.save(copied(right[name]), folder / f"{name}.onnx")
    add_nms(folder / "fused-fp32.onnx", folder / "nms.onnx", NmsOptions(score=0.05))
    from yoloproof.artifact.onnx import export_onnx

    stripped = simplify(load_network(demo_checkpoint(), "stripped"), ("norms",))
    export_onnx(stripped, folder / "stripped.onnx", imgsz=SIZE)
    return {name: folder / f"{name}.onnx" for name in ("fused-fp32", "fused-fp16", "nms", "stripped")}


@pytest.mark.xdist_group("mutants")
def test_no_check_writes_to_the_reference(artifacts: dict[str, Path], images: Images) -> None:
    network = load_network(demo_checkpoint())
    before, reference = fingerprint(network), Reference(network)
    for path in artifacts.values():
        verify(path, reference, images[:1])
        assert fingerprint(network) == before


@pytest.mark.xdist_group("mutants")
def test_two_threads_share_a_reference(artifacts: dict[str, Path], images: Images) -> None:
    """A right artifact and one without attention at the same time, again and again: each gets its own verdict."""
    network = load_network(demo_checkpoint())
    before = fingerprint(network)
    reference = Reference(network)

    def verdict(name: str) -> Verdict:
        held_to = reference if name == "fused-fp32" else network  # one Reference, and another of the same network
        return verify(artifacts[name], held_to, images[:1])

    names = ["fused-fp32", "stripped"] * 2
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(verdict, names))
    assert [v.passed for v in verdicts] == [True, False] * 2, [v.failures for v in verdicts[::2]]
    assert fingerprint(network) == before
    sizes = {tuple(next(c for c in v.checks if c.name == "sensitivity").figures["responses"].items()) for v in verdicts}
    assert len(sizes) == 1  # every thread measured the same responses


@pytest.mark.xdist_group("mutants")
def test_a_network_that_was_written_to_gives_no_verdict(artifacts: dict[str, Path], images: Images) -> None:
    network = load_network(demo_checkpoint())
    reference = Reference(network)
    with torch.no_grad():
        network.get_submodule(BLOCK).qk.conv.weight.zero_()
    with pytest.raises(YoloproofError, match="written to"):
        verify(artifacts["fused-fp32"], reference, images[:1])


def test_only_a_whole_network_is_a_reference() -> None:
    with pytest.raises(YoloproofError, match="simplified"):
        Reference(simplify(load_network("yolov13n", random_weights=True, classes=2)))
    with pytest.raises(YoloproofError, match="without attention"):
        Reference(load_network("yolov13n", "stripped", random_weights=True, classes=2))
