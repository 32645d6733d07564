"""Timings of an H200 beside the estimates for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_results import made_entry, made_result, made_run, made_summary
from t4_model.transfer import H200, kernel_seconds, mean_error, transfer_rows
from yoloproof.errors import YoloproofError
from yoloproof.estimate import GPUS
from yoloproof.estimate.posterior import committed_posterior
from yoloproof.estimate.shapes import kernels_from_shapes
from yoloproof.names import Attention, Precision, Runtime
from yoloproof.records import Entry, Result
from yoloproof.results.file import read_result
from yoloproof.results.labels import KERNELS, network_label

POSTERIOR = committed_posterior()
ROOT = Path(__file__).resolve().parents[2]


def on_gpu(
    name: str = "yolov13n", artifact: Mapping[str, Any] | None = None, runtime: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Entry:  # fmt: skip
    """A float16 row of PyTorch in a CUDA graph; what is given replaces fields of its artifact, its runtime and the row."""
    entry = made_entry(name, runtime="pytorch", median_s=2e-3, processes=1, samples=20)
    return replace(
        entry,
        artifact=replace(entry.artifact, precision=Precision.FP16, **(artifact or {})),
        runtime=replace(entry.runtime, **{"precision": "float16", "cuda_graph": True, **(runtime or {})}),
        **changes,
    )


def on_h200(*entries: Entry, gpu: str | None = "NVIDIA H200") -> Result:
    return made_result(entries, made_run(gpu=gpu))


def test_every_network_and_batch_is_taken_by_its_architecture():
    scales = [on_gpu(f"yolov12{scale}") for scale in "nsmlx"]
    trained = on_gpu("yolov13n")
    trained = replace(trained, model=replace(trained.model, name="coco128", family=None, scale=None))
    many = on_gpu("yolov13n", artifact={"batch": 8})
    stripped = on_gpu("yolov13n", artifact={"attention": Attention.STRIPPED})
    rows = transfer_rows(POSTERIOR, on_h200(*scales, trained, many, stripped, trained))
    assert [row.model for row in rows] == [*(f"yolov12{scale}" for scale in "nsmlx"), *["yolov13n"] * 4]
    assert [row.title for row in rows[5:8]] == ["yolov13n", "yolov13n ×8", "yolov13n"]
    estimated = [row.estimated_s for row in rows]
    assert estimated[:5] == sorted(estimated[:5])
    assert estimated[6] > estimated[5] > estimated[7]
    assert estimated[8] == estimated[5]


@pytest.mark.parametrize(
    "other",
    [
        on_gpu("rtdetr"),
        on_gpu(published=None),
        on_gpu(runtime={"precision": "float32"}),
        on_gpu(runtime={"cuda_graph": False}),
        on_gpu(runtime={"name": Runtime.TENSORRT}),
        on_gpu(runtime={"name": Runtime.NATIVE, "target": "7.5 (PTX)"}),
        on_gpu(runtime={"name": Runtime.NATIVE, "target": "9.0"}, artifact={"metadata": {"frames": "[1080, 1920]"}}),
        on_gpu(artifact={"imgsz": (384, 640)}),
        on_gpu(artifact={"imgsz": None}),
        on_gpu(artifact={"attention": None}),
        on_gpu(summary=None),
    ],
)
def test_what_the_model_does_not_describe_is_left_out(other):
    (row,) = transfer_rows(POSTERIOR, on_h200(other, on_gpu("yolov13x")))
    assert row.model == "yolov13x"


def test_how_a_network_ran():
    compiled = on_gpu(runtime={"compile": True})
    kernels = on_gpu(artifact={"simplified": ("norms", KERNELS)})
    native = on_gpu(runtime={"name": Runtime.NATIVE, "target": "9.0"})
    rows = transfer_rows(POSTERIOR, on_h200(on_gpu(), compiled, kernels, native))
    assert [row.how for row in rows] == ["PyTorch, eager", "PyTorch, compiled", "our kernels", "our kernels"]


def test_an_estimate_is_held_against_the_devices_own_time_if_there_is_one():
    timed = on_gpu(summary=replace(made_summary(2e-3), device_median_s=1.5e-3))
    rows = transfer_rows(POSTERIOR, on_h200(on_gpu(), timed))
    assert [row.measured_s for row in rows] == [2e-3, 1.5e-3]
    assert rows[1].error == pytest.approx(rows[1].estimated_s / 1.5e-3 - 1)
    count, signed, absolute = mean_error(rows)
    assert count == 2
    assert signed == pytest.approx(np.mean([row.error for row in rows]))
    assert absolute >= abs(signed)


def test_another_machines_row_is_refused():
    with pytest.raises(YoloproofError, match="a row of NVIDIA H100 80GB HBM3: the ceilings are those of an H200"):
        transfer_rows(POSTERIOR, on_h200(on_gpu(), gpu="NVIDIA H100 80GB HBM3"))
    with pytest.raises(YoloproofError, match="a row of a CPU"):
        transfer_rows(POSTERIOR, on_h200(on_gpu(), gpu=None))


def test_a_measured_product_is_below_the_peak_and_a_measured_copy_is_taken_as_it_is():
    assert (H200.measured_tensor, H200.measured_memory, H200.calibrated) == (True, True, False)
    measured, peak = (kernel_seconds(POSTERIOR, gpu, "yolov13x", "fused", 1, 640) for gpu in (H200, GPUS["h200"]))
    assert measured == pytest.approx(peak, rel=0.1)  # 788 of 989 TFLOP/s is what such a peak gives a product
    # most of an H200's traffic stays in its cache, whose speed is a multiple of the memory's
    slow = replace(H200, memory_bytes_s=H200.memory_bytes_s / 2)
    assert 1.02 < kernel_seconds(POSTERIOR, slow, "yolov13x", "fused", 1, 640) / measured < 2


def test_the_pages_sentences_follow_from_the_committed_file():
    rows = transfer_rows(POSTERIOR, read_result(ROOT / "results" / "h200.json"))
    off = {how: mean_error([row for row in rows if row.how == how])[2] for how in {row.how for row in rows}}
    assert min(off, key=off.__getitem__) == "PyTorch, compiled"
    assert off["PyTorch, compiled"] < 0.25  # nothing was fitted to them
    floor_s = POSTERIOR.point.constants.floor_s
    for row in rows:
        artifact = row.entry.artifact
        kernels = len(kernels_from_shapes(row.model, artifact.attention, artifact.batch))
        assert artifact.batch > 1 or kernels * floor_s > row.estimated_s / 2
    page = " ".join((ROOT / "docs" / "t4.md").read_text(encoding="utf-8").split())
    counted = len(kernels_from_shapes("yolov13n", "fused"))
    assert f"for YOLOv13-N the model has {counted} of {1e6 * floor_s:.0f} µs or more" in page
    assert "eager PyTorch has [696, the native engine 154](performance.md), of about 3 µs" in page
    small = [row for row in rows if (row.model, row.entry.artifact.batch) == ("yolov13n", 1)]
    eager = [row.measured_s / 696 for row in small if network_label(row.entry) == "published"]
    native = [row.measured_s / 154 for row in small if row.entry.runtime.name is Runtime.NATIVE]
    assert eager
    assert native
    assert all(2.5e-6 < seconds < 3.5e-6 for seconds in eager + native)
