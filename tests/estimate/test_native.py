"""The native engine's estimate: marked, made of its plan, with what it rests on; and the two numbers behind it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from native_cycles import cycles
from native_engines import engine
from yoloproof.cli import app
from yoloproof.errors import YoloproofError
from yoloproof.estimate.gpus import GPUS
from yoloproof.estimate.native import PRIORS, estimate_native
from yoloproof.files.native import write_native


def test_parts_add_up_and_more_work_takes_longer():
    found = estimate_native(engine(), GPUS["t4"])
    assert sum(found.parts_s.values()) == pytest.approx(found.seconds)
    low, high = found.interval_s
    assert low < found.seconds < high
    assert 0.05 < (found.samples_s < found.seconds).mean() < 0.95
    assert found.probability_below(low) == pytest.approx(0.05, abs=0.01)
    assert found.flops == pytest.approx(sum(one.flops for one in engine().plan.operations))
    slower = replace(GPUS["t4"], memory_bytes_s=100e9)
    assert estimate_native(engine(), slower).parts_s["bytes"] > found.parts_s["bytes"]
    built = engine()
    longer = replace(built, plan=replace(built.plan, operations=(*built.plan.operations, built.plan.operations[0])))
    more = estimate_native(longer, GPUS["t4"])
    assert (more.launches, more.seconds > found.seconds) == (found.launches + 1, True)


def test_a_tactic_without_code_is_not_counted():
    built = engine()
    gone = next(i for i, kernel in enumerate(built.plan.kernels) if kernel.name == "conv_kernel")
    without = {(7, 5): tuple(None if i == gone else one for i, one in enumerate(built.code[7, 5]))}
    assert estimate_native(replace(built, code=without), GPUS["t4"]).launches > 100
    with pytest.raises(YoloproofError, match="no code for"):
        estimate_native(replace(built, code={(7, 5): (None,) * len(built.plan.kernels)}), GPUS["t4"])


def test_the_two_numbers_are_found_again():
    """From what the model itself says of all and of a few multiprocessors."""
    gpu = GPUS["h100"]
    taken = [
        sum(estimate_native(engine(), one, 1.98e9).parts_s[name] for name in ("launches", "arithmetic", "bytes"))
        for one in (gpu, replace(gpu, multiprocessors=40))
    ]
    found = cycles(engine(), gpu, 1.98e9, taken[0], 40, taken[1])
    assert np.allclose(found, (PRIORS["launch"].median, PRIORS["work"].median))


def test_the_command_says_what_it_is_and_what_it_rests_on(tmp_path):
    write_native(engine(), tmp_path / "n.native")
    run = lambda *words: CliRunner().invoke(app, ["estimate", str(tmp_path / "n.native"), *words])  # noqa: E731
    done = run("--json", str(tmp_path / "e.json"))
    assert done.exit_code == 0, done.output
    for words in (
        "ESTIMATE, not a measurement",
        "No native engine has run on a Turing GPU",
        "1.97 ms",
        "two figures of an H200",
    ):
        assert words in done.output
    said = json.loads((tmp_path / "e.json").read_text())
    assert (said["estimate"], said["measured"]) == (True, False)
    assert 0 <= said["probability_below_1.97_ms"] <= 1
    assert "not for H100" in str(run("--gpu", "h100").exception)
    assert "has its own attention" in str(run("--batch", "2").exception)
