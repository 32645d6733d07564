"""The cost of kernels moves the right way, and by the right order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from t4_model.fitting import FORMULAS
from yoloproof.errors import YoloproofError
from yoloproof.estimate import GPUS, estimate, gpu_from_name, gpu_with_ceilings
from yoloproof.estimate.cost import Formula, kernel_seconds, memory_seconds, network_seconds
from yoloproof.estimate.kernels import attention_kernels, convolution_kernels, memory_kernel, table_from_kernels
from yoloproof.estimate.posterior import committed_posterior

T4 = GPUS["t4"]
TERMS = committed_posterior().point.constants


def seconds(kernels):
    return float(network_seconds(table_from_kernels([kernels]), TERMS, Formula(), T4)[0])


def test_every_formula_gives_each_kernel_a_finite_cost():
    kernels = [
        *convolution_kernels("c", "b", 3, 1, 64, 64, 6400, 6400, True),
        *convolution_kernels("d", "b", 5, 64, 64, 64, 6400, 6400, False),
        *attention_kernels("a", "b", 8, 400, 32, 32, "fused"),
        *attention_kernels("p", "b", 8, 400, 32, 32, "published"),
        memory_kernel("k", "b", 1e5, "concat"),
        memory_kernel("t", "b", 1e5, "selection"),
    ]
    table = table_from_kernels([kernels])
    assert len(FORMULAS) == len(set(FORMULAS)) == 12
    for formula in FORMULAS:
        cost = kernel_seconds(table, TERMS, formula, T4)
        assert np.isfinite(cost).all()
        free = {"activation": formula.activation == "fused", "concat": formula.concat == "free"}
        for kernel, value in zip(kernels, cost, strict=True):
            assert (value == 0) == free.get(kernel.kind, False), (formula, kernel)


def test_a_large_convolution_takes_its_arithmetic_and_a_tiny_one_the_floor():
    large = convolution_kernels("c", "b", 3, 1, 512, 512, 160 * 160, 160 * 160, False)
    arithmetic = large[0].flops / (T4.tensor_flops_s * TERMS.tensor)
    assert 0.8 * arithmetic < seconds(large) < 1.5 * arithmetic  # larger tiles than the reference do a little better
    tiny = convolution_kernels("c", "b", 1, 1, 16, 16, 100, 100, False)
    assert TERMS.floor_s < seconds(tiny) < 1.5 * TERMS.floor_s


def test_slower_memory_costs_as_much_more_as_there_are_bytes():
    slow = replace(T4, memory_bytes_s=T4.memory_bytes_s / 2)
    for model in ("yolov13n", "yolov12x"):
        now, then = estimate(model), estimate(model, slow)
        extra = then.seconds - now.seconds
        assert extra == pytest.approx(now.parts_s["bytes"], rel=0.2)
        assert 1 < then.seconds / now.seconds < 2
    kernels = [memory_kernel("k", "b", 1e8)]
    table = table_from_kernels([kernels])
    uncached = Formula(cache=False)
    assert memory_seconds(table, TERMS, uncached, slow) == pytest.approx(2 * memory_seconds(table, TERMS, uncached, T4))


def test_a_tensor_twice_as_large_as_the_cache_gains_less_than_half_of_it():
    def rate(size):
        kernel = [memory_kernel("k", "b", size / 2)]
        return size / float(memory_seconds(table_from_kernels([kernel]), TERMS, Formula(), T4)[0])

    held = 0.75 * T4.cache_bytes
    memory = T4.memory_bytes_s * TERMS.memory
    assert rate(held) == pytest.approx(TERMS.cache * memory)
    share = (1 - memory / rate(2 * held)) / (1 - 1 / TERMS.cache)
    assert share == pytest.approx(0.25)


def test_a_second_batch_costs_more_but_less_than_twice():
    for model in ("yolov13n", "yolov12l"):
        one, two = estimate(model), estimate(model, batch=2)
        assert 1.05 < two.seconds / one.seconds < 2
        assert one.calibrated
        assert not two.calibrated
    # a small network wastes more of the GPU, so it gains more from a batch
    gain = {m: 2 * estimate(m).seconds / estimate(m, batch=2).seconds for m in ("yolov13n", "yolov13x")}
    assert gain["yolov13n"] > gain["yolov13x"]


def test_a_wider_attention_costs_more_and_spelling_it_out_most():
    def cost(heads, how):
        return seconds(attention_kernels("a", "b", heads * 4, 400, 32, 32, how))

    for how in ("fused", "explicit", "published"):
        assert 1 < cost(8, how) / cost(4, how) < 2.2
    assert cost(12, "fused") < cost(12, "explicit") < cost(12, "published")
    wide = {how: cost(24, how) - cost(12, how) for how in ("fused", "explicit", "published")}
    assert wide["fused"] < wide["explicit"] / 2  # the score matrix is what a fused kernel does not move
    for model in ("yolov12n", "yolov12x", "yolov13l"):
        by = [estimate(model, attention=a).seconds for a in ("stripped", "fused", "explicit", "published")]
        assert by == sorted(by)


def test_more_pixels_cost_more_and_fewer_less():
    small, large = (estimate("yolov12s", imgsz=size).seconds for size in (320, 1280))
    middle = estimate("yolov12s").seconds
    assert small < middle < large < 6 * middle


def test_ceilings_replace_the_data_sheet_and_end_the_calibration():
    gpu = gpu_with_ceilings(T4, tensor_flops_s=30e12, memory_bytes_s=240e9)
    assert (gpu.tensor_flops_s, gpu.memory_bytes_s, gpu.calibrated) == (30e12, 240e9, False)
    assert gpu.measured_memory
    assert gpu.measured_tensor
    for bad in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(YoloproofError, match="must be a positive number"):
            gpu_with_ceilings(T4, memory_bytes_s=bad)
    with pytest.raises(YoloproofError, match="choose one of t4"):
        gpu_from_name("gtx1060")


def test_an_estimate_for_an_uncalibrated_gpu_is_wider():
    def width(gpu):
        low, high = estimate("yolov12m", gpu).interval_s
        return high / low

    assert width("l4") > 1.3 * width("t4")
    assert not estimate("yolov12m", "l4").calibrated
