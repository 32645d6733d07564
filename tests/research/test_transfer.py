"""Timings of another GPU beside the estimates for it, from any set of result files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from t4_model.transfer import gpu_from_device, gpu_of_result, kernel_seconds_of, mean_error, transfer_rows
from yoloproof.errors import YoloproofError
from yoloproof.estimate import GPUS
from yoloproof.estimate.posterior import committed_posterior

RESULTS = Path(__file__).resolve().parents[2] / "results"


def made(models, ceilings=(760e12, 2.9e12), median_s=2e-3, **changes):
    entries = [
        {
            "model": {"name": model},
            "artifact": {
                "attention": "fused", "form": "simplified", "imgsz": [640, 640], "batch": 1, "precision": "fp16",
                **changes,
            },
            "runtime": {"cuda_graph": True},
            "summary": {"median_s": median_s},
        }
        for model in models
    ]  # fmt: skip
    flops, copied = ceilings
    return {
        "machine": {"gpu": {"name": "NVIDIA H100 80GB HBM3"}},
        "ceilings": {"float16_flops_per_s": flops, "copy_bytes_per_s": copied},
        "entries": entries,
    }


def test_each_file_is_held_against_its_own_ceilings():
    fast, slow = made(["yolov13x"]), made(["yolov13x"], ceilings=(760e12, 1.45e12))
    rows = transfer_rows(committed_posterior(), [fast, slow])
    assert [row.measured_s for row in rows] == [2e-3, 2e-3]
    # most of an H100's traffic stays in its cache, whose speed is a multiple of the memory's
    assert 1.05 < rows[1].estimated_s / rows[0].estimated_s < 2
    assert rows[0].error == pytest.approx(rows[0].estimated_s / 2e-3 - 1)
    count, signed, absolute = mean_error(rows)
    assert count == 2
    assert signed == pytest.approx(np.mean([row.error for row in rows]))
    assert absolute >= abs(signed)


def test_every_variant_and_batch_is_taken_and_what_the_model_does_not_describe_is_left_out():
    twelve = made([f"yolov12{scale}" for scale in "nsmlx"])
    many, foreign, precise = made(["yolov13l"], batch=8), made(["rtdetr"]), made(["yolov13l"], precision="fp32")
    oblong = made(["yolov13l"], imgsz=[384, 640])
    rows = transfer_rows(committed_posterior(), [twelve, many, foreign, precise, oblong])
    assert [row.model for row in rows] == [*(f"yolov12{scale}" for scale in "nsmlx"), "yolov13l"]
    assert rows[-1].batch == 8
    estimated = [row.estimated_s for row in rows[:5]]
    assert estimated == sorted(estimated)


def test_a_measured_product_is_below_the_peak_and_a_measured_copy_is_taken_as_it_is():
    gpu, sheet = gpu_of_result(made(["yolov13x"])), GPUS["h100"]
    assert (gpu.measured_tensor, gpu.measured_memory, gpu.calibrated) == (True, True, False)
    args = ("yolov13x", "fused", 1, 640)
    measured, peak = (kernel_seconds_of(committed_posterior(), one, *args) for one in (gpu, sheet))
    assert measured == pytest.approx(peak, rel=0.1)  # 760 of 989 TFLOP/s is what such a peak gives a product


def test_a_device_is_known_by_its_drivers_name():
    assert gpu_from_device("NVIDIA H100 80GB HBM3").name == "h100"
    assert gpu_from_device("NVIDIA GeForce RTX 2080 Ti").name == "rtx2080ti"
    assert gpu_from_device("Tesla T4").name == "t4"
    with pytest.raises(YoloproofError, match="no data sheet of 'GTX 1060'"):
        gpu_from_device("GTX 1060")
    with pytest.raises(YoloproofError, match="no measured ceilings"):
        gpu_of_result({**made([]), "ceilings": None})


def test_the_committed_h100_files_are_estimated_within_what_the_page_says():
    files = [p for p in RESULTS.glob("h100-*.json") if json.loads(p.read_text(encoding="utf-8")).get("ceilings")]
    assert files
    rows = transfer_rows(committed_posterior(), [json.loads(path.read_text(encoding="utf-8")) for path in files])
    compiled = [abs(row.error) for row in rows if row.network.endswith("compiled") and row.network != "gpu compiled"]
    assert np.mean(compiled) < 0.25  # nothing was fitted to them
