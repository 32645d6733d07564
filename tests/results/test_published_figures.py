"""Published figures: their table, when they may be held against ours, and whom one resembles."""

from __future__ import annotations

import csv
import math
import random
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from made_results import end_to_end_entry, made_entry, made_run, made_summary
from yoloproof.names import Attention, Precision, Runtime, Weights
from yoloproof.records import Entry, ModelFacts
from yoloproof.results.forensics import forensics_table, which_resembles
from yoloproof.results.published import (
    model_ratios,
    published_figures,
    published_for,
    reported_ms,
    same_gpu,
    variant_name,
    verdict,
)

T4 = made_run(gpu="Tesla T4")
CPU = made_run()


def on_t4(attention: str, median_s: float, interval_s: tuple[float, float] | None = None, **changes: Any) -> Entry:
    entry = made_entry(attention=attention, median_s=median_s, **changes)
    return replace(
        entry,
        runtime=replace(entry.runtime, name=Runtime.TENSORRT, device="cuda", precision="float16"),
        artifact=replace(entry.artifact, precision=Precision.FP16),
        summary=replace(made_summary(median_s), interval_s=interval_s),
    )


def test_the_packaged_table_is_the_one_we_were_given(shared: Path) -> None:
    packaged = resources.files("yoloproof.results").joinpath("published.csv").read_text()
    assert packaged == (shared / "published_latency.csv").read_text()


def test_every_row_has_a_source_and_a_plausible_latency() -> None:
    rows = list(csv.DictReader(resources.files("yoloproof.results").joinpath("published.csv").open()))
    assert len(published_figures()) == len(rows) > 30
    assert all(figure.source and 0.001 < figure.latency_s < 0.03 for figure in published_figures())


def test_the_authors_own_figure_comes_first() -> None:
    first, second = published_for("yolov13n")
    assert (first.latency_s, first.source, first.ap) == (0.00197, "iMoonLab/yolov13 README", 0.416)
    assert second.protocol.endswith("correct detections")
    assert published_for("yolov99z") == ()
    assert variant_name(made_entry(model=ModelFacts(name="mine.pt", family="yolov13", scale="n"))) == "yolov13n"
    assert variant_name(made_entry(model=ModelFacts(name="rtdetr"))) == "rtdetr"


@pytest.mark.parametrize(
    ("measured", "same"),
    [("Tesla T4", True), ("NVIDIA T4", True), ("NVIDIA T400", False), ("NVIDIA H100 80GB HBM3", False), (None, False)],
)
def test_gpus_go_by_their_whole_name(measured: str | None, same: bool) -> None:
    assert same_gpu("Tesla T4", measured) is same


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.00190, 0.00205), "reproduced"),
        ((0.00187, 0.00190), "reproduced"),  # within 5 % of 1.965, the least that is written 1.97
        ((0.00186, 0.00190), "faster"),
        ((0.0018, 0.0020), "cannot tell: the interval, 1.8 to 2 ms, overlaps the figure and reaches beyond ± 5% of it"),
        (
            (0.001974, 0.00209),
            "cannot tell: the interval, 1.974 to 2.09 ms, overlaps",
        ),  # narrower than ± 5 %, across its edge
        ((0.001, 0.003), "cannot tell: the interval"),
        ((0.0021, 0.0022), "slower"),
        ((0.0016, 0.0017), "faster"),
        (None, "cannot tell: too few"),
    ],
)
def test_on_the_same_gpu_the_interval_decides(interval: tuple[float, float] | None, said: str) -> None:
    assert verdict(published_for("yolov13n")[0], on_t4("fused", 0.002, interval), T4).startswith(said)


def test_another_setting_or_an_unproved_artifact_is_never_held_against_it() -> None:
    figure = published_for("yolov13n")[0]
    assert verdict(figure, made_entry(), CPU).startswith("another setting: Tesla T4, not this CPU; TensorRT, not onnx")
    assert "batch 1, not 8" in verdict(figure, on_t4("fused", 0.002, batch=8), T4)
    assert verdict(figure, on_t4("stripped", 0.00197, (0.0019, 0.0020), proved=False), T4).startswith("cannot tell")


def test_ratios_hold_models_of_one_source_against_the_first() -> None:
    entries = [made_entry(median_s=0.1), made_entry("yolov13s", median_s=0.2), made_entry("yolov12n", median_s=0.1)]
    (ratio,) = model_ratios(entries)
    assert ratio.measured == pytest.approx(2)
    assert ratio.reported == pytest.approx(2.98 / 1.97)
    assert model_ratios([made_entry("yolov13s", "fused", "native"), end_to_end_entry()]) == []


def test_two_files_of_one_model_are_not_two_models() -> None:
    """What a figure was reported for is the architecture, whatever the file is called."""
    first = made_entry(median_s=0.1)
    same = replace(made_entry(median_s=0.13), model=ModelFacts(name="t4", weights=Weights.FOREIGN))
    other = replace(made_entry("yolov13s", median_s=0.2), model=ModelFacts(name="mine", weights=Weights.FOREIGN))
    assert model_ratios([first, same]) == []
    (ratio,) = model_ratios([same, first, other])
    assert (ratio.model, ratio.against, ratio.measured) == ("yolov13s", "yolov13n", pytest.approx(0.2 / 0.13))


def four(fused: float, explicit: float, published: float, stripped: float, **intervals: float | None) -> list[Entry]:
    """Rows whose intervals reach 1 % to either side; `of_published=0.4`: 40 % of that one, None: it has none."""
    times = {"fused": fused, "explicit": explicit, "published": published, "stripped": stripped}
    entries = []
    for attention, time in times.items():
        share = intervals.get(f"of_{attention}", 0.01)
        interval = None if share is None else (time / (1 + share), time * (1 + share))
        entries.append(on_t4(attention, time, interval, proved=attention != "stripped"))
    return entries


