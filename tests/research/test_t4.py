"""The page, its tables and its figure are what the committed fits, figures and result files say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t4_model import tables
from t4_model.fitting import FORMULAS, misfits, predict, predict_by_all, without
from t4_model.study import (
    PROJECT_TABLES,
    Study,
    committed_study,
    fifteen,
    held_out,
    held_out_errors,
    other_beliefs,
    study_from_json,
    study_to_json,
    summary,
)
from t4_model.verdicts import verdicts, verdicts_under_moved_priors
from yoloproof.estimate.cost import Formula
from yoloproof.estimate.posterior import observations
from yoloproof.estimate.shapes import family_from_model

ROOT = Path(__file__).resolve().parents[2]
NUMBER = re.compile(r"[-+−]?\d+\.\d+|[-+−]?\d+")


@pytest.fixture(scope="module")
def study() -> Study:
    return committed_study()


def test_the_committed_pages_are_in_step(study):
    """Word for word; a number may differ in its last digit, as libraries of another machine round."""
    for path, made in tables.pages(study).items():
        committed = path.read_text(encoding="utf-8")
        hint = f"{path.name} is out of step; run: python research/t4.py"
        assert NUMBER.sub("#", committed) == NUMBER.sub("#", made), hint
        for old, new in zip(NUMBER.findall(committed), NUMBER.findall(made), strict=True):
            unit = 10.0 ** -len(new.partition(".")[2])
            assert abs(float(old.replace("−", "-")) - float(new.replace("−", "-"))) < 1.5 * unit, hint


def test_every_block_of_the_page_is_filled():
    page = (ROOT / "docs" / "t4.md").read_text(encoding="utf-8")
    assert {name for _, name, _ in tables.BLOCK.findall(page)} == {
        "accuracy", "nine", "outside", "verdicts", "transfer"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "group_of", "count"), [("family", family_from_model, 30), ("model", str, 30), ("alone", None, 15)]
)
def test_the_committed_held_out_predictions_saw_nothing_of_what_they_predict(study, scheme, group_of, count):
    """Fitted again without the group, with the formula that is on record, they come out the same."""
    rows = study.folds[scheme]
    data = [row.observation for row in rows]
    assert len(rows) == count
    beside = observations("size") if scheme != "alone" else ()
    for row in rows[::10]:
        group = (group_of or family_from_model)(row.observation.model)
        rest, held = without(data, group, group_of or family_from_model)
        assert row.observation in held
        rest += without(beside, group, group_of or family_from_model)[0]
        ranking = misfits(rest)
        assert row.formula == next(iter(ranking))
        assert predict_by_all(ranking, rest, [row.observation])[0] == pytest.approx(row.predicted_s, rel=2e-3)


def test_what_is_held_out_changes_nothing_of_its_own_prediction():
    data = observations("calibrate")
    slower = [replace(row, seconds=3 * row.seconds) if row.model.startswith("yolov10") else row for row in data]
    two = FORMULAS[:2]
    seen, moved = (
        {row.observation.model: row.predicted_s for row in held_out(rows, 2, formulas=two)} for rows in (data, slower)
    )
    assert seen["yolov10n"] == moved["yolov10n"]
    assert seen["yolov8n"] != moved["yolov8n"]


def test_other_sizes_are_within_fifteen_percent_and_the_intervals_hold_what_they_say(study):
    sizes = observations("size")
    errors = predict(study.posterior.point, sizes) / np.array([row.seconds for row in sizes]) - 1
    assert len(sizes) == 10
    for ending in tables.SIZES:
        assert np.mean([abs(e) for e, row in zip(errors, sizes, strict=True) if row.model.endswith(ending)]) <= 0.15
    assert summary(study.folds["size"]).mean_error <= 0.15
    for scheme in ("family", "model", "alone", "size"):
        assert 0.85 <= summary(study.folds[scheme]).coverage_90 <= 0.97


def test_modelling_other_sizes_cost_nothing_inside_the_domain(study):
    """Mean errors of the fit as it was before it knew other sizes: by family, by model; fifteen and thirty."""
    before = {"family": (0.044, 0.040), "model": (0.050, 0.046)}
    for scheme, (of_fifteen, of_thirty) in before.items():
        assert summary(fifteen(study.folds[scheme])).mean_error <= of_fifteen
        assert summary(study.folds[scheme]).mean_error <= of_thirty + 0.0005
    assert summary(study.folds["model"]).worst_error <= 0.139


def test_the_goal_is_met_held_out_by_family_with_and_without_the_second_table(study):
    for scheme in ("family", "alone"):
        found = summary(fifteen(study.folds[scheme]))
        assert found.figures == 15
        assert found.mean_error <= 0.08
        assert found.worst_error <= 0.15
        assert found.coverage_90 >= 0.8
    again = vars(summary(fifteen(study.folds["family"])))
    assert vars(study.posterior.held_out) == pytest.approx(again, abs=1e-4)


def test_the_sentences_follow_from_the_likelihoods(study):
    """Of docs/t4.md and docs/why-different.md; and with any attention prior moved."""
    at_10, at_20 = (
        {table: verdicts(table, study.posterior, (s,))[s] for table in tables.VERDICT_TABLES} for s in (0.1, 0.2)
    )
    lead = [found["yolov12"]["stripped"] / found["yolov12"]["fused"] for found in (at_10, at_20)]
    assert 5.5 < lead[0] < 6.5
    assert lead[1] < 2
    moved = verdicts_under_moved_priors(study.posterior, ("yolov12",))
    leads = [found["stripped"] / found["fused"] for _, _, found in moved]
    assert min(leads) > 3.5
    assert max(leads) < 10.5
    assert at_10["yolov12"]["explicit"] + at_10["yolov12"]["published"] < 0.01
    assert 1 < at_10["yolov13"]["stripped"] / at_10["yolov13"]["fused"] < 2
    assert max(at_20["yolov13"], key=at_20["yolov13"].get) == "explicit"
    users = [found["users-yolov12"]["published"] for found in (at_10, at_20)]
    assert max(at_10["users-yolov13"].values()) < 0.4
    why = (ROOT / "docs" / "why-different.md").read_text(encoding="utf-8")
    for words in ("six to one; under two to one", "**undecided**", f"{users[0]:.2f}; {users[1]:.2f} if"):
        assert words in why


def test_what_hangs_on_the_beliefs_is_on_record(study):
    beliefs = dict(other_beliefs())
    assert set(beliefs) == set(study.sensitivity)
    assert len(beliefs) == 1 + 2 * 9 + 2
    data = observations("calibrate")
    project = np.array([row.table in PROJECT_TABLES for row in data])
    for what in ("as shipped", "all spreads twice", "floor_s down, to 2.35e-06"):
        errors = np.abs(held_out_errors(data, Formula(), beliefs[what])[project])
        found = study.sensitivity[what]
        assert (found.mean_error, found.worst_error) == pytest.approx((errors.mean(), errors.max()), abs=2e-3)


def test_the_study_survives_being_written(study):
    again = study_from_json(study_to_json(study), study.posterior)
    assert again == study
    assert json.loads(study_to_json(study))["folds"]["family"][0]["model"]


def test_the_command_finds_its_parts_from_anywhere(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "research" / "t4.py", "--help"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--check" in done.stdout
