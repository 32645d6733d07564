"""What holding out shows of the T4 model: each group of networks predicted without its figures, and what hangs on the
beliefs. `Study` is everything that was fitted; the committed one stands in held_out_t4.json and in the wheel's
posterior_t4.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t4_model.fitting import (
    BELIEFS,
    FORMULAS,
    Beliefs,
    Prior,
    draw_fits,
    families,
    fit,
    misfits,
    predict,
    predict_by_all,
    without,
)
from yoloproof.estimate.cost import Formula
from yoloproof.estimate.domain import CALIBRATED_PIXELS, Distance
from yoloproof.estimate.kernels import table_from_kernels
from yoloproof.estimate.posterior import (
    Fit,
    HeldOutErrors,
    Observation,
    Posterior,
    committed_posterior,
    honest_interval,
    interval,
    observations,
    point_latency_s,
    posterior_from_json,
    with_noise,
)
from yoloproof.estimate.shapes import family_from_model, kernels_from_shapes

HELD_OUT_FILE = Path(__file__).parent / "held_out_t4.json"
PROJECT_TABLES = ("thu", "yolo11-docs")  # of the project's own list of fifteen figures
LEVELS = (0.5, 0.9)
DRAWS = 400
DRAWS_BY_MODEL = 100
WORKERS = 2
PIXELS = {"cls": 224 * 224, "obb": 1024 * 1024}


@dataclass(frozen=True)
class HeldOut:
    """What the model, fitted without a family, said of one of its figures; `intervals_s` as drawn, by level."""

    observation: Observation
    formula: Formula
    predicted_s: float
    intervals_s: dict[float, tuple[float, float]]

    def interval_s(self, level: float) -> tuple[float, float]:
        """The interval as an estimate would state it."""
        pixels = PIXELS.get(self.observation.model.partition("-")[2], CALIBRATED_PIXELS)
        away = Distance(abs(float(np.log(pixels / CALIBRATED_PIXELS))), 0.0, 0.0)
        return honest_interval(self.intervals_s[level], level, self.predicted_s, away.doubt, away.inside)

    @property
    def error(self) -> float:
        """Predicted over published, less one."""
        return self.predicted_s / self.observation.seconds - 1


@dataclass(frozen=True)
class Sensitivity:
    """Under one set of beliefs: mean and worst held-out error of the fifteen, yolov13n's estimate in seconds."""

    mean_error: float
    worst_error: float
    yolov13n_s: float


@dataclass(frozen=True)
class Study:
    """Everything that was fitted: the calibration, the held-out rows of each scheme, what hangs on each belief, and each
    formula's misfit on all figures."""

    posterior: Posterior
    folds: dict[str, list[HeldOut]]
    sensitivity: dict[str, Sensitivity]
    formulas: dict[str, float]


def held_out(
    data: Sequence[Observation],
    draws: int,
    group_of: Callable[[str], str] = family_from_model,
    beside: Sequence[Observation] = (),
    formulas: Sequence[Formula] = FORMULAS,
) -> list[HeldOut]:
    """Each group of models (a family; each model alone with `group_of=str`) predicted by a model that saw none of its
    figures, in any table.

    Inside each fold the formulas are weighed by their misfits on what is left, and their predictions averaged. A table
    that the held-out group alone stands in is predicted as a typical one. `beside`: figures to fit, too, unless they are
    of the group.
    """
    rng = np.random.default_rng(0)
    found = []
    for group in sorted({group_of(row.model) for row in data}):
        rest, held = without(data, group, group_of)
        rest += without(beside, group, group_of)[0]
        ranking = misfits(rest, formulas)
        best = next(iter(ranking))
        predicted = predict_by_all(ranking, rest, held)
        samples = np.stack(
            [with_noise(_predict_like(one, held, rng), rng) for one in draw_fits(rest, ranking, draws, rng)]
        )
        for index, row in enumerate(held):
            intervals = {level: interval(samples[:, index], level) for level in LEVELS}
            found.append(HeldOut(row, best, float(predicted[index]), intervals))
    return found


def _predict_like(fitted: Fit, data: Sequence[Observation], rng: np.random.Generator) -> NDArray[np.float64]:
    """`predict`, with the offset and factor of a table that `fitted` has not seen drawn instead of typical."""
    return predict(fitted.with_drawn_tables(sorted({row.table for row in data}), rng), data)


def held_out_errors(data: Sequence[Observation], formula: Formula, beliefs: Beliefs = BELIEFS) -> NDArray[np.float64]:
    """Relative errors held out by family, in the order of `data`, for one formula under other beliefs; no intervals."""
    errors = np.zeros(len(data))
    for family in families(data):
        rest, held = without(data, family)
        rest += without(observations("size"), family)[0]
        at = [index for index, row in enumerate(data) if family_from_model(row.model) == family]
        predicted = predict(fit(rest, formula, beliefs=beliefs), held)
        errors[at] = predicted / np.array([row.seconds for row in held]) - 1
    return errors


def summary(rows: Sequence[HeldOut]) -> HeldOutErrors:
    """Errors and coverage of these predictions."""
    errors = np.array([abs(row.error) for row in rows])
    half, most = (
        float(np.mean([row.interval_s(at)[0] <= row.observation.seconds <= row.interval_s(at)[1] for row in rows]))
        for at in LEVELS
    )
    return HeldOutErrors(float(len(rows)), float(errors.mean()), float(errors.max()), half, most)


