"""The likelihoods point at what made the figures, and say less when less is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yoloproof.estimate import estimate, forensics
from yoloproof.estimate.forensics import log_likelihood, probabilities, samples_of_table
from yoloproof.estimate.posterior import committed_posterior, observations
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