def test_the_reported_figure_resembles_the_stripped_engine() -> None:
    found = which_resembles(published_for("yolov13n"), four(0.0027, 0.0029, 0.0031, 0.00195), T4)
    assert (found.attention, found.basis) == (Attention.STRIPPED, "same machine")
    assert "not the published detector" in found.line
    assert len(found.rows) == 4
    assert forensics_table(found).row_count == 4


def test_it_resembles_none_or_cannot_tell_two_apart() -> None:
    none = which_resembles(published_for("yolov13n"), four(0.0034, 0.0036, 0.0038, 0.0027), T4)
    assert none.attention is None
    assert "none of these explains it; the nearest, stripped" in none.line
    two = which_resembles(published_for("yolov13n"), four(0.00210, 0.0026, 0.0028, 0.00195), T4)
    assert two.attention is None
    assert "undecided" in two.line
    assert sum(row.probability or 0 for row in two.rows) == pytest.approx(1)


def test_without_intervals_it_is_always_undecided() -> None:
    """A quick run's rows: none that lies on the figure is named, and of four far from it nothing is said either."""
    for times in ((0.0027, 0.0029, 0.0031, 0.00197), (0.034, 0.036, 0.038, 0.027)):
        found = which_resembles(published_for("yolov13n"), four(*times, of_published=None), T4)
        assert found.attention is None
        assert "undecided, as rows have no interval (published): five processes give one" in found.line
        assert [row.probability for row in found.rows] == [None] * 4


def test_a_rows_own_error_is_added_to_that_of_the_setting() -> None:
    """A 95 % interval from 1/1.15 to 1.15 is an error of 0.071; with the setting's 0.09 that is 0.115."""
    times = 0.0024, 0.0026, 0.0028, 0.00195
    sure, unsure = (
        which_resembles(published_for("yolov13n"), four(*times, **{f"of_{a}": off for a in Attention}), T4)
        for off in (0.0001, 0.15)
    )
    for found, spread in ((sure, 0.09), (unsure, 0.1147)):
        weights = [math.exp(-((math.log(time / 0.00197) / spread) ** 2) / 2) for time in times]
        assert [row.probability for row in found.rows] == pytest.approx([w / sum(weights) for w in weights], rel=0.01)
    assert (sure.attention, unsure.attention) == (Attention.STRIPPED, None)


def test_a_row_less_certain_than_settings_differ_decides_nothing() -> None:
    found = which_resembles(published_for("yolov13n"), four(0.0027, 0.0029, 0.0031, 0.00195, of_published=0.4), T4)
    assert found.attention is None
    assert "undecided, as intervals are wider than settings differ (published)" in found.line
    elsewhere = which_resembles(published_for("yolov13n"), four(0.115, 0.118, 0.120, 0.084, of_published=0.4), CPU)
    assert elsewhere.attention is None
    assert "(fused, explicit, stripped)" in elsewhere.line  # their ratios to `published` are what counts there


@pytest.mark.parametrize("spread", [0.09, 0.18])
def test_a_named_attention_is_seldom_the_wrong_one(spread: float) -> None:
    """Figures made with each attention under settings that differ by so much: the rule "the nearest within 5 percent" is
    wrong in one of four."""
    times = {"fused": 0.0024, "explicit": 0.0026, "published": 0.0028, "stripped": 0.0021}
    chance, named, wrong = random.Random(0), 0, 0
    figure = published_for("yolov13n")[0]
    entries = four(*times.values())
    for _ in range(150):
        for attention, seconds in times.items():
            made = replace(figure, latency_s=seconds * math.exp(chance.gauss(0, spread)))
            found = which_resembles([made], entries, T4).attention
            named += found is not None
            wrong += found is not None and found != attention
    assert wrong <= 0.1 * 600
    assert spread > 0.09 or named > 0


def test_a_figure_is_rounded_as_it_was_written() -> None:
    rounding = {figure.model: figure.rounding_s for figure in reversed(published_figures())}
    assert rounding["yolov12n"] == pytest.approx(5e-6)  # "1.60"
    assert rounding["yolov13n"] == pytest.approx(5e-6)
    written = resources.files("yoloproof.results").joinpath("published.csv").read_text(encoding="utf-8").splitlines()
    assert [reported_ms(figure) for figure in published_figures()] == [
        row["latency_ms"] for row in csv.DictReader(written)
    ]


def test_elsewhere_only_the_ratio_to_a_detecting_engine_gives_a_hint() -> None:
    """1.97 / 2.8 is 0.70: here stripped takes 0.70 of `published`, fused 0.96."""
    found = which_resembles(published_for("yolov13n"), four(0.115, 0.118, 0.120, 0.084), CPU)
    assert (found.attention, found.basis) == (Attention.STRIPPED, "ratio")
    assert "A hint from another machine" in found.line


def test_without_a_figure_or_a_reference_it_says_what_is_missing() -> None:
    entries = four(0.09, 0.095, 0.1, 0.071)
    assert which_resembles((), entries, CPU).line == "no figure was reported for this model"
    assert "no figure of an engine that detects" in which_resembles(published_for("yolov13s"), entries, CPU).line
    assert "no `published` row" in which_resembles(published_for("yolov13n"), entries[:2], CPU).line
    assert which_resembles(published_for("yolov13n"), [made_entry(summary=None)], CPU).line == "no samples"
