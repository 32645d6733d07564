"""The network's own answers are computed once for all artifacts that are held against it."""

from __future__ import annotations

import numpy as np
import torch

from yoloproof.network import load_network
from yoloproof.proof import Reference


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
    lost = stages.without(stages.blocks[0], "flat")
    assert stages.without(stages.blocks[0], "flat") is lost
    assert not np.array_equal(lost, stages.without(stages.blocks[0], "silent"))
    assert runs == []
    assert reference.stages(images[1:]) is not stages
