"""The likelihoods point at what made the figures, and say less when less is known."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from yoloproof.estimate import estimate, forensics, verdict
from yoloproof.estimate.calibration import observations
from yoloproof.estimate.cost import Form
from yoloproof.estimate.figure import figure_svg
from yoloproof.estimate.forensics import log_likelihood, probabilities, samples_of_table
from yoloproof.estimate.posterior import HeldOut, committed_posterior
from yoloproof.estimate.shapes import ATTENTIONS

FIGURES = tuple(row for row in observations() if row.table == "yolov12")


@pytest.mark.parametrize("made", ["fused", "published", "stripped"])
def test_figures_made_with_an_attention_are_given_to_it(made):
    rows = tuple(replace(row, seconds=estimate(row.model, attention=made).seconds) for row in FIGURES)
    found = probabilities(
        {a: log_likelihood(samples_of_table(committed_posterior(), rows, a), rows, 0.05) for a in ATTENTIONS}
    )
    assert max(found, key=found.get) == made
    assert sum(found.values()) == pytest.approx(1)


def test_a_looser_factor_between_tables_decides_less():
    tight, loose = (verdict("yolov12", factor_spread=spread) for spread in (0.05, 0.3))
    assert max(loose.probability.values()) < max(tight.probability.values())
    assert len(tight.figures) == 5


def test_likelihood_of_one_figure_is_the_normal_density():
    row = FIGURES[:1]
    logs = np.log([[row[0].seconds]])
    assert log_likelihood(logs, row, 0.0, 0.1) == pytest.approx(-np.log(0.1 * np.sqrt(2 * np.pi)))
    shifted = log_likelihood(logs + 0.2, row, 0.0, 0.1)
    assert shifted == pytest.approx(-np.log(0.1 * np.sqrt(2 * np.pi)) - 2)
    assert log_likelihood(logs + 0.2, row, 0.3, 0.1) > shifted  # a shared factor explains a shift


def test_all_nine_models_have_estimates_beside_their_figures():
    for model in ("yolov12n", "yolov13x"):
        found = forensics(model)
        assert list(found.estimates_s) == list(ATTENTIONS)
        assert all(low < point < high for point, low, high in found.estimates_s.values())
        assert {row.role for row in found.figures} <= {"reported", "measured"}
        assert set(found.probability) == {row.role for row in found.figures}


def test_the_figure_is_well_formed_and_shows_each_figure_once():
    held = [
        HeldOut(row, Form(), row.seconds, {0.9: (0.9 * row.seconds, 1.1 * row.seconds)})
        for row in observations("calibrate")[:3]
    ]
    models = [forensics("yolov12n")]
    text = figure_svg(held, models)
    root = ElementTree.fromstring(text)
    tooltips = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum("published" in words and "predicted" in words for words in tooltips) == 3
    assert sum(words.startswith("yolov12n ") for words in tooltips) == 4
    words = {node.text for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"fused", "stripped", "reported", "measured by users", "published latency, ms"} <= words
    assert any("estimated, not measured" in line for line in words)
    assert text == figure_svg(held, models)
