"""The estimate says what it is good for: the domain of a run, the outside check, and that it stays outside the fit."""

from __future__ import annotations

import pytest

from yoloproof.commands.estimate import estimate as command
from yoloproof.errors import YoloproofError
from yoloproof.estimate import estimate
from yoloproof.estimate.domain import DETECTION, OUTSIDE_CHECK, SIZES, TOKENS
from yoloproof.estimate.posterior import committed_posterior, observations
from yoloproof.estimate.shapes import family_from_model, layer_shapes


def test_the_outside_checks_families_never_enter_the_fit():
    """Three families alone do: detectors at 640 px, and YOLO11 at other sizes."""
    assert sum(row.figures for row in OUTSIDE_CHECK) == 65
    figures = (*observations("calibrate"), *observations("size"))
    assert {family_from_model(row.model) for row in figures} == {"yolov8", "yolov10", "yolo11"}
    assert {row.model.partition("-")[2] for row in figures} == {"", "cls", "obb"}
    tables = {row.table for row in observations("calibrate")}
    for fit in (committed_posterior().point, *committed_posterior().draws):
        assert set(fit.tables) <= tables | {"prior"}


@pytest.mark.parametrize("model", [name for name in layer_shapes() if name[-1] in "nx"])
def test_the_calibrated_networks_are_inside_and_attention_networks_are_not(model):
    assert estimate(model).check == (TOKENS if model.startswith(("yolo12", "yolov12", "yolov13")) else DETECTION)


def test_other_sizes_are_outside_and_other_gpus_are_unchecked():
    assert estimate("yolo11n", imgsz=224).check == SIZES
    assert estimate("yolo11n", "l4").check is None
    assert estimate("yolo11n", batch=2).check is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "yolov8n"}, "How far off, for convolutional detectors at 640 px: on published T4 figures"),
        ({"model": "yolov8n", "imgsz": "224"}, "for other sizes (224, 768, 1024 px): mean error 24 %, worst 45 %"),
        ({"model": "yolov12n"}, "for text and transformer networks (YOLO-World, RT-DETR): mean error 22 %, worst 39 %"),
        ({"model": "yolov8n", "gpu": "l4"}, "Not calibrated for this GPU or batch"),
    ],
)
def test_the_line_under_an_estimate_is_the_domains(arguments, words, capsys):
    command(**arguments)
    assert words in capsys.readouterr().out


def test_a_paced_t4_is_faster_for_large_networks_alone():
    for model, factor in (("yolov8n", 1.0), ("yolov8x", 0.81)):
        now, paced = estimate(model), estimate(model, paced=True)
        assert paced.seconds / now.seconds == pytest.approx(factor, abs=0.01)
        assert sum(paced.parts_s.values()) == pytest.approx(paced.seconds)
        assert (now.paced, paced.paced) == (False, True)
    with pytest.raises(YoloproofError, match="known for a T4 alone"):
        estimate("yolov8n", "l4", paced=True)


def test_the_interval_widens_with_the_distance():
    def width(**how):
        low, high = estimate(**how).interval_s
        return high / low

    inside = width(model="yolo11m")
    assert inside < width(model="yolo11m", imgsz=448) < width(model="yolo11m", imgsz=224)
    assert inside < width(model="yolov12m", attention="stripped") < width(model="yolov12m", attention="explicit")