def fifteen(rows: Sequence[HeldOut]) -> list[HeldOut]:
    """The project's fifteen figures among the thirty."""
    return [row for row in rows if row.observation.table in PROJECT_TABLES]


def study_from_data(draws: int) -> Study:
    """Fit everything anew (minutes)."""
    data, sizes = observations("calibrate"), observations("size")
    few = min(draws, DRAWS_BY_MODEL)
    project = [row for row in data if row.table in PROJECT_TABLES]
    with ProcessPoolExecutor(WORKERS) as workers:
        running = {
            "model": workers.submit(held_out, data, few, str, sizes),
            "family": workers.submit(held_out, data, draws, family_from_model, sizes),
            "size": workers.submit(held_out, sizes, few, str, data),
            "alone": workers.submit(held_out, project, draws),
        }
        folds = {name: running[name].result() for name in ("family", "model", "size", "alone")}
    both = [*data, *sizes]
    ranking = misfits(both)
    drawn = tuple(draw_fits(both, ranking, draws, np.random.default_rng(0)))
    posterior = Posterior(fit(both, Formula()), drawn, summary(fifteen(folds["family"])))
    formulas = {formula_text(formula): misfit for formula, misfit in ranking.items()}
    study = Study(posterior, folds, dict(_sensitivities()), formulas)
    # through the files, so that pages show what is committed
    return study_from_json(study_to_json(study), posterior_from_json(posterior_to_json(posterior)))


def _sensitivities() -> Iterator[tuple[str, Sensitivity]]:
    """The fifteen held out by family, formula fixed, with one belief changed at a time."""
    data = observations("calibrate")
    project = np.array([row.table in PROJECT_TABLES for row in data])
    network = table_from_kernels([kernels_from_shapes("yolov13n", "fused")])
    for what, beliefs in other_beliefs():
        errors = np.abs(held_out_errors(data, Formula(), beliefs)[project])
        seconds = point_latency_s(fit([*data, *observations("size")], Formula(), beliefs=beliefs), network)
        yield what, Sensitivity(float(errors.mean()), float(errors.max()), float(seconds[0]))


def other_beliefs() -> Iterator[tuple[str, Beliefs]]:
    """As shipped; each prior's median moved by its spread; all spreads halved and doubled (which is the noise doubled and
    halved: only their ratio counts)."""
    yield "as shipped", BELIEFS
    for name, prior in {**BELIEFS.constants, **BELIEFS.tables}.items():
        for sign, word in ((1, "up"), (-1, "down")):
            by = float(np.exp(sign * prior.spread))
            yield f"{name} {word}, to {prior.median * by:.3g}", _scaled_beliefs({name: by})
    for factor, word in ((0.5, "half"), (2.0, "twice")):
        yield f"all spreads {word}", _scaled_beliefs(spreads=factor)


def _scaled_beliefs(medians: Mapping[str, float] | None = None, spreads: float = 1.0) -> Beliefs:
    """The beliefs as shipped with some medians, and all spreads, multiplied."""
    by = medians or {}

    def scaled(priors: Mapping[str, Prior]) -> dict[str, Prior]:
        return {name: Prior(by.get(name, 1.0) * p.median, spreads * p.spread) for name, p in priors.items()}

    return Beliefs(scaled(BELIEFS.constants), scaled(BELIEFS.tables))


def formula_text(formula: Formula) -> str:
    """The choices, separated by slashes."""
    return "/".join(str(part) for part in vars(formula).values())


def posterior_to_json(posterior: Posterior) -> str:
    """The posterior as text; figures to six digits, which is far below what they mean."""
    return json.dumps(_rounded(asdict(posterior)), separators=(",", ":")) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value


def study_to_json(study: Study) -> str:
    """All but the posterior, which has its own file."""
    folds = {
        name: [
            {
                "model": row.observation.model, "table": row.observation.table, "formula": asdict(row.formula),
                "predicted_s": row.predicted_s, "intervals_s": {str(at): ends for at, ends in row.intervals_s.items()},
            }
            for row in rows
        ]
        for name, rows in study.folds.items()
    }  # fmt: skip
    document = {
        "folds": folds,
        "sensitivity": {what: list(vars(found).values()) for what, found in study.sensitivity.items()},
    }
    formulas = {name: round(misfit, 4) for name, misfit in study.formulas.items()}
    return json.dumps({**_rounded(document), "formulas": formulas}, separators=(",", ":")) + "\n"


def study_from_json(text: str, posterior: Posterior) -> Study:
    """What `study_to_json` wrote."""
    document = json.loads(text)
    known = {(row.model, row.table): row for row in observations()}

    def row(one: Mapping[str, Any]) -> HeldOut:
        intervals = {float(level): (float(low), float(high)) for level, (low, high) in one["intervals_s"].items()}
        return HeldOut(known[one["model"], one["table"]], Formula(**one["formula"]), one["predicted_s"], intervals)

    folds = {name: [row(one) for one in rows] for name, rows in document["folds"].items()}
    sensitivity = {what: Sensitivity(*found) for what, found in document["sensitivity"].items()}
    return Study(posterior, folds, sensitivity, document["formulas"])


def committed_study() -> Study:
    """What was fitted last and committed."""
    return study_from_json(HELD_OUT_FILE.read_text(encoding="utf-8"), committed_posterior())
