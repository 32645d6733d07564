"""The figure shows each held-out figure and each estimate once; verdicts say less when less is known."""

from __future__ import annotations

from xml.etree import ElementTree

from t4_model.figure import figure_svg
from t4_model.study import HeldOut
from t4_model.verdicts import verdicts, verdicts_under_moved_priors
from yoloproof.estimate import forensics
from yoloproof.estimate.cost import Formula
from yoloproof.estimate.posterior import committed_posterior, observations


def test_a_looser_factor_between_tables_decides_less():
    found = verdicts("yolov12", committed_posterior(), (0.05, 0.3))
    assert max(found[0.3].values()) < max(found[0.05].values())


def test_each_attention_prior_is_moved_both_ways():
    found = verdicts_under_moved_priors(committed_posterior(), ["yolov12"])
    assert [what for _, what, _ in found] == [
        "attention 0.66", "attention 0.24", "score 1.42", "score 0.70", "reformat 2.01", "reformat 0.50",
    ]  # fmt: skip
    assert len({tuple(verdict.values()) for _, _, verdict in found}) == 6


def test_the_figure_is_well_formed_and_shows_each_figure_once():
    held = [
        HeldOut(row, Formula(), row.seconds, {0.9: (0.9 * row.seconds, 1.1 * row.seconds)})
        for row in observations("calibrate")[:3]
    ]
    models = [forensics("yolov12n")]
    text = figure_svg(held, models)
    root = ElementTree.fromstring(text)
    tooltips = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum("published" in words and "predicted" in words for words in tooltips) == 3
    assert sum(words.startswith("yolov12n ") for words in tooltips) == 4
    words = {node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"fused", "stripped", "reported", "measured by users", "published latency, ms"} <= words
    assert any("estimated, not measured" in line for line in words)
    assert text == figure_svg(held, models)
